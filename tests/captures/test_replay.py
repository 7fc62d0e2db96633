"""Recorded answers, given again to clients that ask for them."""

import json
import signal
import socket
import struct
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import anthropic
import openai
import pytest
from click.testing import CliRunner
from hypothesis import example, given
from hypothesis import strategies as st
from mitmproxy.flow import Error
from mitmproxy.http import Headers, HTTPFlow, Request, Response
from mitmproxy.io import FlowWriter
from mitmproxy.test import tflow

from gateway_addon.captures import replay
from gateway_addon.captures.replay import (
    Asked,
    Recording,
    ReplayServer,
    choose,
    choose_by_position,
    conversation,
    schedule,
)
from gateway_addon.cli import main
from gateway_addon.wire import encodings
from tests.client import Call
from tests.mitmdump import Mitmdump
from tests.provider import Provider, agent

PROMPT = "Two players with equal points get different ranks. Please find out why and fix it."

# ---- What is compared ----


@pytest.mark.parametrize(
    ("body", "turns"),
    [
        pytest.param({}, [], id="nothing"),
        pytest.param({"messages": 7}, [], id="no list"),
        pytest.param({"input": "Hello"}, ["user: Hello"], id="a text alone"),
        pytest.param({"messages": [{"role": "user", "content": "Hello"}]}, ["user: Hello"], id="a string"),
        pytest.param(
            {"messages": [{"role": "user", "content": [{"type": "text", "text": "Hello"}]}]},
            ["user: Hello"],
            id="parts",
        ),
        pytest.param(
            {"system": "Be brief.", "messages": [{"role": "developer", "content": "Be kind."}]}, [], id="instructions"
        ),
        pytest.param(
            {
                "messages": [
                    {"role": "user", "content": "<system-reminder>Today is Monday.</system-reminder>\nHello"},
                ]
            },
            ["user: Hello"],
            id="what a harness adds",
        ),
        pytest.param(
            {
                "messages": [
                    {
                        "role": "assistant",
                        "content": [{"type": "tool_use", "id": "toolu_1", "name": "read", "input": {"b": 1, "a": "x"}}],
                    },
                    {
                        "role": "user",
                        "content": [{"type": "tool_result", "tool_use_id": "toolu_1", "content": "text of x"}],
                    },
                ]
            },
            ["assistant: x\n1\nread", "user: text of x"],
            id="tools of messages",
        ),
        pytest.param(
            {
                "input": [
                    {"type": "reasoning", "id": "rs_1", "encrypted_content": "c2VjcmV0", "summary": []},
                    {"type": "function_call", "call_id": "c", "id": "fc_1", "name": "read", "arguments": '{"a":"x"}'},
                    {"type": "function_call_output", "call_id": "c", "output": "text of x"},
                ]
            },
            ['function_call: {"a":"x"}\nread', "function_call_output: text of x"],
            id="tools of responses",
        ),
    ],
)
def test_a_conversation_is_its_words(body: dict[str, Any], turns: list[str]):
    assert list(conversation(body)) == turns


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["role", "content", "x"]), inner),
    max_leaves=8,
)


@given(body=st.dictionaries(st.sampled_from(["messages", "input", "model"]), json_values))
@example(body={"messages": [{"role": [None]}]})
@example(body={"input": [{"type": {}}]})
def test_no_body_raises(body: dict[str, Any]):
    replay.read_request("POST", "/v1/messages?beta=true", body)


def asked(*turns: int, what: str = "messages", model: str | None = "m") -> Asked:
    return Asked(what, model, turns)


def recorded(*calls: Asked, uses: int = 0) -> list[Recording]:
    return [Recording(offset, (call,), uses) for offset, call in enumerate(calls)]


@pytest.mark.parametrize(
    ("calls", "wanted", "offset"),
    [
        pytest.param([asked(1), asked(1, 2, 3)], asked(1, 2, 3), 1, id="the same conversation"),
        pytest.param([asked(1, 2, 3), asked(1, 2, 4)], asked(1, 2, 4), 1, id="the longest beginning"),
        pytest.param([asked(1), asked(1, 2, 3), asked(1, 2, 3, 4, 5)], asked(1, 2, 9), 1, id="the nearest length"),
        pytest.param([asked(1), asked(1)], asked(1), 0, id="the order of the file"),
        pytest.param([asked(1, model="n"), asked(1)], asked(1), 1, id="the model"),
        pytest.param([asked(1, what="responses"), asked(1)], asked(1), 1, id="the kind"),
        pytest.param([asked(2)], asked(1), None, id="another first turn"),
        pytest.param([asked()], asked(1), None, id="nothing recorded"),
        pytest.param([asked(1)], asked(), None, id="nothing asked"),
        pytest.param(
            [asked(what="GET /v1/models", model=None)], asked(what="GET /v1/models", model=None), 0, id="no call"
        ),
    ],
)
def test_the_best_fit_is_chosen(calls: list[Asked], wanted: Asked, offset: int | None):
    chosen = choose(recorded(*calls), wanted)
    assert (chosen.offset if chosen else None) == offset


def test_equal_calls_take_turns():
    calls = recorded(asked(1), asked(1))
    offsets = []
    for _ in range(4):
        chosen = choose(calls, asked(1))
        assert chosen
        offsets.append(chosen.offset)
        chosen.uses += 1
    assert offsets == [0, 1, 0, 1]


def test_a_call_of_another_length_fits_once_so_that_no_agent_goes_in_circles():
    assert choose(recorded(asked(1)), asked(1, 2, 3))
    assert choose(recorded(asked(1), uses=1), asked(1, 2, 3)) is None


@pytest.mark.parametrize(
    ("calls", "wanted", "offset"),
    [
        pytest.param([asked(1), asked(1, 2, 3)], asked(7, 8, 9), 1, id="the same length"),
        pytest.param([asked(1), asked(1, 2, 3, 4, 5)], asked(7, 8, 9, 10), 1, id="the nearest length"),
        pytest.param([asked(1, model="n"), asked(2)], asked(7), 1, id="the model"),
        pytest.param([asked(1, model="n")], asked(7), 0, id="another model"),
        pytest.param([asked(1, 2, 3), asked(1, 2, 4)], asked(7, 2, 4), 1, id="the turns in common"),
        pytest.param([asked(1), asked(2)], asked(7), 0, id="the order of the file"),
        pytest.param([asked(1, what="responses")], asked(7), None, id="never another kind"),
    ],
)
def test_a_position_in_the_conversation_is_chosen(calls: list[Asked], wanted: Asked, offset: int | None):
    chosen = choose_by_position(recorded(*calls), wanted)
    assert (chosen.offset if chosen else None) == offset


def test_another_position_fits_once_so_that_no_agent_goes_in_circles():
    assert choose_by_position(recorded(asked(1)), asked(7, 8, 9))
    assert choose_by_position(recorded(asked(1), uses=1), asked(7, 8, 9)) is None


@pytest.mark.parametrize(
    ("pace", "pieces"),
    [
        (None, [(0.0, b"abcdef")]),
        ([[10, 2], [30.5, 6]], [(0.01, b"ab"), (0.0305, b"cdef")]),
        ([[10, 2], [20, 4]], [(0.01, b"ab"), (0.02, b"cd"), (0.02, b"ef")]),
        ([[10, 0], [20, 100]], [(0.02, b"abcdef")]),
        ([["x"], 7, [5, 3], [4, 4], [6, 2], [float("nan"), 5], [7, 6]], [(0.005, b"abc"), (0.007, b"def")]),
        ([[1e300, 6]], [(3600.0, b"abcdef")]),
    ],
)
def test_a_body_is_sent_in_the_pieces_it_came_in(pace: object, pieces: list[tuple[float, bytes]]):
    assert schedule(b"abcdef", pace) == pieces


# ---- Served ----


def call_flow(body: object, answer: bytes = b"{}", *, path: str = "/v1/messages", **headers: str) -> HTTPFlow:
    flow: HTTPFlow = tflow.tflow()
    flow.request = Request.make("POST", f"http://provider{path}", json.dumps(body))
    flow.response = Response.make(200, b"", {"content-type": "application/json"} | headers)
    flow.response.raw_content = answer
    flow.response.headers["content-length"] = str(len(answer))
    return flow


@pytest.fixture
def serve(tmp_path: Path) -> Iterator[Callable[..., str]]:
    """`serve(*flows, **options)` answers with them, as `ReplayServer`'s options say, and returns the URL."""
    servers: list[ReplayServer] = []

    def start(*flows: HTTPFlow, **options: Any) -> str:
        path = tmp_path / f"{len(servers)}.flow"
        with path.open("wb") as file:
            for flow in flows:
                FlowWriter(file).add(flow)
        server = ReplayServer(path, list(replay.recordings(path)), 0, **options)
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        servers.append(server)
        return server.url

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


def ask(url: str, body: object, path: str = "/v1/messages", **headers: str) -> tuple[int, bytes]:
    call = Call(url, path, body, headers)
    return call.response.status, call.read()


HELLO = {"model": "m", "messages": [{"role": "user", "content": "Hello"}]}


def test_an_answer_is_sent_as_it_was_recorded(serve):
    data = encodings.encode(b'{"text": "Hi"}', "zstd")
    headers = {
        "content-encoding": "zstd",
        "request-id": "req_1",
        "set-cookie": "a=b",
        "access-control-allow-origin": "*",
    }
    flow = call_flow(HELLO, data, **headers)
    assert flow.response
    flow.response.status_code = 529
    call = Call(serve(flow), "/anything/messages?beta=true", HELLO)
    assert (call.response.status, call.read()) == (529, data)
    sent = {name.lower() for name, _ in call.response.getheaders()}
    assert sent == {"content-type", "content-encoding", "content-length", "request-id"}


def test_a_stream_is_chunked(serve):
    flow = call_flow(HELLO, b"data: {}\n\n", **{"content-type": "text/event-stream"})
    assert flow.response
    del flow.response.headers["content-length"]
    call = Call(serve(flow), "/v1/messages", HELLO)
    assert call.response.getheader("transfer-encoding") == "chunked"
    assert call.read() == b"data: {}\n\n"


def test_repeated_calls_get_the_next_recording(serve):
    url = serve(*(call_flow(HELLO, b"%d" % n) for n in range(2)))
    assert [ask(url, HELLO)[1] for _ in range(3)] == [b"0", b"1", b"0"]


def test_a_call_that_the_gateway_rewrote_answers_to_both_its_forms(serve):
    flow = call_flow(HELLO | {"model": "public"}, b'{"n": 1}', path="/api/gateway/messages")
    flow.backup()
    flow.request.path, flow.request.text = "/v1/messages", json.dumps(HELLO | {"model": "upstream"})
    url = serve(flow)
    assert [ask(url, HELLO | {"model": model})[0] for model in ("public", "upstream", "other")] == [200, 200, 404]


def test_other_requests_are_matched_by_method_and_path(serve):
    flow = call_flow({}, b'{"input_tokens": 7}', path="/v1/messages/count_tokens?beta=true")
    assert ask(serve(flow), {}, "/v1/messages/count_tokens") == (200, b'{"input_tokens": 7}')


def test_a_compressed_or_chunked_request_is_understood(serve):
    url = serve(call_flow(HELLO, b'{"n": 1}'), call_flow({}, b"{}"))
    data = encodings.encode(json.dumps(HELLO).encode(), "zstd")
    assert ask(url, data, **{"content-encoding": "zstd"}) == (200, b'{"n": 1}')
    chunks = b"".join(b"%x\r\n%b\r\n" % (len(part), part) for part in (data[:5], data[5:], b""))
    head = b"POST /v1/messages HTTP/1.1\r\ncontent-encoding: zstd\r\ntransfer-encoding: chunked\r\n"
    assert _raw(url, head + b"connection: close\r\n\r\n" + chunks).endswith(b'{"n": 1}')


def _raw(url: str, sent: bytes) -> bytes:
    """All that comes back until the server closes the connection."""
    with socket.create_connection(("127.0.0.1", int(url.rpartition(":")[2])), timeout=20) as connection:
        connection.sendall(sent)
        return b"".join(iter(lambda: connection.recv(65536), b""))


@pytest.mark.parametrize("framing", ["chunked", "length", "none"])
def test_a_cut_answer_is_cut_at_the_same_place(serve, framing: str):
    flow = call_flow(HELLO, b"data: {}\n\ndata: {")
    flow.error = Error("Client disconnected.")
    assert flow.response
    if framing == "none":
        flow.response = None
    elif framing == "length":
        flow.response.headers["content-length"] = "1000"
    else:
        del flow.response.headers["content-length"]
    received = _raw(serve(flow), b"POST /v1/messages HTTP/1.1\r\ncontent-length: %d\r\n\r\n%b" % _sized(HELLO))
    ends = {"chunked": b"11\r\ndata: {}\n\ndata: {\r\n", "length": b"\r\n\r\ndata: {}\n\ndata: {", "none": b""}
    assert received.endswith(ends[framing])
    assert (received == b"") == (framing == "none")


def _sized(body: object) -> tuple[int, bytes]:
    data = json.dumps(body).encode()
    return len(data), data


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (HELLO | {"model": "n"}, "no messages call to n was recorded, only to m"),
        (
            {"model": "m", "messages": [{"role": "user", "content": "Bye"}]},
            "no messages call to m was recorded with this conversation of 1 turns: "
            "turn 1 is 'user: Bye', in call 1 (ID) 'user: Hello'",
        ),
    ],
)
def test_an_unknown_call_is_told_what_was_looked_for(serve, body: dict[str, Any], message: str):
    flow = call_flow(HELLO)
    client = anthropic.Anthropic(base_url=serve(flow), api_key="sk-test", max_retries=0)
    with pytest.raises(anthropic.NotFoundError) as refused:
        client.messages.create(**body, max_tokens=9)
    message = message.replace("ID", flow.id[:8])
    assert refused.value.body == {"type": "error", "error": {"type": "not_found_error", "message": message}}


def test_an_unknown_call_of_another_kind_has_the_shape_of_its_own(serve):
    client = openai.OpenAI(base_url=f"{serve(call_flow(HELLO))}/v1", api_key="sk-test", max_retries=0)
    with pytest.raises(openai.NotFoundError) as refused:
        client.responses.create(model="m", input="Hello")
    assert refused.value.code == "not_recorded"
    assert "no responses call was recorded" in refused.value.message


def test_a_call_without_its_answer_says_so(serve):
    flow = call_flow(HELLO)
    assert flow.response
    flow.response.raw_content = None
    status, answer = ask(serve(flow), HELLO)
    assert status == 404
    assert b"recorded without its answer" in answer


def test_the_recorded_pace_is_kept_only_if_wanted(serve, monkeypatch: pytest.MonkeyPatch):
    waits: list[float] = []
    monkeypatch.setattr(replay, "time", SimpleNamespace(sleep=waits.append, monotonic=lambda: 0.0))
    flow = call_flow(HELLO, b"abcdef")
    flow.metadata[replay.PACE] = [[100, 2], [5000, 4], [9000, 6]]
    assert flow.response
    flow.request.timestamp_start, flow.response.timestamp_start = 1000.0, 1000.0625
    assert ask(serve(flow), HELLO) == (200, b"abcdef")
    assert waits == [0.0]
    assert ask(serve(flow, paced=True), HELLO) == (200, b"abcdef")
    # the head, too, has a time
    assert waits == [0.0, 0.0625, 0.1, 5.0, 9.0]


# ---- What is said ----


def turns(*said: str) -> dict[str, Any]:
    """A conversation of user and assistant, in turn."""
    roles = ("user", "assistant")
    return {"model": "m", "messages": [{"role": roles[n % 2], "content": text} for n, text in enumerate(said)]}


def test_each_request_is_told_with_what_it_was_given_or_why_nothing(serve):
    lines: list[str] = []
    flow = call_flow(turns("Hello", "Hi", "Why?"))
    url, name = serve(flow, told=lines.append), f"call 1 ({flow.id[:8]})"
    for said in (["Hello", "Hi", "Why?"], ["Hello", "Hi", "When?"], ["Hello", "Ho", "Why?"], ["Bye"], ["Hello"]):
        ask(url, turns(*said))
    ask(url, {}, "/v1/messages/count_tokens?token=secret")
    ask(url, {"model": "m", "input": "Hello"}, "/v1/responses")
    missing = "404, no messages call to m was recorded with this conversation of"
    assert lines == [
        f"messages to m with 3 turns: 200, {name}, 3 of 3 turns alike",
        f"messages to m with 3 turns: 200, {name}, 2 of 3 turns alike",
        f"messages to m with 3 turns: 200, {name}, 1 of 3 turns alike",
        f"messages to m with 1 turns: {missing} 1 turns: turn 1 is 'user: Bye', in {name} 'user: Hello'",
        f"messages to m with 1 turns: {missing} 1 turns: {name} has 3, and was given already",
        "POST /v1/messages/count_tokens: 404, no POST /v1/messages/count_tokens call was recorded",
        "responses to m with 1 turns: 404, no responses call was recorded",
    ]


def test_the_command_says_it_too(tmp_path: Path):
    path = tmp_path / "one.flow"
    flow = call_flow(HELLO)
    with path.open("wb") as file:
        FlowWriter(file).add(flow)
    running = Replay(str(path), "--port", "0")
    try:
        ask(running.url, HELLO | {"model": "\x1b[2J"})
        assert running.process.stdout
        said = running.process.stdout.readline()
        assert "messages to \\x1b[2J with 1 turns: 404, no messages call to " in said
    finally:
        running.process.kill()


def test_a_loop_whose_prompt_has_changed_is_given_the_calls_of_the_same_place(serve):
    flows = [call_flow(turns(*"abcde"[:n]), b"%d" % n) for n in (1, 3, 5)]
    changed = [turns("A", *"bcde"[: n - 1]) for n in (1, 3, 5)]
    assert [ask(serve(*flows), body)[0] for body in changed] == [404] * 3
    lines: list[str] = []
    url = serve(*flows, lenient=True, told=lines.append)
    assert [ask(url, body) for body in changed] == [(200, b"1"), (200, b"3"), (200, b"5")]
    assert [line.partition("), ")[2] for line in lines] == [
        f"by position, {n} of {n + 1} turns alike" for n in (0, 2, 4)
    ]
    # what fits still goes first
    assert ask(url, turns(*"abc")) == (200, b"3")
    assert lines[-1].endswith("), 3 of 3 turns alike")


# ---- Models ----


def test_the_models_that_were_called_are_listed_for_both_sdks(serve):
    url = serve(*(call_flow(HELLO | {"model": model}) for model in ("toy/a", "toy/b", "toy/a")))
    gpt = openai.OpenAI(base_url=f"{url}/v1", api_key="sk-test", max_retries=0)
    claude = anthropic.Anthropic(base_url=url, api_key="sk-test", max_retries=0)
    assert [model.id for model in gpt.models.list()] == ["toy/a", "toy/b"]
    assert [model.id for model in claude.models.list()] == ["toy/a", "toy/b"]
    assert gpt.models.retrieve("toy/b").id == "toy/b"
    with pytest.raises(openai.NotFoundError):
        gpt.models.retrieve("toy/c")


def test_a_list_that_was_recorded_is_given_as_it_was(serve):
    flow = call_flow({}, b'{"data": []}', path="/v1/models")
    flow.request.method = "GET"
    raw = _raw(serve(flow), b"GET /v1/models HTTP/1.1\r\nconnection: close\r\n\r\n")
    assert raw.endswith(b'{"data": []}')


# ---- Strangers, and files of strangers ----


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"host": "localhost:9000"}, 200),
        ({"host": "127.0.0.1"}, 200),
        ({"host": "[::1]:9000"}, 200),
        ({"host": "evil.example"}, 403),
        ({"host": "127.0.0.1.evil.example"}, 403),
        ({"host": "localhost:9000@evil.example"}, 403),
        ({"origin": "http://evil.example"}, 403),
        ({"origin": "null"}, 403),
    ],
    ids=str,
)
def test_web_pages_get_nothing(headers: dict[str, str], status: int, serve):
    assert ask(serve(call_flow(HELLO, b"{}")), HELLO, **headers)[0] == status


@pytest.mark.parametrize(
    "headers",
    [
        ((b"x-a", b"b\r\nx-evil: 1"),),
        ((b"x-a", b"b\nx-evil: 1"),),
        ((b"x-a\r\nx-evil", b"1"),),
        ((b"content-length", b"2\r\nx-evil: 1"),),
        ((b"content-length", b"0"),),
    ],
    ids=str,
)
def test_a_recorded_header_cannot_split_an_answer(headers: tuple[tuple[bytes, bytes], ...], serve):
    flow = call_flow(HELLO, b"HTTP/1.1 200 OK\r\nx-evil: 1\r\n\r\n")
    assert flow.response
    flow.response.headers = Headers([(b"content-type", b"text/plain"), *headers])
    flow.response.data.reason = b"OK\r\nx-evil: 1"
    call = Call(serve(flow), "/v1/messages", HELLO)
    assert "x-evil" not in call.response.headers
    # all of it is this answer's body
    assert call.read() == flow.response.raw_content


@pytest.mark.parametrize(("status", "answered"), [(204, b""), (304, b""), (100, None), (7, None), (99999, None)])
def test_a_recorded_status_cannot_either(status: int, answered: bytes | None, serve):
    flow = call_flow(HELLO, b"HTTP/1.1 200 OK\r\nx-evil: 1\r\n\r\n")
    assert flow.response
    flow.response.status_code = status
    request = b"POST /v1/messages HTTP/1.1\r\nconnection: close\r\ncontent-length: %d\r\n\r\n%b" % _sized(HELLO)
    received = _raw(serve(flow), request)
    assert b"x-evil" not in received
    assert (b" %d " % status in received) == (answered is not None)


def test_a_header_that_is_no_ascii_is_sent_as_it_was(serve):
    flow = call_flow(HELLO)
    assert flow.response
    flow.response.headers = Headers([(b"x-name", "Ränge".encode())])
    assert Call(serve(flow), "/v1/messages", HELLO).response.getheader("x-name") == "Ränge".encode().decode("latin-1")


def deep(levels: int) -> bytes:
    return b'{"model": "m", "messages": [{"role": "user", "content": ' + b"[" * levels + b"]" * levels + b"}]}"


@pytest.mark.parametrize("levels", [400, 3000, 100_000])
def test_deep_json_is_an_error(levels: int, serve, capfd: pytest.CaptureFixture[str]):
    url = serve(call_flow(HELLO))
    status, answer = ask(url, deep(levels))
    assert (status, json.loads(answer)["error"]["type"]) in [(400, "invalid_request_error"), (404, "not_found_error")]
    assert ask(url, HELLO)[0] == 200
    assert capfd.readouterr().err == ""


def test_deep_json_in_a_file_hides_no_other_call(serve):
    flow = call_flow({})
    flow.request.raw_content = deep(3000)
    assert ask(serve(flow, call_flow(HELLO, b"2")), HELLO) == (200, b"2")


@pytest.mark.parametrize("length", [b"-1", b"x", b"99999999999999"])
def test_a_length_that_is_none_ends_the_connection(length: bytes, serve):
    assert (
        _raw(serve(call_flow(HELLO)), b"POST /v1/messages HTTP/1.1\r\ncontent-length: " + length + b"\r\n\r\n") == b""
    )


# ---- An agent, with the provider gone ----


def loops(url: str, **stream: bool) -> list[str]:
    """What the models say last, for each kind."""
    gpt = openai.OpenAI(base_url=f"{url}/v1", api_key="sk-test", max_retries=0)
    claude = anthropic.Anthropic(base_url=url, api_key="sk-test", max_retries=0)
    return [
        agent.chat_completions(gpt, "toy/large", PROMPT, **stream),
        agent.responses(gpt, "toy/large", PROMPT, **stream),
        agent.messages(claude, "toy/large", PROMPT, **stream),
    ]


class Replay:
    """A running `gateway-addon replay`."""

    def __init__(self, *arguments: str) -> None:
        command = [sys.executable, "-m", "gateway_addon", "replay", *arguments]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        assert self.process.stdout
        self.line = self.process.stdout.readline()
        self.url = self.line.split()[-1]

    def stop(self, number: signal.Signals) -> tuple[int, str]:
        self.process.send_signal(number)
        _, errors = self.process.communicate(timeout=20)
        return self.process.returncode, errors


@pytest.mark.long
def test_an_agent_loop_replays_to_the_end_without_the_provider(provider: Provider, confdir: Path, tmp_path: Path):
    saved = tmp_path / "loop.flow"
    args = ["-w", str(saved), "--flow-detail", "0"]
    with Mitmdump(provider.url, confdir=confdir, options={"gateway_db": tmp_path / "live.db"}, args=args) as proxy:
        said = [loops(proxy.url, stream=stream) for stream in (True, False)]
        assert proxy.stop() == 0
    calls = len(provider.requests)
    running = Replay(str(saved), "--port", "0", "--pace")
    try:
        assert running.line.startswith(f"{calls} calls of {saved} at http://127.0.0.1:")
        assert [loops(running.url, stream=stream) for stream in (True, False)] == said
        # and again, behind the proxy
        with Mitmdump(running.url, confdir=confdir, options={"gateway_db": tmp_path / "again.db"}) as proxy:
            assert [loops(proxy.url, stream=stream) for stream in (True, False)] == said
        assert len(provider.requests) == calls
        assert running.stop(signal.SIGTERM) == (0, "")
    finally:
        running.process.kill()


def test_a_client_that_resets_its_connection_is_no_error_to_tell(tmp_path: Path):
    path = tmp_path / "one.flow"
    with path.open("wb") as file:
        FlowWriter(file).add(call_flow(HELLO))
    running = Replay(str(path), "--port", "0")
    try:
        port = int(running.url.rpartition(":")[2])
        with socket.create_connection(("127.0.0.1", port)) as connection:
            # closing sends a reset instead of the end of the data
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            connection.sendall(b"POST /v1/messages HTTP/1.1\r\n")
        assert ask(running.url, HELLO) == (200, b"{}")
        assert running.stop(signal.SIGINT) == (0, "")
    finally:
        running.process.kill()


def test_what_a_damaged_file_holds_whole_is_served(tmp_path: Path):
    path = tmp_path / "cut.flow"
    with path.open("wb") as file:
        for _ in range(2):
            FlowWriter(file).add(call_flow(HELLO))
    path.write_bytes(path.read_bytes()[:-10])
    running = Replay(str(path), "--port", "0")
    try:
        assert ask(running.url, HELLO) == (200, b"{}")
        assert running.stop(signal.SIGINT) == (0, f"gateway-addon: {path}: cut off after 1 whole flow\n")
    finally:
        running.process.kill()


def run(*arguments: object) -> tuple[int, str]:
    result = CliRunner().invoke(main, ["replay", *map(str, arguments)])
    return result.exit_code, result.stderr


def test_what_cannot_be_served_is_one_line(tmp_path: Path):
    empty, whole = tmp_path / "empty.flow", tmp_path / "whole.flow"
    empty.touch()
    with whole.open("wb") as file:
        FlowWriter(file).add(call_flow(HELLO))
    assert run(empty, "--port", 0) == (2, f"gateway-addon: {empty}: no HTTP calls in it\n")
    assert run(tmp_path / "none", "--port", 0) == (
        2,
        f"gateway-addon: {tmp_path / 'none'}: No such file or directory\n",
    )
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        assert run(whole, "--port", port) == (2, f"gateway-addon: port {port}: Address already in use\n")
