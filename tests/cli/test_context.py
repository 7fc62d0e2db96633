"""`show --composition` and `report --by context`."""

import json
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
from rich.cells import cell_len

from gateway_addon.content import Content
from gateway_addon.record import Record
from tests.commands import as_json, output, run, table, write
from tests.make_demo import DEMO
from tests.store.calls import make_content, make_record

ESCAPES = "\x1b[31m\x9b2J\x07\r\x00\u202e[bold]"
READ = {"type": "tool_use", "id": "1", "name": "Read", "input": {"file_path": "a.py"}}
TURNS: list[dict[str, Any]] = [
    {"role": "user", "content": "w" * 100},
    {"role": "assistant", "content": [READ]},
    {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "1", "content": "f" * 900}]},
    {"role": "assistant", "content": "a" * 50},
    {"role": "user", "content": "w" * 100},
]


def call(number: int, turns: list[dict[str, Any]] | None, **columns: Any) -> tuple[Record, Content]:
    body = None if turns is None else json.dumps({"messages": turns}).encode()
    priced = {"upstream_host": "api.anthropic.com", "upstream_model": "claude-sonnet-4-6"}
    priced["request_sha256"] = sha256(body or b"").hexdigest()
    values = {"id": f"{number:08}-call", "session_id": "s", "started_at": f"2026-11-22T10:00:{number:02}.000Z"}
    return make_record(**values | priced | columns), make_content(body=body)


@pytest.fixture
def session(path: Path) -> Path:
    write(
        path,
        call(1, TURNS[:1], input_tokens=100),
        call(2, TURNS[:3], input_tokens=1_000, cache_write_tokens=1_000),
        call(3, TURNS, input_tokens=1_200, cache_read_tokens=1_000),
        call(4, None, input_tokens=1_300),
        call(5, TURNS, outcome="http_error"),
    )
    return path


def test_what_was_read_once_and_sent_again_is_on_top(session: Path):
    shown = as_json("show", session, "s", "--composition")
    first = shown["parts"][0]
    assert (first["part"], first["name"], first["calls"]) == ("file read", "a.py", 2)
    assert sum(part["tokens"] for part in shown["parts"]) == shown["tokens"] == 2_300
    assert sum(part["cost_microdollars"] for part in shown["parts"]) == shown["cost_microdollars"]
    assert shown["calls_left_out"] == 2
    assert output("show", session, "s", "--composition").splitlines()[-1].startswith("calls left out, ")


def test_a_call_with_how_often_its_session_sent_each_part(session: Path):
    shown = as_json("show", session, "00000003", "--composition")
    assert {(part["part"], part["calls"]) for part in shown["parts"]} == {
        ("person", 3),
        ("file read", 2),
        ("tool call", 2),
        ("answer", 1),
    }
    assert (shown["tokens"], shown["calls_left_out"]) == (1_200, 0)
    # read from the cache, then at the price of the input
    assert shown["cost_microdollars"] == 300 + 600


def test_of_a_call_without_a_body_nothing_is_known(session: Path):
    shown = as_json("show", session, "00000004", "--composition")
    assert (shown["parts"], shown["tokens"], shown["cost_microdollars"], shown["calls_left_out"]) == ([], None, None, 1)
    assert output("show", session, "00000004", "--composition").startswith("calls left out, ")


def test_an_unknown_price_is_no_cost(path: Path):
    write(path, call(1, TURNS, input_tokens=100, upstream_model="mystery"))
    shown = as_json("show", path, "last", "--composition")
    assert {part["cost_microdollars"] for part in shown["parts"]} == {None}
    assert shown["cost_microdollars"] is None
    assert "$?" in output("show", path, "last", "--composition")


def test_report_of_selected_calls(session: Path):
    everything = as_json("report", session, "--by", "context")
    assert sum(row["tokens"] for row in everything) == 2_300
    some = as_json("report", session, "--by", "context", "--until", "2026-11-22T10:00:02Z")
    assert [(row["part"], row["tokens"]) for row in some] == [("person", 100)]
    assert run("report", session, "--by", "context,model").exit_code == 2
    assert len(table("report", session, "--by", "context", "--limit", "2")) == 1 + 2 + 1 + 2


def test_no_calls(path: Path):
    write(path)
    assert output("report", path, "--by", "context") == "no calls\n"


def test_how_the_cost_of_a_call_comes_about():
    assert output("show", DEMO, "9f3504e9", "--composition").splitlines()[-2:] == [
        "tokens: read 676, from the cache 433, written to it 231, answered 111",
        "cost: $0.0027, of that $0.0010 for the input",
    ]


@pytest.mark.parametrize("width", [80, 120])
def test_hostile_names(path: Path, width: int, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("COLUMNS", str(width))
    turns = [*TURNS[:1], {"role": "assistant", "content": [READ | {"input": {"file_path": ESCAPES * 20}}]}, *TURNS[2:]]
    write(path, call(1, turns, input_tokens=1_234_567))
    shown = output("show", path, "last", "--composition")
    assert not set(ESCAPES) - set("[31m2Jbold]") & set(shown)
    assert max(map(cell_len, shown.splitlines())) <= width
    assert "1,234,567" in shown


def test_the_demo():
    shown = as_json("show", DEMO, "demo-bug-hunt", "--composition")
    assert shown["tokens"] == 6_384
    assert sum(part["tokens"] for part in shown["parts"]) == 6_384
    assert sum(part["cost_microdollars"] for part in shown["parts"]) == shown["cost_microdollars"]
    named = {(part["part"], part["name"]): part["calls"] for part in shown["parts"]}
    assert named["file read", "scores/ranking.py"] == 6
    assert named["tool schema", "edit_file"] == 10
