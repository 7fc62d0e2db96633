"""Taking old calls out of a database, with all that only they referred to, while a proxy may be writing to it.

Every function takes the write lock for short whiles only, so that a writer can go on in between.
"""

import math

from sqlite_utils import Database
from sqlite_utils.db import ForeignKey

from gateway_addon.store.database import transaction
from gateway_addon.store.search import drop_index

SHARED = ("nodes", "elements", "contents", "tool_sets", "whole_bodies")
"""Tables whose rows live as long as another row refers to them; no table refers to one in front of it."""

LEAST_SHARE = 0.1
"""Of the calls, what is removed at once: the content they share with later calls frees nothing."""

PAGES = 1000
"""Pages that are given back in one transaction."""


def remove_before(db: Database, moment: str) -> int:
    """Remove the calls that began before a moment (RFC 3339, UTC) and are no longer in flight. Returns how many."""
    with transaction(db):
        return _remove(db, "started_at < ?", moment)


def remove_until(db: Database, size: int) -> int:
    """Remove the oldest calls until what is left takes no more than `size` bytes. Returns how many."""
    removed = 0
    with transaction(db):
        # it is made anew by the next search, and no reason to remove calls
        drop_index(db)
        _sweep(db)
    while (used := _used(db)) > size:
        with transaction(db):
            share = max(1 - size / used, LEAST_SHARE)
            count = math.ceil(share * db["requests"].count)
            oldest = "SELECT id FROM requests WHERE outcome <> 'in_flight' ORDER BY started_at, id LIMIT ?"
            gone = _remove(db, f"id IN ({oldest})", count)
        if not gone:
            break
        removed += gone
    return removed


def give_back(db: Database) -> None:
    """Give the file's unused pages back to the system."""
    if not _pragma(db, "auto_vacuum"):
        # a file from before new ones were made so that they can give back single pages: copied, once
        db.execute("PRAGMA auto_vacuum = INCREMENTAL")
        db.execute("VACUUM")
    for _ in range(0, _pragma(db, "freelist_count"), PAGES):
        # it works as far as its rows are fetched
        db.execute(f"PRAGMA incremental_vacuum({PAGES})").fetchall()
    db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()


def _used(db: Database) -> int:
    return (_pragma(db, "page_count") - _pragma(db, "freelist_count")) * _pragma(db, "page_size")


def _pragma(db: Database, name: str) -> int:
    return int(db.execute(f"PRAGMA {name}").fetchone()[0])


def _remove(db: Database, where: str, value: str | int) -> int:
    # it would lead to the texts that take the places of those removed
    drop_index(db)
    removed = db.execute(f"DELETE FROM requests WHERE outcome <> 'in_flight' AND {where}", [value]).rowcount
    db.execute("DELETE FROM runs WHERE ended_at IS NOT NULL AND id NOT IN (SELECT run_id FROM requests)")
    _sweep(db)
    return removed


def _sweep(db: Database) -> None:
    """Delete what nothing refers to."""
    # read from the schema, so that a table that is added later is not forgotten
    keys = [key for table in db.tables for key in table.foreign_keys]
    owning = [key for key in keys if key.column in db.table(key.table).pks]
    for table in ("requests", *SHARED):
        if table in SHARED:
            db.execute(_delete_unreferenced(table, [key for key in keys if key not in owning]))
        for key in owning:
            if key.other_table == table:
                db.execute(f"DELETE FROM {key.table} WHERE {key.column} NOT IN (SELECT id FROM {table})")


def _delete_unreferenced(table: str, keys: list[ForeignKey]) -> str:
    """SQL that deletes the rows to which no foreign key leads, be it by way of other rows of the same table."""
    references = [key for key in keys if key.other_table == table]
    kept = [f"SELECT {key.column} FROM {key.table}" for key in references if key.table != table]
    kept += [f"SELECT {key.column} FROM {table} JOIN kept USING (id)" for key in references if key.table == table]
    return f"""
        DELETE FROM {table} WHERE id NOT IN (
            WITH RECURSIVE kept (id) AS ({" UNION ".join(kept)}) SELECT id FROM kept WHERE id IS NOT NULL
        )"""
