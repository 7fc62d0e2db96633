"""Turns of a WebSocket in a file, given again: over a WebSocket or by HTTP, whatever they were recorded by."""

import http.client
import json
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import openai
import pytest
from mitmproxy.http import HTTPFlow, Request
from mitmproxy.io import FlowWriter
from mitmproxy.test import tflow
from mitmproxy.websocket import WebSocketData, WebSocketMessage
from wsproto.frame_protocol import Opcode

from gateway_addon.captures import replay
from gateway_addon.captures.replay import ReplayServer
from gateway_addon.captures.sockets import Histories, as_http, exchanges
from tests.provider import responses
from tests.provider.answer import Answer, ToolCall
from tests.socket_client import Conversation, connected, needs_client

Json = dict[str, Any]

LOOKS = Answer(id="1", model="m", text="I look.", tool_calls=(ToolCall("read", '{"path": "a"}'),), finish="tool_calls")
DONE = Answer(id="2", model="m", text="Done.")
RESULT = {"type": "function_call_output", "call_id": "call_1_0", "output": "text of a"}


def events(answer: Answer) -> list[Json]:
    return [json.loads(event.partition(b"data: ")[2]) for event in responses.events(answer)]


def asks(words: object, **more: Any) -> Json:
    return {"type": "response.create", "model": "m", "input": words} | more


def socket_flow(*messages: tuple[Json, list[Json]], step: float = 0.25) -> HTTPFlow:
    """A connection with these turns; a message came every `step` seconds."""
    flow = tflow.twebsocketflow()
    flow.request = Request.make("GET", "http://api.openai.com/v1/responses", headers=[(b"upgrade", b"websocket")])
    flow.websocket = WebSocketData()
    time = 1_800_000_000.0
    for request, answers in messages:
        for is_client, event in ((True, request), *((False, answer) for answer in answers)):
            content = json.dumps(event).encode()
            flow.websocket.messages.append(WebSocketMessage(Opcode.TEXT, is_client, content, time))
            time += step
    return flow


CONVERSATION = (
    (asks("Fix it.", generate=False), events(Answer(id="0", model="m"))),
    (asks("Fix it."), events(LOOKS)),
    (asks([RESULT], previous_response_id="resp_1"), events(DONE)),
)


@pytest.fixture
def serve(tmp_path: Path) -> Iterator[Callable[..., str]]:
    """Start a server for flows; it hears what becomes of the requests in `told`."""
    servers: list[ReplayServer] = []

    def start(*flows: HTTPFlow, told: Callable[[str], object] = lambda line: None, **options: bool) -> str:
        path = tmp_path / f"{len(servers)}.flow"
        with path.open("wb") as file:
            for flow in flows:
                FlowWriter(file).add(flow)
        server = ReplayServer(path, list(replay.recordings(path)), 0, told=told, **options)
        servers.append(server)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        return f"{server.url}/v1"

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


class TestTurns:
    def test_are_numbered_and_have_their_answers(self):
        found = list(exchanges(socket_flow(*CONVERSATION)))
        assert [turn.number for turn in found] == [1, 2, 3]
        assert [[json.loads(answer.content) for answer in turn.answers] for turn in found] == [
            answers for _, answers in CONVERSATION
        ]

    def test_are_flows_with_a_stream_at_its_pace(self):
        flow = socket_flow((asks("Fix it."), events(DONE)))
        (turn,) = exchanges(flow)
        made = as_http(flow, turn)
        assert made.response
        assert made.response.raw_content
        assert [line for line in made.response.raw_content.split(b"\n\n") if line] == [
            b"data: " + json.dumps(event).encode() for event in events(DONE)
        ]
        assert [at for at, _ in made.metadata["gateway_pace"]] == [250 * n for n in range(1, len(events(DONE)) + 1)]

    def test_that_were_cut_are_cut(self):
        flow = socket_flow((asks("Fix it."), events(DONE)[:3]))
        (turn,) = exchanges(flow)
        assert as_http(flow, turn).error

    def test_a_history_is_completed(self):
        said = Histories()
        for request, answers in CONVERSATION[1:]:
            whole = said.complete(request)
            said.learn(whole, [json.dumps(answer).encode() for answer in answers])
        assert [item.get("type", "message") for item in whole["input"]] == [
            *("message", "message", "function_call", "function_call_output"),
        ]


@needs_client
class TestReplay:
    def talk(self, talk: Conversation) -> list[list[Json]]:
        given = []
        for request, _ in CONVERSATION:
            talk.connection.send(request)
            given.append(talk.events())
        return given

    def test_a_conversation_is_given_again(self, serve):
        lines: list[str] = []
        with connected(serve(socket_flow(*CONVERSATION), told=lines.append)) as talk:
            assert self.talk(talk) == [answers for _, answers in CONVERSATION]
        assert [line.partition(":")[0] for line in lines] == [
            "responses warm-up to m with 1 turns",
            "responses to m with 1 turns",
            "responses to m with 4 turns",
        ]

    def test_what_was_not_recorded_is_refused_and_the_connection_goes_on(self, serve):
        with connected(serve(socket_flow(*CONVERSATION))) as talk:
            refused = talk.ask("m", "Something else.")
            assert (refused["type"], refused["status"], refused["error"]["code"]) == ("error", 404, "not_recorded")
            assert talk.ask("m", "Fix it.")["response"]["id"] == "resp_1"

    def test_a_turn_that_was_cut_is_cut_at_the_same_place(self, serve):
        with connected(serve(socket_flow((asks("Fix it."), events(DONE)[:3])))) as talk:
            talk.send("m", "Fix it.")
            assert [talk.receive() for _ in range(3)] == events(DONE)[:3]
            with pytest.raises(Exception, match="no close frame"):
                talk.receive()

    def test_a_call_by_http_is_answered_with_the_turns_stream(self, serve):
        url = serve(socket_flow(*CONVERSATION))
        client = openai.OpenAI(base_url=url, api_key="sk-test", max_retries=0)
        stream = client.responses.create(model="m", input="Fix it.", stream=True)
        assert [event.type for event in stream] == [event["type"] for event in events(LOOKS)]
        assert client.responses.create(model="m", input="Fix it.").output_text == "I look."

    def test_a_turn_is_answered_with_what_was_recorded_by_http(self, serve):
        flows = []
        for answer, stream in (
            (b"".join(responses.events(DONE)), True),
            (json.dumps(responses.body(DONE)).encode(), False),
        ):
            flow = tflow.tflow(resp=True)
            body = {"model": "m", "input": "Fix it.", "stream": stream}
            flow.request = Request.make("POST", "http://api.openai.com/v1/responses", json.dumps(body))
            assert flow.response
            flow.response.raw_content = answer
            flows.append(flow)
        with connected(serve(*flows)) as talk:
            assert [talk.ask("m", "Fix it.")["response"]["id"] for _ in flows] == ["resp_2"] * 2

    def test_an_error_by_http_is_one_on_a_socket(self, serve):
        flow = tflow.tflow(resp=True)
        flow.request = Request.make("POST", "http://api.openai.com/v1/responses", json.dumps(asks("Fix it.")))
        assert flow.response
        flow.response.status_code, flow.response.text = 429, '{"error": {"message": "slow down"}}'
        with connected(serve(flow)) as talk:
            assert talk.ask("m", "Fix it.") == {"type": "error", "status": 429, "error": {"message": "slow down"}}


def test_a_page_is_not_answered_and_what_is_no_socket_ends(serve):
    url = serve(socket_flow(*CONVERSATION))
    upgrade = {"connection": "Upgrade", "upgrade": "websocket", "sec-websocket-key": "x"}
    assert status_of(url, upgrade | {"origin": "http://evil.example"}) == 403
    assert status_of(url, upgrade) == 101


def status_of(url: str, headers: dict[str, str]) -> int:
    connection = http.client.HTTPConnection(urlsplit(url).netloc, timeout=20)
    connection.request("GET", "/v1/responses", headers=headers)
    try:
        return connection.getresponse().status
    finally:
        connection.sock.sendall(b"\xff" * 20)
        connection.close()
