"""The one thread that writes to the database, and the bounded queue before it.

Callers hand over what they have and go on: a live hook never waits for a disk. What cannot be written now is tried
again for as long as it takes, while the queue fills. When that is full, texts are left out first and rows last, both
are counted, and `Writer.close` reports them.
"""

import logging
import os
import sqlite3
import sys
import threading
import time
from collections import deque
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path

from sqlite_utils import Database

from gateway_addon.content import Content, without_text
from gateway_addon.record import Record
from gateway_addon.store.bodies import Nodes
from gateway_addon.store.database import open_database, reported, transaction
from gateway_addon.store.rows import insert_begun, replace_finished, texts
from gateway_addon.store.runs import end_run, interrupt_dead_calls, start_run

logger = logging.getLogger(__name__)

MAX_JOBS = 10_000
"""Rows that may wait; further ones are lost."""

MAX_TEXT = 64 * 1024 * 1024
"""Bytes of text that may wait; further rows go without theirs. A single larger text is taken if no other waits."""

BATCH = 200
"""Jobs per transaction."""

LINGER_SECONDS = 0.05
"""How long a job waits for others to share its transaction. A call's first row would else be written while its request
is on its way, and the two would compete for the interpreter."""

RETRY_PAUSE = 0.25
"""Seconds between two tries of a transaction."""

CLOSE_SECONDS = 10.0
"""How long the end of the proxy waits for a database that cannot be written to."""

FILE_SECONDS = 60.0
"""How long reading a file does: nobody waits for an answer meanwhile."""


@dataclass(slots=True, frozen=True)
class Loss:
    """What a writer could not keep."""

    rows: int
    """Finished calls without a row, or with one that still says `in_flight`."""
    texts: int
    """Rows without their texts."""


@dataclass(slots=True, frozen=True)
class _Job:
    record: Record
    content: Content | None
    """None for a call that has only begun."""
    size: int
    """Bytes of text it keeps in memory."""


class Writer:
    """Writes records to a database from a thread of its own. `begin` and `finish` never raise."""

    run_id: str
    """The run that this writer has registered; goes into the records it is given."""

    def __init__(self, path: Path, version: str) -> None:
        """Open or create the database and register a run of this version of the addon. Raises `StoreError`."""
        # absolute, because the current folder may change
        self._path = path.absolute()
        self._db = open_database(path)
        with reported(path):
            try:
                with transaction(self._db):
                    interrupt_dead_calls(self._db)
                    self.run_id = start_run(self._db, version)
                self._file = path.stat()
            except BaseException:
                self._db.close()
                raise
        # jobs stay in the queue until they are on the disk; the lock is never held while writing
        self._queue: deque[_Job] = deque()
        self._changed = threading.Condition()
        self._queued_text = 0
        self._lost_rows = 0
        self._lost_texts = 0
        self._closing = False
        self._abandoned = False
        self._failing_since: float | None = None
        self._waits = False
        self._warned: set[str] = set()
        self._nodes = Nodes()
        self._version = 0
        """Of the database, which changes with what others write to it."""
        self._thread = threading.Thread(target=self._run, name="gateway-addon-writer", daemon=True)
        self._thread.start()

    def begin(self, record: Record) -> None:
        """Take the row of a call that has begun, so that a crash leaves a trace of it. Never changes a row.

        A record that was handed over must not be changed any more: it is written later.
        """
        self._put(_Job(record, None, 0))

    def finish(self, record: Record, content: Content, *, wait: bool = False) -> None:
        """Take the row and texts of a finished call; they replace those of the same id. As `begin` does.

        `wait`: wait for space in the queue (reading a file) instead of losing anything (live), until nothing could be
        written for `FILE_SECONDS`.
        """
        job = _Job(record, content, _size(content))
        if wait:
            with self._changed:
                self._waits = True
                while not (self._closing or self._has_given_up() or self._has_room_for(job)):
                    self._changed.wait(RETRY_PAUSE)
        self._put(job)

    def close(self, timeout: float | None = None) -> Loss:
        """Write what waits, for at most `timeout` seconds, and end the run. May be called again.

        What is still waiting then counts as lost. Without a `timeout`: `CLOSE_SECONDS`, or what is left of
        `FILE_SECONDS` where a file was read.
        """
        with self._changed:
            self._closing = True
            self._changed.notify_all()
            if timeout is None:
                timeout = FILE_SECONDS - self._failing_for() if self._waits else CLOSE_SECONDS
            is_failing = self._failing_since is not None
        if is_failing and timeout > 0:
            logger.warning("%s: cannot be written to, waiting for at most %.0f s", self._path, timeout)
        self._thread.join(max(0.0, timeout))
        with self._changed:
            self._abandoned = True
            return Loss(self._lost_rows + _finished(self._queue), self._lost_texts)

    def _failing_for(self) -> float:
        """Seconds since nothing could be written."""
        return time.monotonic() - self._failing_since if self._failing_since is not None else 0.0

    def _has_given_up(self) -> bool:
        return self._failing_for() > FILE_SECONDS

    def _has_room_for(self, job: _Job) -> bool:
        return self._has_room() and self._has_room_for_text(job)

    def _has_room(self) -> bool:
        return len(self._queue) < MAX_JOBS

    def _has_room_for_text(self, job: _Job) -> bool:
        return not job.size or not self._queued_text or self._queued_text + job.size <= MAX_TEXT

    def _put(self, job: _Job) -> None:
        with self._changed:
            if self._closing or not self._has_room():
                self._lost_rows += _finished([job])
                return
            if not self._has_room_for_text(job):
                job = _bare(job)
                self._lost_texts += 1
            self._queue.append(job)
            self._queued_text += job.size
            if len(self._queue) in (1, BATCH):
                # the thread lingers in between: to wake it for each job would only take the interpreter from the loop
                self._changed.notify_all()

    def _run(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._queue or self._closing)
                self._changed.wait_for(lambda: len(self._queue) >= BATCH or self._closing, LINGER_SECONDS)
                batch = list(islice(self._queue, BATCH))
            if not batch:
                break
            lost = self._write(batch)
            with self._changed:
                for job in batch:
                    self._queue.popleft()
                    self._queued_text -= job.size
                self._lost_rows += lost
                self._changed.notify_all()
        try:
            end_run(self._db, self.run_id)
            self._db.close()
        except Exception as error:
            self._warn("could not close the database", error)

    def _write(self, batch: list[_Job]) -> int:
        """Write a batch, trying again until the database can be written to. Returns the rows lost."""
        while True:
            try:
                lost = self._commit(batch)
            except Exception as error:
                with self._changed:
                    if self._failing_since is None:
                        self._failing_since = time.monotonic()
                    if self._abandoned:
                        return _finished(batch)
                # once it is noted: who reads this may end the proxy
                self._warn("calls wait to be recorded", error)
                time.sleep(RETRY_PAUSE)
            else:
                with self._changed:
                    self._failing_since = None
                return lost

    def _commit(self, batch: list[_Job]) -> int:
        """Write a batch in one transaction. Returns how many rows had to be left out because of what is in them."""
        if not os.path.samestat(self._path.stat(), self._file):
            # SQLite would go on writing to the deleted one without an error
            raise FileNotFoundError("another file has taken its place")
        jobs = list(_last_of_each(batch))
        try:
            with self._transaction():
                for job in jobs:
                    _store(self._db, job, self._nodes)
        except sqlite3.OperationalError:
            raise
        except Exception:
            # one of them cannot be stored: each by itself, lest it cost the others
            return self._commit_each(jobs)
        return 0

    def _commit_each(self, jobs: list[_Job]) -> int:
        refused = []
        with self._transaction():
            for job in jobs:
                try:
                    with self._db.atomic():
                        _store(self._db, job, self._nodes)
                except sqlite3.OperationalError:
                    raise
                except Exception as error:
                    self._nodes.clear()
                    refused.append(job)
                    self._warn("a call could not be recorded", error)
        return _finished(refused)

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        try:
            with transaction(self._db):
                self._forget_if_changed()
                yield
        except BaseException:
            # rows that are undone have no ids any more
            self._nodes.clear()
            raise

    def _forget_if_changed(self) -> None:
        """Forget row ids once another connection has written, and maybe removed them. Inside a transaction."""
        (version,) = self._db.execute("PRAGMA data_version").fetchone()
        if version != self._version:
            self._version = version
            self._nodes.clear()

    def _warn(self, what: str, error: Exception) -> None:
        """Log the first failure of each sort."""
        if what not in self._warned:
            self._warned.add(what)
            # an ERROR would make `mitmdump -n -r` fail
            logger.warning("%s: %s: %s: %s", self._path, what, type(error).__name__, error)


def _finished(jobs: Iterable[_Job]) -> int:
    """How many finished calls are among the jobs. One that only began is no loss: `finish` brings the whole row."""
    return sum(job.content is not None for job in jobs)


def _last_of_each(batch: list[_Job]) -> Iterable[_Job]:
    """A batch without the beginnings of calls that have finished in it."""
    finished = {job.record.id for job in batch if job.content is not None}
    return (job for job in batch if job.content is not None or job.record.id not in finished)


def _size(content: Content) -> int:
    # not the encoded length, which would have to be computed on the caller's time
    return sum(sys.getsizeof(text) for text in texts(content)) + len(content.body or b"")


def _bare(job: _Job) -> _Job:
    """The job without its texts, and with the warning that says so."""
    assert job.content is not None
    record = replace(job.record, warnings=(*job.record.warnings, "content_dropped"))
    return replace(job, record=record, content=without_text(job.content), size=0)


def _store(db: Database, job: _Job, nodes: Nodes) -> None:
    if job.content is None:
        insert_begun(db, job.record)
    else:
        replace_finished(db, job.record, job.content, nodes)
