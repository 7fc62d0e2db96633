"""A person's turn: a real prompt, and the calls that followed from it until the next one."""

from collections.abc import Sequence
from itertools import batched

from sqlite_utils import Database

from gateway_addon.store.database import transaction

# A sub-agent, or a request beside the conversation, works for the turn of the main agent at that moment. Else a call
# goes on with the turn before it if the prompt is the same, and there is a reason to call again without a person: the
# model has asked for a tool, or had not finished. The same words once more are a new turn.
_ASSIGN = """
UPDATE requests AS asked SET turn_id = COALESCE(
    (
        SELECT main.turn_id FROM requests AS main
        WHERE (asked.agent_id IS NOT NULL OR asked.side_request IS NOT NULL)
          AND main.session_id = asked.session_id AND main.agent_id IS NULL AND main.side_request IS NULL
          AND main.started_at <= asked.started_at AND main.id <> asked.id AND main.turn_id IS NOT NULL
        ORDER BY main.started_at DESC LIMIT 1
    ),
    (
        SELECT CASE WHEN earlier.user_prompt_id IS asked.user_prompt_id AND (
            earlier.outcome <> 'complete'
            OR EXISTS (SELECT 1 FROM stored_tool_calls WHERE request_id = earlier.id AND executor = 'client')
        ) THEN earlier.turn_id END
        FROM requests AS earlier
        WHERE earlier.session_id = asked.session_id AND earlier.agent_id IS asked.agent_id
          AND earlier.conversation_id IS asked.conversation_id AND earlier.side_request IS NULL
          AND (earlier.started_at, earlier.id) < (asked.started_at, asked.id) AND earlier.turn_id IS NOT NULL
        ORDER BY earlier.started_at DESC LIMIT 1
    ),
    asked.id
)
WHERE id = ? AND turn_id IS NULL
"""

CALLS = 500
"""That get their turn in one transaction."""


def assign_turn(db: Database, request_id: str) -> None:
    """Note the call with which the turn of a finished call began, unless that is known. Inside a transaction.

    It stays what it is, whatever is stored later of calls before it: others have been told.
    """
    db.execute(_ASSIGN, [request_id])


def assign_turns(db: Database, after: int) -> None:
    """The same for calls that ended without it: the interrupted, and those of files from before there were turns."""
    sql = "SELECT id FROM requests WHERE finish_sequence > ? AND turn_id IS NULL ORDER BY started_at, id"
    ids: Sequence[str] = [row[0] for row in db.execute(sql, [after]).fetchall()]
    for some in batched(ids, CALLS, strict=False):
        with transaction(db):
            for request_id in some:
                assign_turn(db, request_id)
