"""What the command line asks the database. Rows are dicts by column; None is NULL, which is unknown."""

import json
import os.path
from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

from sqlite_utils import Database

from gateway_addon.cache_breaks import first_difference
from gateway_addon.record import COLUMNS, from_row
from gateway_addon.store.bodies import DamagedError, load_body
from gateway_addon.store.rows import TEXTS
from gateway_addon.store.selection import ALL, Selection

Row = dict[str, Any]

KEYS = {
    "model": ({"model": "model"}, ()),
    "day": ({"day": "date(started_at{zone})"}, ("day",)),
    # by its Monday
    "week": ({"week": "date(started_at{zone}, 'weekday 0', '-6 days')"}, ("week",)),
    "session": ({"session_id": "session_id"}, ()),
    "client": ({"client": "client"}, ()),
    "agent": ({"session_id": "session_id", "agent_id": "agent_id"}, ("session_id",)),
}
"""By what calls can be summed up: columns, each with its SQL, and the columns by which rows are ordered."""

# SUM over nothing but NULL is NULL: a total that is wholly unknown stays unknown
_SUMS = """
    COUNT(*) AS calls,
    SUM(is_error) AS errors,
    SUM(cost_microdollars IS NULL) AS calls_without_cost,
    SUM(input_tokens) AS input_tokens,
    SUM(cache_read_tokens) AS cache_read_tokens,
    SUM(cache_write_tokens) AS cache_write_tokens,
    SUM(output_tokens) AS output_tokens,
    SUM(reasoning_tokens) AS reasoning_tokens,
    SUM(cost_microdollars) AS cost_microdollars,
    SUM(charged_microdollars) AS charged_microdollars,
    1.0 * SUM(cache_read_tokens) / SUM(CASE WHEN cache_read_tokens IS NOT NULL THEN input_tokens END)
        AS cache_hit_rate"""

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


ORDERS = {
    "newest": "started_at DESC, id DESC",
    "dearest": "cost_microdollars DESC, started_at DESC",
    "slowest": "duration_ms DESC, started_at DESC",
}
"""In which order calls are given; without those of which nothing is known in that respect."""


_CALLS = f"""
    SELECT {_COLUMNS},
           (SELECT group_concat(DISTINCT name) FROM tool_calls WHERE request_id = requests.id) AS tools_called
    FROM requests"""


def calls(db: Database, selection: Selection = ALL, limit: int = -1, order: str = "newest") -> list[Row]:
    """Calls, the first in an order: the contract's columns of `requests`, `short_id` and `tools_called`.

    `tools_called` are the names, each once, with a comma between them.
    """
    condition, values = selection.condition()
    key = ORDERS[order].split()[0].removesuffix(",")
    sql = f"{_CALLS} WHERE {condition} AND {key} IS NOT NULL ORDER BY {ORDERS[order]} LIMIT :limit"
    return _with_short_ids(db, db.query(sql, values | {"limit": limit}))


def calls_of_run(db: Database, pid: int, since: str) -> list[Row]:
    """The same of the calls that a process has recorded which began then or later, oldest first."""
    sql = f"""{_CALLS} WHERE run_id = (
            SELECT id FROM runs WHERE pid = ? AND started_at >= ? ORDER BY started_at DESC LIMIT 1
        ) ORDER BY requests.started_at, id"""
    return list(db.query(sql, [pid, since]))


def calls_by_id(db: Database, ids: Sequence[str]) -> list[Row]:
    """The same of these calls, oldest first."""
    sql = f"{_CALLS} WHERE id IN ({_IDS}) ORDER BY started_at, id"
    return _with_short_ids(db, db.query(sql, {"ids": json.dumps(ids)}))


def selected_ids(db: Database, selection: Selection) -> list[str]:
    """The ids of the selected calls, oldest first."""
    condition, values = selection.condition()
    return [row["id"] for row in db.query(f"SELECT id FROM requests WHERE {condition} ORDER BY started_at, id", values)]


def _with_short_ids(db: Database, rows: Iterable[Row]) -> list[Row]:
    return [row | {"short_id": short_id(db, row["id"])} for row in list(rows)]


def report(db: Database, by: Sequence[str], selection: Selection = ALL, *, local: bool = False) -> list[Row]:
    """Calls summed up by some of `KEYS`, which may be none. `local`: by the days of this machine's time zone.

    The columns of the `usage_by_...` views, and `cache_hit_rate`: how much of the input came from a cache.
    """
    condition, values = selection.condition()
    zone = ", 'localtime'" if local else ""
    keys = {name: sql.format(zone=zone) for key in by for name, sql in KEYS[key][0].items()}
    # of several keys the last is ordered as it is alone
    order = [name for key in by[:-1] for name in KEYS[key][0]] + [name for key in by[-1:] for name in KEYS[key][1]]
    columns = "".join(f"{sql} AS {name}, " for name, sql in keys.items())
    grouped = f"GROUP BY {', '.join(map(str, range(1, len(keys) + 1)))}" if keys else ""
    sql = f"""SELECT {columns} {_SUMS} FROM counted_requests AS requests WHERE {condition} {grouped}
              ORDER BY {", ".join([*dict.fromkeys(order), "cost_microdollars DESC", "calls DESC"])}"""
    return list(db.query(sql, values))


def tools(db: Database, selection: Selection = ALL) -> list[Row]:
    """The rows of the view `tool_usage`, for selected calls: the most used first."""
    condition, values = selection.condition()
    sql = f"""
        SELECT name, COUNT(*) AS calls, SUM(is_error) AS errors, COUNT(DISTINCT request_id) AS requests
        FROM stored_tool_calls JOIN requests ON requests.id = request_id
        LEFT JOIN answered_tool_calls USING (request_id, position)
        WHERE {condition} GROUP BY name ORDER BY calls DESC, name"""
    return list(db.query("SELECT * FROM tool_usage ORDER BY calls DESC, name" if selection.is_all else sql, values))


def errors(db: Database, selection: Selection = ALL) -> list[Row]:
    """What went wrong with calls, the most frequent first: `outcome`, `status`, `error_type`, how many `calls`; of the
    latest of these `started_at`, `error_message`, `request_id` and `short_id`."""
    condition, values = selection.condition()
    sql = f"""
        SELECT outcome, COALESCE(error_status, CASE WHEN http_status >= 400 THEN http_status END) AS status, error_type,
               COUNT(*) AS calls, MAX(started_at) AS started_at, error_message, id AS request_id
        FROM requests WHERE outcome NOT IN ('complete', 'in_flight') AND {condition}
        GROUP BY 1, 2, 3 ORDER BY calls DESC, started_at DESC"""
    return [row | {"short_id": short_id(db, row["request_id"])} for row in list(db.query(sql, values))]


class Meant(NamedTuple):
    """What a person means by a reference."""

    ids: list[str]
    """The calls, oldest first."""
    session: str | None
    """None: a single call is meant."""


_BEGINS = "substr({0}, 1, length(:reference)) = :reference"
_REFERENCES = (
    (False, "SELECT id FROM requests WHERE id = :reference"),
    (False, "SELECT id FROM requests WHERE :reference = 'last' ORDER BY started_at DESC, id DESC LIMIT 1"),
    (True, "SELECT session_id FROM requests WHERE session_id = :reference LIMIT 1"),
    (False, f"SELECT id FROM requests WHERE {_BEGINS.format('id')}"),
    (
        # a turn on a WebSocket, by the beginning of its connection's id
        False,
        """SELECT id FROM requests WHERE instr(:reference, '/') AND instr(id, '/')
           AND substr(id, 1, instr(:reference, '/') - 1) = substr(:reference, 1, instr(:reference, '/') - 1)
           AND substr(id, instr(id, '/')) = substr(:reference, instr(:reference, '/'))""",
    ),
    (True, f"SELECT DISTINCT session_id FROM requests WHERE {_BEGINS.format('session_id')}"),
)
"""What a reference may be, in the order in which it is tried; of each, whether that is a session."""


def meant(db: Database, reference: str) -> Meant:
    """The call or session that is meant. Raises LookupError, one line, if nothing is, or more than one."""
    for is_session, sql in _REFERENCES:
        found = [row[0] for row in db.execute(sql, {"reference": reference}).fetchall()]
        if len(found) > 1:
            kind = "sessions" if is_session else "calls"
            raise LookupError(f"{reference!r} may be any of {len(found)} {kind}: {', '.join(found[:3])}, ...")
        if found and is_session:
            ids = "SELECT id FROM requests WHERE session_id = ? ORDER BY started_at, id"
            return Meant([row[0] for row in db.execute(ids, found).fetchall()], found[0])
        if found:
            return Meant(found, None)
    raise LookupError(f"no call or session {reference!r}")


def calls_meant(db: Database, reference: str) -> list[str]:
    """The ids of the calls that are meant, oldest first. Raises LookupError as `meant` does."""
    return meant(db, reference).ids


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
    return turns(db, [row["id"] for row in db.query(_CONVERSATION, {"id": request_id})])


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
    told = []
    for turn in turns(db, [*chain, request_id]):
        body, missing = _body(db, turn["id"])
        if body is None:
            missing = _why_no_body(turn, missing)
        elif turn["previous_id"] and turn["id"] == (*chain, request_id)[0]:
            missing = f"what was said before is not in this request: it continues {turn['previous_id']}"
        elif not turn["previous_id"] and (count := _left_out(db, turn["id"])):
            missing = f"{count} earlier message{'s are' if count > 1 else ' is'} not in this request"
        earlier = [(row.pop("messages"), from_row(row)) for row in list(db.query(_BEGINNINGS, {"id": turn["id"]}))]
        told.append(turn | {"body": body, "missing": missing, "earlier": earlier})
    return told


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


def turns(db: Database, ids: Sequence[str]) -> list[Row]:
    """These calls as turns (`conversation`), oldest first."""
    picked = {"ids": json.dumps(ids)}
    found = list(db.query(_TURNS, picked))
    tools = _by_request(db.query(_TOOLS, picked))
    made = _by_request(db.query(_TOOL_CALLS, picked))
    return [
        turn | {"tools": [tool["name"] for tool in tools[turn["id"]]], "tool_calls": made[turn["id"]]} for turn in found
    ]


def cache_breaks(db: Database, limit: int = -1, selection: Selection = ALL) -> list[Row]:
    """The rows of the view `cache_breaks`, dearest first, each with `short_id`, `cause`, `segment` and `where`.

    `segment` and `where` tell what differed first from the turn before (`cache_breaks.Difference`), and are None where
    nothing did or the bodies are not stored. `cause` is `other model`, or `expired` after a pause longer than the cache
    lives, or the difference's; None where nothing explains it: the provider may have evicted it.
    """
    condition, values = _of_selected(selection)
    dearest = f"""SELECT * FROM cache_breaks WHERE {condition}
                  ORDER BY cost_microdollars DESC, rewritten_tokens DESC LIMIT :limit"""
    return [row | _explained(db, row) for row in list(db.query(dearest, values | {"limit": limit}))]


def cache_breaks_in_all(db: Database, selection: Selection = ALL) -> Row:
    """How many `breaks` of a cache there were, and sums of `rewritten_tokens` and `cost_microdollars`."""
    condition, values = _of_selected(selection)
    sql = f"""SELECT COUNT(*) AS breaks, SUM(rewritten_tokens) AS rewritten_tokens,
                     SUM(cost_microdollars) AS cost_microdollars,
                     SUM(cost_microdollars IS NULL) AS calls_without_cost
              FROM cache_breaks WHERE {condition}"""
    return next(iter(db.query(sql, values)))


def _of_selected(selection: Selection) -> tuple[str, dict[str, Any]]:
    condition, values = selection.condition()
    return ("TRUE" if selection.is_all else f"request_id IN (SELECT id FROM requests WHERE {condition})"), values


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
    """The shortest prefix, of `SHORTEST_ID` characters or more, that no other id shares; of a turn on a WebSocket, that
    of its connection, and which turn it is."""
    flow, slash, turn = request_id.partition("/")
    # '0' comes next to '/'
    sql = """SELECT (SELECT MAX(id) FROM requests WHERE id < :first) AS previous,
                    (SELECT MIN(id) FROM requests WHERE id > :first AND id >= :behind) AS next"""
    bounds = {"first": flow, "behind": f"{flow}0" if slash else flow}
    neighbours = next(db.query(sql, bounds)).values()
    shared = max(len(os.path.commonprefix([flow, other or ""])) for other in neighbours)  # noqa: RUF071 (no path)
    return flow[: max(SHORTEST_ID, shared + 1)] + slash + turn
