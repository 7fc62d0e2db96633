"""How a call's end becomes its record: names, times, money and doubt, whatever happened."""

import json
from dataclasses import replace

import pytest

from gateway_addon.api import KINDS
from gateway_addon.api.base import RequestFacts
from gateway_addon.call import Call, Destination, Passage, Request
from gateway_addon.clients import Client
from gateway_addon.cost import PriceTable
from gateway_addon.outcome import CLEAN, End
from gateway_addon.reading import Reading, finish
from gateway_addon.record import Record
from gateway_addon.wire.headers import Headers
from tests.chat_answers import CHUNK, COUNTS, GOOD, SAYS, STOPS, stream

STARTED = 1_790_000_000.0
SSE = {"content-type": "text/event-stream"}

THERE = Destination(
    host="127.0.0.1",
    path="/v1/chat/completions",
    provider=None,
    dialect=None,
    model="asked-for",
    payer="client",
    client_credential=None,
)


def reading(destination: Destination | None = THERE) -> Reading:
    headers = Headers({})
    return Reading(
        Call(
            id="f1",
            run_id="r1",
            source="live",
            started=STARTED,
            request=Request(method="POST", path="/", headers=headers, size=10, body=None, json={}),
            passage=Passage(kind=KINDS["chat_completions"], destination=destination),
            facts=RequestFacts(model="asked-for", streamed=True, max_tokens=99),
            client=Client(),
        )
    )


def record(body: bytes | None, end: End = CLEAN, *, status: int = 200, headers: dict[str, str] = SSE) -> Record:
    call = reading()
    if body is not None:
        call.start(status, Headers(headers))
        call.receive(body, 0.5)
    return finish(call, end, 2.0, PriceTable())[0]


CUT = End("upstream_cut", None, "cut")


def test_what_is_unknown_is_none():
    row = record(None, CUT)
    known = {name for name in Record.__slots__ if getattr(row, name) is not None}
    assert known == {
        *(
            "id",
            "run_id",
            "started_at",
            "source",
            "api_kind",
            "transport",
            "outcome",
            "dialect",
            "duration_ms",
            "request_bytes",
        ),
        *("upstream_host", "upstream_path", "request_model", "upstream_model", "max_tokens", "error_message"),
        *("betas", "cost_flags", "rewrites", "warnings"),
    }


def test_the_row_of_a_good_call():
    row = record(GOOD, headers=SSE | {"x-request-id": "req_1"})
    assert (row.request_model, row.response_model) == ("asked-for", "m")
    assert (row.upstream_host, row.upstream_path) == ("127.0.0.1", "/v1/chat/completions")
    assert row.provider_request_id == "req_1"
    assert (row.input_tokens, row.output_tokens, row.cache_read_tokens) == (12, 3, None)
    assert row.usage == {"prompt_tokens": 12, "completion_tokens": 3}
    assert row.usage_is_lower_bound is False
    assert (row.time_to_first_byte_ms, row.time_to_first_token_ms, row.duration_ms) == (500, 500, 2000)
    assert (row.request_bytes, row.response_bytes) == (10, len(GOOD))
    assert row.cost_microdollars is None


def test_an_answer_may_begin_at_once():
    call = reading()
    call.start(200, Headers(SSE))
    call.receive(GOOD[:10], 0.0)
    call.receive(GOOD[10:], 1.0)
    row, _ = finish(call, CLEAN, None, PriceTable())
    assert (row.time_to_first_byte_ms, row.time_to_first_token_ms, row.duration_ms) == (0, 1000, None)


BEDROCK = replace(THERE, host="bedrock-runtime.us-east-1.amazonaws.com", model="us.anthropic.claude-opus-4-6-v1")


@pytest.mark.parametrize(
    ("tier", "microdollars", "flags"),
    [(None, 149, ()), ("default", 149, ()), ("priority", None, ("unpriced:service_tier",))],
)
def test_what_changes_the_price_at_bedrock_stands_in_the_head(
    tier: str | None, microdollars: int | None, flags: tuple[str, ...]
):
    table = PriceTable()
    table.load()
    call = reading(BEDROCK)
    tiers = {"x-amzn-bedrock-service-tier": tier} if tier else {}
    call.start(200, Headers(SSE | tiers | {"x-amzn-requestid": "aws_1"}))
    call.receive(GOOD, 0.5)
    row = finish(call, CLEAN, 2.0, table)[0]
    assert (row.cost_microdollars, row.cost_flags) == (microdollars, flags)
    assert (row.service_tier, row.provider_request_id) == (tier, "aws_1")


def test_counts_of_a_cut_answer_are_a_lower_bound():
    growing = COUNTS | {"choices": [{"index": 0, "delta": {"content": "a"}}]}
    row = record(stream(growing), CUT)
    assert (row.input_tokens, row.usage_is_lower_bound) == (12, True)
    assert record(stream(SAYS), CUT).usage_is_lower_bound is None


def test_the_last_cost_counts():
    costs = [CHUNK | {"choices": [], "usage": {"prompt_tokens": 1, "cost": cost, "is_byok": False}} for cost in (1, 2)]
    row = record(stream(costs[0], STOPS, costs[1]))
    assert (row.cost_microdollars, row.charged_microdollars, row.cost_source) == (2_000_000, 2_000_000, "openrouter")


def test_the_row_has_outcome_and_error_as_they_are_decided():
    row = record(json.dumps({"error": {"message": "x", "type": "invalid_request_error"}}).encode(), CUT, status=404)
    assert (row.outcome, row.http_status, row.error_status) == ("http_error", 404, 404)
    assert (row.error_type, row.error_message) == ("invalid_request_error", "x")
    cut = record(stream(SAYS), CUT)
    assert (cut.outcome, cut.error_message, record(stream(SAYS)).outcome) == ("upstream_cut", "cut", "upstream_cut")
    damaged = record(b"no gzip", headers=SSE | {"content-encoding": "gzip"})
    assert (damaged.outcome, damaged.warnings) == ("unreadable", ("response_undecodable",))


def test_reading_can_be_given_up_while_counting_goes_on():
    call = reading()
    call.start(200, Headers(SSE))
    call.receive(stream(SAYS), 0.0)
    call.give_up()
    call.receive(stream(STOPS), 0.0)
    row, content = finish(call, CLEAN, 0.0, PriceTable())
    assert row.warnings == ("reader_failed",)
    assert content.answer_text == "höher als gedacht"
    assert row.response_bytes == len(stream(SAYS, STOPS))


def test_a_call_that_goes_nowhere_names_nobody():
    row, _ = finish(reading(None), End("rejected"), 0.0, PriceTable())
    assert (row.outcome, row.request_model) == ("rejected", "asked-for")
    assert (row.upstream_host, row.upstream_path, row.upstream_model, row.provider, row.client_credential) == (
        *(None, None, None),
        *(None, None),
    )
