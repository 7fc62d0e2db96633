"""What the command line asks the database. Rows are dicts by column; None is NULL, which is unknown."""

import json
import os.path
from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import Any

from sqlite_utils import Database

from gateway_addon.cache_breaks import first_difference
from gateway_addon.record import COLUMNS, from_row
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
_IDS = "SELECT value FROM json_each(:ids)"
_TURNS = f"SELECT {_COLUMNS}, {_TEXTS} FROM requests WHERE id IN ({_IDS}) ORDER BY started_at, id"
_TOOLS = f"SELECT request_id, name FROM request_tools WHERE request_id IN ({_IDS})"
_TOOL_CALLS = f"""
    SELECT tool_calls.*, text AS result, is_error, result_request_id
    FROM tool_calls
    LEFT JOIN answered_tool_calls USING (request_id, position)
    LEFT JOIN contents ON contents.id = result_id
    WHERE request_id IN ({_IDS})
    ORDER BY position"""

# as in conversations.py
_PREVIOUS = """
    SELECT earlier.id FROM requests, requests AS earlier
    WHERE requests.id = ? AND (earlier.response_id = requests.previous_id OR earlier.session_id = requests.previous_id)
      AND earlier.id <> requests.id AND (earlier.started_at, earlier.id) < (requests.started_at, requests.id)
    ORDER BY earlier.started_at DESC, earlier.id DESC LIMIT 1"""

# the calls whose whole conversation this one begins with, each with the number of its messages
_BEGINNINGS = f"""
    WITH RECURSIVE chain (id, parent_id) AS (
        SELECT nodes.id, parent_id FROM nodes JOIN requests ON nodes.id = conversation_tip_id WHERE requests.id = :id
        UNION ALL SELECT nodes.id, nodes.parent_id FROM chain JOIN nodes ON nodes.id = chain.parent_id
    ),
    -- a node is newer than its parent
    numbered AS (SELECT id, ROW_NUMBER() OVER (ORDER BY id) AS messages FROM chain)
    SELECT messages, {", ".join(f"requests.{name}" for name in COLUMNS)}
    FROM numbered JOIN requests ON requests.conversation_tip_id = numbered.id, requests AS asked
    WHERE asked.id = :id AND requests.session_id IS asked.session_id AND requests.api_kind = asked.api_kind
      AND (requests.started_at, requests.id) < (asked.started_at, asked.id)
    ORDER BY requests.started_at, requests.id"""

# the messages of a call, and of the latest one before it that may be of the same conversation
_MESSAGES = """
    WITH RECURSIVE chain (id, parent_id, element_id) AS (
        SELECT nodes.id, parent_id, element_id
        FROM nodes JOIN requests ON nodes.id = conversation_tip_id WHERE requests.id = ?
        UNION ALL
        SELECT nodes.id, nodes.parent_id, nodes.element_id FROM chain JOIN nodes ON nodes.id = chain.parent_id
    )
    SELECT element_id FROM chain ORDER BY id"""
_LATEST_BEFORE = """
    SELECT turn.id, turn.conversation_id IS asked.conversation_id AS is_same FROM requests AS turn, requests AS asked
    WHERE asked.id = ? AND turn.session_id = asked.session_id AND turn.agent_id IS asked.agent_id
      AND turn.api_kind = asked.api_kind AND turn.side_request IS NULL AND asked.side_request IS NULL
      AND turn.conversation_tip_id IS NOT NULL AND (turn.started_at, turn.id) < (asked.started_at, asked.id)
    ORDER BY turn.started_at DESC, turn.id DESC LIMIT 1"""


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


_ALL = {
    "requests": f"SELECT {', '.join(name for name in COLUMNS if name != 'run_id')} FROM requests ORDER BY started_at, id",
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
    return _turns(db, [row["id"] for row in db.query(_CONVERSATION, {"id": request_id})])


def told(db: Database, request_id: str) -> list[Row]:
    """What was said until a call's answer: the turns to show, oldest first, the call itself last.

    Where the call's body is stored, it tells all there is: the only turns besides are those by which its `previous_id`
    is reached. Else these are the turns of `conversation`. A turn has the columns as there, and `body` (None: it is not
    to be had), `earlier` (for `conversation.read_history`) and `missing`, in a few words what there is no trace of.
    """
    chain = _continued(db, request_id)
    body, missing = _body(db, request_id)
    if body is None:
        first, *rest = (turn | {"body": None, "missing": None} for turn in conversation(db, request_id))
        call = (rest or [first])[-1]
        return [first | {"missing": _why_no_body(call, missing)}, *rest]
    turns = []
    for turn in _turns(db, [*chain, request_id]):
        body, missing = _body(db, turn["id"])
        if body is None:
            missing = _why_no_body(turn, missing)
        elif turn["previous_id"] and turn["id"] == (*chain, request_id)[0]:
            missing = f"what was said before is not in this request: it continues {turn['previous_id']}"
        elif not turn["previous_id"] and (count := _left_out(db, turn["id"])):
            missing = f"{count} earlier message{'s are' if count > 1 else ' is'} not in this request"
        earlier = [(row.pop("messages"), from_row(row)) for row in list(db.query(_BEGINNINGS, {"id": turn["id"]}))]
        turns.append(turn | {"body": body, "missing": missing, "earlier": earlier})
    return turns


def _continued(db: Database, request_id: str) -> list[str]:
    """The calls that a call continues by its `previous_id`, as far as they are stored, oldest first."""
    found: list[str] = []
    while row := db.execute(_PREVIOUS, [found[-1] if found else request_id]).fetchone():
        found.append(row[0])
    return found[::-1]


def _body(db: Database, request_id: str) -> tuple[bytes | None, str | None]:
    """The body of a call, and what is wrong with it."""
    try:
        return load_body(db, request_id), None
    except DamagedError:
        return None, "the stored body is damaged"


def _why_no_body(turn: Row, damage: str | None) -> str:
    if damage:
        return damage
    reasons = [why for warning, why in _NO_BODY.items() if warning in turn["warnings"]]
    has_prompt = turn["system_prompt"] is not None or turn["user_prompt"] is not None
    reasons += ["it has not ended"] if turn["outcome"] == "in_flight" else []
    return f"the body is not stored ({[*reasons, f'gateway_content={"prompts" if has_prompt else "none"}'][0]})"


_NO_BODY = {
    "content_dropped": "content_dropped: the disk was too slow",
    "request_missing": "request_missing: it was too long, or is not in the flow",
    "request_undecodable": "request_undecodable",
}
"""Warnings that say why a body is not stored."""


def _left_out(db: Database, request_id: str) -> int:
    """How many messages of the turn before a call are not in the call: its client has cut the history short.

    A message that was only changed a little is none that was left out.
    """
    before = db.execute(_LATEST_BEFORE, [request_id]).fetchone()
    if before is None:
        return 0
    previous, now = ([row[0] for row in db.execute(_MESSAGES, [id]).fetchall()] for id in (before[0], request_id))
    gone = [element for element in previous if element not in set(now)]
    is_same = before[1] or len(previous) - len(gone) > 1
    is_cut = len(now) < len(previous) or (previous and previous[0] not in now)
    return len(gone) if is_same and is_cut else 0


def _turns(db: Database, ids: Sequence[str]) -> list[Row]:
    picked = {"ids": json.dumps(ids)}
    turns = list(db.query(_TURNS, picked))
    tools = _by_request(db.query(_TOOLS, picked))
    made = _by_request(db.query(_TOOL_CALLS, picked))
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
