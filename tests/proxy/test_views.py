"""How a model call reads in mitmproxy's windows."""

import json
import logging
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from mitmproxy import contentviews, eventsequence, http, websocket
from mitmproxy.contentviews import Metadata
from mitmproxy.test import taddons, tflow
from wsproto.frame_protocol import Opcode

from gateway_addon.proxy.hooks import GatewayAddon
from gateway_addon.proxy.views import NAME
from tests.attacks.test_reload import GOOD, Script
from tests.client import PATHS, Call, request_body
from tests.gateways import until
from tests.make_demo import DEMO
from tests.mitmdump import Mitmdump, http_flows, run_on_file
from tests.mitmweb import Mitmweb

CATALOGUE = DEMO.parent


@pytest.fixture(scope="module")
def addon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GatewayAddon]:
    addon = GatewayAddon()
    with taddons.context(addon) as context:
        context.configure(addon, gateway_db=str(tmp_path_factory.mktemp("views") / "gateway.db"))
        yield addon
        addon._close()


def played(addon: GatewayAddon, *flows: http.HTTPFlow) -> list[http.HTTPFlow]:
    """The flows after the hooks of a file that is read."""
    for flow in flows:
        for hook in eventsequence.iterate(flow):
            if handler := getattr(addon, hook.name, None):
                handler(*hook.args())
    return list(flows)


def case(addon: GatewayAddon, name: str) -> http.HTTPFlow:
    return played(addon, *http_flows(CATALOGUE / f"{name}.flow"))[-1]


def call(path: str, request: bytes, answer: bytes) -> http.HTTPFlow:
    flow = tflow.tflow(
        req=http.Request.make("POST", f"https://api.anthropic.com{path}", request),
        resp=http.Response.make(200, answer, http.Headers(content_type="application/json")),
    )
    flow.live = False
    return flow


def shown(message: http.Message | None, flow: http.HTTPFlow) -> tuple[str | None, str]:
    """The name of the view that is chosen, and what it shows."""
    assert message is not None
    result = contentviews.prettify_message(message, flow)
    return result.view_name, result.text


class TestEachKind:
    def test_reads_as_a_conversation_in_both_directions(self, addon: GatewayAddon):
        calls = {flow.request.path: flow for flow in played(addon, *http_flows(DEMO))[::-1]}
        kinds = {flow.metadata["gateway"]["api_kind"] for flow in calls.values()}
        assert kinds == {"messages", "chat_completions", "responses"}
        for flow in calls.values():
            name, request = shown(flow.request, flow)
            assert name == NAME
            assert "── user\n" in request
            name, answer = shown(flow.response, flow)
            assert name == NAME
            assert answer.startswith("complete · ")
            assert "\ninput " in answer
            assert "\ncost $" in answer
            assert "── assistant\n" in answer

    def test_a_request_tells_parameters_tools_and_results(self, addon: GatewayAddon):
        flow = played(addon, *http_flows(DEMO))[1]
        _, text = shown(flow.request, flow)
        assert "model claude-sonnet-4-6" in text
        assert "4 tools: list_files, read_file, edit_file, run_tests" in text
        assert "(thinking) A tie is ranked wrongly." in text
        assert "▸ list_files path: .\n  │ README.md\n" in text

    def test_a_stream_is_put_together(self, addon: GatewayAddon):
        flow = played(addon, *http_flows(DEMO))[0]
        assert flow.response
        assert flow.response.headers["content-type"].startswith("text/event-stream")
        _, text = shown(flow.response, flow)
        assert "I will look at the project and run its tests first.\n▸ list_files path: .\n▸ run_tests" in text
        assert "data:" not in text


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("error-inside-200-stream", "stream_error"),
        ("html-502", "http_error · 502"),
        ("cut-by-the-upstream", "upstream_cut"),
        ("html-200", "unreadable"),
    ],
)
def test_what_went_wrong_stands_first(addon: GatewayAddon, name: str, told: str):
    flow = case(addon, name)
    view, text = shown(flow.response, flow)
    assert view == NAME
    assert text.startswith(told)


def test_what_is_no_answer_is_shown_as_it_is(addon: GatewayAddon):
    flow = case(addon, "html-200")
    assert flow.response
    assert (flow.response.text or "").strip()[:40] in shown(flow.response, flow)[1]


@pytest.mark.parametrize(
    "flow",
    [
        call("/upload", b'{"model": "m", "messages": []}', b'{"usage": {}}'),
        call("/api/messages", b'{"to": "bob"}', b"{}"),
        tflow.tflow(resp=True),
        tflow.twebsocketflow(),
    ],
    ids=["other-path", "other-body", "other-request", "other-socket"],
)
def test_only_model_calls_are_shown_so(addon: GatewayAddon, flow: http.HTTPFlow):
    flow.request.host = "chat.example"
    played(addon, flow)
    for message in (flow.request, flow.response, *(flow.websocket.messages if flow.websocket else ())):
        if message is not None:
            assert contentviews.prettify_message(message, flow).view_name != NAME


def test_a_call_under_way_is_shown_already(addon: GatewayAddon):
    flow = call("/v1/messages", b'{"model": "m", "messages": [{"role": "user", "content": "Hello?"}]}', b"")
    flow.live, flow.response = True, None
    addon.requestheaders(flow)
    addon.request(flow)
    assert shown(flow.request, flow) == (NAME, "model m\n\n── user\nHello?")


def test_nobody_asks_a_view_of_a_tcp_flow_or_none_in_vain(addon: GatewayAddon):
    view = contentviews.registry[NAME]
    for metadata in (Metadata(), Metadata(flow=tflow.ttcpflow())):
        assert view.render_priority(b"x", metadata) < 0
        assert view.prettify(b"x", metadata).endswith("x")


@pytest.mark.parametrize("broken", ["request", "response", "message"])
def test_a_bug_of_ours_shows_the_bytes(addon: GatewayAddon, monkeypatch: pytest.MonkeyPatch, broken: str):
    def fail(*_: object, **__: object) -> str:
        raise RuntimeError("a prompt may stand here")

    monkeypatch.setattr(f"gateway_addon.glance.{broken}", fail)
    flow = played(addon, http_flows(DEMO)[0], socket_flow())[broken == "message"]
    message = flow.websocket.messages[0] if flow.websocket else getattr(flow, broken)
    result = contentviews.prettify_message(message, flow)
    assert result.view_name == NAME
    assert result.text.startswith("it cannot be shown as a conversation: RuntimeError")
    assert "a prompt may stand here" not in result.text
    assert message.content.decode()[:20] in result.text


def socket_flow() -> http.HTTPFlow:
    """A turn of the Responses API over a WebSocket."""
    flow = tflow.twebsocketflow()
    flow.request.path = "/v1/responses"
    asked = {"type": "response.create", "model": "gpt-5.1", "instructions": "Be brief.", "input": "Why?"}
    output = [{"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "So."}]}]
    usage = {"input_tokens": 12, "output_tokens": 3}
    end = {"id": "r", "object": "response", "status": "completed", "model": "gpt-5.1", "output": output, "usage": usage}
    events: list[tuple[bool, dict[str, Any]]] = [
        (True, asked),
        (False, {"type": "response.output_text.delta", "output_index": 0, "item_id": "i", "delta": "So."}),
        (False, {"type": "response.completed", "response": end}),
        (False, {"type": "rate_limits", "left": 7}),
        (False, {"type": "error", "status": 429, "error": {"type": "too_many", "message": "Slow down."}}),
    ]
    assert flow.websocket
    flow.websocket.messages = [
        websocket.WebSocketMessage(Opcode.TEXT, from_client, json.dumps(event).encode())
        for from_client, event in events
    ]
    return flow


def test_each_message_of_a_websocket(addon: GatewayAddon):
    (flow,) = played(addon, socket_flow())
    assert flow.websocket
    results = [contentviews.prettify_message(message, flow) for message in flow.websocket.messages]
    assert {result.view_name for result in results} == {NAME}
    asked, delta, end, other, error = [result.text for result in results]
    assert asked.startswith("response.create\n")
    assert asked.endswith("── system prompt\nBe brief.\n\n── user\nWhy?")
    assert delta == "response.output_text.delta\n\n── assistant\nSo."
    assert end == "response.completed\ngpt-5.1 · completed\ninput 12 · output 3\n\n── assistant\nSo."
    assert other.startswith('rate_limits\n{"type": "rate_limits"')
    assert "Slow down." in error


def test_a_script_that_is_loaded_again_leaves_one_view(addon: GatewayAddon, caplog: pytest.LogCaptureFixture):
    view = contentviews.registry[NAME]
    with caplog.at_level(logging.INFO), taddons.context() as context:
        context.master.addons.add(addon)
    assert contentviews.registry[NAME] is view
    assert "Replacing" not in caplog.text


@pytest.mark.long
def test_mitmdump_prints_the_conversation(confdir: Path, tmp_path: Path):
    done = run_on_file(DEMO, tmp_path / "demo.db", "--flow-detail", "3", confdir=confdir)
    assert done.returncode == 0
    assert "\n    ── user\n    Two players with equal points get different ranks." in done.stdout
    assert "\n    complete · tool_use · claude-sonnet-4-6\n    input 255 · " in done.stdout
    assert "\n    ▸ edit_file\n        path: scores/ranking.py\n" in done.stdout


@pytest.mark.long
class TestMitmweb:
    @pytest.fixture(scope="module")
    @staticmethod
    def web(confdir: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mitmweb]:
        folder = tmp_path_factory.mktemp("web")
        with Mitmweb(DEMO, confdir=confdir, options={"gateway_db": folder / "demo.db"}) as web:
            yield web

    def test_it_chooses_the_view_by_itself(self, web: Mitmweb):
        for flow in web.get("/flows"):
            for message in ("request", "response"):
                assert web.view(flow, message)["view_name"] == NAME, flow["comment"]
        assert "── assistant" in web.view(web.get("/flows")[0])["text"]

    def test_the_list_says_what_needs_a_look_and_what_it_cost(self, web: Mitmweb):
        found = [flow for flow in web.get("/flows") if flow["marked"]]
        assert [(flow["marked"], flow["response"]["status_code"]) for flow in found] == [("⚠", 200)]
        assert found[0]["comment"].startswith("stream_error 529")
        assert all(flow["comment"] for flow in web.get("/flows"))

    def test_its_command_line_shows_totals_and_exports(self, web: Mitmweb, tmp_path: Path):
        assert {name for name in web.get("/commands") if name.startswith("gateway.")} == {
            *("gateway.export", "gateway.export.forms", "gateway.redact", "gateway.show", "gateway.totals"),
        }
        assert all(command["help"] for name, command in web.get("/commands").items() if name.startswith("gateway."))
        assert web.command("gateway.totals")["value"].startswith("13 calls, 2 not complete · in 6.4k")
        target = tmp_path / "calls.html"
        assert web.command("gateway.export", "html", "@all", str(target)) == {"value": None}
        assert "Two players with equal points" in target.read_text()
        assert "Invalid choice" in web.command("gateway.export", "pdf", "@all", str(target))["error"]


@pytest.mark.long
def test_a_script_that_is_touched_leaves_one_of_each(mitmdump: Callable[..., Mitmdump], tmp_path: Path):
    script = Script(tmp_path / "addon.py")
    proxy = mitmdump(addon=script.path, args=["--flow-detail", "3"])
    script.write(GOOD)
    until(lambda: proxy.stdout.count("Loading script") == 2)
    asked = Call(proxy.url, PATHS["messages"], request_body("messages", "fake/text", stream=True))
    asked.read()
    proxy.wait_for("── assistant")
    assert proxy.stdout.count("── assistant") == 1
    assert "Replacing" not in proxy.stdout
