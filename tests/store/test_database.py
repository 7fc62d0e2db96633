"""How a database file is opened, created, locked or refused."""

import multiprocessing
import os
import sqlite3
from contextlib import closing
from multiprocessing.synchronize import Barrier
from pathlib import Path

import pytest
from sqlite_utils import Database, Migrations

from gateway_addon.store import database, schema
from gateway_addon.store.database import StoreError, open_database, open_readonly, transaction
from tests.store.calls import folder, mode


class TestCreating:
    @pytest.mark.parametrize("umask", [0, 0o777])
    def test_only_the_owner_may_read_what_was_said(self, path: Path, umask: int):
        before = os.umask(umask)
        try:
            with open_database(path) as db:
                db.execute("INSERT INTO tool_sets (names) VALUES ('[]')")
                assert {file.name: mode(file) for file in path.parent.iterdir()} == {
                    "gateway.db": 0o600,
                    "gateway.db-wal": 0o600,
                    "gateway.db-shm": 0o600,
                }
        finally:
            os.umask(before)

    def test_the_mode_of_an_existing_file_is_its_owners_choice(self, path: Path):
        open_database(path).close()
        path.chmod(0o640)
        open_database(path).close()
        assert mode(path) == 0o640

    def test_an_empty_file_becomes_a_database(self, path: Path):
        path.touch()
        with open_database(path) as db:
            assert db["requests"].exists()

    def test_a_link_to_nowhere_is_followed(self, path: Path):
        path.symlink_to(path.with_name("elsewhere.db"))
        open_database(path).close()
        assert mode(path.with_name("elsewhere.db")) == 0o600

    @pytest.mark.parametrize("name", [":memory:", "a b?mode=memory#c%41.db"])
    def test_a_name_is_only_a_name(self, path: Path, name: str, monkeypatch: pytest.MonkeyPatch):
        monkeypatch.chdir(path.parent)
        open_database(Path(name)).close()
        assert os.listdir(path.parent) == [name]

    def test_opening_again_keeps_everything(self, path: Path):
        with open_database(path) as db:
            db.execute("INSERT INTO tool_sets (names) VALUES ('[]')")
        with open_database(path) as db:
            assert db["tool_sets"].count == 1

    def test_two_processes_may_start_on_one_new_file(self, tmp_path: Path):
        context = multiprocessing.get_context("spawn")
        together = context.Barrier(2)
        processes = [context.Process(target=open_in_rounds, args=(tmp_path, together)) for _ in range(2)]
        for process in processes:
            process.start()
        for process in processes:
            process.join()
        assert [process.exitcode for process in processes] == [0, 0]

    @pytest.mark.usefixtures("impatient")
    def test_a_database_that_stays_locked_is_given_up(self, path: Path, monkeypatch: pytest.MonkeyPatch):
        monkeypatch.setattr(database, "OPEN_SECONDS", 0.1)
        with closing(sqlite3.connect(path)) as other:
            other.execute("BEGIN EXCLUSIVE")
            with pytest.raises(StoreError, match="locked"):
                open_database(path)

    @pytest.mark.usefixtures("impatient")
    def test_a_lock_that_goes_away_is_waited_for(self, path: Path, monkeypatch: pytest.MonkeyPatch):
        with closing(sqlite3.connect(path)) as other:
            other.execute("BEGIN EXCLUSIVE")
            monkeypatch.setattr(database.time, "sleep", lambda pause: other.rollback())
            open_database(path).close()


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """SQLite itself does not wait for a lock."""
    monkeypatch.setattr(database, "BUSY_SECONDS", 0)


class TestTransaction:
    @pytest.mark.usefixtures("impatient")
    def test_keeps_other_writers_out_from_its_beginning(self, path: Path):
        with (
            open_database(path) as other,
            open_database(path) as db,
            transaction(db),
            pytest.raises(sqlite3.OperationalError, match="locked"),
        ):
            other.execute("DELETE FROM runs")

    def test_is_undone_by_an_error(self, db: Database):
        def fail() -> None:
            with transaction(db):
                db.execute("INSERT INTO tool_sets (names) VALUES ('[]')")
                raise KeyError

        with pytest.raises(KeyError):
            fail()
        assert db["tool_sets"].count == 0


def open_in_rounds(folder: Path, together: Barrier) -> None:
    for number in range(15):
        together.wait(timeout=60)
        open_database(folder / f"{number}.db").close()


def make_garbage(path: Path) -> None:
    path.write_bytes(b"no database at all " * 300)


def make_broken_header(path: Path) -> None:
    path.write_bytes(b"SQLite format 3\0" + b"\xff" * 4080)


def make_truncated(path: Path) -> None:
    open_database(path).close()
    os.truncate(path, 8192)


def make_foreign(path: Path) -> None:
    with Database(path) as db:
        db["bookmarks"].insert({"id": 1})


def make_newer(path: Path) -> None:
    with open_database(path) as db:
        db["_sqlite_migrations"].insert({"migration_set": "gateway_addon", "name": "of_tomorrow", "applied_at": ""})


UNUSABLE = [make_garbage, make_broken_header, make_truncated, make_foreign, make_newer, Path.mkdir]


class TestRefusing:
    @pytest.mark.parametrize("opening", [open_database, open_readonly])
    @pytest.mark.parametrize("make", UNUSABLE)
    def test_a_file_that_is_not_ours_stays_as_it_is(self, path: Path, make, opening):
        make(path)
        before = folder(path.parent)
        with pytest.raises(StoreError) as refusal:
            opening(path)
        assert str(refusal.value).startswith(f"{path}: ")
        assert "\n" not in str(refusal.value)
        assert folder(path.parent) == before

    @pytest.mark.parametrize("opening", [open_database, open_readonly])
    def test_no_folder_is_made(self, tmp_path: Path, opening):
        with pytest.raises(StoreError, match="missing/gateway"):
            opening(tmp_path / "missing" / "gateway.db")
        assert os.listdir(tmp_path) == []

    @pytest.mark.skipif(os.geteuid() == 0, reason="root may write to anything")
    def test_a_file_that_may_not_be_written(self, path: Path):
        open_database(path).close()
        path.chmod(0o400)
        with pytest.raises(StoreError, match="readonly"):
            open_database(path)


class TestReading:
    def test_a_missing_file_is_not_created(self, path: Path):
        with pytest.raises(StoreError, match="no such file"):
            open_readonly(path)
        assert not path.exists()

    def test_an_empty_file_is_no_database(self, path: Path):
        path.touch()
        with pytest.raises(StoreError, match="not a gateway database"):
            open_readonly(path)

    def test_reading_leaves_no_trace(self, path: Path):
        open_database(path).close()
        before = folder(path.parent)
        with open_readonly(path) as db:
            assert list(db["prompts"].rows) == []
        assert folder(path.parent) == before

    def test_a_reader_cannot_write(self, path: Path):
        open_database(path).close()
        with open_readonly(path) as db, pytest.raises(sqlite3.OperationalError, match="readonly"):
            db.execute("DELETE FROM requests")

    def test_a_reader_does_not_mind_a_writer_at_work(self, db: Database, path: Path):
        with transaction(db):
            db.execute("INSERT INTO tool_sets (names) VALUES ('[]')")
            with open_readonly(path) as reader:
                assert reader["tool_sets"].count == 0

    def test_an_older_schema_is_said_to_be_one(self, path: Path, monkeypatch: pytest.MonkeyPatch):
        open_database(path).close()
        newer = Migrations("gateway_addon")
        newer(name="create_calls")(schema.create_calls)
        newer(name="of_tomorrow")(schema.create_calls)
        monkeypatch.setattr(database, "MIGRATIONS", newer)
        with pytest.raises(StoreError, match="older schema"):
            open_readonly(path)
