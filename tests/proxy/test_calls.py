"""What a bug of ours may do to a call: nothing to its bytes, and its row says so."""

import asyncio
import gzip
import json
import logging
import math
import os
import threading
import time
from collections.abc import Awaitable, Callable, Iterator
from itertools import groupby, pairwise
from pathlib import Path
from typing import Any

import pytest
from mitmproxy import http
from mitmproxy.connection import ConnectionState
from mitmproxy.flow import Error
from mitmproxy.proxy.mode_specs import ProxyMode
from mitmproxy.test import taddons, tflow

from gateway_addon.call import open_call, read_request
from gateway_addon.gateway.plan import plan
from gateway_addon.proxy.hooks import GatewayAddon
from tests.mitmdump import rows

BODY = {"model": "m", "messages": [{"role": "user", "content": "hello"}], "stream": True}
ANSWER = b'data: {"id": "c1", "choices": [{"index": 0, "delta": {"content": "hi"}, "finish_reason": "stop"}]}\n\n'


@pytest.fixture
def addon(tmp_path: Path) -> Iterator[GatewayAddon]:
    addon = GatewayAddon()
    with taddons.context(addon) as context:
        context.configure(addon, gateway_db=str(tmp_path / "gateway.db"))
        yield addon
        addon._close()


def call() -> http.HTTPFlow:
    flow = tflow.tflow(
        req=http.Request.make("POST", "http://127.0.0.1:9/v1/chat/completions", json.dumps(BODY)),
        resp=http.Response.make(200, b"", {"content-type": "text/event-stream"}),
    )
    return flow


def run(addon: GatewayAddon, flow: http.HTTPFlow, chunks: list[bytes]) -> bytes:
    """The hooks in the order of a live stream; returns what the client gets."""
    addon.requestheaders(flow)
    addon.request(flow)
    return run_answer(addon, flow, chunks)


def run_answer(addon: GatewayAddon, flow: http.HTTPFlow, chunks: list[bytes]) -> bytes:
    assert flow.response
    addon.responseheaders(flow)
    flow.response.data.content = None
    assert callable(flow.response.stream)
    passed = [flow.response.stream(chunk) for chunk in (*chunks, b"")]
    addon.response(flow)
    return b"".join(piece if isinstance(piece, bytes) else b"".join(piece) for piece in passed)


def stored(addon: GatewayAddon, tmp_path: Path) -> dict[str, Any]:
    addon._close()
    (row,) = rows(tmp_path / "gateway.db", "SELECT * FROM requests")
    return row


def fail(*_: object, **__: object) -> Any:
    raise RuntimeError("a prompt may stand here")


def test_a_good_call(addon: GatewayAddon, tmp_path: Path):
    flow = call()
    assert run(addon, flow, [ANSWER[:30], ANSWER[30:]]) == ANSWER
    assert flow.response
    assert flow.response.raw_content == ANSWER
    assert (flow.comment, flow.marked) == ("$? · m", "")
    row = stored(addon, tmp_path)
    assert (row["outcome"], row["warnings"]) == ("complete", "[]")


@pytest.mark.parametrize(
    "broken",
    [
        "gateway_addon.answer.AnswerFeed.feed",
        "gateway_addon.answer.AnswerFeed.finish",
        "gateway_addon.reading._charge",
        "gateway_addon.api.chat_completions.read_request",
        "gateway_addon.wire.sse.EventParser.feed",
        "gateway_addon.clients.identify",
        "gateway_addon.clients.with_own_prompts",
        "gateway_addon.proxy.tape.Tape.add",
        "gateway_addon.reading.Reading.end",
    ],
)
def test_a_bug_changes_no_byte_and_loses_no_row(
    broken: str, addon: GatewayAddon, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    monkeypatch.setattr(broken, fail)
    assert run(addon, call(), [ANSWER[:30], ANSWER[30:]]) == ANSWER
    row = stored(addon, tmp_path)
    assert row["outcome"] != "in_flight"
    warned = [record for record in caplog.records if record.levelname == "WARNING"]
    assert len(warned) <= 2
    assert "a prompt may stand here" not in caplog.text


@pytest.mark.parametrize(
    "broken", [("describe",), ("describe", "Reading.receive"), ("Reading.receive", "Reading.give_up")]
)
def test_a_failure_that_cannot_even_be_told_changes_no_byte_and_is_told_once(
    broken: tuple[str, ...],
    addon: GatewayAddon,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
):
    monkeypatch.setattr("gateway_addon.answer.AnswerFeed.feed", fail)
    for name in broken:
        monkeypatch.setattr(f"gateway_addon.proxy.calls.{name}", fail)
    chunks = [ANSWER[i : i + 2] for i in range(0, len(ANSWER), 2)]
    assert run(addon, call(), chunks) == ANSWER
    assert stored(addon, tmp_path)["outcome"] != "in_flight"
    assert len([record for record in caplog.records if record.levelno >= logging.WARNING]) <= 2


def test_a_database_changed_amid_a_call_gets_none_of_it(tmp_path: Path):
    addon = GatewayAddon()
    with taddons.context(addon) as context:
        context.configure(addon, gateway_db=str(tmp_path / "gateway.db"))
        addon.running()
        early, late = call(), call()
        for flow in (early, late):
            addon.requestheaders(flow)
        addon.request(early)
        context.configure(addon, gateway_db=str(tmp_path / "other.db"))
        addon.request(late)
        for flow in (early, late):
            run_answer(addon, flow, [ANSWER])
        addon._close()
    for thread in threading.enumerate():
        if thread.name == "closing a database":
            thread.join()
    for name, flow in (("gateway.db", early), ("other.db", late)):
        assert rows(tmp_path / name, "SELECT id, outcome FROM requests") == [{"id": flow.id, "outcome": "complete"}]
        assert rows(tmp_path / name, "SELECT COUNT(*) AS n FROM runs WHERE ended_at IS NULL") == [{"n": 0}]


@pytest.mark.parametrize("jump", [86_400.0, -86_400.0])
def test_a_clock_that_is_set_amid_a_call_changes_no_duration(
    jump: float, addon: GatewayAddon, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    flow = call()
    addon.requestheaders(flow)
    addon.request(flow)
    flow.request.timestamp_start = now = time.time()
    monkeypatch.setattr(time, "time", lambda: now + jump)
    flow.client_conn.state = ConnectionState.CLOSED
    flow.error = Error("Client disconnected.")
    addon.responseheaders(flow)
    assert flow.response
    assert callable(flow.response.stream)
    flow.response.stream(b": a comment\n\n")
    addon.error(flow)
    row = stored(addon, tmp_path)
    assert (row["outcome"], row["error_type"]) == ("client_aborted", None)
    assert 0 <= row["time_to_first_byte_ms"] <= row["duration_ms"] < 60_000
    assert flow.metadata["gateway_pace"][0][0] < 60_000


def test_a_saved_call_that_ended_before_it_began_has_no_duration(addon: GatewayAddon, tmp_path: Path):
    flow = call()
    assert flow.response
    flow.live = False
    flow.request.timestamp_start, flow.response.timestamp_end = 2_000_000.0, 1_000_000.0
    flow.response.content = ANSWER
    addon.request(flow)
    addon.response(flow)
    assert stored(addon, tmp_path)["duration_ms"] is None


class TestTheAddonThatFailsOnAGatewayCall:
    """It must not go as it came, with the client's token, to the listener's target."""

    def refused(self, addon: GatewayAddon) -> http.HTTPFlow:
        flow = call()
        flow.response = None
        flow.client_conn.proxy_mode = ProxyMode.parse("reverse:https://openrouter.ai")
        flow.client_conn.peername = ("127.0.0.1", 40000)
        flow.request.path = "/api/gateway/chat/completions"
        addon.requestheaders(flow)
        addon.request(flow)
        answer: http.Response | None = flow.response
        assert answer
        assert answer.headers["x-should-retry"] == "false"
        assert json.loads(answer.get_content() or b"")["error"]["code"] == "internal_error"
        assert answer.status_code == 500
        return flow

    @pytest.mark.parametrize(
        "broken",
        ["calls.caller_of", "forward.admit", "flows.head_of", "flows.request_of", "forward.send", "forward._passage"],
    )
    def test_answers_it_itself(self, broken: str, addon: GatewayAddon, monkeypatch: pytest.MonkeyPatch):
        monkeypatch.setattr(f"gateway_addon.proxy.{broken}", fail)
        self.refused(addon)


class TestALongRequest:
    """Its client waits for it to be read; the other calls do not."""

    LONG = json.dumps(BODY | {"messages": [{"role": "user", "content": "word " * 250_000}]}).encode()
    LARGE = json.dumps(BODY | {"messages": [{"role": "user", "content": "word " * 10_000}]}).encode()
    MANY = json.dumps(BODY | {"messages": [{"role": "user", "content": "hi"}] * 5_000}).encode()
    # a few kB may be many MB
    PACKED = gzip.compress(json.dumps(BODY).encode())

    def ask(self, body: bytes, encoding: str | None, path: str) -> http.HTTPFlow:
        flow = call()
        flow.response = None
        flow.client_conn.peername = ("127.0.0.1", 40000)
        flow.client_conn.proxy_mode = ProxyMode.parse("reverse:https://openrouter.ai")
        flow.request.path = path
        flow.request.raw_content = body
        if encoding:
            flow.request.headers["content-encoding"] = encoding
        return flow

    @pytest.mark.parametrize("path", ["/v1/chat/completions", "/api/gateway/chat/completions"])
    @pytest.mark.parametrize(
        ("body", "encoding"), [(LONG, None), (MANY, None), (PACKED, "gzip")], ids=["long", "many", "packed"]
    )
    def test_is_read_in_a_thread_of_its_own(
        self, body: bytes, encoding: str | None, path: str, addon: GatewayAddon, tmp_path: Path, monkeypatch
    ):
        threads = []

        def read(*arguments: Any) -> Any:
            threads.append(threading.current_thread())
            return read_request(*arguments)

        monkeypatch.setattr("gateway_addon.proxy.flows.read_request", read)
        flow = self.ask(body, encoding, path)
        addon.requestheaders(flow)
        waited = addon.request(flow)
        assert waited is not None
        asyncio.run(_awaited(waited))
        assert [thread is threading.main_thread() for thread in threads] == [False]
        flow.response = http.Response.make(200, b"", {"content-type": "text/event-stream"})
        assert run_answer(addon, flow, [ANSWER]) == ANSWER
        row = stored(addon, tmp_path)
        assert (row["outcome"], row["request_model"], row["request_bytes"]) == ("complete", "m", len(body))

    def test_is_planned_in_a_thread_too(self, addon: GatewayAddon, monkeypatch: pytest.MonkeyPatch):
        threads = []

        def planned(*arguments: Any) -> Any:
            threads.append(threading.current_thread())
            return plan(*arguments)

        monkeypatch.setattr("gateway_addon.proxy.forward.plan", planned)
        flow = self.ask(self.MANY, None, "/api/gateway/chat/completions")
        addon.requestheaders(flow)
        waited = addon.request(flow)
        assert waited is not None
        asyncio.run(_awaited(waited))
        assert [thread is threading.main_thread() for thread in threads] == [False]

    @pytest.mark.parametrize("path", ["/v1/chat/completions", "/api/gateway/chat/completions"])
    def test_what_is_only_large_is_read_between_the_chunks_of_others(
        self, path: str, addon: GatewayAddon, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ):
        turns: list[str] = []

        def noted(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
            def run(*arguments: Any, **options: Any) -> Any:
                turns.append(name if threading.current_thread() is threading.main_thread() else "in a thread")
                return function(*arguments, **options)

            return run

        async def chunks_of_others(waited: Awaitable[None]) -> None:
            task = asyncio.ensure_future(waited)
            while not task.done():
                turns.append("chunk")
                await asyncio.sleep(0)

        monkeypatch.setattr("gateway_addon.proxy.flows.read_request", noted("read", read_request))
        monkeypatch.setattr("gateway_addon.proxy.flows.open_call", noted("understand", open_call))
        flow = self.ask(self.LARGE, None, path)
        addon.requestheaders(flow)
        waited = addon.request(flow)
        assert waited is not None
        assert turns == []
        asyncio.run(chunks_of_others(waited))
        told = [name for name, _ in groupby(turns)]
        assert [name for name in told if name != "chunk"] == ["read", "understand"]
        assert all("chunk" in pair for pair in pairwise(told))
        flow.response = http.Response.make(200, b"", {"content-type": "text/event-stream"})
        assert run_answer(addon, flow, [ANSWER]) == ANSWER
        row = stored(addon, tmp_path)
        assert (row["outcome"], row["request_model"], row["request_bytes"]) == ("complete", "m", len(self.LARGE))

    @pytest.mark.parametrize("body", [json.dumps(BODY).encode(), LARGE, LONG], ids=["short", "large", "long"])
    def test_what_is_sent_again_is_on_record_as_it_leaves(self, body: bytes, addon: GatewayAddon, tmp_path: Path):
        flow = self.ask(body, None, "/v1/chat/completions")
        flow.is_replay = "request"
        flow.request.headers["authorization"] = "Bearer [redacted:openai_key:01234567]"
        addon.requestheaders(flow)
        if waited := addon.request(flow):
            asyncio.run(_awaited(waited))
        assert "authorization" not in flow.request.headers
        flow.response = http.Response.make(200, b"", {"content-type": "text/event-stream"})
        assert run_answer(addon, flow, [ANSWER]) == ANSWER
        row = stored(addon, tmp_path)
        assert (row["outcome"], row["client_credential"]) == ("complete", None)

    @pytest.mark.parametrize("path", ["/v1/embeddings", "/index.html"])
    def test_is_not_read_where_it_is_no_call(self, path: str, addon: GatewayAddon):
        flow = self.ask(self.LONG, None, path)
        addon.requestheaders(flow)
        assert addon.request(flow) is None

    def test_is_sent_on_when_reading_fails(self, addon: GatewayAddon, monkeypatch: pytest.MonkeyPatch):
        monkeypatch.setattr("gateway_addon.proxy.flows.read_request", fail)
        flow = self.ask(self.LONG, None, "/v1/chat/completions")
        addon.requestheaders(flow)
        waited = addon.request(flow)
        assert waited is not None
        asyncio.run(_awaited(waited))
        assert flow.response is None
        assert flow.error is None

    @pytest.mark.parametrize("broken", ["proxy.flows.read_request", "wire.elements.Memory.recognised"])
    @pytest.mark.parametrize("body", [LARGE, LONG], ids=["large", "long"])
    def test_is_refused_when_reading_fails_on_a_gateway_path(
        self, body: bytes, broken: str, addon: GatewayAddon, monkeypatch: pytest.MonkeyPatch
    ):
        monkeypatch.setattr(f"gateway_addon.{broken}", fail)
        monkeypatch.setattr("gateway_addon.proxy.forward.plan", fail)
        flow = self.ask(body, None, "/api/gateway/chat/completions")
        addon.requestheaders(flow)
        waited = addon.request(flow)
        assert waited is not None
        asyncio.run(_awaited(waited))
        assert flow.response is not None
        assert flow.response.status_code == 500


async def _awaited(waited: Awaitable[None]) -> None:
    await waited


def test_the_body_of_a_stranger_is_neither_decoded_nor_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("OPENROUTER_API_KEY", "gateway-key-0815")
    monkeypatch.setattr("gateway_addon.proxy.flows.read_request", fail)
    monkeypatch.setattr("gateway_addon.wire.encodings.decode", fail)
    addon = GatewayAddon()
    with taddons.context(addon) as context:
        context.configure(addon, gateway_db=str(tmp_path / "gateway.db"))
        flow = call()
        flow.response = None
        flow.client_conn.proxy_mode = ProxyMode.parse("reverse:https://openrouter.ai")
        flow.client_conn.peername = ("192.0.2.7", 40000)
        flow.request.path = "/api/gateway/chat/completions"
        body, flow.request.raw_content = flow.request.raw_content, None
        addon.requestheaders(flow)
        answer: http.Response | None = flow.response
        assert answer
        assert answer.status_code == 401
        flow.request.raw_content = body
        addon.request(flow)
        assert flow.request.raw_content is None
        addon.responseheaders(flow)
        addon.response(flow)
        row = stored(addon, tmp_path)
    assert (row["outcome"], row["http_status"], row["request_sha256"]) == ("rejected", 401, None)
    # as when the flow is read again
    assert (row["request_bytes"], row["warnings"]) == (None, '["request_missing"]')


def test_response_error_and_shutdown_make_one_row(addon: GatewayAddon, tmp_path: Path):
    flow = call()
    run(addon, flow, [ANSWER])
    addon.response(flow)
    addon.error(flow)
    row = stored(addon, tmp_path)
    addon.error(flow)
    assert row["outcome"] == "complete"


def test_a_reload_ends_nothing(addon: GatewayAddon):
    assert addon.calls
    addon.done()
    assert addon.calls


def test_a_setting_that_is_wrong_later_is_rolled_back(tmp_path: Path):
    addon = GatewayAddon()
    with taddons.context(addon) as context:
        context.configure(addon, gateway_db=str(tmp_path / "gateway.db"))
        addon.running()
        with pytest.raises(Exception, match="gateway_content"):
            context.configure(addon, gateway_content="some")
        assert addon.calls
        assert addon.calls.options.content == "full"
        context.configure(addon, gateway_db=str(tmp_path / "other.db"))
        assert run(addon, call(), [ANSWER]) == ANSWER
        addon._close()
    assert len(rows(tmp_path / "other.db", "SELECT * FROM requests")) == 1
    assert os.path.getsize(tmp_path / "gateway.db")


class TestClientCredential:
    """The kind of what the client itself showed the provider, for reviews; the credential is stored nowhere."""

    KEY = "sk-" + "or-" + "kiwi-custard-0042"

    def test_it_is_told_by_its_shape(self, addon: GatewayAddon, tmp_path: Path):
        flow = call()
        flow.request.headers["authorization"] = f"Bearer {self.KEY}"
        run(addon, flow, [ANSWER])
        assert stored(addon, tmp_path)["client_credential"] == "openrouter_key"
        assert self.KEY.encode() not in (tmp_path / "gateway.db").read_bytes()

    def gateway_call(self, body: dict[str, Any]) -> http.HTTPFlow:
        """A call of the gateway's in front of OpenRouter, with the client's key."""
        flow = call()
        flow.response = None
        flow.request.text = json.dumps(body)
        flow.client_conn.proxy_mode = ProxyMode.parse("reverse:https://openrouter.ai@127.0.0.1:8080")
        flow.client_conn.peername = ("127.0.0.1", 40000)
        flow.request.path = "/api/gateway/chat/completions"
        flow.request.headers["authorization"] = f"Bearer {self.KEY}"
        return flow

    @pytest.mark.parametrize(("gateway_key", "kind"), [("gateway-key-0815", None), ("", "openrouter_key")])
    def test_where_the_gateway_pays_the_clients_own_goes_nowhere(
        self, gateway_key: str, kind: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ):
        monkeypatch.setenv("OPENROUTER_API_KEY", gateway_key)
        addon = GatewayAddon()
        flow = self.gateway_call(BODY)
        with taddons.context(addon) as context:
            context.configure(addon, gateway_db=str(tmp_path / "gateway.db"))
            addon.request(flow)
            # what comes behind us in the chain must not learn it: mitmproxy's stickyauth would give it to others
            assert flow.request.headers.get("authorization") == (None if gateway_key else f"Bearer {self.KEY}")
            addon.update([flow])
            assert flow.request.headers["authorization"] == f"Bearer {gateway_key or self.KEY}"
            flow.response = call().response
            run_answer(addon, flow, [ANSWER])
            row = stored(addon, tmp_path)
        assert (row["outcome"], row["client_credential"]) == ("complete", kind)

    def test_a_refused_call_shows_it_to_nobody(self, addon: GatewayAddon, tmp_path: Path):
        flow = self.gateway_call({"messages": []})
        addon.request(flow)
        addon.response(flow)
        row = stored(addon, tmp_path)
        assert (row["outcome"], row["client_credential"]) == ("rejected", None)


def test_the_trailers_of_a_free_models_stream_reach_no_client(tmp_path: Path):
    """They come behind all that was changed on its way, and may tell its cost."""
    config = tmp_path / "gateway.toml"
    config.write_text('[models."acme/free"]\nprovider = "openrouter"\nmodel = "vendor/true-name"\nfree = true\n')
    addon = GatewayAddon()
    flow = call()
    response, flow.response = flow.response, None
    assert response
    response.trailers = http.Headers(x_cost="0.5")
    flow.request.text = json.dumps(BODY | {"model": "acme/free"})
    flow.client_conn.proxy_mode = ProxyMode.parse("reverse:https://openrouter.ai@127.0.0.1:8080")
    flow.client_conn.peername = ("127.0.0.1", 40000)
    flow.request.path = "/api/gateway/chat/completions"
    with taddons.context(addon) as context:
        context.configure(addon, gateway_db=str(tmp_path / "gateway.db"), gateway_config=str(config))

        async def sent() -> object:
            flow.response = response
            run_answer(addon, flow, [ANSWER])
            addon.update([flow])
            trailers = response.trailers
            flow.live = False
            while response.trailers is None:
                await asyncio.sleep(0)
            return trailers

        addon.request(flow)
        assert asyncio.run(sent()) is None
        assert response.trailers == http.Headers(x_cost="0.5")
        addon._close()


@pytest.mark.parametrize("mode", ["prompts", "none"])
def test_the_row_of_a_call_under_way_holds_no_more_than_its_last(mode: str, tmp_path: Path):
    config = tmp_path / "gateway.toml"
    config.write_text('default_provider = "openrouter"')
    addon = GatewayAddon()
    with taddons.context(addon) as context:
        context.configure(
            addon, gateway_db=str(tmp_path / "gateway.db"), gateway_content=mode, gateway_config=str(config)
        )
        flow = call()
        flow.response = None
        flow.client_conn.proxy_mode = ProxyMode.parse("reverse:https://openrouter.ai")
        flow.client_conn.peername = ("127.0.0.1", 1)
        flow.request.path = "/api/gateway/chat/completions"
        said = [{"role": "tool", "tool_call_id": "c", "content": "PLANTED"}]
        flow.request.text = json.dumps(BODY | {"model": "anthropic/claude-sonnet-4.6", "messages": said})
        addon.request(flow)
        assert flow.request.host == "openrouter.ai"
        assert addon.calls
        addon.calls.sinks.close()
        assert (
            "/body/messages/0/content" in rows(tmp_path / "gateway.db", "SELECT rewrites FROM requests")[0]["rewrites"]
        )
        for path in tmp_path.glob("gateway.db*"):
            assert b"PLANTED" not in path.read_bytes()
        addon._close()


@pytest.mark.parametrize("started", [math.nan, math.inf, 1e18, -1e12])
def test_a_flow_of_no_possible_time_has_a_row(started: float, addon: GatewayAddon, tmp_path: Path):
    flow = call()
    assert flow.response
    flow.live = False
    flow.request.timestamp_start = started
    flow.metadata["gateway"] = {"duration_ms": -5.0, "time_to_first_byte_ms": math.inf}
    flow.response.content = ANSWER
    addon.request(flow)
    addon.response(flow)
    row = stored(addon, tmp_path)
    assert (row["outcome"], row["started_at"]) == ("complete", "1970-01-01T00:00:00.000Z")
    assert row["time_to_first_byte_ms"] is None


def test_a_refusal_that_had_no_row_has_none_when_it_is_loaded(addon: GatewayAddon, tmp_path: Path):
    flow = call()
    flow.response = None
    flow.client_conn.proxy_mode = ProxyMode.parse("reverse:https://openrouter.ai")
    flow.client_conn.peername = ("127.0.0.1", 1)
    flow.request.path = "/api/gateway/foo/messages"
    addon.request(flow)
    refusal: http.Response | None = flow.response
    assert refusal
    assert refusal.status_code == 400
    flow.live = False
    addon.request(flow)
    addon.response(flow)
    addon._close()
    assert rows(tmp_path / "gateway.db", "SELECT * FROM requests") == []


@pytest.mark.parametrize("path", ["/api/gateway/chat/completions", "/v1/chat/completions"])
def test_a_header_sent_twice_means_the_same_live_and_from_file(path: str, addon: GatewayAddon, tmp_path: Path):
    flow = call()
    flow.response = None
    flow.client_conn.proxy_mode = ProxyMode.parse("reverse:https://openrouter.ai")
    flow.client_conn.peername = ("127.0.0.1", 1)
    flow.request.path = path
    flow.request.headers.add("x-session-id", "a")
    flow.request.headers.add("X-Session-Id", "b")
    addon.request(flow)
    flow.response = call().response
    run_answer(addon, flow, [ANSWER])
    flow.live = False
    loaded = flow.copy()
    loaded.id = "loaded"
    addon.request(loaded)
    addon.response(loaded)
    addon._close()
    sessions = rows(tmp_path / "gateway.db", "SELECT session_id FROM requests")
    assert sessions == [{"session_id": "a"}] * 2
