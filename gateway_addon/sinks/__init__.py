"""What happens with a begun and a finished call: each sink is told of both. A further one is a file here and a line
where `proxy.hooks` makes the list."""

import logging
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Protocol

from gateway_addon.record import Content, Record

logger = logging.getLogger(__name__)


class Sink(Protocol):
    """Takes calls. Its methods are called in mitmproxy's hooks, so they never wait; but for `finish`, if it may."""

    name: str
    """For a message that it has failed."""

    def begin(self, record: Record) -> None:
        """A live call has begun; `record` says what its request told. It may be told again, or never be finished."""

    def finish(self, record: Record, content: Content, *, wait: bool) -> None:
        """A call has ended. `wait`: the sink may wait for room (reading a file) rather than lose anything."""

    def close(self) -> bool:
        """The proxy ends. Called once, last. False if rows of a file are missing, so that the reading has failed."""


class Sinks:
    """The sinks in force, each behind a wall: one that fails is reported once and harms neither call nor others."""

    def __init__(self, sinks: Sequence[Sink]) -> None:
        self._sinks = tuple(sinks)
        self._failed: set[str] = set()

    def begin(self, record: Record) -> None:
        for sink in self._sinks:
            self._guarded(sink, lambda sink: sink.begin(record))

    def finish(self, record: Record, content: Content, *, wait: bool) -> None:
        for sink in self._sinks:
            self._guarded(sink, lambda sink: sink.finish(record, content, wait=wait))

    def close(self) -> bool:
        are_whole: list[bool] = []
        for sink in self._sinks:
            self._guarded(sink, lambda sink: are_whole.append(sink.close()))
        return all(are_whole)

    def _guarded(self, sink: Sink, tell: Callable[[Sink], object]) -> None:
        try:
            tell(sink)
        except Exception as error:
            if sink.name not in self._failed:
                self._failed.add(sink.name)
                # where, not what: the text of an exception may quote a prompt
                place = traceback.extract_tb(error.__traceback__)[-1]
                where = f"{Path(place.filename).name}:{place.lineno}"
                logger.warning("gateway-addon: %s failed: %s at %s", sink.name, type(error).__name__, where)
