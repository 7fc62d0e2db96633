"""What happens with a begun and a finished call: each sink is told of both. A further one is a file here and a line
where `proxy.hooks` makes the list."""

import logging
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Protocol

from gateway_addon.content import Content
from gateway_addon.record import Record

logger = logging.getLogger(__name__)


class Sink(Protocol):
    """Takes calls. Its methods are called in mitmproxy's hooks, so they never wait; but for `finish`, if it may.

    Records and texts are the sink's from then on: nobody changes them any more.
    """

    name: str
    """For a message that it has failed."""

    def begin(self, record: Record) -> None:
        """A live call has begun; `record` says what its request told. It may be told again, or never be finished."""

    def finish(self, record: Record, content: Content, *, wait: bool) -> None:
        """A call has ended. `wait`: the sink may wait for room (reading a file) rather than lose anything."""

    def turn_away(self) -> None:
        """A stranger was refused whose call gets no record, because there are too many of them."""

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

    def turn_away(self) -> None:
        for sink in self._sinks:
            self._guarded(sink, lambda sink: sink.turn_away())

    def close(self) -> bool:
        ends = [self._guarded(sink, lambda sink: sink.close()) for sink in self._sinks]
        return all(ends)

    def _guarded(self, sink: Sink, tell: Callable[[Sink], object]) -> bool:
        """What a sink says to what it is told; true where it says nothing, false where it fails."""
        try:
            return tell(sink) is not False
        except Exception as error:
            if sink.name not in self._failed:
                self._failed.add(sink.name)
                # where, not what: the text of an exception may quote a prompt
                place = traceback.extract_tb(error.__traceback__)[-1]
                where = f"{Path(place.filename).name}:{place.lineno}"
                logger.warning("gateway-addon: %s failed: %s at %s", sink.name, type(error).__name__, where)
            return False
