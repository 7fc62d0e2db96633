"""A whole review: all that is found in one database, in the order in which it matters."""

import sqlite3
from contextlib import closing
from pathlib import Path

from tests.review.planted import KEY, call, findings, found, rules, tool_call, write

BODY = {"model": "m", "messages": [{"role": "user", "content": f"use {KEY}"}]}


def test_the_gravest_first_and_among_equals_the_earliest(tmp_path: Path):
    listing = {"tool_calls": [tool_call("bash", {"command": "ls"}), tool_call("bash", {"command": "pwd"})]}
    calls = [
        call({"model": "m", "messages": []}, number=1, answer=listing),
        call({"model": "m", "messages": []}, number=2, outcome="http_error", http_status=404),
        call({"model": "m", "messages": []}, number=3, client_credential="groq_key"),
        call(BODY, number=4),
    ]
    assert rules(found(tmp_path / "gateway.db", *calls)) == [
        "stray_credential",
        "anthropic_key",
        "refused_body",
        "shell_tool_call",
        "shell_tool_call",
    ]


def test_nothing_in_an_empty_database(tmp_path: Path):
    assert found(tmp_path / "gateway.db") == []


def test_a_review_changes_nothing(tmp_path: Path):
    path = tmp_path / "gateway.db"
    write(path, call(BODY))
    before = path.read_bytes()
    findings(path)
    assert path.read_bytes() == before


def test_no_table_but_those_of_the_texts_themselves_holds_the_secret(tmp_path: Path):
    path = tmp_path / "gateway.db"
    found(path, call(BODY))
    with closing(sqlite3.connect(path)) as db:
        tables = [name for (name,) in db.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
        holding = {name for name in tables if KEY in repr(db.execute(f"SELECT * FROM {name}").fetchall())}
    assert holding == {"contents", "elements"}
