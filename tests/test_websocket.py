"""Responses over WebSocket with real parts: the OpenAI SDK's client, a mitmdump process, a provider on a socket."""

import http.client
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlsplit

import pytest

from gateway_addon.captures.notes import METADATA
from gateway_addon.proxy.offline import store_rows
from gateway_addon.record import COLUMNS
from tests.gateways import tls_address
from tests.mitmdump import Mitmdump, http_flows, rows
from tests.provider import Provider
from tests.provider.answer import Error
from tests.provider.replies import fails
from tests.provider.scenarios import Scenario
from tests.provider.server import Received
from tests.socket_client import connected, needs_client

pytestmark = needs_client

CODEX = {
    "user-agent": "codex_exec/0.169.0",
    "originator": "codex_exec",
    "session-id": "s-1",
    "thread-id": "s-1",
    "openai-beta": "responses_websockets=2026-02-06",
}


LIMIT = Error(status=400, type="websocket_connection_limit_reached", message="This connection is an hour old.")
TOO_OLD = Scenario("the connection is too old, and ends", fails(LIMIT))


def turn_metadata(**metadata: str) -> dict[str, Any]:
    """What Codex sends with each turn."""
    return {"client_metadata": {"x-codex-turn-metadata": json.dumps(metadata)}}


class Run(NamedTuple):
    """What a run has left."""

    folder: Path
    seen: list[dict[str, Any]]
    """The requests that the provider has seen, each with the number of frames that it came in."""
    printed: str

    def rows(self, sql: str, db: str = "gateway.db") -> list[dict[str, Any]]:
        return rows(self.folder / db, sql)


@pytest.fixture(scope="module")
def run(session_provider: Provider, confdir: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Run]:
    """A conversation over one connection, then four that end in other ways, then one that is no call."""
    folder = tmp_path_factory.mktemp("socket")
    provider = session_provider
    provider.reset()
    options = {"gateway_db": folder / "gateway.db"}
    saving = ["-w", str(folder / "all.flow"), "--flow-detail", "0"]
    with Mitmdump(provider.url, confdir=confdir, options=options, args=saving) as proxy:
        url = f"{proxy.url}/v1"
        with connected(url, headers=CODEX) as talk:
            talk.ask("fake/text", "Fix the pager.", generate=False, **turn_metadata(request_kind="prewarm"))
            first = talk.ask("fake/tools", "Fix the pager.", **turn_metadata(request_kind="turn", agent_name="Ada"))
            call = first["response"]["output"][-1]
            result = {"type": "function_call_output", "call_id": call["call_id"], "output": "two places"}
            talk.ask("fake/text", [result], previous_response_id=first["response"]["id"], **turn_metadata())
            talk.ask("fake/text", "And now?", previous_response_id="resp_unknown")
            talk.ask("fake/http-429")
            talk.ask("fake/unicode", "é" * 10_000)
        with connected(url) as talk:
            talk.send("fake/held")
            assert talk.receive()["type"] == "response.created"
            talk.leave()
        provider.requests[-1].ended.wait(20)
        with connected(url) as talk:
            talk.send("fake/cut-after-start")
            with pytest.raises(Exception, match="received 1000"):
                talk.events()
        provider.script(TOO_OLD)
        with connected(url) as talk:
            assert talk.ask("fake/text")["error"]["code"] == "websocket_connection_limit_reached"
        with connected(f"{proxy.url}/v1/realtime") as talk:
            # the SDK asks for `/responses` below; the provider answers nothing to another message
            talk.connection.send({"type": "session.update"})
        assert proxy.stop() == 0
        assert store_rows(folder / "all.flow", folder / "file.db") == 5
        seen = [one.json | {"frames": one.frames} for one in provider.requests if one.method == "response.create"]
        yield Run(folder, seen, proxy.stdout)
    provider.reset()


def test_every_call_that_the_provider_saw_has_its_row(run: Run):
    found = run.rows("SELECT request_model, outcome, transport, http_status FROM requests ORDER BY started_at")
    assert [row["request_model"] for row in found] == [request["model"] for request in run.seen]
    assert {(row["transport"], row["http_status"]) for row in found} == {("websocket", 101)}
    assert [row["outcome"] for row in found] == [
        *("complete", "complete", "complete", "stream_error", "stream_error", "complete"),
        *("client_aborted", "upstream_cut", "stream_error"),
    ]


def test_requests_arrive_as_they_were_sent(run: Run):
    assert {request["frames"] for request in run.seen} == {1}
    assert run.seen[5]["input"] == "é" * 10_000


def test_a_file_gives_the_same_rows(run: Run):
    same = [name for name in COLUMNS if name not in ("run_id", "source")]
    sql = f"SELECT {', '.join(same)} FROM requests ORDER BY started_at, id"
    assert run.rows(sql, "file.db") == run.rows(sql)


def test_turns_belong_to_one_session_and_say_what_they_are(run: Run):
    found = run.rows(
        "SELECT session_id, side_request, agent_name FROM requests WHERE client = 'codex' ORDER BY started_at"
    )
    assert {row["session_id"] for row in found} == {"s-1"}
    assert [row["side_request"] for row in found] == ["warmup", None, None, None, None, None]
    assert [row["agent_name"] for row in found] == [None, "Ada", None, None, None, None]


def test_prompts_and_tools_of_a_history_that_is_left_out(run: Run):
    prompts = run.rows("SELECT user_prompt FROM prompts ORDER BY started_at")
    assert [row["user_prompt"] for row in prompts[:4]] == ["Fix the pager."] * 3 + ["And now?"]
    (result,) = run.rows("SELECT name, result FROM tool_results")
    assert (result["name"], result["result"]) == ("search", "two places")


def test_the_flow_tells_of_its_turns(run: Run):
    flow = http_flows(run.folder / "all.flow")[0]
    assert flow.comment.startswith("6 turns · ")
    assert [turn["id"] for turn in flow.metadata[METADATA]["turns"]] == [f"{flow.id}/{n}" for n in range(1, 7)]


def test_a_socket_without_calls_is_counted(run: Run):
    assert "1 call to 127.0.0.1 was not recorded: /v1/realtime/responses" in run.printed


KEY = "key-of-sockets-5d20c7"
CONFIG = """
custom_prefixes = ["acme/"]

[providers.sockets]
api_url = "HTTP/v1"
api_kinds = ["responses"]
dialect = "openai"
api_key_env = "SOCKET_KEY"

[providers.plain]
api_url = "HTTPS/v1"
api_kinds = ["responses"]
dialect = "openrouter"

[models]
"acme/mapped" = { provider = "sockets", model = "fake/unicode" }
"acme/free" = { provider = "sockets", model = "fake/text", free = true }
"acme/other" = { provider = "plain", model = "fake/text" }

[auto_models."acme/auto"]
default = { model = "fake/text", effort = "high" }
"""
UPGRADE = {
    "connection": "Upgrade",
    "upgrade": "websocket",
    "sec-websocket-version": "13",
    "sec-websocket-key": "A" * 22,
}
GATEWAY = "/api/gateway/v1"


class GatewayRun(NamedTuple):
    """What a run of the gateway has left."""

    folder: Path
    upgrade: Received
    seen: list[Received]
    given: dict[str, list[dict[str, Any]]]
    """The events that each turn was answered with, by what it was about."""
    refused: list[int]
    printed: str

    def rows(self, sql: str, db: str = "gateway.db") -> list[dict[str, Any]]:
        return rows(self.folder / db, sql)


def upgraded(url: str, **headers: str) -> int:
    """The status of the answer to an upgrade."""
    parts = urlsplit(url)
    connection = http.client.HTTPConnection(str(parts.hostname), parts.port, timeout=20)
    try:
        connection.request("GET", f"{GATEWAY}/responses", headers=UPGRADE | headers)
        return connection.getresponse().status
    finally:
        connection.close()


@pytest.fixture(scope="module")
def gateway_run(
    session_provider: Provider, tls_provider: Provider, confdir: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[GatewayRun]:
    """A connection through the gateway with turns of every sort; and upgrades that are refused."""
    folder = tmp_path_factory.mktemp("gateway-socket")
    provider = session_provider
    provider.reset()
    config = folder / "gateway.toml"
    config.write_text(
        CONFIG.replace("HTTPS", f"https://{tls_address(tls_provider)}").replace("HTTP/", f"{provider.url}/")
    )
    given: dict[str, list[dict[str, Any]]] = {}
    with Mitmdump(
        "",
        modes=[f"reverse:{provider.url}", f"reverse:https://{tls_address(tls_provider)}"],
        confdir=confdir,
        options={"gateway_db": folder / "gateway.db", "gateway_config": config},
        args=["-w", str(folder / "all.flow"), "--flow-detail", "0"],
        env={"SOCKET_KEY": KEY},
    ) as proxy:
        with connected(proxy.url + GATEWAY, headers=CODEX) as talk:
            for about, model, words in (
                ("as it came", "fake/text", "one"),
                ("mapped", "acme/mapped", "é" * 10_000),
                ("free", "acme/free", "three"),
                ("auto", "acme/auto", "four"),
                ("elsewhere", "acme/other", "five"),
                ("unknown", "acme/unknown", "six"),
                ("no input", "fake/text", 7),
                ("echo", "fake/text", f"my key is {KEY}"),
            ):
                talk.send(model, words)
                given[about] = talk.events()
            talk.connection.send({"type": "other", "model": "fake/text"})
            given["no turn"] = talk.events()
        refused = [upgraded(url, **headers) for url in proxy.urls for headers in ({"origin": "http://page.example"},)]
        refused.append(upgraded(proxy.urls[1]))
        assert proxy.stop() == 0
        upgrade, *seen = provider.requests
        assert store_rows(folder / "all.flow", folder / "file.db") == 4
        yield GatewayRun(folder, upgrade, seen, given, refused, proxy.stdout)
    provider.reset()


def test_the_upgrade_is_routed_and_has_the_key_as_a_call_does(gateway_run: GatewayRun):
    upgrade = gateway_run.upgrade
    assert (upgrade.method, upgrade.path) == ("GET", "/v1/responses")
    assert upgrade.headers["authorization"] == f"Bearer {KEY}"
    assert upgrade.headers["session-id"] == "s-1"


def test_turns_are_rewritten_by_the_rules_and_leave_whole(gateway_run: GatewayRun):
    models = ["fake/text", "fake/unicode", "fake/text", "fake/text", "fake/text"]
    assert [turn.json["model"] for turn in gateway_run.seen] == models
    assert [turn.frames for turn in gateway_run.seen] == [1] * 5
    assert gateway_run.seen[1].json["input"] == "é" * 10_000
    assert gateway_run.seen[3].json["reasoning"] == {"effort": "high"}


@pytest.mark.parametrize(
    ("about", "status", "code"),
    [
        ("elsewhere", 404, "model_not_found"),
        ("unknown", 404, "model_not_found"),
        ("no input", 400, "invalid_body"),
        ("no turn", 400, "invalid_body"),
    ],
)
def test_a_turn_is_refused_by_an_error_and_the_connection_goes_on(
    gateway_run: GatewayRun, about: str, status: int, code: str
):
    (event,) = gateway_run.given[about]
    assert (event["type"], event["status"], event["error"]["code"]) == ("error", status, code)


def test_a_free_model_is_shown_by_its_public_name_alone(gateway_run: GatewayRun):
    events = gateway_run.given["free"]
    assert {event["response"]["model"] for event in events if "response" in event} == {"acme/free"}
    assert events[-1]["type"] == "response.completed"


def test_answers_that_are_not_changed_come_as_they_were_sent(gateway_run: GatewayRun):
    for about, turn in (("as it came", 0), ("echo", 4)):
        sent = [json.dumps(event, ensure_ascii=False, separators=(",", ":")) for event in gateway_run.given[about]]
        assert "".join(sent) == bytes(gateway_run.seen[turn].sent).decode()


def test_each_turn_has_its_row(gateway_run: GatewayRun):
    names = "request_model, upstream_model, outcome, http_status, error_status, provider"
    found = gateway_run.rows(f"SELECT {names} FROM requests WHERE id LIKE '%/%' ORDER BY started_at")
    assert [tuple(row.values()) for row in found] == [
        ("fake/text", "fake/text", "complete", 101, None, "sockets"),
        ("acme/mapped", "fake/unicode", "complete", 101, None, "sockets"),
        ("acme/free", "fake/text", "complete", 101, None, "sockets"),
        ("acme/auto", "fake/text", "complete", 101, None, "sockets"),
        ("acme/other", None, "rejected", 101, 404, None),
        ("acme/unknown", None, "rejected", 101, 404, None),
        ("fake/text", None, "rejected", 101, 400, None),
        ("fake/text", "fake/text", "complete", 101, None, "sockets"),
        ("fake/text", None, "rejected", 101, 400, None),
    ]
    (row,) = gateway_run.rows("SELECT rewrites FROM requests WHERE request_model = 'acme/mapped'")
    operations = {operation["path"]: operation.get("value") for operation in json.loads(row["rewrites"])}
    assert operations["/body/model"] == "fake/unicode"
    assert operations["/headers/authorization"] == "<secret>"


def test_access_is_judged_before_anything_else_and_426_leaves_no_row(gateway_run: GatewayRun):
    assert gateway_run.refused == [401, 401, 426]
    found = gateway_run.rows("SELECT outcome, http_status, transport FROM requests WHERE id NOT LIKE '%/%'")
    assert [tuple(row.values()) for row in found] == [("rejected", 401, "websocket")] * 2
    assert gateway_run.printed.count("gateway-addon: the provider 'plain' takes no WebSockets, only HTTP") == 1


def test_a_file_gives_the_same_rows_of_the_gateway(gateway_run: GatewayRun):
    # the first prompt, which tells conversations apart, holds a secret in one of them
    same = [name for name in COLUMNS if name not in ("run_id", "source", "conversation_id")]
    sql = f"SELECT {', '.join(same)} FROM requests ORDER BY started_at, id"
    for again, live in zip(gateway_run.rows(sql, "file.db"), gateway_run.rows(sql), strict=True):
        assert again == live


def test_no_key_is_in_any_file(gateway_run: GatewayRun):
    assert [path.name for path in gateway_run.folder.iterdir() if KEY.encode() in path.read_bytes()] == []
    assert len(gateway_run.rows("SELECT id FROM requests WHERE warnings LIKE '%secret_masked%'")) == 1
    flow = http_flows(gateway_run.folder / "all.flow")[0]
    assert flow.websocket
    (echo,) = [message for message in flow.websocket.messages if b"my key is" in message.content]
    assert (
        echo.content
        == json.dumps(
            {"type": "response.create", "model": "fake/text", "input": f"my key is {'*' * len(KEY)}"}
        ).encode()
    )


def test_the_flow_holds_what_client_and_server_sent(gateway_run: GatewayRun):
    flow = http_flows(gateway_run.folder / "all.flow")[0]
    assert flow.websocket
    asked = [json.loads(message.content) for message in flow.websocket.messages if message.from_client]
    assert [one["model"] for one in asked[:3]] == ["fake/text", "acme/mapped", "acme/free"]
    assert flow.request.headers["authorization"] == "{gateway:sockets}"
