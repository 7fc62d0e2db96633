"""Finished calls in the order in which they ended, or were changed after that: for telling others of each, once.

A call that is changed moves to the end. So whoever remembers the number of the last call it was told of, and goes on
behind it, misses none, in whatever order calls end and however many processes write.
"""

import json
from collections.abc import Iterator
from typing import Any

from sqlite_utils import Database

from gateway_addon.record import COLUMNS
from gateway_addon.store.database import transaction
from gateway_addon.store.rows import TEXTS
from gateway_addon.store.selection import ALL, Selection

Row = dict[str, Any]

PAGE = 100
"""Calls that are read at once."""

_COLUMNS = ", ".join(f"requests.{name}" for name in COLUMNS)

_TOOLS_CALLED = "SELECT group_concat(DISTINCT name) FROM tool_calls WHERE request_id = requests.id"

_PAGE = f"""
WITH page AS (
    SELECT {_COLUMNS}, requests.finish_sequence, requests.turn_id,
           -- only under gateway_content=full
           COALESCE(requests.envelope_id, requests.whole_body_id) IS NOT NULL AS has_texts,
           (SELECT earlier.turn_id FROM requests AS earlier
            WHERE requests.turn_id = requests.id AND earlier.session_id = requests.session_id
              AND earlier.agent_id IS requests.agent_id AND earlier.conversation_id IS requests.conversation_id
              AND (earlier.started_at, earlier.id) < (requests.started_at, requests.id) AND earlier.side_request IS NULL
            ORDER BY earlier.started_at DESC LIMIT 1) AS previous_turn_id
    FROM requests WHERE requests.finish_sequence > :after AND {{condition}}
    ORDER BY requests.finish_sequence LIMIT :limit
)
SELECT page.*,
       (SELECT traceparent FROM requests WHERE id = page.turn_id) AS turn_traceparent,
       (SELECT traceparent FROM requests WHERE id = page.previous_turn_id) AS previous_traceparent
FROM page ORDER BY finish_sequence
"""

# The same rows as in `cache_breaks`, each from its own turn and the one before it: the view goes through all turns
_BREAKS = """
WITH turns AS (
    SELECT asked.id AS request_id, asked.input_tokens, asked.cache_read_tokens, asked.cache_miss_microdollars,
           (SELECT COALESCE(cache_read_tokens, 0) + COALESCE(cache_write_tokens, 0) FROM counted_requests AS earlier
            WHERE earlier.session_id = asked.session_id AND earlier.agent_id IS asked.agent_id
              AND earlier.conversation_id IS asked.conversation_id AND earlier.api_kind = asked.api_kind
              AND (earlier.started_at, earlier.id) < (asked.started_at, asked.id) AND earlier.side_request IS NULL
              AND earlier.input_tokens IS NOT NULL AND earlier.cache_read_tokens IS NOT NULL
            ORDER BY earlier.started_at DESC LIMIT 1) AS cached
    FROM counted_requests AS asked
    WHERE asked.id IN (SELECT value FROM json_each(:ids)) AND asked.side_request IS NULL
      AND asked.input_tokens IS NOT NULL AND asked.cache_read_tokens IS NOT NULL
)
SELECT request_id, MIN(cached, input_tokens) - cache_read_tokens AS rewritten_tokens,
       CAST(ROUND(1.0 * cache_miss_microdollars * (MIN(cached, input_tokens) - cache_read_tokens)
                  / (input_tokens - cache_read_tokens)) AS INTEGER) AS cost_microdollars
FROM turns WHERE cache_read_tokens < 0.9 * MIN(cached, input_tokens)
"""

# The same pairs as in `answered_tool_calls`, found from single calls by an index where the view goes through them all.
# Each belongs to the later told of its two calls, so that it is told once.
_ASKING = """
SELECT asking.id FROM requests AS asking
JOIN stored_tool_calls AS calls ON calls.request_id = asking.id AND calls.link = results.link
WHERE asking.session_id = answering.session_id AND asking.agent_id IS answering.agent_id
  AND asking.started_at <= answering.started_at AND asking.id <> answering.id
  AND (calls.name = results.name) IS NOT 0 {condition}
ORDER BY asking.started_at DESC LIMIT 1
"""
_SAME_CONVERSATION = "AND asking.conversation_id IS answering.conversation_id"
_EXECUTED = f"""
WITH told AS (SELECT value AS id FROM json_each(:ids)),
answers AS (
    SELECT request_id, link FROM stored_tool_results WHERE request_id IN told
    UNION
    -- results may be there before their call is, as from files
    SELECT (
        SELECT later.id FROM requests AS later JOIN stored_tool_results AS results
        ON results.request_id = later.id AND results.link = calls.link
        WHERE later.session_id = requests.session_id AND later.agent_id IS requests.agent_id
          AND later.conversation_id IS requests.conversation_id
          AND later.started_at >= requests.started_at AND later.id <> requests.id
        ORDER BY later.started_at LIMIT 1
    ), link
    FROM stored_tool_calls AS calls JOIN requests ON requests.id = request_id WHERE request_id IN told
),
pairs AS (
    SELECT answering.id AS result_request_id, answering.started_at AS answered_at, answering.conversation_id,
           answering.finish_sequence AS answered_sequence, results.link, results.is_error, results.result_id,
           COALESCE(({_ASKING.format(condition=_SAME_CONVERSATION)}), ({_ASKING.format(condition="")})) AS asking_id
    FROM answers
    JOIN stored_tool_results AS results USING (request_id, link)
    JOIN requests AS answering ON answering.id = results.request_id
)
SELECT CASE WHEN asking.finish_sequence > answered_sequence THEN asking.id ELSE result_request_id END AS told_with,
       asking.id AS request_id, calls.position, calls.call_id, calls.name, calls.type, is_error, answered_at,
       asking.started_at, asking.duration_ms, asking.session_id, asking.turn_id, asking.traceparent,
       (SELECT traceparent FROM requests WHERE id = asking.turn_id) AS turn_traceparent,
       COALESCE(asking.envelope_id, asking.whole_body_id) IS NOT NULL AS has_texts, arguments_id, result_id
FROM pairs
JOIN requests AS asking ON asking.id = asking_id
JOIN stored_tool_calls AS calls ON calls.request_id = asking_id AND calls.link = pairs.link
WHERE calls.executor = 'client' AND asking.finish_sequence IS NOT NULL
  -- a request that is sent again brings the same results again
  AND NOT EXISTS (
      SELECT 1 FROM requests AS first JOIN stored_tool_results AS results
      ON results.request_id = first.id AND results.link = pairs.link
      WHERE first.session_id = asking.session_id AND first.agent_id IS asking.agent_id
        AND first.conversation_id IS pairs.conversation_id AND first.id <> asking.id
        AND first.started_at >= asking.started_at AND (first.started_at, first.id) < (answered_at, result_request_id)
  )
ORDER BY answered_at, asking.id, calls.position
"""

_CALL_TEXTS = ", ".join(f"(SELECT text FROM contents WHERE contents.id = {name}_id) AS {name}" for name in TEXTS)


def finished(db: Database, after: int, selection: Selection = ALL) -> Iterator[Row]:
    """The calls whose `finish_sequence` is greater than `after`, in its order, a page at a time in memory.

    Of each: its columns, `finish_sequence`, `turn_id` (turns.py), `previous_turn_id` where a turn begins, and the
    `traceparent` of the calls that began them (`turn_traceparent`, `previous_traceparent`); `has_texts`, whether all
    its texts were to be stored; `cache_break` (a row of that view, or None); `executed`, the tools that a client ran
    between two calls of which this is the one that ended later. Between two pages nothing is held open.
    """
    while page := _page(db, after, selection):
        yield from page
        after = page[-1]["finish_sequence"]


def count_finished(db: Database, after: int, selection: Selection = ALL) -> int:
    """How many calls `finished` would give now."""
    condition, values = selection.condition()
    sql = f"SELECT COUNT(*) FROM requests WHERE finish_sequence > :after AND {condition}"
    return int(db.execute(sql, values | {"after": after}).fetchone()[0])


def ended(db: Database, after: int, selection: Selection = ALL, limit: int = -1) -> list[Row]:
    """The latest `limit` of the calls that `finished` would give now, in its order: their columns, `finish_sequence`,
    and `tools_called` as in `queries.calls`."""
    condition, values = selection.condition()
    sql = f"""SELECT * FROM (
        SELECT {_COLUMNS}, finish_sequence, ({_TOOLS_CALLED}) AS tools_called FROM requests
        WHERE finish_sequence > :after AND {condition} ORDER BY finish_sequence DESC LIMIT :limit
    ) ORDER BY finish_sequence"""
    return list(db.query(sql, values | {"after": after, "limit": limit}))


def under_way(db: Database, selection: Selection = ALL) -> list[Row]:
    """The calls that have not ended, in the order in which they began, with the columns of `ended`."""
    condition, values = selection.condition()
    sql = f"""SELECT {_COLUMNS}, finish_sequence, NULL AS tools_called FROM requests
              WHERE outcome = 'in_flight' AND {condition} ORDER BY started_at, id"""
    return list(db.query(sql, values))


def version(db: Database) -> int:
    """A number that is another one once somebody else has changed the database."""
    return int(db.execute("PRAGMA data_version").fetchone()[0])


def texts_of(db: Database, request_id: str) -> Row:
    """The texts of a call (`TEXTS`), its `tool_calls` with arguments, and the `tool_results` of its request."""
    row = next(db.query(f"SELECT {_CALL_TEXTS} FROM requests WHERE id = ?", [request_id]))
    calls = db.query(
        "SELECT call_id, name, arguments FROM tool_calls WHERE request_id = ? ORDER BY position", [request_id]
    )
    results = db.query(
        """SELECT results.link AS call_id, text AS result FROM stored_tool_results AS results
        LEFT JOIN contents ON contents.id = result_id
        -- not those of tools that the server ran for this answer
        LEFT JOIN stored_tool_calls AS calls USING (request_id, link)
        WHERE results.request_id = ? AND calls.request_id IS NULL ORDER BY results.position""",
        [request_id],
    )
    return row | {"tool_calls": list(calls), "tool_results": list(results)}


def text(db: Database, content_id: int | None) -> str | None:
    """A stored text; None for None."""
    found = db.execute("SELECT text FROM contents WHERE id = ?", [content_id]).fetchone()
    return found[0] if found else None


def told(db: Database, endpoint: str) -> int:
    """The `finish_sequence` up to which an endpoint has been told; 0 if it has been told nothing."""
    found = db.execute("SELECT finish_sequence FROM exports WHERE endpoint = ?", [endpoint]).fetchone()
    return int(found[0]) if found else 0


def set_told(db: Database, endpoint: str, sequence: int) -> None:
    """Note that an endpoint has been told of all calls up to this one. It never goes back."""
    with transaction(db):
        db.execute(
            """INSERT INTO exports (endpoint, finish_sequence) VALUES (?, ?) ON CONFLICT (endpoint)
            DO UPDATE SET finish_sequence = MAX(exports.finish_sequence, excluded.finish_sequence)""",
            [endpoint, sequence],
        )


def _page(db: Database, after: int, selection: Selection) -> list[Row]:
    condition, values = selection.condition()
    # in one transaction, so that nothing is changed between the looks
    with db.atomic():
        page = list(db.query(_PAGE.format(condition=condition), values | {"after": after, "limit": PAGE}))
        ids = json.dumps([row["id"] for row in page])
        breaks = {row["request_id"]: row for row in db.query(_BREAKS, {"ids": ids})}
        executed = list(db.query(_EXECUTED, {"ids": ids}))
    return [
        row
        | {
            "cache_break": breaks.get(row["id"]),
            "executed": [tool for tool in executed if tool["told_with"] == row["id"]],
        }
        for row in page
    ]
