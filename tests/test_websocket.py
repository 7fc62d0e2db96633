"""Responses over WebSocket with real parts: the OpenAI SDK's client, a mitmdump process, a provider on a socket."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from gateway_addon.captures.notes import METADATA
from gateway_addon.record import COLUMNS
from tests.mitmdump import Mitmdump, http_flows, rows, run_on_file
from tests.provider import Provider
from tests.provider.answer import Error
from tests.provider.replies import fails
from tests.provider.scenarios import Scenario
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
        result_ = run_on_file(folder / "all.flow", folder / "file.db", "--flow-detail", "0", confdir=confdir)
        assert result_.returncode == 0, result_.stdout
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
    assert flow.comment.startswith("6 turns, the last: responses fake/unicode")
    assert [turn["id"] for turn in flow.metadata[METADATA]["turns"]] == [f"{flow.id}/{n}" for n in range(1, 7)]


def test_a_socket_without_calls_is_counted(run: Run):
    assert "1 call to 127.0.0.1 was not recorded: /v1/realtime/responses" in run.printed
