"""Turns of a WebSocket, message by message through mitmproxy's hooks: whose messages are whose, how turns end, what is
kept in the flow, and what a bug of ours may do to them."""

import json
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import pytest
from mitmproxy import eventsequence, http
from mitmproxy.proxy.mode_specs import ProxyMode
from mitmproxy.test import taddons, tflow
from mitmproxy.websocket import WebSocketData, WebSocketMessage
from wsproto.frame_protocol import Opcode

from gateway_addon.api import turns
from gateway_addon.captures.notes import METADATA
from gateway_addon.proxy.hooks import GatewayAddon
from gateway_addon.proxy.websocket import Connection, Kept
from tests.mitmdump import rows
from tests.provider import responses
from tests.provider.answer import Answer, Usage

Row = dict[str, Any]


@contextmanager
def running(db: Path, **options: str) -> Iterator[GatewayAddon]:
    addon = GatewayAddon()
    with taddons.context(addon) as context:
        context.configure(addon, gateway_db=str(db), **options)
        yield addon
        addon._close()


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GatewayAddon]:
    with running(tmp_path_factory.mktemp("shared") / "gateway.db") as addon:
        yield addon


@pytest.fixture
def addon(shared: GatewayAddon) -> Iterator[GatewayAddon]:
    """An addon with a database; `stored` tells what this test has put there."""
    assert shared.calls
    options = shared.calls.options
    Socket.made.clear()
    yield shared
    shared.calls.options = options


def upgrade(path: str = "/v1/responses", host: str = "api.openai.com", **headers: str) -> http.HTTPFlow:
    """A flow of an upgrade that has been answered."""
    flow = tflow.twebsocketflow()
    flow.request = http.Request.make(
        "GET", f"https://{host}{path}", headers=http.Headers([], upgrade="websocket", **headers)
    )
    flow.websocket = WebSocketData()
    return flow


class Socket:
    """A live connection: messages one by one, as mitmproxy shows them."""

    made: ClassVar[list[str]] = []
    """The ids of their flows."""

    def __init__(self, addon: GatewayAddon, flow: http.HTTPFlow | None = None) -> None:
        self.addon = addon
        self.flow = flow or upgrade()
        self.made.append(self.flow.id)
        self.sent: list[bytes] = []
        """What has left, on either side."""
        response, self.flow.response = self.flow.response, None
        addon.requestheaders(self.flow)
        addon.request(self.flow)
        self.flow.response = response
        addon.responseheaders(self.flow)
        addon.response(self.flow)
        addon.websocket_start(self.flow)

    @property
    def messages(self) -> list[WebSocketMessage]:
        assert self.flow.websocket
        return self.flow.websocket.messages

    def pass_on(self, data: bytes, *, from_client: bool) -> None:
        message = WebSocketMessage(Opcode.TEXT, from_client, data)
        self.messages.append(message)
        assert self.addon.websocket_message(self.flow) is None
        assert not message.dropped
        self.sent.append(message.content)

    def ask(self, words: str = "why?", **more: Any) -> None:
        body = {"type": "response.create", "model": "gpt-5", "input": words} | more
        self.pass_on(json.dumps(body).encode(), from_client=True)

    def answer(self, *messages: bytes) -> None:
        for message in messages:
            self.pass_on(message, from_client=False)

    def end(self, *, by_client: bool = True, code: int = 1000) -> None:
        socket = self.flow.websocket
        assert socket
        socket.closed_by_client, socket.close_code, socket.timestamp_end = by_client, code, 1e9
        self.addon.websocket_end(self.flow)


def said(id_: str, text: str = "Four tests pass.", **members: Any) -> list[bytes]:
    """The messages of a good answer."""
    answer = Answer(id=id_, model="gpt-5", text=text, usage=Usage(input=100, output=20))
    events = [json.loads(event.partition(b"data: ")[2]) for event in responses.events(answer)]
    return [json.dumps(event | members).encode() for event in events]


def error(**members: Any) -> bytes:
    return json.dumps({"type": "error", "error": {"code": "server_error", "message": "lost"}} | members).encode()


def stored(addon: GatewayAddon) -> list[Row]:
    writer = addon._store._writer
    with writer._changed:
        assert writer._changed.wait_for(lambda: not writer._queue, 30)
    found = rows(writer._path, "SELECT *, substr(id, instr(id, '/')) AS turn FROM requests ORDER BY started_at, id")
    return [row for row in found if row["id"].partition("/")[0] in Socket.made]


def columns(found: list[Row], *names: str) -> list[tuple[Any, ...]]:
    return [tuple(row[name] for name in names) for row in found]


ANSWER = said("a")


class TestTurns:
    def test_each_has_its_row(self, addon: GatewayAddon):
        socket = Socket(addon)
        for id_ in ("a", "b"):
            socket.ask(id_)
            socket.answer(*said(id_))
        socket.end()
        found = stored(addon)
        assert [row["id"] for row in found] == [f"{socket.flow.id}/1", f"{socket.flow.id}/2"]
        names = ("response_id", "outcome", "http_status", "streamed", "transport", "input_tokens", "cost_source")
        assert columns(found, *names) == [
            ("resp_a", "complete", 101, 1, "websocket", 100, "estimate"),
            ("resp_b", "complete", 101, 1, "websocket", 100, "estimate"),
        ]
        assert found[0]["response_bytes"] == sum(map(len, said("a")))

    def test_it_has_one_as_soon_as_it_begins(self, addon: GatewayAddon):
        socket = Socket(addon)
        socket.ask()
        assert addon.calls
        assert [followed.call.id for followed in addon.calls._sockets[socket.flow].under_way()] == [
            f"{socket.flow.id}/1"
        ]
        (row,) = stored(addon)
        assert row["outcome"] == "in_flight"

    def test_warm_ups_count_and_say_what_they_are(self, addon: GatewayAddon):
        socket = Socket(addon)
        for generate in (False, True):
            socket.ask(generate=generate)
            socket.answer(*said("a"))
        assert columns(stored(addon), "turn", "side_request") == [("/1", "warmup"), ("/2", None)]

    def test_the_prompt_of_a_history_that_is_left_out_is_the_sessions(self, addon: GatewayAddon):
        socket = Socket(addon)
        socket.ask("Fix the pager.")
        socket.answer(*said("a"))
        result = {"type": "function_call_output", "call_id": "c", "output": "done"}
        socket.ask(input=[result], previous_response_id="resp_a")
        socket.answer(*said("b"))
        first, second = stored(addon)
        assert first["user_prompt_id"] == second["user_prompt_id"] is not None

    def test_other_messages_are_no_turns(self, addon: GatewayAddon):
        socket = Socket(addon)
        socket.pass_on(b'{"type":"response.cancel"}', from_client=True)
        socket.pass_on(b"\xff\x00", from_client=True)
        socket.answer(b'{"type":"session.updated"}', b"\xff", *ANSWER)
        socket.ask()
        socket.answer(*ANSWER)
        assert columns(stored(addon), "turn", "outcome") == [("/1", "complete")]

    def test_one_that_cannot_be_read_has_a_row(self, addon: GatewayAddon):
        socket = Socket(addon)
        socket.pass_on(b'{"type":"response.create","model":', from_client=True)
        socket.answer(error(status=400))
        (row,) = stored(addon)
        assert (row["outcome"], row["error_status"], row["warnings"]) == (
            "stream_error",
            400,
            '["request_unreadable"]',
        )

    def test_streams_side_by_side_are_told_apart(self, addon: GatewayAddon):
        socket = Socket(addon)
        socket.ask("a", stream_id="s1")
        socket.ask("b", stream_id="s2")
        for pair in zip(said("b", stream_id="s2"), said("a", stream_id="s1"), strict=True):
            socket.answer(*pair)
        found = columns(stored(addon), "turn", "response_id", "outcome")
        assert found == [("/1", "resp_a", "complete"), ("/2", "resp_b", "complete")]

    def test_turns_that_wait_are_answered_in_their_order(self, addon: GatewayAddon):
        socket = Socket(addon)
        socket.ask("a")
        socket.ask("b")
        socket.answer(*said("a"), *said("b"))
        assert columns(stored(addon), "turn", "response_id") == [("/1", "resp_a"), ("/2", "resp_b")]

    def test_an_answer_that_was_steered_has_a_successor(self, addon: GatewayAddon):
        socket = Socket(addon)
        socket.ask("a")
        first, *others = said("a")
        socket.answer(first)
        socket.pass_on(b'{"type":"response.steer","previous_response_id":"resp_a","input":"b"}', from_client=True)
        socket.answer(*others, *said("b"))
        socket.ask("c")
        socket.answer(*said("c"))
        found = columns(stored(addon), "turn", "response_id", "request_model", "previous_id")
        assert found == [
            ("/1", "resp_a", "gpt-5", None),
            ("/1.1", "resp_b", "gpt-5", "resp_a"),
            ("/2", "resp_c", "gpt-5", None),
        ]


class TestEnds:
    @pytest.mark.parametrize(
        ("by_client", "outcome"), [(True, "client_aborted"), (False, "upstream_cut")], ids=["client", "server"]
    )
    def test_at_any_message(self, addon: GatewayAddon, by_client: bool, outcome: str):
        for cut in range(len(ANSWER)):
            socket = Socket(addon)
            socket.ask()
            socket.answer(*ANSWER[:cut])
            socket.end(by_client=by_client, code=1006)
        found = columns(stored(addon), "outcome", "streamed", "error_message")
        assert found == [(outcome, 1, "the WebSocket was closed with code 1006")] * len(ANSWER)

    def test_nothing_is_wrong_with_a_turn_that_had_ended(self, addon: GatewayAddon):
        socket = Socket(addon)
        socket.ask()
        socket.answer(*ANSWER)
        socket.end(by_client=False, code=1006)
        assert columns(stored(addon), "outcome", "error_message") == [("complete", None)]

    def test_an_idle_connection_is_nobodys_fault(self, addon: GatewayAddon):
        socket = Socket(addon)
        socket.ask()
        assert addon.calls
        addon.calls._sockets[socket.flow]._heard -= 600
        socket.end(code=1006)
        assert columns(stored(addon), "outcome", "error_type") == [("upstream_cut", "timeout")]

    @pytest.mark.parametrize(
        "messages",
        [
            pytest.param([error(status=429)], id="in place of an answer"),
            pytest.param([error()], id="the same without a status"),
            pytest.param([ANSWER[0], error(status=429)], id="midway, with a status"),
            pytest.param([ANSWER[0], error()], id="midway"),
            pytest.param(
                [ANSWER[0], error(), b'{"type":"response.failed","response":{"status":"failed"}}'], id="then a failure"
            ),
        ],
    )
    def test_errors(self, addon: GatewayAddon, messages: list[bytes]):
        socket = Socket(addon)
        socket.ask()
        socket.answer(*messages)
        socket.ask()
        socket.answer(*said("b"))
        socket.end()
        found = columns(stored(addon), "turn", "outcome", "error_message")
        assert found == [("/1", "stream_error", "lost"), ("/2", "complete", None)]

    def test_the_limit_of_a_connection_fails_the_turn_it_meets_and_no_other(self, addon: GatewayAddon):
        limit = error(status=400, error={"code": turns.LIMIT, "message": "60 minutes are over"})
        for is_asked in (True, False):
            socket = Socket(addon)
            socket.ask()
            if not is_asked:
                socket.answer(*ANSWER)
            socket.answer(limit)
            socket.end(by_client=False)
        found = columns(stored(addon), "outcome", "error_type")
        assert sorted(found, key=str) == [("complete", None), ("stream_error", turns.LIMIT)]


def test_sockets_without_calls_are_counted(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    with caplog.at_level(logging.INFO), running(tmp_path / "gateway.db") as addon:
        for path in ("/v1/realtime", "/v1/messages", "/v1/chat/completions"):
            socket = Socket(addon, upgrade(path))
            socket.ask()
            socket.end()
            assert f"gateway-addon: calls to api.openai.com are not recorded: {path}" in caplog.messages
        socket = Socket(addon)
        socket.pass_on(b'{"type":"something.new"}', from_client=True)
        socket.end()
        assert rows(tmp_path / "gateway.db", "SELECT id FROM requests") == []
    assert caplog.messages[-1].startswith("gateway-addon: 4 calls to api.openai.com were not recorded: /v1/realtime,")


def test_what_is_under_way_when_the_proxy_ends_is_interrupted(tmp_path: Path):
    with running(tmp_path / "gateway.db") as addon:
        socket = Socket(addon)
        socket.ask()
        socket.answer(*ANSWER[:3])
    assert columns(rows(tmp_path / "gateway.db", "SELECT * FROM requests"), "outcome") == [("interrupted",)]
    assert socket.flow.metadata[METADATA]["turns"][0]["outcome"] == "interrupted"


def size_of(*messages: bytes) -> int:
    return sum(map(len, messages))


class TestMemory:
    def test_the_oldest_whole_turns_go(self, addon: GatewayAddon):
        assert addon.calls
        addon.calls.options = replace_limit(addon, 2 * (size_of(*ANSWER) + 100))
        socket = Socket(addon)
        for number in range(5):
            socket.ask(str(number))
            socket.answer(*ANSWER)
        socket.end()
        assert [json.loads(message.content)["input"] for message in socket.messages if message.from_client] == [
            "3",
            "4",
        ]
        assert len(socket.messages) == 2 * (1 + len(ANSWER))
        noted = socket.flow.metadata[METADATA]
        assert noted["turns_left_out"] == 3
        assert [turn["id"][-2:] for turn in noted["turns"]] == ["/4", "/5"]
        assert columns(stored(addon), "turn", "outcome") == [(f"/{n}", "complete") for n in range(1, 6)]

    def test_a_turn_that_is_too_long_is_read_all_the_same(self, addon: GatewayAddon):
        assert addon.calls
        addon.calls.options = replace_limit(addon, 1_000)
        socket = Socket(addon)
        socket.ask()
        socket.answer(*ANSWER)
        assert len(socket.messages) == 1
        socket.ask()
        socket.answer(*ANSWER[:2])
        socket.end()
        assert socket.flow.metadata[METADATA]["turns_left_out"] == 1
        assert columns(stored(addon), "outcome", "input_tokens") == [
            ("complete", 100),
            ("client_aborted", None),
        ]

    def test_trimming_takes_no_more_than_it_must(self):
        kept = Kept(10)
        messages: list[int] = []
        for size, begins in ((6, True), (4, False), (1, True), (1, False)):
            kept.trim(messages)
            kept.add(size, begins=begins)
            messages.append(size)
        kept.trim(messages)
        assert (messages, kept.left_out) == ([1, 1], 1)


def replace_limit(addon: GatewayAddon, limit: int) -> Any:
    assert addon.calls
    return replace(addon.calls.options, body_limit=limit)


class TestFiles:
    def read(self, flow: http.HTTPFlow, tmp_path: Path) -> list[Row]:
        """What a new database has of a flow that was saved."""
        loaded = http.HTTPFlow.from_state(flow.get_state())
        with running(tmp_path / "file.db") as addon:
            for hook in eventsequence.iterate(loaded):
                if handler := getattr(addon, hook.name, None):
                    handler(*hook.args())
        return rows(tmp_path / "file.db", "SELECT * FROM requests ORDER BY id")

    @pytest.mark.parametrize("limit", [64_000_000, 9_000], ids=["whole", "trimmed"])
    def test_give_the_rows_of_every_turn_that_was_kept(self, addon: GatewayAddon, tmp_path: Path, limit: int):
        assert addon.calls
        addon.calls.options = replace_limit(addon, limit)
        socket = Socket(addon, upgrade(user_agent="codex_exec/1.0"))
        for number in range(4):
            socket.ask(str(number), generate=number != 1)
            socket.answer(*said(str(number)))
        socket.ask("last")
        socket.answer(*ANSWER[:3])
        socket.end(by_client=False, code=1011)
        again = self.read(socket.flow, tmp_path)
        live = [row for row in stored(addon) if row.pop("turn")]
        left_out = socket.flow.metadata[METADATA].get("turns_left_out", 0)
        assert (left_out > 0) == (limit < 10_000)
        volatile = ("run_id", "source", "finish_sequence", "turn_id", *(n for n in live[0] if n.endswith("_id")))
        strip = [{k: v for k, v in row.items() if k not in volatile} for row in (*live[left_out:],)]
        assert [{k: v for k, v in row.items() if k not in volatile} for row in again] == strip

    def test_a_connection_that_was_saved_while_it_was_open_was_interrupted(self, addon: GatewayAddon, tmp_path: Path):
        socket = Socket(addon)
        socket.ask()
        socket.answer(*ANSWER[:3])
        assert columns(self.read(socket.flow, tmp_path), "outcome") == [("interrupted",)]

    def test_without_our_notes_the_messages_tell_the_times(self, addon: GatewayAddon, tmp_path: Path):
        socket = Socket(addon)
        socket.ask()
        socket.answer(*ANSWER)
        for number, message in enumerate(socket.messages):
            message.timestamp = 1_800_000_000 + number
        socket.end()
        socket.flow.metadata.clear()
        (row,) = self.read(socket.flow, tmp_path)
        assert (row["started_at"], row["time_to_first_byte_ms"]) == ("2027-01-15T08:00:00.000Z", 1000.0)
        assert row["duration_ms"] == 1000.0 * len(ANSWER)


class TestBugs:
    def test_messages_pass_although_reading_fails(self, addon: GatewayAddon, monkeypatch: Any):
        socket = Socket(addon)
        socket.ask()
        monkeypatch.setattr("gateway_addon.answer.AnswerFeed.feed", fail)
        socket.answer(*ANSWER)
        assert socket.sent[1:] == ANSWER
        (row,) = stored(addon)
        assert "reader_failed" in row["warnings"]

    @pytest.mark.parametrize(
        "place", ["may_ask", "creates", "headers_of", "read_message"], ids=lambda place: place.replace("_", " ")
    )
    def test_messages_pass_although_telling_them_apart_fails(self, addon: GatewayAddon, place: str, monkeypatch: Any):
        socket = Socket(addon)
        monkeypatch.setattr(turns, place, fail)
        socket.ask()
        socket.answer(*ANSWER)
        socket.end()
        assert socket.sent[1:] == ANSWER


def fail(*_: object, **__: object) -> Any:
    raise RuntimeError("a prompt may stand here")


GATEWAY = """
[providers.sockets]
api_url = "http://127.0.0.1:9/v1"
api_kinds = ["responses"]
dialect = "openai"

[models]
"acme/mapped" = { provider = "sockets", model = "gpt-5" }
"acme/free" = { provider = "sockets", model = "vendor/coder-5", free = true }
"""


class GatewaySocket(Socket):
    """A connection through the gateway; what it says to the client by itself is in `told`."""

    told: list[dict[str, Any]]

    def pass_on(self, data: bytes, *, from_client: bool) -> None:
        self.messages.append(WebSocketMessage(Opcode.TEXT, from_client, data))
        self.addon.websocket_message(self.flow)
        message = self.messages[-1]
        if not message.dropped:
            self.sent.append(message.content)


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GatewayAddon]:
    folder = tmp_path_factory.mktemp("gateway")
    config = folder / "gateway.toml"
    config.write_text(GATEWAY)
    with running(folder / "gateway.db", gateway_config=str(config)) as addon:
        yield addon


class TestGateway:
    """On any doubt about a message nothing is sent: it would be with the gateway's key."""

    @pytest.fixture
    def socket(self, gateway: GatewayAddon, monkeypatch: pytest.MonkeyPatch) -> GatewaySocket:
        flow = upgrade("/api/gateway/responses", "127.0.0.1")
        flow.client_conn.proxy_mode = ProxyMode.parse("reverse:http://127.0.0.1:9@8080")
        flow.client_conn.peername = ("127.0.0.1", 1)
        told: list[dict[str, Any]] = []
        monkeypatch.setattr(Connection, "_tell", lambda self, message: told.append(json.loads(message)))
        socket = GatewaySocket(gateway, flow)
        socket.told = told
        return socket

    def test_a_turn_is_rewritten_however_its_type_is_written(self, socket: GatewaySocket):
        socket.pass_on(rb'{"model":"acme/mapped","type":"response\u002ecreate","input":"x"}', from_client=True)
        assert socket.sent == [rb'{"model":"gpt-5","type":"response\u002ecreate","input":"x"}']

    @pytest.mark.parametrize(
        "message",
        [
            pytest.param(b'{"type":"response.create","type":"other"}', id="two types"),
            pytest.param(b'{"type":"other","type":"response.create","model":"gpt-5"}', id="two types, the other first"),
            pytest.param(rb'{"type":"response.create","\u0074ype":"other"}', id="two types, one in disguise"),
            pytest.param(b'{"type":"response.create","model":"gpt-5","model":"gpt-6"}', id="two models"),
            pytest.param(b'{"type":"response.other","model":"gpt-5"}', id="a model in another message"),
            pytest.param(b'{"type":"response.create"', id="no JSON"),
            pytest.param(b"\xff\xfe{", id="no text"),
            pytest.param(b'{"type":"response.create","input":"x"}', id="no model"),
        ],
    )
    def test_what_may_be_read_in_two_ways_is_refused(self, socket: GatewaySocket, message: bytes):
        socket.pass_on(message, from_client=True)
        assert socket.sent == []
        (event,) = socket.told
        assert (event["type"], event["status"] in (400, 404)) == ("error", True)

    def test_other_messages_pass(self, socket: GatewaySocket):
        messages = [b'{"type":"response.cancel"}', b'{"type":"response.steer","input":[{"type":"message"}]}']
        for message in messages:
            socket.pass_on(message, from_client=True)
        assert (socket.sent, socket.told) == (messages, [])

    @pytest.mark.parametrize("place", ["_read", "_asked", "_decide", "_begin"])
    def test_nothing_is_sent_if_we_fail(self, socket: GatewaySocket, place: str, monkeypatch: pytest.MonkeyPatch):
        monkeypatch.setattr(Connection, place, fail)
        socket.ask(model="acme/mapped")
        assert socket.sent == []
        assert socket.told[0]["status"] == 500

    def test_nor_if_we_do_not_follow_the_connection_at_all(
        self, socket: GatewaySocket, monkeypatch: pytest.MonkeyPatch
    ):
        assert socket.addon.calls
        del socket.addon.calls._sockets[socket.flow]
        socket.ask(model="acme/mapped")
        assert socket.sent == []

    def test_nothing_of_a_free_model_is_seen_if_we_fail(self, socket: GatewaySocket, monkeypatch: pytest.MonkeyPatch):
        socket.ask(model="acme/free")
        monkeypatch.setattr("gateway_addon.answer.AnswerFeed.feed", fail)
        socket.answer(*ANSWER)
        assert [json.loads(message)["code"] for message in socket.sent[1:]] == ["answer_withheld"]

    def test_what_is_kept_is_as_its_sender_sent_it(self, socket: GatewaySocket):
        answer = [message.replace(b"gpt-5", b"vendor/coder-5") for message in ANSWER]
        socket.ask(model="acme/free")
        asked = json.loads(socket.sent[0])
        socket.answer(*answer)
        socket.end()
        assert asked["model"] == "vendor/coder-5"
        assert not any(b"vendor/coder-5" in message for message in socket.sent[1:])
        assert json.loads(socket.messages[0].content)["model"] == "acme/free"
        assert [message.content for message in socket.messages[1:]] == answer


def free(id_: str, **members: Any) -> list[bytes]:
    """An answer of the free model's, as its provider sends it."""
    found = [json.loads(message) for message in said(id_, **members)]
    for event in found:
        if "response" in event:
            event["response"]["model"] = "vendor/coder-5"
            if event["response"].get("usage"):
                event["response"]["usage"]["cost"] = 0.5
    return [json.dumps(event).encode() for event in found]


STEER = b'{"type":"response.steer","input":"x"}'


class TestWhatAFreeModelIs:
    """No order of messages has a client see its name or its cost, and each answer stays with its turn."""

    @pytest.fixture
    def socket(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[GatewaySocket]:
        config = tmp_path / "gateway.toml"
        config.write_text(GATEWAY)
        with running(tmp_path / "gateway.db", gateway_config=str(config)) as addon:
            flow = upgrade("/api/gateway/responses", "127.0.0.1")
            flow.client_conn.proxy_mode = ProxyMode.parse("reverse:http://127.0.0.1:9@8080")
            flow.client_conn.peername = ("127.0.0.1", 1)
            monkeypatch.setattr(Connection, "_tell", lambda self, message: None)
            socket = GatewaySocket(addon, flow)
            socket.told = []
            yield socket
            answers = [sent for sent in socket.sent if b'"response.create"' not in sent]
            assert answers
            assert not [sent for sent in answers if b"vendor/coder-5" in sent or b'"cost"' in sent]

    def rows_of(self, socket: GatewaySocket) -> list[tuple[Any, ...]]:
        socket.end()
        found = stored(socket.addon)
        return columns(found, "turn", "request_model", "outcome", "response_id", "input_tokens")

    def test_an_error_for_something_else(self, socket: GatewaySocket):
        socket.ask(model="acme/free")
        socket.pass_on(b'{"type":"junk"}', from_client=True)
        socket.answer(error(status=400), *free("a"))
        assert [row[2:] for row in self.rows_of(socket)] == [
            ("stream_error", None, None),
            ("complete", "resp_a", 100),
        ]

    def test_a_second_turn_that_is_refused_while_the_first_runs(self, socket: GatewaySocket):
        socket.ask(model="acme/free")
        answer = free("a")
        socket.answer(answer[0])
        socket.ask(model="acme/mapped")
        socket.answer(error(status=400), *answer[1:])
        assert self.rows_of(socket) == [
            ("/1", "acme/free", "complete", "resp_a", 100),
            ("/2", "acme/mapped", "stream_error", None, None),
        ]

    def test_an_answer_that_goes_on_behind_a_turn_refused_here(self, socket: GatewaySocket):
        socket.ask(model="acme/free")
        answer = free("a")
        socket.answer(answer[0])
        socket.ask(model="")
        socket.pass_on(STEER, from_client=True)
        socket.answer(answer[-1], *free("b"))
        found = self.rows_of(socket)
        assert [row for row in found if row[0].startswith("/1")] == [
            ("/1", "acme/free", "complete", "resp_a", 100),
            ("/1.1", "acme/free", "complete", "resp_b", 100),
        ]

    def test_an_answer_that_goes_on_in_its_own_stream(self, socket: GatewaySocket):
        socket.ask(model="acme/free", stream_id="a")
        socket.ask(model="acme/mapped", stream_id="b")
        first, second = free("a", stream_id="a"), said("b", stream_id="b")
        socket.answer(first[0], second[0])
        socket.pass_on(b'{"type":"response.steer","stream_id":"a","input":"x"}', from_client=True)
        socket.answer(first[-1], *free("c", stream_id="a"), *second[1:])
        assert {row[0]: row[1:] for row in self.rows_of(socket)} == {
            "/1": ("acme/free", "complete", "resp_a", 100),
            "/1.1": ("acme/free", "complete", "resp_c", 100),
            "/2": ("acme/mapped", "complete", "resp_b", 100),
        }

    def test_two_that_steer_one_answer(self, socket: GatewaySocket):
        socket.ask(model="acme/free")
        answer = free("a")
        socket.answer(answer[0])
        for _ in range(2):
            socket.pass_on(STEER, from_client=True)
        socket.answer(answer[-1], *free("b"), *free("c"))
        assert [(row[0], row[3]) for row in self.rows_of(socket)] == [
            ("/1", "resp_a"),
            ("/1.1", "resp_b"),
            ("/1.2", "resp_c"),
        ]

    def test_a_stream_without_a_name_beside_one_with(self, socket: GatewaySocket):
        socket.ask(model="acme/mapped", stream_id="b")
        paid = said("b", stream_id="b")
        socket.answer(paid[0])
        socket.ask(model="acme/free")
        socket.answer(*free("a"), *paid[1:])
        assert self.rows_of(socket) == [
            ("/1", "acme/mapped", "complete", "resp_b", 100),
            ("/2", "acme/free", "complete", "resp_a", 100),
        ]

    def test_what_belongs_to_no_turn(self, socket: GatewaySocket):
        socket.ask(model="acme/free")
        socket.answer(*free("a"))
        before = len(socket.sent)
        late = b'{"type":"response.note","text":"vendor/coder-5"}', b'{"type":"rate","usage":{"cost":1}}'
        socket.answer(*late, b'{"type":"keepalive"}')
        assert socket.sent[before:] == [b'{"type":"keepalive"}']
        socket.end()
