"""What each call of a session added to what was said before it: the rows that a review puts in their order."""

from typing import Any

from sqlite_utils import Database

from gateway_addon.store import bodies
from gateway_addon.store.bodies import DamagedError
from gateway_addon.store.evidence import WAS_SENT

Row = dict[str, Any]

_CALLS = f"""
SELECT id, started_at, duration_ms, api_kind, session_id, agent_id, conversation_id, upstream_host, request_bytes,
       COALESCE(envelope_id, whole_body_id) IS NOT NULL AS has_body, conversation_tip_id, whole_body_id,
       system_prompt_id, user_prompt_id, reasoning_text_id, answer_text_id, {WAS_SENT} AS was_sent
FROM requests ORDER BY started_at, id
"""


def calls(db: Database) -> list[Row]:
    """All calls, oldest first."""
    return list(db.query(_CALLS))


class Chains:
    """Which elements the conversation of a call has that none before it had."""

    def __init__(self, db: Database) -> None:
        self._nodes = {node: (parent, element) for node, parent, element in db.execute("SELECT * FROM nodes")}

    def new_elements(self, tip: int | None, seen_nodes: set[int], seen_elements: set[int]) -> list[int]:
        """The ids of the elements on the way to a node, first to last, that are in neither set; both are added to."""
        found = []
        while tip is not None and tip not in seen_nodes and tip in self._nodes:
            seen_nodes.add(tip)
            tip, element = self._nodes[tip]
            if element not in seen_elements:
                seen_elements.add(element)
                found.append(element)
        return found[::-1]


def element(db: Database, element_id: int) -> str:
    """The JSON text of an element; "" if it is damaged, which is `verify`'s to report."""
    try:
        return bodies.element(db, element_id)
    except (ValueError, LookupError):
        return ""


def whole_body(db: Database, request_id: str) -> bytes | None:
    """The body of a call that is not stored in elements; None if it is damaged."""
    try:
        return bodies.load_body(db, request_id)
    except DamagedError:
        return None


def text(db: Database, content_id: int) -> str:
    row = db.execute("SELECT text FROM contents WHERE id = ?", [content_id]).fetchone()
    return str(row[0]) if row else ""


def tool_calls(db: Database, request_id: str) -> list[Row]:
    """The tools that an answer calls: `call_id`, `name`, `type`, `executor`, `arguments`."""
    sql = "SELECT call_id, name, type, executor, arguments FROM tool_calls WHERE request_id = ? ORDER BY position"
    return list(db.query(sql, [request_id]))


def tool_results(db: Database, request_id: str) -> list[Row]:
    """The results that are stored with a call, of tools that a server ran or where no body is: `call_id`, `name`,
    `text`."""
    sql = """SELECT call_id, name, text FROM stored_tool_results JOIN contents ON contents.id = result_id
             WHERE request_id = ? ORDER BY position"""
    return list(db.query(sql, [request_id]))


def unstored(db: Database) -> Row:
    """How many calls lack which texts: `prompts_only` and `numbers_only` of a body that was sent (`gateway_content` was
    `prompts`, `none`), `dropped` (the writer had no time), `cut` (an answer not whole), `unread` (a body that could not
    be decoded, or was too large); and `calls`, of all."""
    sql = """
    SELECT COUNT(*) AS calls,
           COALESCE(SUM(lost AND NOT dropped AND prompted), 0) AS prompts_only,
           COALESCE(SUM(lost AND NOT dropped AND NOT prompted), 0) AS numbers_only,
           COALESCE(SUM(dropped), 0) AS dropped,
           COALESCE(SUM(warnings LIKE '%"response_tru%' OR warnings LIKE '%"response_too%'
                        OR warnings LIKE '%"response_und%'), 0) AS cut,
           COALESCE(SUM(unread), 0) AS unread
    FROM (
        SELECT warnings, warnings LIKE '%"content_dropped"%' AS dropped,
               COALESCE(system_prompt_id, user_prompt_id) IS NOT NULL AS prompted,
               warnings LIKE '%"request_too_large"%' OR warnings LIKE '%"request_undec%'
               OR warnings LIKE '%"request_missing"%' AS unread,
               COALESCE(envelope_id, whole_body_id) IS NULL AND request_bytes > 0
               AND NOT (warnings LIKE '%"request_too_large"%' OR warnings LIKE '%"request_undec%'
                        OR warnings LIKE '%"request_missing"%') AS lost
        FROM requests
    )
    """
    return next(db.query(sql))
