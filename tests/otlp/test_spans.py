"""A row as spans: ids, places in traces, times, and what is said of a call under which name."""

import json
from dataclasses import replace
from typing import Any

import pytest

from gateway_addon.otlp.spans import MAX_TEXT, Span, Texts, cleaned, spans
from gateway_addon.record import as_row
from tests.store.calls import make_record

TRACE, PARENT = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
REMOTE = f"00-{TRACE}-{PARENT}-01"


def make_row(**columns: Any) -> dict[str, Any]:
    """A row as `finished.finished` gives it, of a call that begins a turn."""
    beside = {
        "turn_id": columns.get("id", "call-1"),
        "turn_traceparent": columns.get("traceparent"),
        "previous_turn_id": None,
        "previous_traceparent": None,
        "cache_break": None,
        "executed": [],
        "has_texts": True,
        "finish_sequence": 1,
    }
    given = {name: columns.pop(name) for name in list(columns) if name in beside}
    return as_row(make_record(**columns)) | beside | given


def make_tool(**columns: Any) -> dict[str, Any]:
    return {
        "request_id": "call-0",
        "position": 0,
        "call_id": "toolu_1",
        "name": "bash",
        "is_error": None,
        "started_at": "2026-11-22T09:59:58.000Z",
        "duration_ms": 1500.0,
        "answered_at": "2026-11-22T10:00:00.250Z",
        "session_id": "s",
        "turn_id": "call-0",
        "traceparent": None,
        "turn_traceparent": None,
        "has_texts": True,
    } | columns


def span_of(**columns: Any) -> Span:
    (span,) = spans(make_row(**columns))
    return span


class TestPlace:
    def test_the_same_call_has_the_same_ids_whatever_is_known_of_it(self):
        assert span_of().context == span_of(outcome="http_error", session_id="s").context

    def test_calls_of_a_turn_are_one_trace_below_its_first(self):
        first, second = span_of(id="a"), span_of(id="b", turn_id="a")
        assert (first.parent, second.parent) == (None, first.context)
        assert first.context != second.context

    def test_a_turn_is_linked_to_the_one_before_it(self):
        before, after = span_of(id="a"), span_of(id="b", previous_turn_id="a")
        assert after.links == (before.context,)
        assert after.context.trace_id != before.context.trace_id

    def test_the_clients_own_span_is_the_parent(self):
        span = span_of(traceparent=REMOTE)
        assert span.context.trace_id == int(TRACE, 16)
        assert span.parent == (int(TRACE, 16), int(PARENT, 16))
        assert span.parent_is_remote

    def test_what_follows_is_in_the_clients_trace_too(self):
        first = span_of(id="a", traceparent=REMOTE)
        second = span_of(id="b", turn_id="a", turn_traceparent=REMOTE)
        assert second.parent == first.context
        assert not second.parent_is_remote
        assert span_of(id="c", previous_turn_id="a", previous_traceparent=REMOTE).links == (first.context,)

    @pytest.mark.parametrize(
        "traceparent",
        ["", "x", f"ff-{TRACE}-{PARENT}-01", f"00-{'0' * 32}-{PARENT}-01", f"00-{TRACE}-{'0' * 16}-01", TRACE],
    )
    def test_a_header_that_is_none_is_not_believed(self, traceparent: str):
        assert span_of(traceparent=traceparent) == span_of()


class TestTimes:
    def test_are_those_of_the_call(self):
        span = span_of(started_at="2026-11-22T10:00:00.123Z", duration_ms=1234.567)
        assert span.start == 1_795_341_600_123_000_000
        assert span.end - span.start == 1_234_567_000

    def test_an_unknown_duration_is_none(self):
        span = span_of(duration_ms=None)
        assert span.end == span.start


class TestAttributes:
    def test_have_the_names_of_the_conventions(self):
        span = span_of(
            provider="openrouter",
            upstream_host="openrouter.ai",
            upstream_model="vendor/model",
            response_model="vendor/model-1",
            session_id="s",
            streamed=True,
            max_tokens=100,
            input_tokens=1000,
            cache_read_tokens=700,
            cache_write_tokens=200,
            output_tokens=50,
            reasoning_tokens=0,
            finish_reason="stop",
            response_id="r",
            previous_id="p",
            http_status=200,
            time_to_first_byte_ms=250.0,
        )
        assert (span.name, span.kind, span.failed) == ("chat vendor/model", "client", False)
        standard = {name: value for name, value in span.attributes.items() if not name.startswith("gateway_addon.")}
        assert standard == {
            "gen_ai.operation.name": "chat",
            "gen_ai.provider.name": "openrouter",
            "gen_ai.conversation.id": "s",
            "gen_ai.request.model": "vendor/model",
            "gen_ai.request.stream": True,
            "gen_ai.request.max_tokens": 100,
            "gen_ai.request.previous_response.id": "p",
            "gen_ai.response.id": "r",
            "gen_ai.response.model": "vendor/model-1",
            "gen_ai.response.finish_reasons": ["stop"],
            "gen_ai.response.time_to_first_chunk": 0.25,
            "gen_ai.usage.input_tokens": 1000,
            "gen_ai.usage.output_tokens": 50,
            "gen_ai.usage.cache_read.input_tokens": 700,
            "gen_ai.usage.cache_write.input_tokens": 200,
            "gen_ai.usage.cache_creation.input_tokens": 200,
            "gen_ai.usage.reasoning.output_tokens": 0,
            "http.response.status_code": 200,
            "server.address": "openrouter.ai",
        }

    def test_what_has_no_name_there_has_one_of_ours(self):
        broken = {"rewritten_tokens": 900, "cost_microdollars": 12}
        span = span_of(
            cost_microdollars=41, cost_source="estimate", cost_flags=("cut",), is_byok=False, cache_break=broken
        )
        own = {name: value for name, value in span.attributes.items() if name.startswith("gateway_addon.")}
        assert own == {
            "gateway_addon.request_id": "call-1",
            "gateway_addon.api_kind": "messages",
            "gateway_addon.outcome": "complete",
            "gateway_addon.source": "live",
            "gateway_addon.request_model": "acme/model",
            "gateway_addon.cost_microdollars": 41,
            "gateway_addon.cost_source": "estimate",
            "gateway_addon.cost_flags": ["cut"],
            "gateway_addon.is_byok": False,
            "gateway_addon.cache_break.rewritten_tokens": 900,
            "gateway_addon.cache_break.cost_microdollars": 12,
        }

    @pytest.mark.parametrize(
        ("columns", "error"),
        [
            ({"outcome": "http_error", "http_status": 429, "error_type": "rate_limit_error"}, "rate_limit_error"),
            ({"outcome": "http_error", "http_status": 500}, "500"),
            ({"outcome": "upstream_cut"}, "upstream_cut"),
            ({"outcome": "rejected", "error_type": "invalid_request_error"}, "invalid_request_error"),
            ({"outcome": "client_aborted"}, None),
            ({"outcome": "interrupted"}, None),
        ],
    )
    def test_an_error_is_named(self, columns: dict[str, Any], error: str | None):
        span = span_of(**columns)
        assert (span.attributes.get("error.type"), span.failed) == (error, error is not None)


class TestTools:
    def test_a_tool_ran_from_a_call_to_its_result(self):
        call, tool = spans(make_row(id="call-1", turn_id="call-0", executed=[make_tool()]))
        asking = span_of(id="call-0")
        assert (tool.name, tool.kind, tool.parent) == ("execute_tool bash", "internal", asking.context)
        assert tool.context.trace_id == call.context.trace_id
        assert tool.end - tool.start == 750_000_000
        assert tool.attributes == {
            "gen_ai.operation.name": "execute_tool",
            "gen_ai.tool.name": "bash",
            "gen_ai.tool.call.id": "toolu_1",
            "gen_ai.tool.type": "function",
            "gen_ai.conversation.id": "s",
            "gateway_addon.request_id": "call-0",
        }

    def test_one_that_failed_says_so(self):
        _, tool = spans(make_row(executed=[make_tool(is_error=1)]))
        assert (tool.failed, tool.attributes["error.type"]) == (True, "_OTHER")

    def test_tools_of_one_answer_differ(self):
        _, one, other = spans(make_row(executed=[make_tool(), make_tool(position=1)]))
        assert one.context != other.context

    def test_no_time_runs_backwards(self):
        _, tool = spans(make_row(executed=[make_tool(answered_at="2026-11-22T09:59:58.000Z")]))
        assert tool.start == tool.end


TEXTS = Texts(
    of_call={
        "system_prompt": "be brief",
        "user_prompt": "what is new?",
        "reasoning_text": "hm",
        "answer_text": "not much",
        "tool_calls": [{"call_id": "1", "name": "bash", "arguments": "{}"}],
        "tool_results": [{"call_id": "0", "result": "done"}],
        "error_message": "no",
    },
    of_tools=[("{}", "done")],
)
TEXT_NAMES = {
    "gen_ai.system_instructions",
    "gen_ai.input.messages",
    "gen_ai.output.messages",
    "gen_ai.tool.call.arguments",
    "gen_ai.tool.call.result",
}


class TestTexts:
    def test_are_sent_as_messages(self):
        call, tool = spans(make_row(executed=[make_tool()], finish_reason="tool_use"), TEXTS)
        found = {name: json.loads(str(call.attributes[name])) for name in TEXT_NAMES & set(call.attributes)}
        assert found == {
            "gen_ai.system_instructions": [{"type": "text", "content": "be brief"}],
            "gen_ai.input.messages": [
                {"role": "user", "parts": [{"type": "text", "content": "what is new?"}]},
                {"role": "tool", "parts": [{"type": "tool_call_response", "id": "0", "response": "done"}]},
            ],
            "gen_ai.output.messages": [
                {
                    "role": "assistant",
                    "parts": [
                        {"type": "reasoning", "content": "hm"},
                        {"type": "text", "content": "not much"},
                        {"type": "tool_call", "id": "1", "name": "bash", "arguments": "{}"},
                    ],
                    "finish_reason": "tool_use",
                }
            ],
        }
        assert (tool.attributes["gen_ai.tool.call.arguments"], tool.attributes["gen_ai.tool.call.result"]) == (
            "{}",
            "done",
        )

    def test_a_failure_has_its_words(self):
        (span,) = spans(make_row(outcome="http_error"), replace(TEXTS, of_tools=[]))
        assert span.message == "no"

    @pytest.mark.parametrize(
        ("row", "texts"),
        [
            ({}, None),
            # recorded under another gateway_content than full
            ({"has_texts": False, "executed": [make_tool(has_texts=False)]}, TEXTS),
        ],
    )
    def test_none_is_sent_unasked_or_where_not_all_were_kept(self, row: dict[str, Any], texts: Texts | None):
        for span in spans(make_row(outcome="http_error", executed=[make_tool()]) | row, texts):
            assert not TEXT_NAMES & set(span.attributes)
            assert span.message is None

    def test_the_system_prompt_is_sent_once_a_turn(self):
        (span,) = spans(make_row(turn_id="call-0"), TEXTS)
        assert "gen_ai.system_instructions" not in span.attributes

    def test_every_text_is_cleaned_and_then_cut(self):
        found = cleaned(
            {"a": ["secret", None], "b": ("x" * MAX_TEXT + "secret", 1)}, lambda text: text.replace("secret", "-")
        )
        assert found == {"a": ["-", None], "b": ("x" * MAX_TEXT + "… 1 more characters", 1)}
