"""What a review asks the database: all texts, each once, and which calls sent or received the ones it picks."""

import json
from collections.abc import Collection, Iterator
from typing import Any

import zstandard
from sqlite_utils import Database

from gateway_addon.api.values import written
from gateway_addon.store.bodies import unpacked
from gateway_addon.wire import jsontext
from gateway_addon.wire.words import texts_in

Row = dict[str, Any]

TextId = tuple[str, int | str]
"""The table a text is in, and its row there."""

_SOURCES = {
    "contents": "SELECT id, text FROM contents",
    # the short texts of a message are only here
    "elements": "SELECT id, template FROM elements",
    "whole_bodies": "SELECT id, zstd FROM whole_bodies",
    # what elements had in one call only
    "requests": "SELECT id, body_edits FROM requests WHERE body_edits IS NOT NULL",
}

# A server-replayed call never left the proxy, and one that the addon rejected has no host
WAS_SENT = "upstream_host IS NOT NULL AND NOT (source = 'replay' AND instr(id, '~') = 0)"

# A call sends an element if the chain of its body has the node of that element, or any node below it
_CALLS_WITH = f"""
WITH RECURSIVE
picked (id) AS (SELECT value FROM json_each(:contents)),
holding (id) AS (
    SELECT value FROM json_each(:elements)
    UNION SELECT element_id FROM element_texts WHERE content_id IN picked
),
chains (id) AS (
    SELECT id FROM nodes WHERE element_id IN holding
    UNION SELECT nodes.id FROM chains JOIN nodes ON nodes.parent_id = chains.id
),
calls AS (
    SELECT id, started_at, agent_id, api_kind, upstream_host, conversation_tip_id, {WAS_SENT} AS left_the_proxy,
           (envelope_id IN picked
            OR system_tip_id IN chains OR tools_tip_id IN chains OR conversation_tip_id IN chains
            OR whole_body_id IN (SELECT value FROM json_each(:whole_bodies))
            OR id IN (SELECT value FROM json_each(:requests))
            -- where no body is stored; else a prompt may be that of the call it continues (conversations.py)
            OR (COALESCE(envelope_id, whole_body_id) IS NULL
                AND (system_prompt_id IN picked OR user_prompt_id IN picked))) IS TRUE AS in_request,
           (answer_text_id IN picked OR reasoning_text_id IN picked
            OR id IN (SELECT request_id FROM stored_tool_calls WHERE arguments_id IN picked)
            -- of tools that the server ran; the others' are in the request
            OR id IN (SELECT request_id FROM stored_tool_results WHERE result_id IN picked)) IS TRUE AS in_answer
    FROM requests
)
SELECT id, started_at, agent_id, api_kind, upstream_host, conversation_tip_id, in_request,
       in_request AND left_the_proxy AS was_sent
FROM calls WHERE in_request OR in_answer ORDER BY started_at, id
"""

_TEXTS_OF = """
SELECT place, NULL AS tool, NULL AS call_id, text
FROM (
    SELECT 'system prompt' AS place, system_prompt_id AS content_id FROM requests WHERE id = :id
    UNION ALL SELECT 'user prompt', user_prompt_id FROM requests WHERE id = :id
    UNION ALL SELECT 'reasoning', reasoning_text_id FROM requests WHERE id = :id
    UNION ALL SELECT 'answer', answer_text_id FROM requests WHERE id = :id
) JOIN contents ON contents.id = content_id
UNION ALL
SELECT 'tool arguments', name, call_id, arguments FROM tool_calls WHERE request_id = :id AND arguments IS NOT NULL
UNION ALL
SELECT 'tool result', name, call_id, text
FROM stored_tool_results JOIN contents ON contents.id = result_id WHERE request_id = :id
"""


def review_key(db: Database) -> bytes:
    """The key of this database's fingerprints."""
    key: bytes = db.execute("SELECT key FROM review_key").fetchone()[0]
    return key


def texts(db: Database) -> Iterator[tuple[TextId, str]]:
    """Every text that is stored, each once: in plain words, or as JSON of which they are a part."""
    for source, sql in _SOURCES.items():
        for row_id, value in db.execute(sql):
            yield (source, row_id), _spelt_out(value if isinstance(value, str) else _unpacked(value))


def calls_with(db: Database, texts: Collection[TextId]) -> list[Row]:
    """The calls whose request or answer has any of these texts, oldest first.

    `id`, `started_at`, `agent_id`, `api_kind`, `upstream_host`, `conversation_tip_id`; `in_request` and `was_sent`, 1
    or 0: whether the request has it, and whether it left the proxy with it.
    """
    picked = {source: json.dumps([row_id for name, row_id in texts if name == source]) for source in _SOURCES}
    return list(db.query(_CALLS_WITH, picked))


def texts_of(db: Database, request_id: str) -> list[Row]:
    """The prompts of a call and the texts of its answer: `place`, `text`, and of a tool's its name and `call_id`."""
    return list(db.query(_TEXTS_OF, {"id": request_id}))


def calls_with_credentials(db: Database) -> list[Row]:
    """The calls that left with a credential of the client's, oldest first.

    `id`, `started_at`, `upstream_host`, `provider`, `client_credential`.
    """
    return list(
        db.query(
            f"""SELECT id, started_at, upstream_host, provider, client_credential FROM requests
            WHERE client_credential IS NOT NULL AND {WAS_SENT} ORDER BY started_at, id"""
        )
    )


def refused_calls(db: Database) -> list[Row]:
    """The calls whose body was sent, and refused: a 4xx from upstream, oldest first.

    `id`, `started_at`, `upstream_host`, `http_status`, `request_bytes`.
    """
    return list(
        db.query(
            f"""SELECT id, started_at, upstream_host, http_status, request_bytes FROM requests
            WHERE outcome = 'http_error' AND http_status BETWEEN 400 AND 499 AND {WAS_SENT} ORDER BY started_at, id"""
        )
    )


def _spelt_out(text: str) -> str:
    """A text, and if it is JSON with escapes, what they stand for below it: one may write any character like that."""
    value = jsontext.parse_any(text) if "\\" in text and text[:1] in ("{", "[", '"') else None
    if value is None:
        return text
    found = (part if isinstance(part, str) else written(part.value) or "" for part in texts_in(value))
    return "\n".join([text, *found])


def _unpacked(packed: bytes) -> str:
    # a damaged body is `verify`'s to report
    try:
        return unpacked(packed).decode("utf-8", "replace")
    except (ValueError, TypeError, zstandard.ZstdError):
        return ""
