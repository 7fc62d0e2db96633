"""Texts and lists of tool names, each stored once however often it is sent."""

import json
from collections.abc import Sequence
from hashlib import blake2b
from typing import overload

from sqlite_utils import Database

from gateway_addon.wire.text import storable


@overload
def content_id(db: Database, text: str) -> int: ...
@overload
def content_id(db: Database, text: None) -> None: ...
@overload
def content_id(db: Database, text: str | None) -> int | None: ...
def content_id(db: Database, text: str | None) -> int | None:
    """The row of `contents` that holds `text`, inserted if there is none; None for None. Inside a transaction."""
    if text is None:
        return None
    # a lone surrogate becomes `?`
    data = text.encode("utf-8", "replace")
    digest = blake2b(data, digest_size=16).digest()
    # look before inserting: most texts are there already, and need not be handed to SQLite
    found = db.execute("SELECT id FROM contents WHERE hash = ?", [digest]).fetchone()
    if found:
        return int(found[0])
    # as bytes, which need not be encoded once more: SQLite's databases are in UTF-8 where nobody says otherwise
    return db.execute("INSERT INTO contents (hash, text) VALUES (?, CAST(? AS TEXT))", [digest, data]).lastrowid


def tool_set_id(db: Database, names: Sequence[str]) -> int | None:
    """The row of `tool_sets` that holds these names, inserted if there is none; None for no names.

    A name that occurs twice counts once. Inside a transaction.
    """
    if not names:
        return None
    text = json.dumps(list(dict.fromkeys(map(storable, names))), ensure_ascii=False)
    found = db.execute("SELECT id FROM tool_sets WHERE names = ?", [text]).fetchone()
    if found:
        return int(found[0])
    return db.execute("INSERT INTO tool_sets (names) VALUES (?)", [text]).lastrowid
