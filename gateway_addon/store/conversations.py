"""Calls whose history is kept on the server: what they leave out is taken from the calls seen before."""

from sqlite_utils import Database

# the call that gave the answer they continue, or the last one of the same `conversation`, which is a session's id
_INHERIT = """
UPDATE requests
SET session_id = COALESCE(requests.session_id, earlier.session_id),
    conversation_id = COALESCE(requests.conversation_id, earlier.conversation_id),
    user_prompt_id = COALESCE(requests.user_prompt_id, earlier.user_prompt_id)
FROM requests AS earlier
WHERE requests.id = :id
  AND earlier.id = (
      SELECT id FROM requests AS candidate
      WHERE (candidate.response_id = requests.previous_id OR candidate.session_id = requests.previous_id)
        AND candidate.id <> requests.id AND candidate.started_at <= requests.started_at
      ORDER BY started_at DESC LIMIT 1
  )
  AND (
      requests.session_id IS NULL AND earlier.session_id IS NOT NULL
      OR requests.conversation_id IS NULL AND earlier.conversation_id IS NOT NULL
      OR requests.user_prompt_id IS NULL AND earlier.user_prompt_id IS NOT NULL
  )
"""

_FOLLOWERS = """
SELECT follower.id FROM requests AS follower, requests
WHERE requests.id = :id AND follower.id <> :id
  AND follower.previous_id IN (requests.response_id, requests.session_id)
  AND follower.started_at >= requests.started_at
  AND (follower.session_id IS NULL OR follower.conversation_id IS NULL OR follower.user_prompt_id IS NULL)
"""


def inherit(db: Database, request_id: str, *, continues: bool) -> None:
    """Give a call the session, conversation and user prompt of the call it continues, where it says none itself.

    `continues`: it does continue one. Then the same to the calls that continue this one: they may have been stored
    before it. Inside a transaction.
    """
    if continues:
        db.execute(_INHERIT, {"id": request_id})
    pending = [request_id]
    while pending:
        for (follower,) in db.execute(_FOLLOWERS, {"id": pending.pop()}).fetchall():
            if db.execute(_INHERIT, {"id": follower}).rowcount:
                pending.append(follower)
