"""Server-sent events: a byte stream in, events out.

A pure state machine (WHATWG HTML, "Server-sent events"). It follows the standard except at the end
of the data, where the standard drops an event without its blank line: what it says was paid for, so it is given.
"""

import re
from typing import NamedTuple

MAX_EVENT = 32 * 1024 * 1024
"""Bytes of one event, comments before it included, above which it is passed on unread."""

MEDIA_TYPE = "text/event-stream"

_BOM = b"\xef\xbb\xbf"
# Not splitlines(): on str it also breaks at U+2028 and U+0085, which JSON strings may contain
_LINE_END = re.compile(rb"\r\n|\n|\r")


_STREAM_STARTS = (b"data:", b"event:", b"id:", b"retry:", b":")
_ENOUGH = 16 * 1024


def is_stream(start: bytes | bytearray, *, is_labelled: bool) -> bool | None:
    """Whether a body is an event stream, by its first bytes and whether it is labelled as one.

    The first bytes decide, since servers label either as the other; the label only where they say nothing. None while
    all that has come is blank.
    """
    text = bytes(start[:_ENOUGH]).removeprefix(_BOM).lstrip()
    if not text and len(start) < _ENOUGH:
        return None
    if text.startswith((b"{", b"[", b"<")):
        return False
    return is_labelled or text.startswith(_STREAM_STARTS)


class Event(NamedTuple):
    """One event, and the bytes it came in."""

    name: str
    """The `event:` field; "" if there is none."""
    data: bytes
    """The `data:` fields joined by newlines. Empty, like the name, for bytes that hold no event to read: comments,
    part of an event over the limit, or what follows the last event."""
    raw: bytes
    """Every byte since the previous event, comments and blank lines included: the `raw`s joined are the stream."""

    @property
    def line_end(self) -> bytes:
        """The LF that belongs to the event before, whose CR came in an earlier piece; nothing, as a rule."""
        return b"\n" if self.data and self.raw.startswith(b"\n") else b""


class EventParser:
    """Cuts a stream into events as it arrives, in any pieces. Never raises."""

    def __init__(self, max_event: int = MAX_EVENT) -> None:
        self.skipped = 0
        """Events too large to be read so far."""
        self._max_event = max_event
        self._buffer = bytearray()  # everything since the last event; all of it has been scanned for line ends
        self._line = 0  # where the current line begins; negative when that part of the buffer was given away
        self._at_start = True
        self._after_cr = False
        self._skipping = False
        self._name = ""
        self._data = bytearray()  # each data line with a newline behind it

    def feed(self, data: bytes) -> list[Event]:
        """The events that `data` completes. Takes time linear in `data`, however long the current event is."""
        if not data:
            return []
        if self._at_start or self._after_cr or self._skipping or len(data) > self._max_event:
            return self._feed(data)
        if b"\r" in data or b"\n\n\n" in data:
            return self._feed(data)
        events: list[Event] = []
        if self._buffer:
            end = data.find(b"\n\n") + 2
            if end < 2:
                return self._feed(data)
            events, data = self._feed(data[:end]), data[end:]
        if self._buffer or data.startswith(b"\n"):
            return events + self._feed(data)
        # what servers really send: whole events between blank lines, and perhaps the beginning of one
        *whole, rest = data.split(b"\n\n")
        events += map(_whole, whole)
        return events + self._feed(rest) if rest else events

    def _feed(self, data: bytes) -> list[Event]:
        """`feed` for any bytes, line by line."""
        if not data:
            return []
        events = []
        buffer, start, scanned = self._buffer, 0, len(self._buffer)
        buffer += data
        # A CR was taken for a whole line end when it came; this LF is its second half
        half = self._after_cr and data.startswith(b"\n")
        if half:
            self._line += 1
        for line_end in _LINE_END.finditer(data, half):
            end, after = scanned + line_end.start(), scanned + line_end.end()
            if end > self._line:
                if not self._skipping:
                    self._read(buffer[self._line : end])
            else:
                # also without data, which is no event to the standard: a comment that keeps a connection alive
                # must not wait for one
                events.append(self._event(bytes(buffer[start:after])))
                start = after
            self._line = after
        self._after_cr = data.endswith(b"\r")
        self._give_away(start)
        if self._skipping or len(buffer) > self._max_event:
            self._skip()
            if buffer:
                events.append(Event("", b"", bytes(buffer)))
                self._give_away(len(buffer))
        return events

    def finish(self) -> list[Event]:
        """What the end of the data leaves: the event whose blank line is missing, or bytes that hold none."""
        if not self._buffer:
            return []
        if not self._skipping:
            self._read(self._buffer[self._line :])
        event = self._event(bytes(self._buffer))
        self._give_away(len(self._buffer))
        return [event]

    def _read(self, line: bytearray) -> None:
        if self._at_start:
            line = line.removeprefix(_BOM)
            self._at_start = False
        field, _, value = line.partition(b":")
        if field == b"data":
            self._data += value.removeprefix(b" ")
            self._data += b"\n"
        elif field == b"event":
            self._name = value.removeprefix(b" ").decode(errors="replace")

    def _event(self, raw: bytes) -> Event:
        if len(raw) > self._max_event:
            self._skip()
        event = Event(self._name, bytes(self._data[:-1]), raw) if self._data else Event("", b"", raw)
        self._name, self._skipping = "", False
        self._data.clear()
        return event

    def _skip(self) -> None:
        if not self._skipping:
            self.skipped += 1
            self._skipping = True
            self._data.clear()

    def _give_away(self, size: int) -> None:
        del self._buffer[:size]
        self._line -= size


def _whole(lines: bytes) -> Event:
    """The event of these lines, which end with LF and a blank line."""
    raw = lines + b"\n\n"
    if lines.startswith(b"data: ") and b"\n" not in lines:
        return Event("", lines[6:], raw)
    name, values = "", []
    for line in lines.split(b"\n"):
        field, _, value = line.partition(b":")
        if field == b"data":
            values.append(value.removeprefix(b" "))
        elif field == b"event":
            name = value.removeprefix(b" ").decode(errors="replace")
    return Event(name, b"\n".join(values), raw) if values else Event("", b"", raw)
