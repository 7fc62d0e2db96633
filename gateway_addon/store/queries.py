"""What the command line asks the database. Rows are dicts by column; None is NULL, which is unknown."""

import os.path
from typing import Any

from sqlite_utils import Database

from gateway_addon.record import COLUMNS
from gateway_addon.store.rows import TEXTS

Row = dict[str, Any]

REPORTS = {
    "model": ("usage_by_model", "cost_microdollars DESC, calls DESC"),
    "day": ("usage_by_day", "day"),
    "session": ("usage_by_session", "cost_microdollars DESC, calls DESC"),
    "client": ("usage_by_client", "cost_microdollars DESC, calls DESC"),
    "tool": ("tool_usage", "calls DESC, name"),
}
"""What can be reported on: its view (design 2.4), and the order of its rows."""

SHORTEST_ID = 8

_COLUMNS = ", ".join(COLUMNS)
_TEXTS = ", ".join(f"(SELECT text FROM contents WHERE contents.id = {name}_id) AS {name}" for name in TEXTS)


def calls(db: Database, limit: int) -> list[Row]:
    """The latest calls, newest first: the contract's columns of `requests`, `short_id` and `tools_called`.

    `tools_called` are the names, each once, with a comma between them.
    """
    sql = f"""
        SELECT {_COLUMNS},
               (SELECT group_concat(DISTINCT name) FROM tool_calls WHERE request_id = requests.id) AS tools_called
        FROM requests ORDER BY started_at DESC, id DESC LIMIT ?"""
    return [row | {"short_id": _short_id(db, row["id"])} for row in list(db.query(sql, [limit]))]


def report(db: Database, by: str) -> list[Row]:
    """The rows of the view for a key of `REPORTS`."""
    view, order = REPORTS[by]
    return list(db.query(f"SELECT * FROM {view} ORDER BY {order}"))


def find(db: Database, reference: str) -> list[str]:
    """The ids that `reference` may mean: a whole id means itself, `last` the latest call, else those it begins."""
    if reference == "last":
        return [row["id"] for row in db.query("SELECT id FROM requests ORDER BY started_at DESC, id DESC LIMIT 1")]
    begun = "SELECT id FROM requests WHERE substr(id, 1, length(:reference)) = :reference"
    ids = [row["id"] for row in db.query(begun, {"reference": reference})]
    return [reference] if reference in ids else ids


def call(db: Database, request_id: str) -> Row:
    """One call in full: its columns, its texts (`TEXTS`), the names of `tools` offered, and its `tool_calls`."""
    row = next(db.query(f"SELECT {_COLUMNS}, {_TEXTS} FROM requests WHERE id = ?", [request_id]))
    offered = db.query("SELECT name FROM request_tools WHERE request_id = ?", [request_id])
    made = db.query("SELECT * FROM tool_calls WHERE request_id = ? ORDER BY position", [request_id])
    return row | {"tools": [tool["name"] for tool in offered], "tool_calls": list(made)}


def _short_id(db: Database, request_id: str) -> str:
    """The shortest prefix, of `SHORTEST_ID` characters or more, that no other id shares."""
    sql = """SELECT (SELECT MAX(id) FROM requests WHERE id < :id) AS previous,
                    (SELECT MIN(id) FROM requests WHERE id > :id) AS next"""
    neighbours = next(db.query(sql, {"id": request_id})).values()
    shared = max(len(os.path.commonprefix([request_id, other or ""])) for other in neighbours)  # noqa: RUF071 (no path)
    return request_id[: max(SHORTEST_ID, shared + 1)]
