"""The sink that writes to the database."""

import logging
from pathlib import Path

from gateway_addon.content import Content
from gateway_addon.record import Record
from gateway_addon.store.writer import Writer

logger = logging.getLogger(__name__)


class Store:
    """Rows and texts, by a writer's thread. Raises `StoreError` if the database cannot be opened."""

    name = "the database"

    def __init__(self, path: Path, version: str) -> None:
        self._writer = Writer(path, version)
        self.run_id = self._writer.run_id
        """The run that goes into the records of this sink."""
        self._reads_file = False

    def begin(self, record: Record) -> None:
        self._writer.begin(record)

    def finish(self, record: Record, content: Content, *, wait: bool) -> None:
        self._reads_file = self._reads_file or wait
        self._writer.finish(record, content, wait=wait)

    def turn_away(self) -> None:
        """It has no row."""

    def close(self) -> bool:
        lost = self._writer.close()
        is_whole = not (self._reads_file and lost.rows)
        if lost.rows or lost.texts:
            level = logging.WARNING if is_whole else logging.ERROR
            logger.log(level, "gateway-addon: %d rows and %d texts could not be stored", lost.rows, lost.texts)
        return is_whole
