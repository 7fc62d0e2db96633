"""Model calls at other paths than the three, through a real mitmdump and from its file; and what has no row."""

from pathlib import Path
from typing import Any

import pytest

from gateway_addon.record import COLUMNS
from tests.client import Call
from tests.mitmdump import Mitmdump, rows, run_on_file
from tests.provider import Provider

SAID = [{"role": "user", "content": "Why does the last test fail?"}]
FOR_BEDROCK: dict[str, Any] = {"anthropic_version": "bedrock-2023-05-31", "max_tokens": 500, "messages": SAID}
FOR_VERTEX: dict[str, Any] = {"anthropic_version": "vertex-2023-10-16", "max_tokens": 500, "messages": SAID}
SONNET = "anthropic.claude-sonnet-4-5-20250929-v1:0"
PUBLISHER = "/v1/projects/toy/locations/us-east5/publishers/anthropic/models"

CALLS: dict[str, tuple[str, dict[str, Any], str, dict[str, Any]]] = {
    "an Azure deployment": (
        "/openai/deployments/toy-deployment/chat/completions?api-version=2026-01-01",
        {"messages": SAID},
        "tools",
        {"api_kind": "chat_completions", "request_model": "toy-deployment"},
    ),
    "an Azure deployment's Responses": (
        "/openai/deployments/toy-deployment/responses?api-version=2026-01-01",
        {"input": "hello"},
        "tools",
        {"api_kind": "responses", "request_model": "toy-deployment"},
    ),
    "Azure without deployments": (
        "/openai/v1/responses",
        {"model": "toy-model", "input": "hello"},
        "tools",
        {"api_kind": "responses", "request_model": "toy-model"},
    ),
    "llama.cpp": (
        "/v1/chat/completions",
        {"messages": SAID},
        "tools",
        {"api_kind": "chat_completions", "request_model": None, "response_model": None},
    ),
    "Vertex": (
        f"{PUBLISHER}/claude-sonnet-4-5@20250929:rawPredict",
        FOR_VERTEX,
        "tools",
        {"request_model": "claude-sonnet-4-5@20250929"},
    ),
    "Vertex, streamed": (
        f"{PUBLISHER}/claude-sonnet-4-5@20250929:streamRawPredict",
        FOR_VERTEX | {"stream": True},
        "tools",
        {"request_model": "claude-sonnet-4-5@20250929", "streamed": 1},
    ),
    "Bedrock": (f"/model/{SONNET.replace(':', '%3A')}/invoke", FOR_BEDROCK, "tools", {"request_model": SONNET}),
    "Bedrock, streamed": (
        f"/model/{SONNET.replace(':', '%3A')}/invoke-with-response-stream",
        FOR_BEDROCK,
        "aws-event-stream",
        {"request_model": SONNET, "streamed": 1},
    ),
    "a compaction": (
        "/backend-api/codex/responses/compact",
        {"model": "toy-model", "input": SAID},
        "",
        {"api_kind": "responses", "request_model": "toy-model", "side_request": "compaction"},
    ),
}
"""Path, body, scenario of the provider, and what the row says; `complete`, and of Messages if it does not say."""

NOT_CALLS: dict[str, tuple[str, dict[str, Any]]] = {
    "a preset that is made": ("/api/v1/presets/careful/chat/completions", {"model": "toy", "messages": SAID}),
    "a chat service's messages": ("/api/channels/7/messages", {"messages": [{"text": "hello"}]}),
    "tokens that Vertex counts": (f"{PUBLISHER}/count-tokens:rawPredict", FOR_VERTEX | {"model": "claude"}),
    "another format at Bedrock": ("/model/amazon.titan-text/invoke", {"inputText": "hello"}),
}


class Saved:
    """Calls that went through a forward proxy, and their file read again."""

    def __init__(self, folder: Path) -> None:
        self.live = folder / "gateway.db"
        self.again = folder / "again.db"
        self.file = folder / "all.flow"

    def row(self, db: Path, case: str) -> dict[str, Any]:
        columns = ", ".join(name for name in COLUMNS if name not in ("run_id", "source"))
        path = CALLS[case][0].partition("?")[0]
        # in the order they were made: two cases have one path
        (row,) = rows(db, f"SELECT {columns} FROM requests WHERE upstream_path = '{path}'")
        return row


@pytest.fixture(scope="module")
def saved(session_provider: Provider, confdir: Path, tmp_path_factory: pytest.TempPathFactory) -> Saved:
    saved = Saved(tmp_path_factory.mktemp("paths"))
    session_provider.reset()
    options = {"gateway_db": saved.live}
    with Mitmdump("", modes=["regular"], confdir=confdir, options=options, args=["-w", str(saved.file)]) as proxy:
        for path, body, scenario, _ in CALLS.values():
            if scenario:
                session_provider.script(scenario)
            Call(proxy.url, session_provider.url + path, body).read()
        for path, body in NOT_CALLS.values():
            Call(proxy.url, session_provider.url + path, body).read()
        assert proxy.stop() == 0
        assert "Traceback" not in proxy.stdout
    session_provider.reset()
    result = run_on_file(saved.file, saved.again, confdir=confdir)
    assert result.returncode == 0, result.stdout
    return saved


@pytest.mark.parametrize("case", CALLS)
def test_a_call_has_its_row_live_and_from_file(case: str, saved: Saved):
    row = saved.row(saved.live, case)
    expected = {"api_kind": "messages", "outcome": "complete", "warnings": "[]"} | CALLS[case][3]
    assert {name: row[name] for name in expected} == expected
    assert row["upstream_model"] == row["request_model"]
    assert row["output_tokens"] > 0
    assert saved.row(saved.again, case) == row


def test_the_tools_that_a_cloud_has_called(saved: Saved):
    found = rows(saved.live, "SELECT upstream_path, name FROM tool_calls JOIN requests ON id = request_id")
    called = {path: [row["name"] for row in found if row["upstream_path"] == path] for path in CLOUD_PATHS}
    assert called == {path: ["read_file", "search"] for path in CLOUD_PATHS}


CLOUD_PATHS = [CALLS[case][0] for case in ("Vertex", "Vertex, streamed", "Bedrock", "Bedrock, streamed")]


def test_nothing_else_has_a_row(saved: Saved):
    for db in (saved.live, saved.again):
        assert rows(db, "SELECT COUNT(*) AS calls FROM requests") == [{"calls": len(CALLS)}]


UNREAD = [
    *("/v1/images/generations", "/v1/messages/batches", "/v1/images/generations"),
    "/v1/sk-ant-0123456789abcdef0123/embeddings?key=secret",
]
NO_INFERENCE = ["/v1/models", "/v1/messages/count_tokens", "/v1/files", "/api/event_logging/batch"]


def test_what_a_model_host_is_asked_besides_is_counted_and_named_once(
    provider: Provider, confdir: Path, tmp_path: Path
):
    live = {"gateway_db": tmp_path / "gateway.db", "flow_detail": 0}
    with Mitmdump(provider.url, confdir=confdir, options=live, args=["-w", str(tmp_path / "all.flow")]) as proxy:
        for path in UNREAD + NO_INFERENCE:
            Call(proxy.url, path, {"model": "toy", "prompt": "a cat"}).read()
        assert proxy.stop() == 0
    again = run_on_file(tmp_path / "all.flow", tmp_path / "again.db", "--flow-detail", "0", confdir=confdir)
    for printed in (proxy.stdout, again.stdout):
        lines = [line.partition("gateway-addon: ")[2] for line in printed.splitlines() if "not recorded" in line]
        assert lines == [
            "calls to 127.0.0.1 are not recorded: /v1/images/generations",
            "calls to 127.0.0.1 are not recorded: /v1/messages/batches",
            "calls to 127.0.0.1 are not recorded: /v1/…/embeddings",
            "4 calls to 127.0.0.1 were not recorded: /v1/images/generations, /v1/messages/batches, /v1/…/embeddings",
        ]
        assert "sk-ant" not in printed
    assert rows(tmp_path / "gateway.db", "SELECT * FROM requests") == []
