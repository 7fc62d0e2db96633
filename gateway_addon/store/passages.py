"""What the flows of a file say beside its model calls, in a file of its own for as long as it is reviewed.

Each text is stored once, however often it was sent: uploads and heads repeat as histories do, and need not fit into
memory.
"""

import json
from collections.abc import Collection, Iterator
from hashlib import blake2b
from pathlib import Path
from typing import Any, NamedTuple

from sqlite_utils import Database

Row = dict[str, Any]


class Flow(NamedTuple):
    """A flow of a file: what all its passages share."""

    id: str
    started_at: str
    """RFC 3339 UTC."""
    host: str | None


class Passage(NamedTuple):
    """A text in a flow."""

    place: str
    """`request head`, `request body`, `WebSocket message`, ..."""
    text: str
    was_sent: bool
    """Whether the client sent it, and it left the proxy."""
    is_head: bool = False
    """Whether the text is a request's line or a status, and lines of header fields below it."""


_TABLES = """
CREATE TABLE flows (id TEXT NOT NULL, started_at TEXT NOT NULL, host TEXT, is_call INTEGER NOT NULL);
CREATE TABLE texts (id INTEGER PRIMARY KEY, hash BLOB NOT NULL UNIQUE, text TEXT NOT NULL, is_head INTEGER NOT NULL);
CREATE TABLE passages (
    flow INTEGER NOT NULL,
    place TEXT NOT NULL,
    was_sent INTEGER NOT NULL,
    text_id INTEGER NOT NULL REFERENCES texts (id)
);
CREATE INDEX passages_by_text ON passages (text_id);
"""

_HOLDERS = """
SELECT flows.id, started_at, host, is_call, place, was_sent
FROM passages JOIN flows ON flows.rowid = passages.flow
WHERE text_id IN (SELECT value FROM json_each(?))
ORDER BY started_at, passages.rowid
"""


class Passages:
    """The passages of a flow file. Without a path there are none, and nothing can be added."""

    def __init__(self, path: Path | None = None) -> None:
        self.is_kept = path is not None
        self.unread: dict[str, int] = {}
        """What could not be looked into, or not as text, and how often."""
        self._db = Database(path or ":memory:", execute_plugins=False)
        # it is gone in a moment: nothing needs to survive a crash
        self._db.execute("PRAGMA journal_mode = OFF")
        self._db.execute("PRAGMA synchronous = OFF")
        self._db.executescript(_TABLES)

    def add(self, flow: Flow, passages: Collection[Passage], *, is_call: bool) -> None:
        sql = "INSERT INTO flows (id, started_at, host, is_call) VALUES (?, ?, ?, ?)"
        number = self._db.execute(sql, [*flow, is_call]).lastrowid
        for place, text, was_sent, is_head in passages:
            data = text.encode("utf-8", "surrogateescape")
            digest = blake2b(data, digest_size=16, person=b"head" if is_head else b"").digest()
            found = self._db.execute("SELECT id FROM texts WHERE hash = ?", [digest]).fetchone()
            if found is None:
                # what is no text in UTF-8 is no text that SQLite takes
                storable = data.decode("utf-8", "replace").replace("\0", " ")
                sql = "INSERT INTO texts (hash, text, is_head) VALUES (?, ?, ?)"
                found = [self._db.execute(sql, [digest, storable, is_head]).lastrowid]
            sql = "INSERT INTO passages (flow, place, was_sent, text_id) VALUES (?, ?, ?, ?)"
            self._db.execute(sql, [number, place, was_sent, found[0]])

    def note(self, what: str) -> None:
        """Count something that could not be looked into."""
        self.unread[what] = self.unread.get(what, 0) + 1

    def texts(self, *, heads: bool) -> Iterator[tuple[int, str]]:
        """Every head, or every other text, each once."""
        yield from self._db.execute("SELECT id, text FROM texts WHERE is_head = ?", [heads])

    def holders(self, texts: Collection[int]) -> list[Row]:
        """Where any of these texts stands, oldest first.

        `id` (of the flow), `started_at`, `host`, `is_call` (whether it has rows in the database), `place`, `was_sent`.
        """
        return list(self._db.query(_HOLDERS, [json.dumps(list(texts))])) if texts else []

    def count(self) -> Row:
        """`flows`, and `calls` among them; `texts`, each once."""
        sql = """SELECT COUNT(*) AS flows, COALESCE(SUM(is_call), 0) AS calls, (SELECT COUNT(*) FROM texts) AS texts
                 FROM flows"""
        return next(self._db.query(sql))

    def close(self) -> None:
        self._db.close()
