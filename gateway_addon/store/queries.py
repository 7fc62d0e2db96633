"""What the command line asks the database. Rows are dicts by column; None is NULL, which is unknown."""

import os.path
from collections import defaultdict
from collections.abc import Iterable
from typing import Any

from sqlite_utils import Database

from gateway_addon.cache_breaks import first_difference
from gateway_addon.record import COLUMNS
from gateway_addon.store.bodies import DamagedError, load_body
from gateway_addon.store.rows import TEXTS

Row = dict[str, Any]

REPORTS = {
    "model": ("usage_by_model", "cost_microdollars DESC, calls DESC"),
    "day": ("usage_by_day", "day"),
    "session": ("usage_by_session", "cost_microdollars DESC, calls DESC"),
    "agent": ("usage_by_agent", "session_id, cost_microdollars DESC, calls DESC"),
    "client": ("usage_by_client", "cost_microdollars DESC, calls DESC"),
    "tool": ("tool_usage", "calls DESC, name"),
}
"""What can be reported on: its view, and the order of its rows."""

SHORTEST_ID = 8

_COLUMNS = ", ".join(COLUMNS)
_TEXTS = ", ".join(f"(SELECT text FROM contents WHERE contents.id = {name}_id) AS {name}" for name in TEXTS)

_CONVERSATION = """
    SELECT turn.id FROM requests AS turn, requests AS asked
    WHERE asked.id = :id AND (
        turn.id = asked.id
        OR (turn.session_id = asked.session_id AND turn.agent_id IS asked.agent_id
            AND turn.conversation_id IS asked.conversation_id AND turn.api_kind = asked.api_kind
            AND turn.side_request IS NULL AND asked.side_request IS NULL
            AND (turn.started_at, turn.id) < (asked.started_at, asked.id))
    )"""
_TURNS = f"SELECT {_COLUMNS}, {_TEXTS} FROM requests WHERE id IN ({_CONVERSATION}) ORDER BY started_at, id"
_TOOLS = f"SELECT request_id, name FROM request_tools WHERE request_id IN ({_CONVERSATION})"
_TOOL_CALLS = f"""
    SELECT tool_calls.*, text AS result, is_error, result_request_id
    FROM tool_calls
    LEFT JOIN answered_tool_calls USING (request_id, position)
    LEFT JOIN contents ON contents.id = result_id
    WHERE request_id IN ({_CONVERSATION})
    ORDER BY position"""


def calls(db: Database, limit: int) -> list[Row]:
    """The latest calls, newest first: the contract's columns of `requests`, `short_id` and `tools_called`.

    `tools_called` are the names, each once, with a comma between them.
    """
    sql = f"""
        SELECT {_COLUMNS},
               (SELECT group_concat(DISTINCT name) FROM tool_calls WHERE request_id = requests.id) AS tools_called
        FROM requests ORDER BY started_at DESC, id DESC LIMIT ?"""
    return [row | {"short_id": short_id(db, row["id"])} for row in list(db.query(sql, [limit]))]


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


def calls_meant(db: Database, reference: str) -> list[str]:
    """The ids of the one call or the one session that is meant, by its id or the beginning of it, oldest first.

    Raises LookupError, one line, if nothing is, or more than one.
    """
    begun = "SELECT DISTINCT session_id FROM requests WHERE substr(session_id, 1, length(:reference)) = :reference"
    sessions = [row["session_id"] for row in db.query(begun, {"reference": reference})]
    ids = find(db, reference)
    if reference in sessions and reference not in ids:
        ids, sessions = [], [reference]
    if len(ids) + len(sessions) > 1 and ids != [reference]:
        meant = ", ".join([*ids, *sessions][:3])
        raise LookupError(f"{reference!r} may be any of {len(ids) + len(sessions)} calls and sessions: {meant}, ...")
    if ids:
        return ids
    if not sessions:
        raise LookupError(f"no call or session {reference!r}")
    of_session = "SELECT id FROM requests WHERE session_id = ? ORDER BY started_at, id"
    return [row["id"] for row in db.query(of_session, sessions)]


_OF_ANY_RUN = ", ".join(name for name in COLUMNS if name != "run_id")
_ALL = {
    "requests": f"SELECT {_OF_ANY_RUN} FROM requests ORDER BY started_at, id",
    "prompts": "SELECT * FROM prompts ORDER BY request_id",
    "answers": "SELECT * FROM answers ORDER BY request_id",
    "tool_calls": "SELECT * FROM tool_calls ORDER BY request_id, position",
    "tool_results": "SELECT * FROM tool_results ORDER BY request_id, result_request_id, call_id, result",
    "request_tools": "SELECT * FROM request_tools ORDER BY request_id, name",
}


def all_rows(db: Database) -> dict[str, list[Row]]:
    """Every row, by table or view, but for what is of the run that wrote it."""
    return {name: list(db.query(sql)) for name, sql in _ALL.items()}


def conversation(db: Database, request_id: str) -> list[Row]:
    """A call and the turns of its conversation before it, as far as they are stored, oldest first.

    Of each: its columns, its texts (`TEXTS`), the names of `tools` offered, and its `tool_calls`, each with the columns
    of that view and its `result`, `is_error` and `result_request_id`.
    """
    turns = list(db.query(_TURNS, {"id": request_id}))
    tools = _by_request(db.query(_TOOLS, {"id": request_id}))
    made = _by_request(db.query(_TOOL_CALLS, {"id": request_id}))
    return [
        turn | {"tools": [tool["name"] for tool in tools[turn["id"]]], "tool_calls": made[turn["id"]]} for turn in turns
    ]


def cache_breaks(db: Database, limit: int = -1) -> list[Row]:
    """The rows of the view `cache_breaks`, dearest first, each with `short_id`, `cause`, `segment` and `where`.

    `segment` and `where` tell what differed first from the turn before (`cache_breaks.Difference`), and are None where
    nothing did or the bodies are not stored. `cause` is `other model`, or `expired` after a pause longer than the cache
    lives, or the difference's; None where nothing explains it: the provider may have evicted it.
    """
    dearest = "SELECT * FROM cache_breaks ORDER BY cost_microdollars DESC, rewritten_tokens DESC LIMIT ?"
    return [row | _explained(db, row) for row in list(db.query(dearest, [limit]))]


def _explained(db: Database, row: Row) -> Row:
    try:
        before, after = (load_body(db, row[name]) for name in ("previous_request_id", "request_id"))
    except DamagedError:
        before = after = None
    difference = first_difference(before, after) if before and after else None
    cause = difference.cause if difference else None
    if row["model"] != row["previous_model"]:
        cause = "other model"
    elif row["idle_seconds"] > row["ttl_seconds"]:
        cause = "expired"
    return {
        "short_id": short_id(db, row["request_id"]),
        "cause": cause,
        "segment": difference.segment if difference else None,
        "where": difference.where if difference else None,
    }


def _by_request(rows: Iterable[Row]) -> defaultdict[str, list[Row]]:
    found = defaultdict(list)
    for row in rows:
        found[row["request_id"]].append(row)
    return found


def short_id(db: Database, request_id: str) -> str:
    """The shortest prefix, of `SHORTEST_ID` characters or more, that no other id shares."""
    sql = """SELECT (SELECT MAX(id) FROM requests WHERE id < :id) AS previous,
                    (SELECT MIN(id) FROM requests WHERE id > :id) AS next"""
    neighbours = next(db.query(sql, {"id": request_id})).values()
    shared = max(len(os.path.commonprefix([request_id, other or ""])) for other in neighbours)  # noqa: RUF071 (no path)
    return request_id[: max(SHORTEST_ID, shared + 1)]
