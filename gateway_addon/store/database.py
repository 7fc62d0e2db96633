"""How a database file is made, opened, locked and refused."""

import os
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from functools import cache
from pathlib import Path

from sqlite_utils import Database

from gateway_addon.store.schema import MIGRATIONS, STEPS

BUSY_SECONDS = 5.0
"""How long one statement waits for another process's lock."""

OPEN_SECONDS = 20.0
"""How long opening goes on trying while another process sets up the same file."""


MAX_VALUE = 256 * 1024 * 1024
"""Bytes of one value in a database that is only looked into."""


MAX_CHECKED = 1024 * 1024 * 1024
"""Bytes of a database that is looked through from end to end in a few seconds."""


class StoreError(Exception):
    """A database cannot be used. The message is one line and names the file."""


def open_database(path: Path) -> Database:
    """Open a database to write to; create it, readable by its owner alone, or bring its schema up to date.

    Any thread may use the connection, one at a time. Raises `StoreError`; a file that is not ours stays as it is.
    """
    with reported(path):
        _create_private(path)
        return _open(path, _set_up)


def open_to_change(path: Path) -> Database:
    """`open_database` for an existing file that may come from anybody: none with views or triggers of its own.

    Raises `StoreError`.
    """
    with reported(path):
        return _open(path, _check_and_set_up)


def open_readonly(path: Path) -> Database:
    """Open an existing database of today's schema to read from, also while a proxy writes to it.

    Raises `StoreError`.
    """
    with reported(path):
        if not path.exists():
            raise StoreError(f"{path}: no such file")
        return _open(path, _forbid_writing)


def check_writable(path: Path) -> None:
    """Look whether `open_database` would do, and whether what is there is whole; makes no file and changes none.

    Raises `StoreError`.
    """
    with reported(path):
        target = path.resolve()
        if not target.parent.is_dir():
            raise StoreError(f"{path}: its folder does not exist")
        # SQLite makes files beside it
        if not os.access(target.parent, os.W_OK | os.X_OK):
            raise StoreError(f"{path}: its folder cannot be written to")
        if not target.exists():
            return
        if not os.access(target, os.R_OK | os.W_OK):
            raise StoreError(f"{path}: cannot be read and written")
        _open(path, _look_through).close()


@contextmanager
def reported(path: Path) -> Iterator[None]:
    """Turn what the system or SQLite says about a file into a `StoreError`."""
    try:
        yield
    except OSError as error:
        raise StoreError(f"{path}: {error.strerror or error}") from error
    except sqlite3.Error as error:
        raise StoreError(f"{path}: {error}") from error


@contextmanager
def transaction(db: Database) -> Iterator[None]:
    """A transaction that takes the write lock at once.

    `Database.atomic` takes it with the first write; if that comes after a read, SQLite cannot wait for another writer.
    """
    db.execute("BEGIN IMMEDIATE")
    try:
        yield
        db.commit()
    except BaseException:
        db.rollback()
        raise


def _create_private(path: Path) -> None:
    """Make an empty file of mode 0600 (SQLite gives its -wal and -shm files the same) where there is none."""
    if path.exists():
        # opening and closing it here would drop the locks of this process's other connections to it
        return
    target = path.resolve()
    if not target.parent.is_dir():
        raise StoreError(f"{path}: its folder does not exist")
    try:
        descriptor = os.open(target, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600)
    except FileExistsError:
        # another process was faster
        return
    try:
        # whatever the umask
        os.fchmod(descriptor, 0o600)
    finally:
        os.close(descriptor)


def _open(path: Path, prepare: Callable[[Database, Path], None]) -> Database:
    if not path.is_file():
        raise StoreError(f"{path}: not a regular file")
    # mode=rw never creates a file, and falls back to reading where the file may not be written
    uri = path.resolve().as_uri() + "?mode=rw"
    connection = sqlite3.connect(uri, uri=True, timeout=BUSY_SECONDS, check_same_thread=False)
    try:
        db = Database(connection, execute_plugins=False)
        prepare(db, path)
    except BaseException:
        connection.close()
        raise
    return db


def _set_up(db: Database, path: Path) -> None:
    """WAL and migrations, each under an exclusive lock; any of it may be repeated.

    Two processes that switch a new file to WAL at the same moment refuse each other at once, whatever the time-out:
    hence the second try.
    """
    give_up = time.monotonic() + OPEN_SECONDS
    while True:
        try:
            is_new = not _is_ours(db, path)
            # of a new file: space given back needs no copy of the whole
            db.execute("PRAGMA auto_vacuum = INCREMENTAL")
            db.enable_wal()
            # under WAL this survives a crash of the process; a power cut may take the last calls
            db.execute("PRAGMA synchronous = NORMAL")
            with transaction(db):
                MIGRATIONS.apply(db)
                # SQLite lets a transaction on a read-only file begin, and refuses the first write, even of nothing
                db.execute("DELETE FROM runs WHERE 0")
            if is_new:
                # what one migration makes and the next one drops leaves gaps
                db.execute("VACUUM")
            return
        except sqlite3.OperationalError as error:
            # errors of Python's own, as over undecodable names, have no code
            is_busy = getattr(error, "sqlite_errorcode", 0) & 0xFF == sqlite3.SQLITE_BUSY
            if not is_busy or time.monotonic() > give_up:
                raise
            time.sleep(0.05)


def _forbid_writing(db: Database, path: Path) -> None:
    # SQLite's own read-only mode would leave -wal and -shm files behind
    db.execute("PRAGMA query_only = ON")
    # a file may come from anybody: no value in it may fill the memory
    db.conn.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, MAX_VALUE)
    if not _has_our_objects(db, path):
        raise StoreError(f"{path}: not a gateway database")
    if MIGRATIONS.pending(db):
        raise StoreError(f"{path}: has an older schema, which the proxy updates when it opens it")


def _look_through(db: Database, path: Path) -> None:
    db.execute("PRAGMA query_only = ON")
    if _has_our_objects(db, path) and path.stat().st_size <= MAX_CHECKED:
        (found,) = db.execute("PRAGMA quick_check(1)").fetchone()
        if found != "ok":
            raise StoreError(f"{path}: is damaged: {' '.join(found.split())}")


def _check_and_set_up(db: Database, path: Path) -> None:
    _has_our_objects(db, path)
    _set_up(db, path)


def _has_our_objects(db: Database, path: Path) -> bool:
    """Whether the file has our tables (`_is_ours`). Raises `StoreError` if a view may stand for one, or never end."""
    if any(("view", name) in _objects(db) for name in _UNSEEN):
        raise StoreError(f"{path}: a database of something else")
    if not _is_ours(db, path):
        return False
    found, ours = _objects(db), _our_objects(len(MIGRATIONS.applied(db)))
    foreign = (
        name
        for object_type, name in found.keys() - ours.keys()
        if object_type == "trigger" or (object_type == "view" and name.startswith("search_"))
    )
    changed = (name for (object_type, name), sql in ours.items() if found.get((object_type, name)) != sql)
    for name in (*changed, *foreign):
        raise StoreError(f"{path}: {name} is not as gateway-addon makes it")
    return True


_UNSEEN = ("_sqlite_migrations", "sqlite_migrations")
"""What must be a table before anything is read: where migrations are noted."""


def _objects(db: Database) -> dict[tuple[str, str], str]:
    """The tables, views and triggers of a file, and the SQL that makes each."""
    sql = "SELECT type, name, sql FROM sqlite_master WHERE type IN ('table', 'view', 'trigger')"
    return {(kind, name): made_by for kind, name, made_by in db.execute(sql)}


@cache
def _our_objects(steps: int) -> dict[tuple[str, str], str]:
    """What the first so many migrations make."""
    after = dict(enumerate(step.__name__ for step in STEPS)).get(steps)
    with closing(Database(memory=True, execute_plugins=False)) as db:
        MIGRATIONS.apply(db, stop_before=after)
        return _objects(db)


def _is_ours(db: Database, path: Path) -> bool:
    """Whether the file has our tables; False if it has none. Raises `StoreError` if it has others, or newer ones."""
    # in one transaction, lest another process create the tables between the two looks
    with db.atomic():
        applied = {migration.name for migration in MIGRATIONS.applied(db)}
        tables = db.table_names()
    if applied - {step.__name__ for step in STEPS}:
        raise StoreError(f"{path}: written by a newer version of gateway-addon")
    if tables and not applied:
        raise StoreError(f"{path}: a database of something else")
    return bool(applied)
