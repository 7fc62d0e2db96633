"""Full-text search over prompts, answers, tool arguments and results.

The index is made and brought up to date when somebody searches, never on the way of a call. It holds words and where
they are; the texts stay in `contents` (FTS5, external content).
"""

from collections.abc import Sequence
from itertools import batched

from sqlite_utils import Database

from gateway_addon.store.database import transaction
from gateway_addon.store.queries import Row, short_id

BATCH = 200
"""Texts that are indexed in one transaction: the thread of a proxy that writes to the same file waits for these."""

MARKS = ("«", "»")
"""Around a word that was found."""

SNIPPET_WORDS = 24

_CREATE = (
    "CREATE VIRTUAL TABLE IF NOT EXISTS search_index USING fts5 (text, content = 'contents', content_rowid = 'id')"
)

# `search_index_docsize` is FTS5's own list of what it has indexed
_UNINDEXED = """
SELECT DISTINCT content_id FROM texts
WHERE content_id IS NOT NULL AND content_id NOT IN (SELECT id FROM search_index_docsize)
"""

# another search may have been faster
_INDEX = """
INSERT INTO search_index (rowid, text)
SELECT id, text FROM contents WHERE id = ? AND id NOT IN (SELECT id FROM search_index_docsize)
"""

# the words of a text are looked up first, then the calls it belongs to: the first one, and how many
_FOUND = """
WITH found AS MATERIALIZED (
    SELECT rowid AS content_id, rank, snippet(search_index, 0, :before, :after, '…', :words) AS snippet
    FROM search_index WHERE search_index MATCH :query ORDER BY rank LIMIT :limit
)
SELECT MIN(started_at) AS started_at, request_id, place, name, COUNT(DISTINCT request_id) AS calls, snippet
FROM found JOIN texts USING (content_id) JOIN requests ON requests.id = request_id
GROUP BY content_id, place, name
ORDER BY rank, started_at
"""


def unindexed_texts(db: Database, batch_size: int = BATCH) -> list[tuple[int, ...]]:
    """What the index lacks, in batches for `index_texts`. The first time this creates the index."""
    with transaction(db):
        db.execute(_CREATE)
    new = (row[0] for row in db.execute(_UNINDEXED).fetchall())
    return list(batched(new, batch_size, strict=False))


def index_texts(db: Database, batch: Sequence[int]) -> None:
    """Add texts, by their ids in `contents`, to the index."""
    with transaction(db):
        for content_id in batch:
            db.execute(_INDEX, [content_id])


def drop_index(db: Database) -> None:
    """Forget the index, as one must before texts are deleted: the next search makes it anew. Inside a transaction."""
    db.execute("DROP TABLE IF EXISTS search_index")


def find_texts(db: Database, words: str, limit: int) -> list[Row]:
    """Where texts have all of `words`, best match first: at most `limit` texts, among those that are indexed.

    Columns: `started_at`, `request_id` and `short_id` of the first call with the text, `place` (as in the view
    `texts`), `name` of the tool, `calls` (how many have the text), `snippet`. Raises `ValueError` if `words` has none.
    """
    # each in quotes, so that nothing in it is taken for an operator of the query language
    query = " ".join(f'"{word.replace('"', '""')}"' for word in words.split() if any(map(str.isalnum, word)))
    if not query:
        raise ValueError("no word to search for")
    before, after = MARKS
    values = {"query": query, "limit": limit, "before": before, "after": after, "words": SNIPPET_WORDS}
    return [row | {"short_id": short_id(db, row["request_id"])} for row in list(db.query(_FOUND, values))]
