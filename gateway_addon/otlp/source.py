"""The calls of a database, as an export takes them."""

import json
from collections.abc import Callable, Iterator, Mapping

from gateway_addon.captures.finder import Finder
from gateway_addon.otlp.export import Told
from gateway_addon.otlp.spans import Texts, cleaned, spans
from gateway_addon.review import secrets
from gateway_addon.store import evidence, finished
from gateway_addon.store.database import Database
from gateway_addon.store.finished import Row
from gateway_addon.store.passages import Passages
from gateway_addon.store.selection import ALL, Selection
from gateway_addon.store.turns import assign_turns


class Stored:
    """Calls of a database that an endpoint (as it may be stored) has not been told of, or with `again` of all.

    A selection is told whole each time: nothing is remembered of it. `clean`: send texts, each as this returns it.
    """

    def __init__(
        self,
        db: Database,
        endpoint: str,
        selection: Selection = ALL,
        *,
        again: bool = False,
        clean: Callable[[str], str] | None = None,
    ) -> None:
        self._db = db
        self._endpoint = endpoint
        self._selection = selection
        self._clean = clean
        self._after = finished.told(db, endpoint) if selection.is_all and not again else 0

    def count(self) -> int:
        """How many calls there are to tell, now."""
        return finished.count_finished(self._db, self._after, self._selection)

    def calls(self) -> Iterator[Told]:
        assign_turns(self._db, self._after)
        for row in finished.finished(self._db, self._after, self._selection):
            texts = self._texts(row) if self._clean else None
            size = len(json.dumps([texts.of_call, texts.of_tools])) if texts else 0
            yield Told(row["finish_sequence"], row["id"], tuple(spans(row, texts)), size)

    def told(self, sequence: int) -> None:
        self._after = sequence
        if self._selection.is_all:
            finished.set_told(self._db, self._endpoint, sequence)

    def _texts(self, row: Row) -> Texts:
        assert self._clean
        of_call = finished.texts_of(self._db, row["id"]) | {"error_message": row["error_message"]}
        of_tools = [
            tuple(finished.text(self._db, tool[name]) for name in ("arguments_id", "result_id"))
            for tool in row["executed"]
        ]
        return Texts(of_call=cleaned(of_call, self._clean), of_tools=cleaned(of_tools, self._clean))


def cleaner(db: Database, environment: Mapping[str, str]) -> Callable[[str], str]:
    """A function that replaces the secrets in a text: those that any text of the database gives away, those of the
    environment, and what the text itself holds. All texts are looked through first. A secret's placeholder is the same
    every time."""
    finder = Finder(evidence.review_key(db), known=secrets.find(db, Passages(), environment).kinds)

    def clean(text: str) -> str:
        finder.find(text)
        finder.prepare()
        return finder.text(text)

    return clean
