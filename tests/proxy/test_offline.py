"""Captures: what `-w` saves of a live run, and what our addon, and mitmproxy's own tools, read from it again."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from gateway_addon.captures.notes import MARKS
from gateway_addon.proxy.offline import store_rows
from gateway_addon.record import COLUMNS, TIMINGS
from gateway_addon.store.bodies import load_body, stored_bodies
from gateway_addon.store.database import open_readonly
from gateway_addon.store.schema import USAGE_KEYS
from tests.client import PATHS, Call, request_body
from tests.marks import quick
from tests.mitmdump import Mitmdump, http_flows, rows, run_mitmdump, run_on_file
from tests.provider import Provider
from tests.recorded import CASES

Start = Callable[..., Mitmdump]

QUIET = ("--flow-detail", "0")


def one_row(db: Path) -> dict[str, Any]:
    (row,) = rows(db, f"SELECT {', '.join(COLUMNS)} FROM requests")
    return row


def but_for_run_and_source(row: dict[str, Any]) -> dict[str, Any]:
    """What a row of a file has in common with the one of the live run, times of the capture included."""
    return {name: value for name, value in row.items() if name not in ("run_id", "source")}


# ---- Every scenario of the provider ----


@pytest.fixture(scope="module")
def read_again(recorded: Path, confdir: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A new database, made from the file of the live run."""
    db = tmp_path_factory.mktemp("again") / "file.db"
    result = run_on_file(recorded / "all.flow", db, *QUIET, confdir=confdir)
    assert result.returncode == 0, result.stdout
    return db


SAME = {
    "requests": f"SELECT {', '.join(COLUMNS)} FROM requests ORDER BY started_at, id",
    "prompts": "SELECT * FROM prompts ORDER BY started_at, request_id",
    "tool_calls": "SELECT * FROM tool_calls ORDER BY request_id, position",
    "tool_results": "SELECT * FROM tool_results ORDER BY request_id, call_id",
    "request_tools": "SELECT * FROM request_tools ORDER BY request_id, name",
    "contents": "SELECT text FROM contents ORDER BY text",
    **{view: f"SELECT * FROM {view} ORDER BY 1" for view in USAGE_KEYS},
}


@pytest.mark.parametrize("view", SAME)
def test_a_file_gives_what_the_live_run_gave(view: str, recorded: Path, read_again: Path):
    live, again = (
        [but_for_run_and_source(row) for row in rows(db, SAME[view])] for db in (recorded / "gateway.db", read_again)
    )
    assert len(again) == len(live)
    # as differences, because hundreds of whole rows tell nobody anything
    assert [_difference(*pair) for pair in zip(again, live, strict=True)] == [{}] * len(live)


@pytest.fixture(scope="module")
def in_one_step(recorded: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The database that a command makes of the file."""
    db = tmp_path_factory.mktemp("step") / "step.db"
    assert store_rows(recorded / "all.flow", db) == len(http_flows(recorded / "all.flow"))
    return db


@pytest.mark.parametrize("view", SAME)
def test_it_gives_the_same_without_mitmdump(view: str, in_one_step: Path, read_again: Path):
    alone, with_mitmdump = (
        [dict(row, run_id=None) for row in rows(db, SAME[view])] for db in (in_one_step, read_again)
    )
    assert len(alone) == len(with_mitmdump)
    assert [_difference(*pair) for pair in zip(alone, with_mitmdump, strict=True)] == [{}] * len(alone)


def _difference(a: dict[str, Any], b: dict[str, Any]) -> dict[str, Any]:
    return {name: (a[name], b[name]) for name in a if a[name] != b[name]}


def test_a_file_gives_every_body(recorded: Path, read_again: Path):
    flows = http_flows(recorded / "all.flow")
    with open_readonly(recorded / "gateway.db") as live, open_readonly(read_again) as again:
        assert stored_bodies(again) == stored_bodies(live)
        assert [f for f in flows if not load_body(again, f.id) == load_body(live, f.id) == f.request.raw_content] == []


def test_reading_a_file_twice_changes_nothing(recorded: Path, read_again: Path, confdir: Path, tmp_path: Path):
    twice = tmp_path / "twice.db"
    shutil.copy(read_again, twice)
    run_on_file(recorded / "all.flow", twice, *QUIET, confdir=confdir)
    for view, sql in SAME.items():
        before, after = ([but_for_run_and_source(row) for row in rows(db, sql)] for db in (read_again, twice))
        assert after == before, view


def test_a_file_read_into_the_database_of_its_own_run_changes_nothing(recorded: Path, confdir: Path, tmp_path: Path):
    db = tmp_path / "live.db"
    shutil.copy(recorded / "gateway.db", db)
    before = rows(db, SAME["requests"])
    run_on_file(recorded / "all.flow", db, *QUIET, confdir=confdir)
    assert [_difference(*pair) for pair in zip(rows(db, SAME["requests"]), before, strict=True)] == [{}] * len(before)


def test_a_flow_holds_the_answer_as_received_and_a_summary(recorded: Path):
    flows = {flow.request.headers["x-case"]: flow for flow in http_flows(recorded / "all.flow")}
    assert len(flows) == len(CASES)
    for case, flow in flows.items():
        told = flow.metadata["gateway"]
        assert (flow.comment.partition(" ")[0] == told["outcome"]) == (told["outcome"] != "complete"), case
        assert flow.marked == MARKS.get(told["outcome"], ""), case
        if flow.response:
            assert len(flow.response.raw_content or b"") == told["response_bytes"], case


def test_a_flow_holds_the_pace_of_its_answer(recorded: Path):
    """What `gateway-addon replay --pace` needs: when, and how many bytes had come by then."""
    for flow in http_flows(recorded / "all.flow"):
        size = flow.metadata["gateway"].get("response_bytes")
        pace = flow.metadata.get("gateway_pace", [])
        assert bool(pace) == bool(size), flow.comment
        assert [list(entry) for entry in pace] == [list(entry) for entry in sorted(pace)]
        assert len({received for _, received in pace}) == len(pace)
        if pace:
            assert pace[-1][1] == size
            assert 0 <= pace[0][0] <= pace[-1][0] <= flow.metadata["gateway"]["duration_ms"]


# ---- Calls that do not come to their end ----


@pytest.fixture
def config(provider: Provider, tmp_path: Path) -> Path:
    path = tmp_path / "gateway.toml"
    path.write_text(f"""
        default_provider = "toy"
        providers.toy = {{ api_url = "{provider.url}/v1", api_kinds = ["messages"], dialect = "anthropic" }}
        models."acme/held" = {{ model = "fake/held" }}
        models."acme/cut" = {{ model = "fake/cut-chunked" }}
    """)
    return path


def client_leaves(proxy: Mitmdump, call: Call) -> None:
    call.response.read1()
    call.leave()
    proxy.wait_for("client_aborted")
    assert proxy.stop() == 0


def upstream_cuts(proxy: Mitmdump, call: Call) -> None:
    call.read()
    assert proxy.stop() == 0


def proxy_ends(proxy: Mitmdump, call: Call) -> None:
    call.response.read1()
    assert proxy.stop() == 0


BREAKS = {
    "client_aborted": ("acme/held", "fake/held", client_leaves),
    "upstream_cut": ("acme/cut", "fake/cut-chunked", upstream_cuts),
    "interrupted": ("acme/held", "fake/held", proxy_ends),
}


@pytest.mark.parametrize("outcome", quick(BREAKS))
def test_a_broken_call_is_saved_with_both_requests_and_what_came(
    outcome: str, config: Path, provider: Provider, mitmdump: Start, confdir: Path, tmp_path: Path
):
    asked, sent, end = BREAKS[outcome]
    saved, options = tmp_path / "saved.flow", {"gateway_config": config}
    body = json.dumps(request_body("messages", asked, temperature=0.50)).encode()
    proxy = mitmdump(options=options, args=["-w", str(saved)])
    end(proxy, Call(proxy.url, "/api/gateway/messages", body))

    (flow,) = http_flows(saved)
    row = one_row(tmp_path / "gateway.db")
    assert row["outcome"] == outcome
    assert flow.response
    assert flow.response.raw_content
    assert len(flow.response.raw_content) == row["response_bytes"]
    assert (flow.request.path, flow.request.json()["model"]) == ("/v1/messages", sent)

    again = run_mitmdump(
        "-n", "-r", str(saved), *QUIET, confdir=confdir, options=options | {"gateway_db": tmp_path / "file.db"}
    )
    assert again.returncode == 0, again.stdout
    assert but_for_run_and_source(one_row(tmp_path / "file.db")) == but_for_run_and_source(row)

    flow.revert()
    assert (flow.request.path, flow.request.raw_content) == ("/api/gateway/messages", body)


# ---- The bound on memory ----


def test_a_long_answer_is_cut_off_in_the_flow_and_marked(
    provider: Provider, mitmdump: Start, confdir: Path, tmp_path: Path
):
    saved = tmp_path / "saved.flow"
    proxy = mitmdump(options={"gateway_body_limit": "1k"}, args=["-w", str(saved)])
    received = Call(proxy.url, PATHS["messages"], request_body("messages", "fake/reasoning")).read()
    assert proxy.stop() == 0
    (flow,) = http_flows(saved)
    assert flow.response
    kept = flow.response.raw_content or b""
    assert 0 < len(kept) <= 1024 < len(received)
    assert received.startswith(kept)
    live = one_row(tmp_path / "gateway.db")
    assert (live["outcome"], live["output_tokens"]) == ("complete", 60)
    assert live["response_bytes"] == len(received)
    run_on_file(saved, tmp_path / "file.db", confdir=confdir)
    again = one_row(tmp_path / "file.db")
    for warnings in (live["warnings"], flow.metadata["gateway"]["warnings"], again["warnings"]):
        assert json.loads(warnings) == ["response_truncated"]
    assert (again["outcome"], again["output_tokens"], again["usage_is_lower_bound"]) == ("complete", None, 1)
    # the row of the call itself knows more, and stays
    run_on_file(saved, tmp_path / "gateway.db", confdir=confdir)
    assert one_row(tmp_path / "gateway.db") == live


# ---- Captures that were made without the addon ----

STREAMED = """
def requestheaders(flow):
    flow.request.stream = True

def responseheaders(flow):
    flow.response.stream = True
"""
"""What others' scripts do to hold nothing up; mitmproxy keeps no body then."""


def test_a_plain_capture_gives_the_same_rows(provider: Provider, mitmdump: Start, confdir: Path, tmp_path: Path):
    saved = tmp_path / "saved.flow"
    for proxy in (mitmdump(), mitmdump(addon=None, args=["-w", str(saved)])):
        provider.reset()
        for kind in PATHS:
            Call(proxy.url, PATHS[kind], request_body(kind, "fake/tools")).read()
        assert proxy.stop() == 0
    assert [flow.metadata for flow in http_flows(saved)] == [{}, {}, {}]
    run_on_file(saved, tmp_path / "file.db", confdir=confdir)
    (live, plain), (live_calls, plain_calls) = (
        [rows(tmp_path / name, sql) for name in ("gateway.db", "file.db")]
        for sql in (
            f"SELECT {', '.join(COLUMNS)} FROM requests ORDER BY started_at",
            "SELECT call_id, name, arguments, arguments_valid FROM tool_calls ORDER BY call_id",
        )
    )
    of_the_run = {"id", "run_id", "source", "started_at", *TIMINGS}
    assert [_difference(*pair).keys() for pair in zip(plain, live, strict=True)] == [of_the_run] * len(PATHS)
    assert plain_calls == live_calls
    # the flow's own time stamps tell this much
    assert [[row[name] is None for name in TIMINGS] for row in plain] == [[True, True, False]] * len(PATHS)


def test_a_plain_capture_says_which_bodies_are_missing(
    provider: Provider, mitmdump: Start, confdir: Path, tmp_path: Path
):
    saved, script = tmp_path / "saved.flow", tmp_path / "streamed.py"
    script.write_text(STREAMED)
    proxy = mitmdump(addon=script, args=["-w", str(saved)])
    Call(proxy.url, PATHS["messages"], request_body("messages", "fake/text")).read()
    assert proxy.stop() == 0
    result = run_on_file(saved, tmp_path / "file.db", confdir=confdir)
    assert result.returncode == 0, result.stdout
    row = one_row(tmp_path / "file.db")
    assert json.loads(row["warnings"]) == ["request_missing", "response_missing"]
    assert (row["api_kind"], row["http_status"], row["provider_request_id"]) == ("messages", 200, "req_0001")
    unknown = ("request_model", "request_bytes", "request_sha256", "response_model", "input_tokens", "output_tokens")
    assert {row[name] for name in unknown} == {None}


# ---- mitmproxy's own tools ----


@pytest.mark.parametrize(
    ("pattern", "condition"),
    [
        ("~comment stream_error", "outcome = 'stream_error'"),
        ("~marked & ~c 200", "outcome IN ('stream_error', 'unreadable', 'upstream_cut') AND http_status = 200"),
        pytest.param(
            "~comment search", "id IN (SELECT request_id FROM tool_calls WHERE name = 'search')", marks=pytest.mark.long
        ),
        pytest.param("~meta byok_mismatch", "cost_flags LIKE '%byok_mismatch%'", marks=pytest.mark.long),
        pytest.param(
            "~meta response_undecodable & !~comment http_error", "warnings LIKE '%undecodable%'", marks=pytest.mark.long
        ),
    ],
)
def test_mitmproxys_filters_find_calls_by_their_summary(
    pattern: str, condition: str, recorded: Path, confdir: Path, tmp_path: Path
):
    found = tmp_path / "found.flow"
    args = ("-n", "-r", str(recorded / "all.flow"), "-w", str(found), *QUIET, pattern)
    assert run_mitmdump(*args, addon=None, confdir=confdir).returncode == 0
    wanted = {row["id"] for row in rows(recorded / "gateway.db", f"SELECT id FROM requests WHERE {condition}")}
    assert wanted
    assert {flow.id for flow in http_flows(found)} == wanted


def test_only_the_calls_that_a_filter_lets_through_become_rows(recorded: Path, confdir: Path, tmp_path: Path):
    options = {"gateway_db": tmp_path / "file.db", "readfile_filter": "~comment stream_error"}
    run_mitmdump("-n", "-r", str(recorded / "all.flow"), *QUIET, confdir=confdir, options=options)
    assert rows(tmp_path / "file.db", "SELECT DISTINCT outcome FROM requests") == [{"outcome": "stream_error"}]


def test_mitmproxys_har_export_holds_requests_and_answers(recorded: Path, confdir: Path, tmp_path: Path):
    har = tmp_path / "all.har"
    args = ("-n", "-r", str(recorded / "all.flow"), *QUIET)
    result = run_mitmdump(*args, addon=None, confdir=confdir, options={"hardump": har})
    assert result.returncode == 0, result.stdout
    assert "Traceback" not in result.stdout
    entries = json.loads(har.read_text())["log"]["entries"]
    # mitmproxy lists a flow twice that has both an answer and an error
    assert len({entry["startedDateTime"] for entry in entries}) == len(CASES)
    streamed = [entry for entry in entries if "event-stream" in entry["response"]["content"].get("mimeType", "")]
    assert streamed
    assert [entry for entry in streamed if not entry["response"]["content"]["text"]] == []
    assert [entry for entry in entries if not entry["request"]["postData"]["text"]] == []
