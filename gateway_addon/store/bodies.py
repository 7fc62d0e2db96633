"""Request bodies: every element and long text stored once, a conversation as a chain, each body given back exactly.

A client sends its whole history with each call. So a call holds pointers only: to an envelope and to the last node of a
chain per part; a node is an element after the node before it, and a body that goes on where another ended shares its
chain. A retry, a fork, a compaction or a sub-agent is a chain that leaves another or begins anew.
"""

import hashlib
import json
from bisect import bisect_left
from collections.abc import Iterable, Sequence
from hashlib import blake2b
from itertools import groupby
from operator import itemgetter
from typing import Any, NamedTuple

import zstandard
from sqlite_utils import Database

from gateway_addon import api
from gateway_addon.store.contents import content_id
from gateway_addon.wire.cut import (
    CONVERSATION,
    SYSTEM,
    TOOLS,
    Cut,
    Edit,
    edits,
    envelope,
    fill_texts,
    join,
    split_texts,
)
from gateway_addon.wire.elements import Body, Element, Part, read

TIPS = {SYSTEM: "system_tip_id", TOOLS: "tools_tip_id", CONVERSATION: "conversation_tip_id"}
"""The column of `requests` that points at the last node of each part."""

COLUMNS = ("envelope_id", *TIPS.values(), "body_edits", "whole_body_id")
"""The columns of `requests` that say where its body is; all NULL if it is not stored."""


MAX_BODY = 64 * 1024 * 1024
"""Bytes. No longer body is read from a client, so none is stored."""


class DamagedError(Exception):
    """A stored body cannot be given back as it was."""


class Chain(NamedTuple):
    """The elements of a part of a body, as they are stored."""

    elements: list[Element]
    nodes: list[int]
    """Their row ids."""
    edits: list[Edit]


class Nodes:
    """What is known of the table of nodes. It must be forgotten as soon as anybody else writes to that, or the
    transaction is undone in which it was learnt."""

    MAX = 50_000
    """Nodes worth remembering; then it is begun anew."""

    def __init__(self) -> None:
        self._ids: dict[tuple[int | None, bytes], int] = {}
        """Row ids, by the node before and the digest of the element."""
        self._chains: dict[str, Chain] = {}
        """By part, that of the last body."""

    def clear(self) -> None:
        self._ids.clear()
        self._chains.clear()

    def chain(self, db: Database, part: Part) -> "Chain":
        """The chain of a part's elements, of which what is not there yet is added."""
        if len(self._ids) > self.MAX:
            self.clear()
        known = self._chains.get(part.name, Chain([], [], []))
        # bodies share the elements that are the same
        same = bisect_left(
            range(min(len(known.elements), len(part.elements))),
            True,
            key=lambda at: known.elements[: at + 1] != part.elements[: at + 1],
        )
        nodes = known.nodes[:same]
        for element in part.elements[same:]:
            nodes.append(self._node(db, nodes[-1] if nodes else None, element))
        passing = [edit for edit in known.edits if edit.element < same] + edits(part, same)
        self._chains[part.name] = Chain(part.elements, nodes, passing)
        return self._chains[part.name]

    def _node(self, db: Database, parent: int | None, element: Element) -> int:
        known = self._ids.get((parent, element.digest))
        if known is None:
            known = self._ids[parent, element.digest] = _node_id(db, parent, element)
        return known


def store_body(
    db: Database, body: bytes | None, elements: Body | None = None, nodes: Nodes | None = None
) -> dict[str, Any]:
    """Store a content-decoded body and return the values of `COLUMNS`. Inside a transaction.

    Adds rows for what no call before it had: for a turn of a conversation, its new elements. `elements`: what was read
    of the body, if that is at hand.
    """
    columns: dict[str, Any] = dict.fromkeys(COLUMNS)
    if body is None:
        return columns
    try:
        if elements is None:
            elements = read(body, api.members())
        columns["envelope_id"] = content_id(db, envelope(elements, api.members()))
    except ValueError:
        return columns | {"whole_body_id": _whole_body_id(db, body)}
    nodes = nodes or Nodes()
    chains = [(part.name, nodes.chain(db, part)) for part in elements.parts]
    columns |= {TIPS[name]: chain.nodes[-1] for name, chain in chains}
    if passing := [edit for _, chain in chains for edit in chain.edits]:
        columns["body_edits"] = json.dumps(_shortened(passing), ensure_ascii=False, separators=(",", ":"))
    return columns


def read_elements(body: bytes | None, known: Body | None) -> Body | None:
    """A body as its elements: `known` if it is of this very body; None if it cannot be taken apart."""
    if body is None or (known and known.sent is body):
        return known
    try:
        return read(body, api.members())
    except ValueError:
        return None


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
        return _whole_body(db, row["whole_body_id"])
    if row["envelope_id"] is None:
        return None
    sql = "SELECT text FROM contents WHERE id = ?"
    text = db.execute(sql, [row["envelope_id"]]).fetchone()[0]
    parts = {part: elements(db, row[tip]) for part, tip in TIPS.items() if row[tip] is not None}
    return join(Cut(text, parts, _in_full(json.loads(row["body_edits"] or "{}"))), api.members())


type _StoredEdits = dict[str, list[tuple[int, int, str | int]]]
"""By part: element, offset and text, or the number of the edit that has the same text, of all counted from 0."""


def _shortened(passing: Sequence[Edit]) -> _StoredEdits:
    """Edits as they are stored."""
    stored: _StoredEdits = {}
    numbers: dict[str, int] = {}
    for number, (part, element, offset, text) in enumerate(passing):
        seen = numbers.setdefault(text, number)
        stored.setdefault(part, []).append((element, offset, text if seen == number else seen))
    return stored


def _in_full(stored: _StoredEdits | list[list[Any]]) -> list[Edit]:
    """`_shortened` undone; as a list they are in full already, as older files have them. Raises `ValueError`."""
    if isinstance(stored, list):
        return [Edit(*edit) for edit in stored]
    if not isinstance(stored, dict):
        raise ValueError("no edits")
    passing: list[Edit] = []
    for part, passages in stored.items():
        for element, offset, text in passages:
            passing.append(Edit(part, element, offset, passing[text].text if isinstance(text, int) else text))
    return passing


def edit_texts(db: Database, request_id: str) -> list[str]:
    """What the elements of a call's body had in it only, each text once."""
    stored = db.execute("SELECT body_edits FROM requests WHERE id = ?", [request_id]).fetchone()[0]
    return list(dict.fromkeys(edit.text for edit in _in_full(json.loads(stored or "{}"))))


def elements(db: Database, tip_id: int) -> list[str]:
    """The elements of the chain that ends at a node, first to last: JSON texts, without what was edited out.

    Raises `ValueError` if they are more than any body.
    """
    return _filled(db.execute(_CHAIN, {"tip": tip_id, "id": None}))


def element(db: Database, element_id: int) -> str:
    """The JSON text of an element, without what was edited out."""
    sql = """SELECT elements.id, template, text FROM elements
             LEFT JOIN element_texts ON element_texts.element_id = elements.id
             LEFT JOIN contents ON contents.id = content_id
             WHERE elements.id = ? ORDER BY position"""
    return _filled(db.execute(sql, [element_id]))[0]


def whole_body(db: Database, row_id: int) -> str:
    """The text of a body that is stored as a whole, as far as it is one; "" if it is damaged."""
    try:
        return _whole_body(db, row_id).decode("utf-8", "replace")
    except (ValueError, zstandard.ZstdError):
        # `verify` reports it
        return ""


def new_messages(db: Database, request_id: str, tip_id: int) -> int:
    """How many elements of the chain that ends at a node are behind the last one where an earlier call's ended."""
    return int(db.execute(_LENGTH, {"tip": tip_id, "id": request_id}).fetchone()[0])


def _filled(rows: Iterable[tuple[int, str, str | None]]) -> list[str]:
    found, size = [], 0
    for _, group in groupby(rows, key=itemgetter(0)):
        texts = list(group)
        found.append(fill_texts(texts[0][1], [text for _, _, text in texts if text is not None]))
        size += len(found[-1])
        if size > MAX_BODY:
            raise ValueError("larger than any body that is stored")
    return found


# A node is newer than its parent, so that ids are in the order of the chain
_IS_NEW = """
:id IS NULL OR NOT EXISTS (
    SELECT 1 FROM requests AS earlier, requests AS asked
    WHERE earlier.conversation_tip_id = nodes.id AND asked.id = :id
      AND (earlier.started_at, earlier.id) < (asked.started_at, asked.id)
)
"""
_NODES = f"""
WITH RECURSIVE chain (id, parent_id, element_id) AS (
    SELECT id, parent_id, element_id FROM nodes WHERE id = :tip AND ({_IS_NEW})
    UNION ALL
    SELECT nodes.id, nodes.parent_id, nodes.element_id FROM chain JOIN nodes ON nodes.id = chain.parent_id
    -- in a damaged file a chain may lead back into itself
    WHERE nodes.id < chain.id AND ({_IS_NEW})
)
"""
_LENGTH = f"{_NODES} SELECT COUNT(*) FROM chain"
_CHAIN = f"""
{_NODES}
SELECT chain.id, elements.template, contents.text
FROM chain
JOIN elements ON elements.id = chain.element_id
LEFT JOIN element_texts ON element_texts.element_id = elements.id
LEFT JOIN contents ON contents.id = element_texts.content_id
ORDER BY chain.id, element_texts.position
"""


def _whole_body(db: Database, row_id: int) -> bytes:
    return unpacked(db.execute("SELECT zstd FROM whole_bodies WHERE id = ?", [row_id]).fetchone()[0])


def _node_id(db: Database, parent_id: int | None, element: Element) -> int:
    element_id = _element_id(db, element)
    sql = "SELECT id FROM nodes WHERE parent_id IS ? AND element_id = ?"
    if found := db.execute(sql, [parent_id, element_id]).fetchone():
        return int(found[0])
    sql = "INSERT INTO nodes (parent_id, element_id) VALUES (?, ?)"
    node_id = db.execute(sql, [parent_id, element_id]).lastrowid
    assert node_id is not None
    return node_id


def _element_id(db: Database, element: Element) -> int | None:
    digest = element.digest
    # most elements are there already, and need not be looked into
    if found := db.execute("SELECT id FROM elements WHERE hash = ?", [digest]).fetchone():
        return int(found[0])
    template, texts = split_texts(element.settled[0])
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
