"""What a bug of ours may do to a call: nothing to its bytes, and its row says so."""

import json
import math
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from mitmproxy import http
from mitmproxy.proxy.mode_specs import ProxyMode
from mitmproxy.test import taddons, tflow

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
    passed = b"".join(bytes(flow.response.stream(chunk)) for chunk in (*chunks, b""))  # type: ignore[arg-type]
    addon.response(flow)
    return passed


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
    assert flow.comment.startswith("chat_completions m")
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
