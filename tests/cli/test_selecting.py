"""Which calls are meant: by options, the same for every command, and by a word that names a call or a session."""

import json
import re
import time
from pathlib import Path
from typing import Any

import pytest

from gateway_addon.content import Content
from gateway_addon.times import timestamp
from tests.commands import as_json, output, run, table, write
from tests.store.calls import make_content, make_record

HOUR = 3600

CALLS: dict[str, dict[str, Any]] = {
    "old": {"started_at": time.time() - 50 * HOUR, "session_id": "s-1", "request_model": "acme/large"},
    "agents": {"session_id": "s-10", "agent_id": "helper-1", "client": "codex", "api_kind": "responses"},
    "title": {"session_id": "s-1", "side_request": "title", "upstream_model": "acme/small"},
    "failed": {"session_id": "t-1", "outcome": "http_error", "client": "aider", "api_kind": "chat_completions"},
}


def _named(options: tuple[str, ...]) -> str:
    """Options as a test's name, the same in every process: without the time of day."""
    return " ".join("DATE" if option.endswith("Z") else option for option in options)


SELECTING = [
    ((), "old agents title failed"),
    (("--last", "2h"), "agents title failed"),
    (("--since", "2h"), "agents title failed"),
    (("--until", "1d"), "old"),
    (("--since", timestamp(time.time() - 3 * 24 * HOUR), "--until", timestamp(time.time() - 24 * HOUR)), "old"),
    (("--model", "acme/large"), "old"),
    (("--model", "acme/small"), "title"),
    (("--model", "acme/*"), "old agents title failed"),
    (("--model", "acme"), ""),
    (("--session", "s-1"), "old title"),
    (("--session", "s"), "old agents title"),
    (("--session", "%"), ""),
    (("--client", "codex"), "agents"),
    (("--agent", "helper"), "agents"),
    (("--agent", "main"), "old title failed"),
    (("--outcome", "http_error"), "failed"),
    (("--kind", "responses"), "agents"),
    (("--side", "title"), "title"),
    (("--side", "any"), "title"),
    (("--side", "none"), "old agents failed"),
    (("--side",), "title"),
    (("--session", "s", "--last", "2h", "--side", "none"), "agents"),
]


@pytest.fixture(scope="module")
def calls(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("calls") / "gateway.db"
    write(
        path,
        *(
            (make_record(id=name, **{"started_at": time.time() - HOUR} | columns), make_content(user_prompt=name))
            for name, columns in CALLS.items()
        ),
    )
    return path


@pytest.mark.parametrize(("options", "selected"), SELECTING, ids=[_named(options) for options, _ in SELECTING])
class TestSelecting:
    def test_list(self, calls: Path, options: tuple[str, ...], selected: str):
        assert {row["id"] for row in as_json("list", calls, *options)} == set(selected.split())

    @pytest.mark.parametrize("by", ["model", "day", "week", "session", "client", "agent", "day,model"])
    def test_report(self, calls: Path, options: tuple[str, ...], selected: str, by: str):
        assert sum(row["calls"] for row in as_json("report", calls, "--by", by, *options)) == len(selected.split())

    def test_report_of_errors(self, calls: Path, options: tuple[str, ...], selected: str):
        found = [row["request_id"] for row in as_json("report", calls, "--by", "error", *options)]
        assert found == [name for name in selected.split() if name == "failed"]

    def test_search(self, calls: Path, options: tuple[str, ...], selected: str):
        found = {row["request_id"] for name in CALLS for row in as_json("search", calls, name, *options)}
        assert found == set(selected.split())


def test_of_selected_calls_as_many_texts_are_found_as_asked_for_whatever_fits_better_elsewhere(path: Path):
    write(
        path,
        (make_record(id="best", session_id="s"), Content(user_prompt="apple apple apple")),
        (make_record(id="other", session_id="t"), Content(user_prompt="an apple among a great many other words here")),
    )
    assert [row["request_id"] for row in as_json("search", path, "apple", "--limit", 1)] == ["best"]
    assert [row["request_id"] for row in as_json("search", path, "apple", "--limit", 1, "--session", "t")] == ["other"]


@pytest.mark.parametrize("command", [("list",), ("report",), ("search", "old")], ids=lambda value: value[0])
@pytest.mark.parametrize(
    "options",
    [
        ("--last", "soon"),
        ("--last", "2026-11-22"),
        ("--since", "yesterday"),
        ("--since", "2h", "--last", "2h"),
        ("--outcome", "good"),
        ("--side", "dish"),
        ("--kind", "fax"),
        ("--limit", "0"),
        ("--limit", "many"),
    ],
    ids=" ".join,
)
def test_what_makes_no_sense_is_told_in_one_line(calls: Path, command: tuple[str, ...], options: tuple[str, ...]):
    name, *words = command
    result = run(name, calls, *words, *options)
    assert (result.exit_code, result.stdout, result.stderr.count("\n")) == (2, "", 1)
    assert result.stderr.startswith("gateway-addon: ")


class TestReference:
    """Tried in this order: an id, `last`, a session, the beginning of an id, the beginning of a session."""

    @pytest.mark.parametrize(
        ("ids", "reference", "meant"),
        [
            ({"last": "a", "b": "a"}, "last", ["last"]),
            ({"a": "s", "b": "last"}, "last", ["b"]),
            ({"s": "x", "b": "s"}, "s", ["s"]),
            ({"session-call": "x", "b": "session", "c": "session"}, "session", ["b", "c"]),
            ({"session-call": "x", "b": "session"}, "sess", ["session-call"]),
            ({"a": "session", "b": "session"}, "sess", ["a", "b"]),
            ({"a": "s-1", "b": "s-10"}, "s-1", ["a"]),
        ],
        ids=["an id called last", "last", "an id", "a session", "how an id begins", "how a session begins", "exactly"],
    )
    def test_means(self, path: Path, ids: dict[str, str], reference: str, meant: list[str]):
        write(path, *((make_record(id=name, session_id=session), Content()) for name, session in ids.items()))
        shown = as_json("show", path, reference)
        assert [call["id"] for call in shown.get("calls", [shown])] == meant

    @pytest.mark.parametrize(
        ("reference", "line"),
        [
            ("none", "no call or session 'none' in "),
            ("call", "'call' may be any of 2 calls: call-1, call-2, ... in "),
            ("work", "'work' may be any of 2 sessions: work-1, work-2, ... in "),
        ],
    )
    def test_of_which_there_are_several_or_none_is_told(self, path: Path, reference: str, line: str):
        write(
            path,
            *((make_record(id=f"call-{number}", session_id=f"work-{number}"), Content()) for number in (1, 2)),
        )
        result = run("show", path, reference)
        assert (result.exit_code, result.stdout) == (1, "")
        assert result.stderr == f"gateway-addon: {line}{path}\n"

    def test_a_session_has_no_one_body(self, path: Path):
        write(path, *((make_record(id=name, session_id="s-1"), Content()) for name in ("a", "b")))
        result = run("body", path, "s-1")
        assert (result.exit_code, result.stdout) == (1, "")
        assert result.stderr == "gateway-addon: 's-1' is a session of 2 calls: name one, such as b\n"


def test_a_session_is_a_tree_of_agents_each_below_the_one_that_started_it(path: Path):
    agents = {
        "a": (None, None),
        "b": ("helper", None),
        "c": ("helper-of-helper", "helper"),
        "d": (None, None),
        "e": ("helper", None),
        "f": ("late", "nobody-known"),
    }
    write(
        path,
        *(
            (
                make_record(
                    id=name,
                    session_id="s",
                    started_at=f"2026-11-22T10:00:0{number}.000Z",
                    agent_id=agent,
                    parent_agent_id=parent,
                    cost_microdollars=None if name == "f" else 100_000,
                ),
                Content(),
            )
            for number, (name, (agent, parent)) in enumerate(agents.items())
        ),
    )
    shown = [re.sub(r"\d{4}.* (10:00:\d\d  \w).*", r"\1", line) for line in output("show", path, "s").splitlines()]
    assert shown == [
        "session s: 6 calls, in –, out –, cost $0.5000+?",
        "└── main: 2 calls, in –, out –, cost $0.2000",
        "    ├── 10:00:00  a",
        "    ├── helper: 2 calls, in –, out –, cost $0.2000",
        "    │   ├── 10:00:01  b",
        "    │   ├── helper-of-helper: 1 call, in –, out –, cost $0.1000",
        "    │   │   └── 10:00:02  c",
        "    │   └── 10:00:04  e",
        "    ├── 10:00:03  d",
        "    └── late: 1 call, in –, out –, cost $?",
        "        └── 10:00:05  f",
    ]


def test_agents_that_are_each_others_parents_are_no_endless_tree(path: Path):
    pairs = {"a": ("one", "two"), "b": ("two", "one"), "c": ("three", "three")}
    write(
        path,
        *(
            (make_record(id=name, session_id="s", agent_id=agent, parent_agent_id=parent), Content())
            for name, (agent, parent) in pairs.items()
        ),
    )
    assert len(output("show", path, "s").splitlines()) == 7


def test_without_a_command_there_is_help(monkeypatch: pytest.MonkeyPatch):
    result = run()
    assert result.exit_code == 0
    assert result.stdout.startswith("Usage: ")
    assert all(f"  {name} " in result.stdout for name in ("list", "report", "show", "search"))


class TestForPrograms:
    def test_columns_that_hold_json_are_json_with_their_own_digits(self, path: Path):
        write(
            path, (make_record(usage={"cost": 0.1}, cost_flags=("no_usage",), warnings=("secret_masked",)), Content())
        )
        (row,) = as_json("list", path)
        assert (row["usage"], row["cost_flags"], row["rewrites"]) == ({"cost": 0.1}, ["no_usage"], [])
        assert row["warnings"] == ["secret_masked"]
        assert as_json("show", path, "last")["usage"] == {"cost": 0.1}

    def test_exact_numbers(self, path: Path):
        import sqlite3

        write(path, (make_record(), Content()))
        exact = '{"cost": 0.10000000000000000000000000000000001, "n": 123456789012345678901234567890}'
        with sqlite3.connect(path) as db:
            db.execute("UPDATE requests SET usage = ?", [exact])
        printed = output("list", path, "--json")
        assert "0.10000000000000000000000000000000001" in printed
        assert "123456789012345678901234567890" in printed

    def test_what_is_no_json_stays_text(self, path: Path):
        import sqlite3

        write(path, (make_record(), Content()))
        with sqlite3.connect(path) as db:
            db.execute("UPDATE requests SET usage = '{broken'")
        assert as_json("list", path)[0]["usage"] == "{broken"

    @pytest.mark.parametrize("command", [("list",), ("report",), ("search", "what"), ("report", "--by", "error")])
    def test_a_line_for_each_row(self, calls: Path, command: tuple[str, ...]):
        name, *rest = command
        rows = [json.loads(line) for line in output(name, calls, *rest, "--ndjson").splitlines()]
        assert rows == as_json(name, calls, *rest)

    def test_csv(self, path: Path):
        import csv
        import io

        write(path, (make_record(request_model='a,"b"\nc', error_message="\x1b[2J", cost_microdollars=7), Content()))
        (row,) = csv.DictReader(io.StringIO(output("list", path, "--csv")))
        (expected,) = as_json("list", path)
        assert list(row) == list(expected)
        assert (row["request_model"], row["cost_microdollars"], row["error_type"]) == ('a,"b"\nc', "7", "")
        assert (row["error_message"], row["cost_flags"]) == ("\\x1b[2J", "[]")

    @pytest.mark.parametrize(
        ("form", "nothing"), [("--json", "[]\n"), ("--ndjson", ""), ("--csv", ""), (None, "no calls\n")]
    )
    def test_of_nothing(self, path: Path, form: str | None, nothing: str):
        write(path)
        assert output("list", path, *([form] if form else [])) == nothing


class TestReports:
    def test_several_keys_cross(self, path: Path):
        days = {"a": (22, "x", 5), "b": (22, "y", 7), "c": (23, "x", 1), "d": (22, "x", 1)}
        write(
            path,
            *(
                (make_record(id=name, started_at=f"2026-11-{day}T10:00:00.000Z", request_model=model,
                             cost_microdollars=cost), Content())
                for name, (day, model, cost) in days.items()
            ),
        )  # fmt: skip
        rows = as_json("report", path, "--by", "day,model")
        assert [(row["day"], row["model"], row["calls"], row["cost_microdollars"]) for row in rows] == [
            ("2026-11-22", "y", 1, 7),
            ("2026-11-22", "x", 2, 6),
            ("2026-11-23", "x", 1, 1),
        ]

    @pytest.mark.parametrize("by", ["", "phase", "day,phase", "day,tool", "error,tool", "day,,model"])
    def test_what_cannot_be_summed_up_is_told_in_one_line(self, calls: Path, by: str):
        result = run("report", calls, "--by", by)
        assert (result.exit_code, result.stdout, result.stderr.count("\n")) == (2, "", 1)

    def test_how_much_came_from_a_cache_is_of_the_calls_that_say_so(self, path: Path):
        usage = ((100, 80), (100, None), (300, 20))
        write(
            path,
            *(
                (make_record(id=str(number), input_tokens=given, cache_read_tokens=cached), Content())
                for number, (given, cached) in enumerate(usage)
            ),
        )
        assert [row["cache_hit_rate"] for row in as_json("report", path)] == [0.25]
        assert [line.split()[-6] for line in table("report", path)[1:3]] == ["25%", "25%"]

    def test_the_dearest_and_slowest_calls_and_nothing_of_which_that_is_unknown(self, path: Path):
        costs = [None, 5, 40, 3, 9, None]
        write(
            path,
            *(
                (
                    make_record(id=f"call-{number}", cost_microdollars=cost, duration_ms=cost and 1000.0 / cost),
                    Content(),
                )
                for number, cost in enumerate(costs)
            ),
        )
        lines = table("report", path)
        dearest, slowest = (lines.index(f"── {order} calls") for order in ("dearest", "slowest"))
        ids = [line.split()[2] for line in lines if "call-" in line]
        assert dearest < slowest
        assert ids == ["call-2", "call-4", "call-1", "call-3", "call-1", "call-4"]

    def test_errors_are_grouped_by_what_went_wrong_with_the_latest_of_each(self, path: Path):
        failed = {"outcome": "http_error", "http_status": 529, "error_type": "overloaded"}
        write(
            path,
            (make_record(id="fine"), Content()),
            (make_record(id="under-way", outcome="in_flight"), Content()),
            (make_record(id="late", started_at="2026-11-22T12:00:00.000Z", error_message="later", **failed), Content()),
            (make_record(id="early", error_message="before", **failed), Content()),
            (make_record(id="inside", outcome="stream_error", http_status=200, error_status=500), Content()),
            (make_record(id="left", outcome="client_aborted", http_status=200), Content()),
        )
        rows = as_json("report", path, "--by", "error")
        assert [(row["outcome"], row["status"], row["calls"], row["request_id"]) for row in rows[:1]] == [
            ("http_error", 529, 2, "late")
        ]
        assert rows[0]["error_message"] == "later"
        assert {(row["outcome"], row["status"]) for row in rows[1:]} == {
            ("stream_error", 500),
            ("client_aborted", None),
        }

    def test_more_rows_than_asked_for_are_counted_and_in_the_total(self, path: Path):
        write(
            path,
            *((make_record(id=str(n), request_model=f"m-{n}", cost_microdollars=10_000), Content()) for n in range(5)),
        )
        lines = table("report", path, "--limit", 2)
        assert [line.split()[0] for line in lines[1:5]] == ["m-0", "m-1", "total", "…"]
        assert ("$0.0500" in lines[3], lines[4]) == (True, "… and 3 more (--limit)")
        assert len(as_json("report", path)) == 5
