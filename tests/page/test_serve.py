"""`serve`: the database as pages, asked over HTTP. How they look in a browser: `test_browser.py`."""

import json
import socket
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from gateway_addon.content import Content
from gateway_addon.page.app import metadata
from gateway_addon.proxy.offline import store_rows
from gateway_addon.store.database import open_database
from gateway_addon.store.schema import STEPS
from tests.commands import run, write
from tests.make_demo import DEMO
from tests.page.serving import Page
from tests.store.calls import make_record

QUERIES = metadata("")["databases"]["gateway"]["queries"]
TABLES = metadata("")["databases"]["gateway"]["tables"]


def test_without_the_extra_one_line_says_what_to_install():
    without = "import sys; sys.modules['datasette'] = None; from gateway_addon.cli import main; main(['serve'])"
    done = subprocess.run([sys.executable, "-c", without], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr == "gateway-addon: serve needs the extra `page`: pip install gateway-addon[page]\n"


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [("none.db", None, "no such file"), ("text.db", "no database", "not a database")],
)
def test_what_is_no_database_is_said_in_one_line(tmp_path: Path, name: str, text: str | None, said: str):
    if text is not None:
        (tmp_path / name).write_text(text)
    result = run("serve", tmp_path / name)
    assert result.exit_code == 2
    assert said in result.stderr
    assert result.stderr.count("\n") == 1


def test_every_table_and_column_is_described_or_hidden(tmp_path: Path):
    """So that a new one is not forgotten. Storage has names that end with `_id`, `_edits` and the like."""
    assert STEPS
    db = open_database(tmp_path / "gateway.db")
    try:
        tables = {*db.table_names(), *db.view_names()}
        internal = {"answered_tool_calls", "counted_requests", "readable_texts", "texts", "tool_results"}
        assert tables - internal - set(TABLES) == set()
        of_storage = {"finish_sequence", "body_edits", "turn_id"}
        columns = {
            name
            for name in db["requests"].columns_dict
            if name not in of_storage and (not name.endswith("_id") or name in TABLES["requests"]["columns"])
        }
        assert columns - set(TABLES["requests"]["columns"]) == set()
    finally:
        db.close()


@pytest.mark.long
class TestPages:
    @pytest.fixture(scope="module")
    @staticmethod
    def page(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
        db = tmp_path_factory.mktemp("page") / "strange name.db"
        store_rows(DEMO, db)
        with Page(db) as page:
            yield page

    def test_every_query_answers(self, page: Page):
        for name, query in QUERIES.items():
            empty: dict[str, Any] = dict.fromkeys(query.get("params", ()), "")
            reply = page.get(f"/gateway/{name}.json", _shape="objects", **empty)
            assert reply.status == 200, (name, reply.text)
            assert "rows" in json.loads(reply.text), name

    def test_every_table_answers(self, page: Page):
        for name, table in TABLES.items():
            if not table.get("hidden"):
                assert page.get(f"/gateway/{name}").status == 200, name

    def test_every_chart_has_data(self, page: Page):
        from gateway_addon.page.app import CHOSEN

        charts = metadata("")["plugins"]["datasette-dashboards"]["usage"]["charts"]
        for name, chart in charts.items():
            reply = page.get("/gateway.json", sql=chart["query"].replace(CHOSEN, ""), per="day", _shape="objects")
            assert reply.status == 200, (name, reply.text)
            assert json.loads(reply.text)["rows"], name

    def test_the_latest_call_is_first_and_costs_dollars(self, page: Page):
        rows = json.loads(page.get("/gateway/calls.json", session="", model="", outcome="", _shape="array").text)
        times = [row["started_at"] for row in rows]
        assert len(rows) == 13
        assert times == sorted(times, reverse=True)
        assert "$0.0027" in page.get("/gateway/calls").text

    def test_a_conversation_leads_to_its_calls_and_back(self, page: Page):
        text = page.get("/gateway/conversation", id="demo-bug-hunt").text
        assert "Two players with equal points" in text
        assert "1 failed" in text
        first = "db8753da-14cd-499d-a01d-b22a689cb1e9"
        assert f'href="/gateway/conversation?id={first}"' in text
        (asked, *_) = json.loads(page.get("/gateway/conversation.json", id=first, _shape="array").text)
        assert asked["who"] == "system prompt"
        assert f'href="/gateway/requests/{first}"' in page.get("/gateway/calls").text
        assert page.get(f"/gateway/requests/{first}").status == 200

    def test_internals_are_not_offered(self, page: Page):
        text = page.get("/gateway").text
        assert 'href="/gateway/prompts"' in text
        for name in ("contents", "element_texts", "answered_tool_calls", "texts", "counted_requests"):
            assert f'href="/gateway/{name}"' not in text

    def test_nobody_else_is_shown_anything_and_nothing_is_written(self, page: Page):
        assert page.get("/", headers={"host": "evil.example"}).status == 403
        # nobody can say that they are somebody else
        assert page.get("/", headers={"x-forwarded-for": "192.0.2.1", "forwarded": "for=192.0.2.1"}).status == 200
        assert page.get("/gateway", method="POST").status == 403
        assert page.get("/gateway.json", sql="delete from requests").status == 400
        assert page.get("/gateway.db").status in (403, 404)


@pytest.mark.long
def test_it_follows_a_database_that_is_being_written(tmp_path: Path):
    db = tmp_path / "gateway.db"
    write(db, (make_record(id="first", request_model="model-one"), Content(user_prompt="the first prompt")))
    mode = db.stat().st_mode
    with Page(db) as page:
        assert "model-two" not in page.get("/gateway/calls").text
        late = replace(make_record(id="second"), request_model="model-two")
        write(db, (late, Content(user_prompt="a marmalade of words")))
        assert "model-two" in page.get("/gateway/calls").text
        for words, found in (("MARMALADE of", "second"), ("first prompt", "first"), ("prompt first", "first")):
            rows = json.loads(page.get("/gateway/search.json", words=words, _shape="array").text)
            assert [row["request_id"] for row in rows] == [found], words
        for nonsense in ("", " ", '"', "* OR", "a AND (", "zzz"):
            assert page.get("/gateway/search.json", words=nonsense, _shape="array").text == "[]", nonsense
    assert db.stat().st_mode == mode
    assert mode & 0o777 == 0o600


@pytest.mark.long
def test_a_flow_file_does_as_well(tmp_path: Path):
    with Page(DEMO) as page:
        assert "$0.0027" in page.get("/gateway/calls").text


def test_a_port_that_is_taken_is_said_in_one_line(tmp_path: Path):
    db = tmp_path / "gateway.db"
    write(db, (make_record(), Content()))
    with socket.create_server(("127.0.0.1", 0)) as server:
        result = run("serve", db, "--port", server.getsockname()[1])
    assert result.exit_code == 2
    assert result.stderr.endswith("Address already in use\n")
    assert result.stderr.count("\n") == 1
