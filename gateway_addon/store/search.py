"""Full-text search over every text there is: prompts, answers, tool arguments and results, and all stored bodies.

The index is made and brought up to date when somebody searches, never on the way of a call. It holds words and where
they are; the texts stay in `contents` (FTS5, external content), to which those of bodies are added that are not there
yet: then a text is found once, whether it was an answer, a prompt or in a history.
"""

from collections.abc import Iterable, Iterator, Sequence
from itertools import batched

from sqlite_utils import Database

from gateway_addon.api.prompts import clean
from gateway_addon.api.values import written
from gateway_addon.store import bodies
from gateway_addon.store.contents import content_id
from gateway_addon.store.database import transaction
from gateway_addon.store.queries import Row, short_id
from gateway_addon.store.selection import ALL, Selection
from gateway_addon.wire import jsontext
from gateway_addon.wire.words import Arguments, texts_in

BATCH = 200
"""Texts that are indexed in one transaction: the thread of a proxy that writes to the same file waits for these."""

MARKS = ("«", "»")
"""Around a word that was found."""

SNIPPET_WORDS = 24

Item = tuple[str, int | str]
"""Something to be indexed: the table that holds it, and its id there."""

_CREATE = (
    """CREATE VIRTUAL TABLE IF NOT EXISTS search_index
    USING fts5 (text, content = 'readable_texts', content_rowid = 'id')""",
    # the texts of stored bodies, one by one
    """CREATE TABLE IF NOT EXISTS search_held (
        -- `elements`, `contents` (an envelope), `whole_bodies` or `requests` (what its elements had in this call only)
        holder TEXT NOT NULL,
        holder_id NOT NULL,
        position INTEGER NOT NULL,
        -- NULL: the holder was looked into, and has none
        content_id INTEGER REFERENCES contents (id),
        PRIMARY KEY (holder, holder_id, position)
    ) WITHOUT ROWID""",
)

# what holds texts besides others, all of which `search_held` is to name
_HOLDERS = {
    "elements": "SELECT id FROM elements",
    "contents": "SELECT DISTINCT envelope_id FROM requests WHERE envelope_id IS NOT NULL",
    "whole_bodies": "SELECT id FROM whole_bodies",
    "requests": "SELECT id FROM requests WHERE body_edits IS NOT NULL",
}
_UNREAD = "SELECT * FROM ({ids}) EXCEPT SELECT holder_id FROM search_held WHERE holder = '{holder}'"

# `search_index_docsize` is FTS5's own list of what it has indexed
_UNINDEXED = """
SELECT DISTINCT content_id FROM texts
WHERE content_id IS NOT NULL AND content_id NOT IN (SELECT id FROM search_index_docsize)
"""

# another search may have been faster
_INDEX = """
INSERT INTO search_index (rowid, text)
SELECT id, text FROM readable_texts WHERE id = ? AND id NOT IN (SELECT id FROM search_index_docsize)
"""

# the words of a text are looked up first, then the calls it belongs to: the first one, and how many
_FOUND = """
WITH RECURSIVE
found AS MATERIALIZED (
    SELECT rowid AS content_id, rank, snippet(search_index, 0, :before, :after, '…', :words) AS snippet
    FROM search_index WHERE search_index MATCH :query ORDER BY rank LIMIT {found}
),
held AS MATERIALIZED (
    SELECT DISTINCT content_id, holder, holder_id
    FROM search_held WHERE content_id IN (SELECT content_id FROM found)
),
-- a call sends an element if the chain of its body has the node of that element, or any node below it
chains (content_id, node_id) AS (
    SELECT content_id, nodes.id FROM held JOIN nodes ON element_id = holder_id WHERE holder = 'elements'
    UNION
    SELECT content_id, nodes.id FROM chains JOIN nodes ON parent_id = node_id
),
-- what is known of a call says more of a place than where in its body that is; calls by number, which is counted faster
places (content_id, call, place, name, is_vague) AS MATERIALIZED (
    SELECT content_id, (SELECT rowid FROM requests WHERE id = request_id), place, name, 0
    FROM texts WHERE content_id IN (SELECT content_id FROM found)
    UNION ALL SELECT content_id, requests.rowid, 'system prompt', NULL, 1
    FROM chains JOIN requests ON system_tip_id = node_id
    UNION ALL SELECT content_id, requests.rowid, 'tools', NULL, 1 FROM chains JOIN requests ON tools_tip_id = node_id
    UNION ALL SELECT content_id, requests.rowid, 'history', NULL, 1
    FROM chains JOIN requests ON conversation_tip_id = node_id
    UNION ALL SELECT content_id, requests.rowid, 'request', NULL, 1
    FROM held JOIN requests ON envelope_id = holder_id WHERE holder = 'contents'
    UNION ALL SELECT content_id, requests.rowid, 'request', NULL, 1
    FROM held JOIN requests ON whole_body_id = holder_id WHERE holder = 'whole_bodies'
    UNION ALL SELECT content_id, requests.rowid, 'request', NULL, 1
    FROM held JOIN requests ON id = holder_id WHERE holder = 'requests'
)
SELECT started_at, request_id, place, name, calls, snippet
FROM (
    SELECT MIN(started_at || is_vague || id), started_at, id AS request_id, place, name,
           COUNT(DISTINCT call) AS calls, snippet, rank, content_id, call, is_vague
    -- in this order: CROSS keeps it
    FROM places CROSS JOIN found USING (content_id) CROSS JOIN requests ON requests.rowid = call
    WHERE {condition}
    GROUP BY content_id
) AS text
-- a prompt or result in several parts is found as a whole, not once more by its part
WHERE NOT is_vague OR NOT EXISTS (
    SELECT 1 FROM places AS whole JOIN contents ON contents.id = whole.content_id
    WHERE whole.call = text.call AND NOT whole.is_vague
      AND instr(contents.text, (SELECT text FROM contents WHERE id = text.content_id))
)
ORDER BY rank, started_at LIMIT :limit
"""


# for whoever can only read: texts that the index lacks are looked through, as they are the latest
_PAGE = """
WITH found AS MATERIALIZED (
    {indexed}
    SELECT id AS content_id, substr(text, max(1, instr(lower(text), lower(trim(:words))) - 80), 240) AS snippet
    FROM contents WHERE id > {last} AND trim(:words) <> '' AND instr(lower(text), lower(trim(:words)))
),
ids AS MATERIALIZED (SELECT content_id FROM found),
-- of each place the latest call, and how many
places AS ({places})
SELECT started_at, place, tool, snippet AS text, request_id, session_id, calls
FROM places JOIN found USING (content_id) ORDER BY started_at DESC LIMIT 200
"""

_PAGE_INDEXED = """SELECT * FROM (
        SELECT rowid AS content_id, snippet(search_index, 0, '«', '»', '…', 24) AS snippet FROM search_index
        -- every word in quotes, so that nothing in it is taken for an operator
        WHERE search_index MATCH '"' || replace(replace(trim(:words), '"', ''), ' ', '" "') || '"'
        ORDER BY rank LIMIT 200
    )
    UNION ALL
"""

_PAGE_PLACE = """
SELECT {column} AS content_id, '{place}' AS place, {tool} AS tool, MAX(started_at) AS started_at,
       requests.id AS request_id, session_id, COUNT(*) AS calls
FROM {holder} WHERE {column} IN ids GROUP BY {column}
"""

_PAGE_PLACES = (
    ("system_prompt_id", "system prompt", "NULL", "requests"),
    ("user_prompt_id", "user prompt", "NULL", "requests"),
    ("reasoning_text_id", "reasoning", "NULL", "requests"),
    ("answer_text_id", "answer", "NULL", "requests"),
    ("arguments_id", "tool arguments", "name", "stored_tool_calls JOIN requests ON requests.id = request_id"),
    ("result_id", "tool result", "name", "stored_tool_results JOIN requests ON requests.id = request_id"),
)


def page_query(db: Database) -> str:
    """SQL that finds the texts of calls with all of `:words`, for who can only read the file: with the index that is
    there, and without one for what it lacks."""
    names = ("column", "place", "tool", "holder")
    places = "UNION ALL".join(_PAGE_PLACE.format(**dict(zip(names, place, strict=True))) for place in _PAGE_PLACES)
    if not db["search_index"].exists():
        return _PAGE.format(indexed="", last="0", places=places)
    last = "(SELECT COALESCE(MAX(id), 0) FROM search_index_docsize)"
    return _PAGE.format(indexed=_PAGE_INDEXED, last=last, places=places)


def unindexed_texts(db: Database, batch_size: int = BATCH) -> list[tuple[Item, ...]]:
    """What the index lacks, in batches for `index_texts`. The first time this creates the index."""
    with transaction(db):
        for statement in _CREATE:
            db.execute(statement)
    new: list[Item] = [
        (holder, row[0])
        for holder, ids in _HOLDERS.items()
        for row in db.execute(_UNREAD.format(ids=ids, holder=holder)).fetchall()
    ]
    new += [("texts", row[0]) for row in db.execute(_UNINDEXED).fetchall()]
    return list(batched(new, batch_size, strict=False))


def index_texts(db: Database, batch: Sequence[Item]) -> None:
    """Add texts to the index: one by its id in `contents` (`texts`), or all that something holds."""
    with transaction(db):
        for holder, holder_id in batch:
            if holder == "texts":
                db.execute(_INDEX, [holder_id])
            else:
                _index_held(db, holder, holder_id)


def _index_held(db: Database, holder: str, holder_id: int | str) -> None:
    found = list(dict.fromkeys(_ids_of(db, _held(db, holder, holder_id))))
    for position, content in enumerate(found or [None]):
        db.execute("INSERT OR IGNORE INTO search_held VALUES (?, ?, ?, ?)", [holder, holder_id, position, content])
        db.execute(_INDEX, [content])


def _ids_of(db: Database, texts: Iterable[str | Arguments]) -> Iterator[int]:
    """The texts' rows in `contents`."""
    for text in texts:
        if isinstance(text, Arguments):
            yield _arguments_id(db, text)
        elif words := clean(text):
            yield content_id(db, words)


def _arguments_id(db: Database, arguments: Arguments) -> int:
    """The text of arguments: the one of the answer that made the call, where it is recorded."""
    sql = """SELECT DISTINCT contents.id, text FROM stored_tool_calls JOIN contents ON contents.id = arguments_id
             WHERE call_id = ?"""
    for row_id, text in db.execute(sql, [arguments.call_id]).fetchall():
        if jsontext.parse_any(text) == arguments.value:
            return int(row_id)
    return content_id(db, clean(written(arguments.value) or "{}"))


def _held(db: Database, holder: str, holder_id: int | str) -> Iterator[str | Arguments]:
    """The texts that something holds."""
    match holder:
        case "elements":
            yield from _texts_of(bodies.element(db, int(holder_id)))
        case "contents":
            yield from _texts_of(db.execute("SELECT text FROM contents WHERE id = ?", [holder_id]).fetchone()[0])
        case "whole_bodies":
            yield from _texts_of(bodies.whole_body(db, int(holder_id)))
        case "requests":
            yield from bodies.edit_texts(db, str(holder_id))


def _texts_of(text: str) -> Iterator[str | Arguments]:
    try:
        yield from texts_in(jsontext.parse(text))
    except ValueError:
        yield text


def drop_index(db: Database) -> None:
    """Forget the index, as one must before texts are deleted: the next search makes it anew. Inside a transaction.

    Texts that were there for the index only are left for whoever deletes what nothing refers to.
    """
    db.execute("DROP TABLE IF EXISTS search_index")
    db.execute("DROP TABLE IF EXISTS search_held")


def find_texts(db: Database, words: str, limit: int, selection: Selection = ALL) -> list[Row]:
    """Where texts of selected calls have all of `words`, best match first: at most `limit` texts, of those indexed.

    A word that ends with `*` stands for all that begin so. Columns: `started_at`, `request_id` and `short_id` of the
    first call with the text, `place` (as in the view `texts`; else where in a body it stands: `system prompt`, `tools`,
    `history`, `request`), `name` of the tool, `calls` (how many have the text, in whatever place), `snippet`. Raises
    `ValueError` if `words` has none.
    """
    query = " ".join(_term(word) for word in words.split() if any(map(str.isalnum, word)))
    if not query:
        raise ValueError("no word to search for")
    condition, selected = selection.condition()
    # which texts are those of selected calls is known only in the end
    sql = _FOUND.format(condition=condition, found=":limit" if selection.is_all else -1)
    before, after = MARKS
    values = {"query": query, "limit": limit, "before": before, "after": after, "words": SNIPPET_WORDS} | selected
    return [row | {"short_id": short_id(db, row["request_id"])} for row in list(db.query(sql, values))]


def _term(word: str) -> str:
    # in quotes, so that nothing in it is taken for an operator of the query language
    beginning = word.rstrip("*")
    return f'"{beginning.replace('"', '""')}"{"*" if beginning != word else ""}'
