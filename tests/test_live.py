"""The addon in a real mitmdump between a client and a provider, on real sockets."""

import hashlib
import json
import os
import re
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import zstandard
from mitmproxy.io import FlowWriter
from mitmproxy.test.tflow import tflow
from mitmproxy.test.tutils import treq

from gateway_addon import __version__
from gateway_addon.store.bodies import load_body, stored_bodies
from gateway_addon.store.database import open_readonly
from tests.client import PATHS, Call, body_of, request_body
from tests.marks import quick
from tests.mitmdump import ADDON, Mitmdump, http_flows, rows, run_mitmdump, run_on_file
from tests.provider import Provider
from tests.recorded import CASES

Start = Callable[..., Mitmdump]


def test_every_answer_passes_byte_for_byte_and_leaves_one_row(recorded: Path) -> None:
    found = rows(recorded / "gateway.db", "SELECT api_kind, request_model FROM requests ORDER BY started_at")
    assert [(row["api_kind"], row["request_model"]) for row in found] == [
        (kind, f"fake/{scenario}") for kind, scenario, _ in CASES
    ]


OUTCOMES = {
    "error-first": "stream_error",
    "error-midway": "stream_error",
    "error-as-finish": "stream_error",
    "error-after-finish": "stream_error",
    "error-body": "stream_error",
    "error-in-a-list": "stream_error",
    "html-200": "unreadable",
    "empty": "unreadable",
    "blank": "unreadable",
    "not-an-object": "unreadable",
    "gzip-corrupt": "unreadable",
    "no-answer": "upstream_cut",
    "strict": "complete",
}


STREAM_ONLY = {"named-done", "data-after-done", "cut-chunked", "cut-until-close"}
"""Damage that is none to a whole body, or that leaves no answer to read."""
BODY_ONLY = {"queued"}
"""A stream would go on."""


def expected_outcome(scenario: str) -> str:
    if "http-" in scenario or scenario in ("html-502", "text-429"):
        return "http_error"
    if scenario.startswith("cut-"):
        return "upstream_cut"
    return OUTCOMES.get(scenario, "complete")


def test_outcomes(recorded: Path) -> None:
    found = rows(
        recorded / "gateway.db", "SELECT api_kind, request_model, outcome, streamed FROM requests ORDER BY started_at"
    )
    wrong = {
        (kind, scenario, stream): row["outcome"]
        for (kind, scenario, stream), row in zip(CASES, found, strict=True)
        if row["outcome"] != expected_outcome(scenario) and scenario not in (BODY_ONLY if stream else STREAM_ONLY)
    }
    assert wrong == {}


def test_unknown_is_null_never_zero(recorded: Path) -> None:
    silent = "('html-200', 'empty', 'blank', 'html-502', 'text-429', 'usage-absent', 'usage-null', 'error-first')"
    found = rows(
        recorded / "gateway.db",
        "SELECT input_tokens, output_tokens, cache_read_tokens, cost_microdollars FROM requests"
        f" WHERE substr(request_model, 6) IN {silent}",
    )
    assert found
    assert {value for row in found for value in row.values()} == {None}


def test_every_request_body_is_given_back_without_its_encoding(
    recorded: Path, provider: Provider, mitmdump: Start, tmp_path: Path
) -> None:
    with open_readonly(recorded / "gateway.db") as db:
        wrong = [f for f in http_flows(recorded / "all.flow") if load_body(db, f.id) != f.request.raw_content]
        assert wrong == []
        assert len(stored_bodies(db)) == len(CASES)
    proxy = mitmdump()
    body = b'{"model": "fake/text", "messages": []}'
    Call(proxy.url, PATHS["messages"], zstandard.compress(body), {"content-encoding": "zstd"}).read()
    proxy.stop()
    with open_readonly(tmp_path / "gateway.db") as db:
        assert load_body(db, _one(tmp_path)["id"]) == body


@pytest.mark.parametrize("content", ["prompts", "none"])
def test_a_body_that_is_not_to_be_kept_leaves_its_hash(
    content: str, provider: Provider, mitmdump: Start, tmp_path: Path
) -> None:
    proxy = mitmdump(options={"gateway_content": content})
    body = json.dumps(request_body("messages", "fake/text", planted="planted in the envelope")).encode()
    Call(proxy.url, PATHS["messages"], body).read()
    proxy.stop()
    row = _one(tmp_path)
    assert (row["request_sha256"], row["envelope_id"]) == (hashlib.sha256(body).hexdigest(), None)
    assert not any(b"planted" in file.read_bytes() for file in tmp_path.glob("gateway.db*"))


def test_chunks_pass_when_they_arrive(provider: Provider, mitmdump: Start) -> None:
    proxy = mitmdump()
    call = Call(proxy.url, PATHS["messages"], request_body("messages", "fake/held"))
    sent = provider.wait_for_request()
    # the provider holds the rest back, so that a proxy that waits for more would wait for ever
    first = call.response.read1()
    while b"content_block_delta" not in first:
        first += call.response.read1()
    assert not sent.ended.is_set()
    provider.gate.open()
    assert first + call.read() == body_of(bytes(sent.sent))


def test_an_event_of_20_mb_passes_and_is_read(provider: Provider, mitmdump: Start, tmp_path: Path) -> None:
    proxy = mitmdump()
    received = Call(proxy.url, PATHS["messages"], request_body("messages", "fake/huge-event")).read()
    assert received == body_of(bytes(provider.requests[0].sent))
    proxy.stop()
    assert _one(tmp_path)["outcome"] == "complete"


def test_a_row_exists_while_the_call_is_under_way(provider: Provider, mitmdump: Start, tmp_path: Path) -> None:
    proxy = mitmdump()
    call = Call(proxy.url, PATHS["messages"], request_body("messages", "fake/silent"))
    provider.wait_for_request()
    _until(lambda: rows(tmp_path / "gateway.db", "SELECT outcome FROM requests") == [{"outcome": "in_flight"}])
    provider.gate.open()
    call.read()
    proxy.wait_for("messages fake/silent")
    assert proxy.stop() == 0
    assert _one(tmp_path)["outcome"] == "complete"


@pytest.mark.parametrize("kind", PATHS)
def test_a_client_that_leaves(kind: str, provider: Provider, mitmdump: Start, tmp_path: Path) -> None:
    """The client hangs up before, or amid, the first token."""
    proxy = mitmdump(args=["-w", str(tmp_path / "aborted.flow")])
    call = Call(proxy.url, PATHS[kind], request_body(kind, "fake/held"))
    received = call.response.read1()
    call.leave()
    proxy.wait_for("client_aborted")
    assert proxy.stop() == 0
    row = _one(tmp_path)
    assert row["outcome"] == "client_aborted"
    assert row["response_bytes"] >= len(received)
    assert _answer_saved(tmp_path / "aborted.flow").startswith(received)


def test_shutdown_keeps_what_had_arrived(provider: Provider, mitmdump: Start, tmp_path: Path) -> None:
    proxy = mitmdump(args=["-w", str(tmp_path / "shutdown.flow")])
    call = Call(proxy.url, PATHS["messages"], request_body("messages", "fake/held"))
    received = call.response.read1()
    assert proxy.stop() == 0
    row = _one(tmp_path)
    assert row["outcome"] == "interrupted"
    assert row["input_tokens"] is not None
    assert row["output_tokens"] is None
    assert row["usage_is_lower_bound"] == 1
    assert _answer_saved(tmp_path / "shutdown.flow").startswith(received)


def test_a_killed_proxy_leaves_interrupted_calls(provider: Provider, mitmdump: Start, tmp_path: Path) -> None:
    first, second = mitmdump(), mitmdump()
    calls = [Call(proxy.url, PATHS["messages"], request_body("messages", "fake/silent")) for proxy in (first, second)]
    provider.wait_for_request(2)
    outcomes = "SELECT outcome FROM requests ORDER BY outcome"
    _until(lambda: len(rows(tmp_path / "gateway.db", outcomes)) == 2)
    first.kill()
    mitmdump()
    # the second one is alive: its call is not for others to judge
    assert [row["outcome"] for row in rows(tmp_path / "gateway.db", outcomes)] == ["in_flight", "interrupted"]
    for call in calls:
        call.leave()


def test_an_idle_connection_times_out(provider: Provider, mitmdump: Start, tmp_path: Path) -> None:
    proxy = mitmdump(options={"tcp_timeout": 1})
    call = Call(proxy.url, PATHS["messages"], request_body("messages", "fake/held"))
    call.response.read1()
    proxy.wait_for("upstream_cut timeout")
    proxy.stop()
    assert _one(tmp_path)["error_type"] == "timeout"
    call.leave()


def test_no_upstream(mitmdump: Start, tmp_path: Path) -> None:
    proxy = mitmdump(upstream="http://127.0.0.1:9")
    call = Call(proxy.url, PATHS["messages"], request_body("messages", "m"))
    assert call.response.status == 502
    proxy.stop()
    row = _one(tmp_path)
    assert (row["outcome"], row["http_status"], row["usage_is_lower_bound"]) == ("upstream_cut", None, None)


def test_touching_the_script_ends_no_call_and_adds_no_writer(
    provider: Provider, mitmdump: Start, tmp_path: Path
) -> None:
    script = tmp_path / "addon.py"
    # the script's own folder is all that mitmproxy puts on the path
    script.write_text(f"import sys\nsys.path.insert(0, {str(ADDON.parent)!r})\n{ADDON.read_text()}")
    proxy = mitmdump(addon=script)
    call = Call(proxy.url, PATHS["messages"], request_body("messages", "fake/held"))
    first = call.response.read1()
    os.utime(script, (time.time() + 10, time.time() + 10))
    _until(lambda: proxy.stdout.count("Loading script") == 2)
    provider.gate.open()
    assert first + call.read() == body_of(bytes(provider.requests[0].sent))
    proxy.wait_for("messages fake/held")
    assert proxy.stop() == 0
    assert _one(tmp_path)["outcome"] == "complete"
    assert len(rows(tmp_path / "gateway.db", "SELECT * FROM runs")) == 1


@pytest.mark.long
def test_two_processes_start_on_one_new_file(provider: Provider, mitmdump: Start, tmp_path: Path) -> None:
    proxies = [mitmdump() for _ in range(2)]
    for proxy in proxies:
        Call(proxy.url, PATHS["messages"], request_body("messages", "fake/text")).read()
    assert [proxy.stop() for proxy in proxies] == [0, 0]
    assert rows(tmp_path / "gateway.db", "SELECT COUNT(*) AS n, COUNT(DISTINCT run_id) AS runs FROM requests") == [
        {"n": 2, "runs": 2}
    ]


def test_a_session_that_becomes_dear_is_warned_of_once(provider: Provider, mitmdump: Start) -> None:
    proxy = mitmdump(options={"gateway_warn_usd": "0.02"})
    for _ in range(3):
        headers = {"x-session-id": "toy-session"}
        Call(proxy.url, PATHS["messages"], request_body("messages", "fake/openrouter-cost"), headers).read()
    proxy.stop()
    warned = [line.partition("gateway-addon: ")[2] for line in proxy.stdout.splitlines() if "gateway_warn_usd" in line]
    assert warned == ["session toy-session has cost $0.0246, more than gateway_warn_usd=0.02"]


NOT_CALLS = {
    "other path": ("/v1/embeddings", {"model": "m", "input": "x"}),
    "a chat service's messages, on another host": ("/api/channels/7/messages", {"content": "hello"}),
    "token counting": ("/v1/messages/count_tokens", {"model": "m", "messages": []}),
    "the same for Responses": ("/v1/responses/input_tokens", {"model": "m", "input": "x"}),
    "an answer again": ("/v1/responses/resp_1/cancel", {"model": "m", "input": "x"}),
}


def test_what_is_no_model_call_is_not_logged(provider: Provider, mitmdump: Start, tmp_path: Path) -> None:
    proxy = mitmdump(modes=["regular"])
    for path, body in NOT_CALLS.values():
        Call(proxy.url, f"{provider.url}{path}", body).read()
    # on a host nobody named, the body decides
    Call(proxy.url, f"{provider.url}/v1/messages", request_body("messages", "fake/text")).read()
    proxy.stop()
    assert _one(tmp_path)["upstream_path"] == "/v1/messages"


BODIES = {
    "no JSON": (b"\xff\x00 nothing", None, ["request_unreadable"]),
    "an array": (b"[1, 2]", None, ["request_unreadable"]),
    "nothing": (b"", None, ["request_unreadable"]),
    "more values than are read": (b"[" + b"1," * 1_000_001 + b"1]", None, ["request_too_large"]),
    "NUL and lone surrogates": (
        b'{"model": "fake/text", "messages": [{"role": "user", "content": "a\\u0000b\\ud800"}]}',
        "fake/text",
        [],
    ),
    "numbers as strings": (b'{"model": 7, "messages": "x", "max_tokens": "12"}', None, []),
    "zstd": (zstandard.compress(b'{"model": "fake/text", "messages": []}'), "fake/text", []),
    "a bomb": (zstandard.compress(bytes(400_000_000)), None, ["request_undecodable"]),
    "corrupt zstd": (b"\x28\xb5\x2f\xfd broken", None, ["request_undecodable"]),
}


@pytest.fixture(scope="module")
def hostile(
    session_provider: Provider, confdir: Path, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, tuple[bytes, dict[str, Any], dict[str, Any]]]:
    """By name: what the provider got, the row, and the row of the file."""
    folder = tmp_path_factory.mktemp("hostile")
    db, again, flows = folder / "gateway.db", folder / "again.db", folder / "all.flow"
    session_provider.reset()
    session_provider.default = "text"
    with Mitmdump(session_provider.url, confdir=confdir, options={"gateway_db": db}, args=["-w", str(flows)]) as proxy:
        for name, (body, _, _) in BODIES.items():
            encoding = {"content-encoding": "zstd"} if "zstd" in name or "bomb" in name else {}
            headers = encoding | {"anthropic-version": "2023-06-01", "x-session-id": name}
            Call(proxy.url, PATHS["messages"], body, headers).read()
        assert proxy.stop() == 0
        assert "Traceback" not in proxy.stdout
    received = [request.body for request in session_provider.requests]
    session_provider.reset()
    run_on_file(flows, again, confdir=confdir)
    live, saved = ({row["session_id"]: row for row in rows(path, "SELECT * FROM requests")} for path in (db, again))
    return {name: (got, live[name], saved[name]) for name, got in zip(BODIES, received, strict=True)}


@pytest.mark.parametrize("name", BODIES)
def test_hostile_request_bodies_pass_untouched(
    name: str, hostile: dict[str, tuple[bytes, dict[str, Any], dict[str, Any]]]
) -> None:
    body, model, warnings = BODIES[name]
    received, row, of_file = hostile[name]
    assert received == body
    assert row["request_model"] == model
    assert row["request_bytes"] == len(body)
    assert json.loads(row["warnings"]) == warnings
    assert of_file["warnings"] == row["warnings"]


def test_streamed_requests_are_recorded_when_nothing_is_rewritten(
    provider: Provider, mitmdump: Start, tmp_path: Path
) -> None:
    proxy = mitmdump(options={"stream_large_bodies": "1k", "gateway_rewrite": "false"})
    body = request_body("messages", "fake/text", system="x" * 5000)
    Call(proxy.url, PATHS["messages"], body).read()
    proxy.stop()
    assert provider.requests[0].json == body
    assert _one(tmp_path)["request_model"] == "fake/text"
    assert rows(tmp_path / "gateway.db", "SELECT length(system_prompt) AS n FROM prompts") == [{"n": 5000}]


def test_client_replay_is_a_call_of_its_own(recorded: Path, provider: Provider, confdir: Path, tmp_path: Path) -> None:
    """Read and replayed into one database: the file's call and the new one, marked."""
    with Mitmdump(
        provider.url,
        confdir=confdir,
        options={"gateway_db": tmp_path / "gateway.db"},
        args=["-w", str(tmp_path / "one.flow")],
    ) as proxy:
        Call(proxy.url, PATHS["messages"], request_body("messages", "fake/text")).read()
        proxy.stop()
    result = run_mitmdump(
        "-n", "-C", str(tmp_path / "one.flow"), confdir=confdir, options={"gateway_db": tmp_path / "gateway.db"}
    )
    assert result.returncode == 0, result.stdout
    first, second = rows(tmp_path / "gateway.db", "SELECT * FROM requests ORDER BY started_at")
    assert (first["source"], second["source"]) == ("live", "replay")
    assert second["id"].startswith(f"{first['id']}~")
    assert len(provider.requests) == 2


QUIET = {"flow_detail": 0, "termlog_verbosity": "alert"}
"""As the recipes of the README have it."""


def test_a_quiet_recipe_prints_nothing_but_what_the_addon_says(provider: Provider, confdir: Path, tmp_path: Path):
    flow = tflow(req=treq(method=b"POST", path=b"/v1/messages", content=b'{"model":"fake/text","messages":[]}'))
    flow.request.host, flow.request.port = "127.0.0.1", urlsplit(provider.url).port or 0
    with (tmp_path / "one.flow").open("wb") as file:
        FlowWriter(file).add(flow)
    options = QUIET | {"gateway_db": tmp_path / "gateway.db"}
    key = {"OPENROUTER_API_KEY": "any"}
    printed = run_mitmdump("-n", "-C", str(tmp_path / "one.flow"), confdir=confdir, options=options, env=key).stdout
    assert [re.sub(r"^\[.*?\] ", "", line).split(" · ")[0] for line in printed.splitlines()[1:]] == [
        "messages fake/text",
        "gateway-addon: 1 calls, 0 not complete",
    ]
    assert f"gateway-addon {__version__}: observing" in printed.splitlines()[0]
    # what the gateway had paid for, were it in the file, would be paid for again
    assert printed.splitlines()[0].endswith("keys injected: openrouter (OPENROUTER_API_KEY)")


START_ERRORS: dict[str, tuple[dict[str, object], str]] = {
    "a bad bool": ({"gateway_rewrite": "maybe"}, "gateway_rewrite"),
    "a bad choice": ({"gateway_content": "some"}, "gateway_content: 'some'"),
    "a negative size": ({"gateway_body_limit": "-5"}, "gateway_body_limit: '-5'"),
    "no sum of dollars": ({"gateway_warn_usd": "five"}, "gateway_warn_usd: 'five'"),
    "a sum that is none": ({"gateway_warn_usd": "nan"}, "gateway_warn_usd: 'nan'"),
    "a negative sum": ({"gateway_warn_usd": "-1"}, "gateway_warn_usd: '-1'"),
    "an unknown option": ({"gateway_dbb": "x.db"}, "unknown option: gateway_dbb"),
    "a misspelt option": ({"gateway-content": "full"}, "unknown option: gateway-content"),
    "no folder for the database": ({"gateway_db": "/nowhere/at/all.db"}, "/nowhere/at/all.db"),
    "no configuration": ({"gateway_config": "/nowhere/gateway.toml"}, "/nowhere/gateway.toml"),
    "streamed requests that cannot be rewritten": ({"stream_large_bodies": "1k"}, "stream_large_bodies"),
}


@pytest.mark.parametrize("name", quick(START_ERRORS, "a bad bool", "an unknown option", "no folder for the database"))
def test_a_mistake_at_start_ends_it_with_one_line(name: str, recorded: Path, confdir: Path, tmp_path: Path) -> None:
    options, named = START_ERRORS[name]
    db = tmp_path / "gateway.db"
    result = run_mitmdump(
        "-n", "-r", str(recorded / "all.flow"), confdir=confdir, options=QUIET | {"gateway_db": db, **options}
    )
    assert result.returncode != 0
    lines = [line for line in result.stdout.splitlines() if "gateway-addon" in line]
    assert len(lines) == 1, result.stdout
    assert named in lines[0]
    assert "Traceback" not in result.stdout
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("content", [b"not a database, only text" * 50, b"SQLite format 3\0" + bytes(200)])
def test_a_file_that_is_no_database_is_refused_and_left_alone(
    content: bytes, recorded: Path, confdir: Path, tmp_path: Path
) -> None:
    db = tmp_path / "gateway.db"
    db.write_bytes(content)
    result = run_on_file(recorded / "all.flow", db, confdir=confdir)
    assert result.returncode != 0
    assert str(db) in result.stdout
    assert db.read_bytes() == content


def test_the_database_is_private(provider: Provider, mitmdump: Start, tmp_path: Path) -> None:
    mitmdump()
    assert {path.name: path.stat().st_mode & 0o777 for path in tmp_path.glob("gateway.db*")} == dict.fromkeys(
        ("gateway.db", "gateway.db-shm", "gateway.db-wal"), 384
    )


def _one(folder: Path, name: str = "gateway.db") -> dict[str, Any]:
    (row,) = rows(folder / name, "SELECT * FROM requests")
    return row


def _answer_saved(path: Path) -> bytes:
    (flow,) = http_flows(path)
    return (flow.response and flow.response.raw_content) or b""


def _until(condition: Callable[[], bool], seconds: float = 20) -> None:
    """Return as soon as the condition holds; there is nothing to wait on but another process's file."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        threading.Event().wait(0.02)
