"""Request bodies: every element and long text stored once, a conversation as a chain, each body given back exactly.

A client sends its whole history with each call. So a call holds pointers only: to an envelope and to the last node of a
chain per part; a node is an element after the node before it, and a body that goes on where another ended shares its
chain. A retry, a fork, a compaction or a sub-agent is a chain that leaves another or begins anew.
"""

import hashlib
import json
from collections.abc import Sequence
from hashlib import blake2b
from itertools import groupby
from operator import itemgetter
from typing import Any

import zstandard
from sqlite_utils import Database

from gateway_addon.store.contents import content_id
from gateway_addon.wire.cut import CONVERSATION, SYSTEM, TOOLS, Cut, Edit, cut, fill_texts, join, split_texts

TIPS = {SYSTEM: "system_tip_id", TOOLS: "tools_tip_id", CONVERSATION: "conversation_tip_id"}
"""The column of `requests` that points at the last node of each part."""

COLUMNS = ("envelope_id", *TIPS.values(), "body_edits", "whole_body_id")
"""The columns of `requests` that say where its body is; all NULL if it is not stored."""


MAX_BODY = 64 * 1024 * 1024
"""Bytes. No longer body is read from a client, so none is stored."""


class DamagedError(Exception):
    """A stored body cannot be given back as it was."""


def store_body(db: Database, body: bytes | None) -> dict[str, Any]:
    """Store a content-decoded body and return the values of `COLUMNS`. Inside a transaction.

    Adds rows for what no call before it had: for a turn of a conversation, its new elements.
    """
    columns: dict[str, Any] = dict.fromkeys(COLUMNS)
    if body is None:
        return columns
    try:
        pieces = cut(body)
    except ValueError:
        return columns | {"whole_body_id": _whole_body_id(db, body)}
    columns["envelope_id"] = content_id(db, pieces.envelope)
    for part, elements in pieces.parts.items():
        columns[TIPS[part]] = _tip_id(db, elements)
    if pieces.edits:
        columns["body_edits"] = json.dumps(pieces.edits, ensure_ascii=False, separators=(",", ":"))
    return columns


def load_body(db: Database, request_id: str) -> bytes | None:
    """The body of a call, byte for byte as the client sent it; None if it is not stored.

    Raises `DamagedError` if what is stored does not give the body whose hash was noted.
    """
    names = ", ".join(COLUMNS)
    row = next(db.query(f"SELECT request_sha256, {names} FROM requests WHERE id = ?", [request_id]))
    try:
        body = _rebuilt(db, row)
    except (ValueError, LookupError, TypeError, zstandard.ZstdError) as error:
        raise DamagedError(f"the body of {request_id} is damaged: {error}") from error
    if body is not None and hashlib.sha256(body).hexdigest() != row["request_sha256"]:
        raise DamagedError(f"the body of {request_id} is damaged: it is not what was sent")
    return body


def stored_bodies(db: Database) -> list[str]:
    """The ids of the calls whose body is stored, oldest first."""
    sql = "SELECT id FROM requests WHERE COALESCE(envelope_id, whole_body_id) IS NOT NULL ORDER BY started_at, id"
    return [row[0] for row in db.execute(sql).fetchall()]


def unpacked(packed: bytes) -> bytes:
    """A whole body as it was stored. Raises `ValueError` or `ZstdError` for anything else, and for a larger one."""
    if zstandard.frame_content_size(packed) > MAX_BODY:
        raise ValueError("larger than any body that is stored")
    return zstandard.decompress(packed, max_output_size=MAX_BODY)


def _rebuilt(db: Database, row: dict[str, Any]) -> bytes | None:
    if row["whole_body_id"] is not None:
        sql = "SELECT zstd FROM whole_bodies WHERE id = ?"
        return unpacked(db.execute(sql, [row["whole_body_id"]]).fetchone()[0])
    if row["envelope_id"] is None:
        return None
    sql = "SELECT text FROM contents WHERE id = ?"
    envelope = db.execute(sql, [row["envelope_id"]]).fetchone()[0]
    parts = {part: elements(db, row[tip]) for part, tip in TIPS.items() if row[tip] is not None}
    edits = [Edit(*edit) for edit in json.loads(row["body_edits"] or "[]")]
    return join(Cut(envelope, parts, edits))


def elements(db: Database, tip_id: int) -> list[str]:
    """The elements of the chain that ends at a node, first to last: JSON texts, without what was edited out.

    Raises `ValueError` if they are more than any body.
    """
    found, size = [], 0
    for _, group in groupby(db.execute(_CHAIN, [tip_id]), key=itemgetter(0)):
        texts = list(group)
        found.append(fill_texts(texts[0][1], [text for _, _, text in texts if text is not None]))
        size += len(found[-1])
        if size > MAX_BODY:
            raise ValueError("larger than any body that is stored")
    return found


# A node is newer than its parent, so that ids are in the order of the chain
_CHAIN = """
WITH RECURSIVE chain (id, parent_id, element_id) AS (
    SELECT id, parent_id, element_id FROM nodes WHERE id = ?
    UNION ALL
    SELECT nodes.id, nodes.parent_id, nodes.element_id FROM chain JOIN nodes ON nodes.id = chain.parent_id
    -- in a damaged file a chain may lead back into itself
    WHERE nodes.id < chain.id
)
SELECT chain.id, elements.template, contents.text
FROM chain
JOIN elements ON elements.id = chain.element_id
LEFT JOIN element_texts ON element_texts.element_id = elements.id
LEFT JOIN contents ON contents.id = element_texts.content_id
ORDER BY chain.id, element_texts.position
"""


def _tip_id(db: Database, elements: Sequence[str]) -> int | None:
    """The last node of the chain of these elements, of which what is not there yet is added."""
    tip = None
    for element in elements:
        element_id = _element_id(db, element)
        sql = "SELECT id FROM nodes WHERE parent_id IS ? AND element_id = ?"
        if found := db.execute(sql, [tip, element_id]).fetchone():
            tip = int(found[0])
        else:
            sql = "INSERT INTO nodes (parent_id, element_id) VALUES (?, ?)"
            tip = db.execute(sql, [tip, element_id]).lastrowid
    return tip


def _element_id(db: Database, element: str) -> int | None:
    digest = blake2b(element.encode(), digest_size=16).digest()
    # most elements are there already, and need not be looked into
    if found := db.execute("SELECT id FROM elements WHERE hash = ?", [digest]).fetchone():
        return int(found[0])
    template, texts = split_texts(element)
    element_id = db.execute("INSERT INTO elements (hash, template) VALUES (?, ?)", [digest, template]).lastrowid
    sql = "INSERT INTO element_texts (element_id, position, content_id) VALUES (?, ?, ?)"
    for position, text in enumerate(texts):
        db.execute(sql, [element_id, position, content_id(db, text)])
    return element_id


def _whole_body_id(db: Database, body: bytes) -> int | None:
    digest = blake2b(body, digest_size=16).digest()
    if found := db.execute("SELECT id FROM whole_bodies WHERE hash = ?", [digest]).fetchone():
        return int(found[0])
    sql = "INSERT INTO whole_bodies (hash, zstd) VALUES (?, ?)"
    return db.execute(sql, [digest, zstandard.compress(body)]).lastrowid
