"""The fake provider, as the real SDKs and a plain HTTP client see it: no proxy in between."""

import http.client
import json
import re
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import anthropic
import brotli  # type: ignore[import-untyped]
import openai
import pytest
import zstandard

from tests.provider import SCENARIOS, Provider, Scenario, agent
from tests.provider.__main__ import table
from tests.provider.answer import Answer
from tests.provider.replies import says
from tests.provider.scenarios import LONG, PARALLEL, PLAIN

PROMPT: Any = [{"role": "user", "content": "Why does a tie get two ranks?"}]
PATHS = {"chat_completions": "/v1/chat/completions", "responses": "/v1/responses", "messages": "/v1/messages"}
HELD = {name for name, scenario in SCENARIOS.items() if scenario.delivery.hold_after is not None}


@dataclass
class Seen:
    """What an SDK made of an answer."""

    text: str
    calls: list[tuple[str, str]]
    finish: str | None
    input_tokens: int
    cache_read_tokens: int


Clients = dict[str, Any]
"""The SDK's client by kind."""


@pytest.fixture(scope="module")
def clients(session_provider: Provider) -> Clients:
    url = session_provider.url
    for_openai = openai.OpenAI(base_url=f"{url}/v1", api_key="sk-test", max_retries=0)
    for_anthropic = anthropic.Anthropic(base_url=url, api_key="sk-test", max_retries=0)
    return {"chat_completions": for_openai, "responses": for_openai, "messages": for_anthropic}


def ask_chat_completions(client: openai.OpenAI, model: str, stream: bool) -> Seen:
    create: Any = client.chat.completions.create
    if not stream:
        answer = create(model=model, messages=PROMPT)
        (choice,) = answer.choices
        calls = [(call.function.name, call.function.arguments) for call in choice.message.tool_calls or []]
        return _seen_chat(choice.message.content or "", calls, choice.finish_reason, answer.usage)
    chunks = list(create(model=model, messages=PROMPT, stream=True, stream_options={"include_usage": True}))
    choices = [choice for chunk in chunks for choice in chunk.choices]
    parts = [part for choice in choices for part in choice.delta.tool_calls or []]
    names = {part.index: part.function.name for part in reversed(parts)}
    calls = [
        (name, "".join(part.function.arguments for part in parts if part.index == index))
        for index, name in sorted(names.items())
    ]
    (finish,) = [choice.finish_reason for choice in choices if choice.finish_reason]
    text = "".join(choice.delta.content or "" for choice in choices)
    return _seen_chat(text, calls, finish, chunks[-1].usage)


def _seen_chat(text: str, calls: list[tuple[str, str]], finish: str, usage: Any) -> Seen:
    return Seen(text, calls, finish, usage.prompt_tokens, usage.prompt_tokens_details.cached_tokens)


def ask_responses(client: openai.OpenAI, model: str, stream: bool) -> Seen:
    create: Any = client.responses.create
    answer = create(model=model, input=PROMPT, stream=stream)
    if stream:
        events = list(answer)
        answer = events[-1].response
        deltas = "".join(event.delta for event in events if event.type == "response.output_text.delta")
        assert deltas == answer.output_text
    calls = [(item.name, item.arguments) for item in answer.output if item.type == "function_call"]
    usage = answer.usage.model_dump()  # openai 1.66 has no type for the details
    cached = usage["input_tokens_details"]["cached_tokens"]
    return Seen(answer.output_text, calls, answer.status, usage["input_tokens"], cached)


def ask_messages(client: anthropic.Anthropic, model: str, stream: bool) -> Seen:
    arguments: Any = {"model": model, "max_tokens": 100, "messages": PROMPT}
    answer: Any
    if stream:
        with client.messages.stream(**arguments) as events:
            answer = events.get_final_message()
    else:
        answer = client.messages.create(**arguments)
    text = "".join(block.text for block in answer.content if block.type == "text")
    calls = [(block.name, json.dumps(block.input)) for block in answer.content if block.type == "tool_use"]
    usage = answer.usage
    total = usage.input_tokens + usage.cache_read_input_tokens + usage.cache_creation_input_tokens
    return Seen(text, calls, answer.stop_reason, total, usage.cache_read_input_tokens)


ASK: dict[str, Callable[[Any, str, bool], Seen]] = {
    "chat_completions": ask_chat_completions,
    "responses": ask_responses,
    "messages": ask_messages,
}
every_kind = pytest.mark.parametrize("kind", ASK)
streamed_or_not = pytest.mark.parametrize("stream", [False, True], ids=["json", "stream"])


@dataclass
class Raw:
    status: int
    headers: http.client.HTTPMessage
    body: bytes


@contextmanager
def opened(
    provider: Provider, path: str, body: object = None, method: str = "POST"
) -> Iterator[http.client.HTTPConnection]:
    """A connection on which a request has been sent and nothing read yet."""
    connection = http.client.HTTPConnection(urlsplit(provider.url).netloc, timeout=20)
    try:
        connection.request(method, path, json.dumps(body))
        yield connection
    finally:
        connection.close()


def fetch(provider: Provider, path: str, body: object = None, method: str = "POST") -> Raw:
    with opened(provider, path, body, method) as connection:
        answer = connection.getresponse()
        return Raw(answer.status, answer.headers, answer.read())


def fetch_scenario(provider: Provider, scenario: str | Scenario, kind: str = "messages", stream: bool = True) -> Raw:
    """The answer of a scenario to a first call, whatever was called before: equal scenarios give equal bytes."""
    provider.reset()
    provider.script(scenario)
    return fetch(provider, PATHS[kind], {"model": "toy/large", "stream": stream})


class TestAnswers:
    @every_kind
    @streamed_or_not
    def test_text(self, provider: Provider, clients: Clients, kind: str, stream: bool):
        seen = ASK[kind](clients[kind], "fake/text", stream)
        finish = {"chat_completions": "stop", "responses": "completed", "messages": "end_turn"}[kind]
        assert seen == Seen(PLAIN.text, [], finish, input_tokens=120, cache_read_tokens=0)
        assert provider.requests[0].json["model"] == "fake/text"

    @every_kind
    @streamed_or_not
    def test_parallel_tool_calls(self, provider: Provider, clients: Clients, kind: str, stream: bool):
        seen = ASK[kind](clients[kind], "fake/tools", stream)
        assert [(name, json.loads(arguments)) for name, arguments in seen.calls] == [
            ("read_file", {"path": "pages/pager.py", "lines": [1, 80]}),
            ("search", {"pattern": "page_count", "glob": "**/*.py"}),
        ]

    @pytest.mark.parametrize(
        ("kind", "delta"),
        [
            ("chat_completions", rb'"tool_calls":\[{"index":(\d),"function":{"arguments"'),
            ("responses", rb'"type":"response.function_call_arguments.delta","output_index":(\d)'),
            ("messages", rb'"index":(\d),"delta":{"type":"input_json_delta"'),
        ],
    )
    def test_parallel_tool_calls_take_turns(self, provider: Provider, kind: str, delta: bytes):
        first, second, *others = re.findall(delta, fetch_scenario(provider, "tools", kind).body)
        assert first != second
        assert others == [first, second] * (len(others) // 2)

    @every_kind
    @streamed_or_not
    def test_a_tool_call_without_arguments(self, provider: Provider, clients: Clients, kind: str, stream: bool):
        ((name, arguments),) = ASK[kind](clients[kind], "fake/tool-without-arguments", stream).calls
        assert name == "run_tests"
        assert arguments in {"", "{}"}

    @every_kind
    @streamed_or_not
    def test_cache_reads_are_part_of_the_input(self, provider: Provider, clients: Clients, kind: str, stream: bool):
        seen = ASK[kind](clients[kind], "fake/cached", stream)
        assert (seen.input_tokens, seen.cache_read_tokens) == (41200, 40000)

    @every_kind
    @streamed_or_not
    @pytest.mark.parametrize("prefix", ["", "/api", "/openai/deployments/toy"])
    def test_any_path_prefix_and_a_query(self, provider: Provider, kind: str, stream: bool, prefix: str):
        path = f"{prefix}{PATHS[kind]}?beta=true"
        raw = fetch(provider, path, {"model": "fake/text", "stream": stream})
        assert raw.headers["content-type"].startswith("text/event-stream" if stream else "application/json")
        assert provider.requests[0].path == path

    @pytest.mark.parametrize("name", [name for name in SCENARIOS if name not in {*HELD, "huge-event"}])
    def test_every_scenario_answers_every_kind(self, provider: Provider, name: str):
        for path, stream in product(PATHS.values(), (False, True)):
            try:
                fetch(provider, path, {"model": f"fake/{name}", "stream": stream})
            except (http.client.IncompleteRead, http.client.RemoteDisconnected):
                assert SCENARIOS[name].delivery.cut_after is not None

    @pytest.mark.parametrize(
        ("model", "added", "status", "refused"),
        [
            ("fake/strict", {"max_tokens": 1, "metadata": {"user_id": "u"}}, 200, ""),
            ("fake/strict", {"reasoning": {"effort": "high"}}, 400, "reasoning"),
            ("fake/strict", {"metadata": {"session": "s"}}, 400, "metadata.session"),
            ("fake/text", {"reasoning": {"effort": "high"}}, 200, ""),
        ],
    )
    def test_strict_refuses_what_native_messages_does_not_know(
        self, provider: Provider, model: str, added: dict[str, object], status: int, refused: str
    ):
        raw = fetch(provider, "/v1/messages", {"model": model, "messages": PROMPT, **added})
        assert raw.status == status
        assert refused in raw.body.decode()


class TestAgentLoop:
    @every_kind
    @streamed_or_not
    def test_the_bug_is_found_and_the_cache_grows(self, provider: Provider, clients: Clients, kind: str, stream: bool):
        work = getattr(agent, kind)
        assert work(clients[kind], "toy/large", "Why does a tie get two ranks?", stream=stream).startswith("Fixed.")
        calls = [request.json for request in provider.requests]
        assert len(calls) == 5
        reads = [cache_reads(provider, kind, call) for call in calls]
        assert reads[0] == 0
        assert reads == sorted(set(reads))

    def test_tools_that_are_not_offered_are_not_called(self, provider: Provider, clients: Clients):
        seen = ask_chat_completions(clients["chat_completions"], "toy/large", stream=False)
        assert seen.calls == []
        assert seen.text.startswith("Fixed.")

    def test_openrouter_cost_follows_from_the_tokens(self, provider: Provider):
        provider.default = "agent-openrouter"
        usage = json.loads(fetch(provider, PATHS["chat_completions"], {"messages": PROMPT}).body)["usage"]
        details = usage["prompt_tokens_details"]
        read, written = details["cached_tokens"], details["cache_write_tokens"]
        micro = 3 * (usage["prompt_tokens"] - read - written) + 0.3 * read + 3.75 * written
        assert usage["cost"] * 1e6 == pytest.approx(micro + 15 * usage["completion_tokens"])


def cache_reads(provider: Provider, kind: str, request: dict[str, Any]) -> int:
    usage = json.loads(fetch(provider, PATHS[kind], request | {"stream": False}).body)["usage"]
    details = usage.get("prompt_tokens_details") or usage.get("input_tokens_details") or {}
    return int(details.get("cached_tokens", usage.get("cache_read_input_tokens")))


class TestFailures:
    @every_kind
    @streamed_or_not
    @pytest.mark.parametrize(
        ("scenario", "status", "error"),
        [
            ("http-400", 400, "BadRequestError"),
            ("http-401", 401, "AuthenticationError"),
            ("http-429", 429, "RateLimitError"),
            ("http-500", 500, "InternalServerError"),
            ("http-529", 529, "APIStatusError"),
            ("html-502", 502, "InternalServerError"),
            ("text-429", 429, "RateLimitError"),
            ("openrouter-http-429", 429, "RateLimitError"),
            ("vercel-http-401", 401, "AuthenticationError"),
            ("no-such-scenario", 404, "NotFoundError"),
        ],
    )
    def test_a_status_raises_the_typed_exception(
        self, provider: Provider, clients: Clients, kind: str, stream: bool, scenario: str, status: int, error: str
    ):
        sdk: Any = anthropic if kind == "messages" else openai
        with pytest.raises(getattr(sdk, error)) as raised:
            ASK[kind](clients[kind], f"fake/{scenario}", stream)
        assert raised.value.status_code == status

    @pytest.mark.parametrize("scenario", ["error-first", "error-midway", "error-after-finish"])
    def test_an_error_in_a_stream_raises(self, provider: Provider, clients: Clients, scenario: str):
        with pytest.raises(openai.APIError):
            ask_chat_completions(clients["chat_completions"], f"fake/{scenario}", stream=True)
        with pytest.raises(anthropic.APIStatusError):
            ask_messages(clients["messages"], f"fake/{scenario}", stream=True)

    @pytest.mark.parametrize(
        ("scenario", "types"),
        [
            ("error-first", ["error"]),
            ("error-midway", ["error", "response.failed"]),
            ("error-as-finish", ["response.failed"]),
            ("error-after-finish", ["response.incomplete", "error"]),
        ],
    )
    def test_responses_tells_of_an_error_by_events(self, provider: Provider, scenario: str, types: list[str]):
        raw = fetch_scenario(provider, scenario, "responses")
        events = [json.loads(line[6:]) for line in raw.body.split(b"\n") if line.startswith(b"data: ")]
        terminal = {"error", "response.failed", "response.incomplete", "response.completed"}
        assert [event["type"] for event in events if event["type"] in terminal] == types

    def test_keep_alives_come_before_the_error(self, provider: Provider):
        body = fetch_scenario(provider, "error-first", "chat_completions").body
        assert body.startswith(b": ")
        assert b'data: {"error":{"code":402' in body

    def test_usage_comes_with_the_error_behind_the_finish(self, provider: Provider):
        body = fetch_scenario(provider, "error-after-finish", "chat_completions").body
        *_, finish, error, done = body.split(b"\n\n")[:-1]
        assert b'"finish_reason":"length"' in finish
        assert b'"error"' in error
        assert b'"usage"' in error
        assert done == b"data: [DONE]"

    @every_kind
    @streamed_or_not
    def test_an_error_object_with_status_200(self, provider: Provider, kind: str, stream: bool):
        raw = fetch_scenario(provider, "error-body", kind, stream)
        assert raw.status == 200
        assert json.loads(raw.body)["error"]["message"] == "This account has no credit left."

    @every_kind
    @pytest.mark.parametrize(("scenario", "usage"), [("usage-absent", False), ("usage-null", True)])
    def test_missing_usage(self, provider: Provider, kind: str, scenario: str, usage: bool):
        body = json.loads(fetch_scenario(provider, scenario, kind, stream=False).body)
        assert body.get("usage") is None
        if kind != "responses":  # its object always has the key
            assert ("usage" in body) is usage

    def test_a_second_message_starts_while_a_tool_call_is_half_sent(self, provider: Provider):
        body = fetch_scenario(provider, "starts-over").body
        first, second = body.split(b"event: message_start")[1:]
        assert b"tool_use" in first
        assert b"message_stop" not in first
        assert b"message_stop" in second


def _gunzip(body: bytes) -> bytes:
    return zlib.decompressobj(wbits=31).decompress(body)


def _unzstd(body: bytes) -> bytes:
    return zstandard.ZstdDecompressor().decompressobj().decompress(body)


class TestDelivery:
    @pytest.mark.parametrize(
        ("scenario", "plain", "undo"),
        [
            ("bytewise", PARALLEL, bytes),
            ("by-length", LONG, bytes),
            ("until-close", LONG, bytes),
            ("cr", PARALLEL, lambda body: body.replace(b"\r", b"\n")),
            ("mixed-line-ends", PARALLEL, lambda body: body.replace(b"\r\n", b"\n").replace(b"\r", b"\n")),
            ("bom", PLAIN, lambda body: body.removeprefix(b"\xef\xbb\xbf")),
            ("two-data-lines", PARALLEL, lambda body: body.replace(b"data: {\ndata: ", b"data: {")),
            ("no-spaces", PLAIN, lambda body: body.replace(b"event:", b"event: ").replace(b"data:", b"data: ")),
            ("no-final-blank-line", PLAIN, lambda body: body + b"\n\n"),
            ("named-done", PLAIN, lambda body: body.removesuffix(b"event: data\ndata: [DONE]\n\n")),
            ("keep-alives", PLAIN, lambda body: body.replace(b": still working on it\n\n", b"")),
            ("padded", PLAIN, bytes.lstrip),
            ("gzip", PARALLEL, _gunzip),
            ("gzip-bytewise", PARALLEL, _gunzip),
            ("br", PARALLEL, brotli.decompress),
            ("zstd", PARALLEL, _unzstd),
            ("gzip-br", PARALLEL, lambda body: _gunzip(brotli.decompress(body))),
        ],
    )
    def test_a_stream_is_the_same_under_its_delivery(
        self, provider: Provider, scenario: str, plain: Answer, undo: Callable[[bytes], bytes]
    ):
        raw = fetch_scenario(provider, scenario)
        expected = fetch_scenario(provider, Scenario("the same without a delivery", says(plain))).body
        assert (raw.body == expected) is (undo is bytes)
        assert undo(raw.body) == expected
        assert raw.headers["content-encoding"] == (", ".join(SCENARIOS[scenario].delivery.encodings) or None)

    def test_events_can_lack_their_names(self, provider: Provider):
        body = fetch_scenario(provider, "no-event-names").body
        assert b"event:" not in body
        assert body.startswith(b'data: {"type":"message_start"')

    @pytest.mark.parametrize(
        ("scenario", "end"),
        [
            ("text", b"}\n\ndata: [DONE]\n\n"),
            ("no-done", b"}\n\n"),
            ("named-done", b"}\n\nevent: data\ndata: [DONE]\n\n"),
            ("data-after-done", b'event: data\ndata: [DONE]\n\ndata: {"error":{"message":"too late to matter"}}\n\n'),
        ],
    )
    def test_the_end_of_a_chat_stream(self, provider: Provider, scenario: str, end: bytes):
        body = fetch_scenario(provider, scenario, "chat_completions").body
        assert body.endswith(end)
        assert body.count(b"[DONE]") == end.count(b"[DONE]")

    def test_the_terminal_event_can_repeat_no_output(self, provider: Provider):
        body = fetch_scenario(provider, "empty-output", "responses").body
        last = json.loads(body.split(b"data: ")[-1])
        assert last["type"] == "response.completed"
        assert last["response"]["output"] == []
        assert b"function_call_arguments.done" in body

    def test_the_event_of_20_mb(self, provider: Provider):
        assert len(fetch_scenario(provider, "huge-event").body) > 20_000_000

    def test_damaged_gzip_starts_well(self, provider: Provider):
        body = fetch_scenario(provider, "gzip-corrupt").body
        assert zlib.decompressobj(wbits=31).decompress(body, 200).startswith(b"event: message_start")
        with pytest.raises(zlib.error):
            _gunzip(body)

    @pytest.mark.parametrize("stream", [True, False], ids=["stream-asked", "json-asked"])
    @pytest.mark.parametrize(
        ("scenario", "type_"), [("json-to-stream", "application/json"), ("stream-to-json", "text/event-stream")]
    )
    def test_the_form_of_an_answer_can_ignore_the_request(
        self, provider: Provider, scenario: str, type_: str, stream: bool
    ):
        raw = fetch_scenario(provider, scenario, stream=stream)
        assert raw.headers["content-type"].startswith(type_)

    @every_kind
    @streamed_or_not
    @pytest.mark.parametrize("scenario", ["cut-chunked", "cut-by-length"])
    def test_a_cut_is_seen_in_the_framing(self, provider: Provider, scenario: str, kind: str, stream: bool):
        with pytest.raises(http.client.IncompleteRead) as cut:
            fetch_scenario(provider, scenario, kind, stream)
        assert cut.value.partial
        assert not cut.value.partial.endswith(b"\n\n")

    def test_a_cut_of_a_body_that_ends_with_the_connection_is_not_seen(self, provider: Provider):
        whole = fetch_scenario(provider, "until-close").body
        body = fetch_scenario(provider, "cut-until-close").body
        assert whole.startswith(body)
        assert not body.endswith(b"\n")

    def test_a_connection_can_close_without_an_answer(self, provider: Provider):
        with pytest.raises(http.client.RemoteDisconnected):
            fetch_scenario(provider, "no-answer")


class TestHolding:
    @staticmethod
    def read_events(answer: http.client.HTTPResponse, count: int) -> list[bytes]:
        events = [b""]
        while len(events) <= count:
            line = answer.readline()
            events[-1] += line
            if line == b"\n":
                events.append(b"")
        return events[:-1]

    def test_held_events_leave_one_by_one_and_then_all(self, provider: Provider):
        whole = fetch_scenario(provider, "until-close").body
        provider.reset()
        provider.script("held")
        with opened(provider, "/v1/messages", {"model": "toy/large", "stream": True}) as connection:
            answer = connection.getresponse()
            received = self.read_events(answer, 8)
            request = provider.wait_for_request()
            assert not request.ended.is_set()
            provider.gate.let_pass(2)
            received += self.read_events(answer, 2)
            assert not request.ended.is_set()
            provider.gate.open()
            assert b"".join(received) + answer.read() == whole
        assert request.ended.wait(20)
        assert not request.client_left

    @streamed_or_not
    @pytest.mark.parametrize("scenario", sorted(HELD))
    def test_a_client_that_leaves_is_noticed(self, provider: Provider, scenario: str, stream: bool):
        with opened(provider, "/v1/messages", {"model": f"fake/{scenario}", "stream": stream}):
            request = provider.wait_for_request()
        assert request.ended.wait(20)
        assert request.client_left


class TestChoosing:
    def test_a_script_comes_before_the_model_and_that_before_the_default(self, provider: Provider, clients: Clients):
        special = Scenario("one of the test's own", says(replace(PLAIN, text="Only for you.")))
        provider.script("cached", special)
        provider.default = "reasoning"
        models = ["fake/text", "fake/text", "fake/text", "toy/large"]
        seen = [ask_responses(clients["responses"], model, stream=False) for model in models]
        assert [one.input_tokens for one in seen] == [41200, 120, 120, 90]
        assert seen[1].text == "Only for you."

    def test_a_crash_in_a_scenario_does_not_pass_for_a_cut(self, provider: Provider):
        provider.script(Scenario("a mistake in a test", lambda call: 1 / 0))  # type: ignore[arg-type, return-value]
        with pytest.raises(http.client.RemoteDisconnected):
            fetch(provider, "/v1/messages", {})
        with pytest.raises(ZeroDivisionError):
            provider.reset()

    def test_the_readme_lists_the_scenarios(self):
        readme = Path(__file__).parent / "provider" / "README.md"
        assert readme.read_text().endswith(f"\n\n{table()}\n")


class TestSideEndpoints:
    def test_models(self, provider: Provider, clients: Clients):
        assert [model.id for model in clients["responses"].models.list()] == ["toy/small", "toy/large"]
        assert clients["responses"].models.retrieve("toy/small").id == "toy/small"

    def test_counts(self, provider: Provider, clients: Clients):
        assert clients["messages"].messages.count_tokens(model="toy/large", messages=PROMPT).input_tokens > 0
        counted = json.loads(fetch(provider, "/v1/responses/input_tokens", {"input": "x" * 400}).body)
        assert counted["input_tokens"] >= 100

    def test_a_background_response_is_queued_read_and_cancelled(self, provider: Provider, clients: Clients):
        queued = clients["responses"].responses.create(
            model="fake/queued", input="Take your time.", extra_body={"background": True}
        )
        assert (queued.status, queued.usage) == ("queued", None)
        assert clients["responses"].responses.retrieve(queued.id).status == "completed"
        cancelled = json.loads(fetch(provider, f"/v1/responses/{queued.id}/cancel").body)
        assert (cancelled["id"], cancelled["status"]) == (queued.id, "cancelled")

    def test_compaction_reports_usage_and_no_status(self, provider: Provider):
        compacted = json.loads(fetch(provider, "/v1/responses/compact", {"input": []}).body)
        assert compacted["object"] == "response.compaction"
        assert "status" not in compacted

    @pytest.mark.parametrize(("method", "path"), [("GET", "/v1/messages"), ("POST", "/v1/models"), ("GET", "/")])
    def test_anything_else_is_not_found(self, provider: Provider, method: str, path: str):
        assert fetch(provider, path, method=method).status == 404
