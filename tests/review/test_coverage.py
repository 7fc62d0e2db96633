"""Everything in a capture is looked at, and what is not is counted: "nothing found" never stands for "not looked"."""

import base64
import gzip
import json
from pathlib import Path
from typing import Any

import pytest
from mitmproxy import dns, http, tcp
from mitmproxy.flow import Flow
from mitmproxy.io import FlowWriter
from mitmproxy.test import tflow
from mitmproxy.websocket import WebSocketData, WebSocketMessage
from wsproto.frame_protocol import Opcode

from gateway_addon.content import Content
from tests.commands import run
from tests.review.planted import KEY, PASSWORD, call, write
from tests.store.calls import make_record

ELSEWHERE = "collector.example"


def exchange(
    path: str = "/in", body: bytes = b"", answer: bytes = b"ok", host: str = ELSEWHERE, **headers: str
) -> http.HTTPFlow:
    flow = tflow.tflow(resp=True)
    flow.request = http.Request.make("POST", f"https://{host}{path}", b"", {"host": host} | _fields(headers))
    flow.request.raw_content = body
    assert flow.response
    flow.response.content = answer
    return flow


def _fields(headers: dict[str, str]) -> Any:
    return {name.replace("_", "-"): value for name, value in headers.items()}


def websocket(*messages: tuple[bool, str]) -> http.HTTPFlow:
    flow = tflow.twebsocketflow()
    flow.websocket = WebSocketData(
        messages=[WebSocketMessage(Opcode.TEXT, from_client, text.encode()) for from_client, text in messages]
    )
    flow.request.host = ELSEWHERE
    return flow


def raw(data: bytes) -> tcp.TCPFlow:
    flow = tflow.ttcpflow()
    flow.messages = [tcp.TCPMessage(True, part) for part in (data[:20], data[20:])]
    return flow


def lookup(name: str) -> dns.DNSFlow:
    flow = tflow.tdnsflow()
    flow.request.questions[0].name = name
    return flow


def captured(path: Path, *flows: Flow) -> Path:
    for number, flow in enumerate(flows):
        flow.id = f"flow-{number}"
    with path.open("wb") as file:
        writer = FlowWriter(file)
        for flow in flows:
            writer.add(flow)
    return path


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "in.flow"


def reviewed(path: Path, *flows: Flow) -> tuple[list[Any], str]:
    """The findings of a capture that are more than a note, and the last line."""
    result = run("review", captured(path, *flows), "--json")
    return [one for one in json.loads(result.stdout) if one["severity"] != "info"], result.stderr


ENV = f"DB_PASSWORD={PASSWORD}\n"


@pytest.mark.parametrize(
    ("flow", "place"),
    [
        (exchange(body=ENV.encode()), "request body"),
        (exchange(body=gzip.compress(ENV.encode()), content_encoding="gzip"), "request body"),
        (exchange(body=base64.b64encode(ENV.encode())), "request body"),
        (exchange(body=ENV.encode("utf-16")), "request body"),
        (exchange(f"/in?password={PASSWORD}"), "request head"),
        (exchange(x_note=ENV.strip()), "request head"),
        (websocket((True, json.dumps({"telemetry": ENV}))), "WebSocket message"),
        (raw(ENV.encode()), "TCP data"),
        (lookup(f"ghp-{KEY}.evil.example"), "DNS question"),
    ],
    ids=["body", "gzip", "base64", "utf-16", "query", "header", "websocket", "tcp", "dns"],
)
@pytest.mark.long
def test_a_secret_in_any_flow_is_found(path: Path, flow: Flow, place: str):
    (secret,), last = reviewed(path, flow)
    assert (secret["count"], secret["hosts"] and secret["first_seen"]["place"]) == (1, place)
    assert secret["severity"] in ("medium", "high")
    assert last == "gateway-addon: looked at 1 flow, 0 calls among them\n"


def test_a_secret_that_only_came_in_is_a_note(path: Path):
    result = run("review", captured(path, exchange(answer=ENV.encode())), "--json")
    (secret,) = json.loads(result.stdout)
    assert (secret["rule"], secret["severity"], secret["count"]) == ("env_line", "info", 0)


def test_a_flow_that_posts_the_keys_of_a_conversation_to_a_stranger_is_counted(path: Path):
    body = {"model": "m", "messages": [{"role": "user", "content": ENV}]}
    asked = exchange("/v1/chat/completions", json.dumps(body).encode(), b"{}", "api.openai.com")
    (secret,), _ = reviewed(path, asked, exchange(body=f"k={PASSWORD}".encode()))
    assert secret["hosts"] == {"api.openai.com": 1, ELSEWHERE: 1}
    assert (secret["name"], secret["opens"]) == ("DB_PASSWORD", "a database")


@pytest.mark.long
class TestCredentialsInHeads:
    def test_at_one_host_they_are_a_note(self, path: Path):
        result = run("review", captured(path, exchange(authorization=f"Bearer {PASSWORD}")), "--json")
        (note,) = json.loads(result.stdout)
        assert (note["rule"], note["severity"], note["hosts"]) == ("credential_head", "info", {ELSEWHERE: 1})

    def test_a_vendors_own_at_a_strangers_host_is_none(self, path: Path):
        (stray,), _ = reviewed(path, exchange(x_api_key=KEY))
        assert (stray["rule"], stray["severity"]) == ("stray_credential", "high")
        assert KEY not in json.dumps(stray)

    def test_the_same_at_hosts_of_two_sites(self, path: Path):
        shown = f"Bearer {PASSWORD}"
        flows = exchange(authorization=shown), exchange(host="api.other.test", authorization=shown)
        strays, _ = reviewed(path, *flows)
        assert {host for stray in strays for host in stray["hosts"]} == {ELSEWHERE, "api.other.test"}

    def test_the_same_at_hosts_of_one_site_is_a_note(self, path: Path):
        shown = f"Bearer {PASSWORD}"
        flows = exchange(authorization=shown), exchange(host="eu.collector.example", authorization=shown)
        assert reviewed(path, *flows)[0] == []


class TestWhatIsNotLookedAt:
    @pytest.mark.long
    @pytest.mark.parametrize(
        ("flow", "missed"),
        [
            (exchange(body=b"\x1f\x8b\x00rest", content_encoding="gzip"), "request body in the encoding 'gzip'"),
            (exchange(body=b"\x89PNG\0\xff", content_type="image/png"), "request body of image/png: no text"),
            (raw(b"\x16\x03\x01\0\xff"), "TCP connection: no text"),
        ],
        ids=["encoding", "picture", "tcp"],
    )
    def test_is_counted_in_the_last_line(self, path: Path, flow: Flow, missed: str):
        _, last = reviewed(path, flow, exchange())
        assert last.startswith(f"gateway-addon: looked at 2 flows, 0 calls among them; not looked at: {missed}")
        assert last.endswith("(1)\n")

    def test_a_file_that_is_cut_off(self, path: Path):
        captured(path, exchange(), exchange())
        path.write_bytes(path.read_bytes()[:-5])
        result = run("review", path)
        assert "nothing found" in result.stdout
        assert "not looked at: the rest of the file (1)" in result.stdout.replace("\n", " ")

    @pytest.mark.parametrize("mode", ["prompts", "none"])
    def test_texts_that_a_database_does_not_have(self, tmp_path: Path, mode: str):
        path = tmp_path / "gateway.db"
        body = {"model": "m", "messages": [{"role": "user", "content": "hello"}]}
        write(path, call(body, mode=mode), call(body, number=2, mode=mode))
        last = run("review", path, "--json").stderr
        assert f"not looked at: texts of 2 calls not stored: gateway_content={mode};" in last

    def test_a_call_without_a_body_lacks_nothing(self, tmp_path: Path):
        path = tmp_path / "gateway.db"
        write(path, (make_record(request_bytes=0), Content()))
        assert "texts of" not in run("review", path, "--json").stderr
