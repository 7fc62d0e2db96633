"""What is taken out of a database and what must stay, and that the file becomes smaller."""

import hashlib
import threading
from pathlib import Path
from typing import Any

from sqlite_utils import Database

from gateway_addon.api.base import ToolCall, ToolResult
from gateway_addon.content import Content
from gateway_addon.record import Record
from gateway_addon.store import prune
from gateway_addon.store.bodies import load_body, stored_bodies
from gateway_addon.store.database import open_database, transaction
from gateway_addon.store.rows import replace_finished
from gateway_addon.store.runs import end_run, start_run
from gateway_addon.store.schema import MIGRATIONS
from gateway_addon.store.writer import Loss, Writer
from tests.sessions import session
from tests.store.calls import make_content, make_record

LONG = "some words to be kept for a while " * 10


def call(day: int, body: bytes = b"", **texts: Any) -> tuple[Record, Content]:
    """A call of a day in November, with texts of its own and others that all calls share."""
    content = make_content(
        user_prompt=f"{LONG}{day}",
        body=body or b'{"messages":["%s","%d"]}' % (LONG.encode(), day),
        tools=["bash", f"tool_{day}"],
        tool_calls=[ToolCall("1", "bash", "tool_use", "client", f'{{"day": {day}}}')],
        tool_results=[ToolResult("0", "bash", f"{LONG}{day}", None)],
        **texts,
    )
    assert content.body is not None
    sha256 = hashlib.sha256(content.body).hexdigest()
    return make_record(id=f"call-{day}", started_at=f"2026-11-{day:02}T10:00:00.000Z", request_sha256=sha256), content


def put(db: Database, *calls: tuple[Record, Content]) -> None:
    with transaction(db):
        for record, content in calls:
            replace_finished(db, record, content)


def dump(db: Database) -> dict[str, set[tuple[Any, ...]]]:
    """Every row of every table, ids and numbers aside."""
    tables = ("contents", "elements", "tool_sets", "requests", "stored_tool_calls", "stored_tool_results")
    return {
        table.name: {
            tuple(value for name, value in row.items() if not name.endswith(("id", "finish_sequence")))
            for row in table.rows
        }
        for table in db.tables
        if table.name in tables
    }


def counts(db: Database) -> dict[str, int]:
    """The rows of every table that has to do with calls, if it has any."""
    keys = [key for table in db.tables for key in table.foreign_keys]
    tables = {name for key in keys for name in (key.table, key.other_table)}
    return {name: count for name in tables if (count := db.table(name).count)}


class TestRemoving:
    def test_what_is_left_is_what_would_be_there_without_the_old_calls(self, db: Database, tmp_path: Path):
        put(db, *map(call, (1, 2, 3, 4)))
        assert prune.remove_before(db, "2026-11-03T00:00:00.000Z") == 2
        with open_database(tmp_path / "other.db") as other:
            put(other, *map(call, (3, 4)))
            assert dump(db) == dump(other)
            assert counts(db) == counts(other)

    def test_bodies_that_stay_are_whole(self, db: Database):
        calls = {f"call-{day}": turn.request for day, turn in enumerate(session("messages", 9, scale=0.02), start=1)}
        put(db, *(call(day, body) for day, body in enumerate(calls.values(), start=1)))
        prune.remove_before(db, "2026-11-06T00:00:00.000Z")
        assert {name: load_body(db, name) for name in stored_bodies(db)} == dict(list(calls.items())[5:])

    def test_nothing_is_left_of_nothing(self, db: Database):
        put(db, call(1), call(2, b"no JSON"))
        assert prune.remove_before(db, "2027-01-01T00:00:00.000Z") == 2
        assert counts(db) == {}

    def test_calls_under_way_stay(self, db: Database):
        record, content = call(1)
        record.outcome = "in_flight"
        put(db, (record, content))
        assert prune.remove_before(db, "2027-01-01T00:00:00.000Z") == 0
        assert prune.remove_until(db, 0) == 0
        assert db["requests"].count == 1

    def test_runs_go_with_their_last_call(self, db: Database):
        with transaction(db):
            live, ended, used = (start_run(db, "1") for _ in range(3))
            end_run(db, ended)
            end_run(db, used)
        record, content = call(9)
        record.run_id = used
        put(db, call(1), (record, content))
        prune.remove_before(db, "2026-11-05T00:00:00.000Z")
        assert {row["id"] for row in db["runs"].rows} == {live, used}

    def test_every_reference_is_declared(self, db: Database):
        """What a column refers to is read from its foreign key: one that is forgotten would lose texts."""
        found = {
            f"{table.name}.{column.name}"
            for table in db.tables
            for column in table.columns
            if column.type == "INTEGER" and column.name.endswith("_id")
        }
        declared = {f"{key.table}.{key.column}" for table in db.tables for key in table.foreign_keys}
        assert found <= declared

    def test_shared_tables_are_those_that_rows_refer_to(self, db: Database):
        referred = {key.other_table for table in db.tables for key in table.foreign_keys}
        assert referred - set(prune.SHARED) == {"requests", "runs"}


class TestSize:
    def test_the_oldest_go_until_the_rest_fits(self, db: Database, path: Path):
        put(db, *(call(day, answer_text=str(day) * 40_000) for day in range(10, 30)))
        prune.give_back(db)
        before = path.stat().st_size
        limit = before - 400_000
        removed = prune.remove_until(db, limit)
        prune.give_back(db)
        assert limit - 200_000 < path.stat().st_size <= limit
        assert 0 < removed < 20
        assert [row["id"] for row in db["requests"].rows_where(order_by="id")] == [
            f"call-{day}" for day in range(10 + removed, 30)
        ]

    def test_what_fits_stays(self, db: Database):
        put(db, call(1), call(2))
        assert prune.remove_until(db, 10_000_000) == 0

    def test_a_size_that_cannot_be_reached_ends_without_calls(self, db: Database):
        put(db, call(1), call(2))
        assert prune.remove_until(db, 0) == 2
        assert counts(db) == {}

    def test_a_new_file_can_give_back_single_pages(self, db: Database):
        assert db.execute("PRAGMA auto_vacuum").fetchone() == (2,)

    def test_a_file_from_before_gives_back_too(self, path: Path):
        """One that was made without the means to give back single pages."""
        with Database(path) as old:
            old.enable_wal()
            MIGRATIONS.apply(old)
        with open_database(path) as db:
            assert db.execute("PRAGMA auto_vacuum").fetchone() == (0,)
            put(db, *(call(day, answer_text=str(day) * 40_000) for day in range(10, 30)))
            prune.give_back(db)
            before = path.stat().st_size
            prune.remove_before(db, "2026-11-28T00:00:00.000Z")
            prune.give_back(db)
            assert path.stat().st_size < before / 3
            assert db.execute("PRAGMA freelist_count").fetchone() == (0,)


class TestBesideAWriter:
    def test_neither_loses_anything(self, path: Path):
        """Calls are written while older ones are removed, the same texts among them again and again."""
        turns = list(session("messages", 30, scale=0.02))
        store = Writer(path, "1")
        written = threading.Event()

        def write() -> None:
            for day, turn in enumerate(turns, start=1):
                store.finish(*call(day, turn.request), wait=True)
                if day == 15:
                    written.set()

        thread = threading.Thread(target=write)
        thread.start()
        assert written.wait(60)
        with open_database(path) as db:
            for day in range(1, 21):
                prune.remove_before(db, f"2026-11-{day:02}T00:00:00.000Z")
                prune.give_back(db)
            thread.join()
            assert store.close(60) == Loss(0, 0)
            prune.remove_before(db, "2026-11-21T00:00:00.000Z")
            kept = {f"call-{day}": turn.request for day, turn in enumerate(turns, start=1) if day > 20}
            assert {name: load_body(db, name) for name in stored_bodies(db)} == kept
