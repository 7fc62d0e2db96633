"""Server-sent events: a byte stream in, events out.

A pure state machine (WHATWG HTML, "Server-sent events"). It follows the standard except at the end
of the data, where the standard drops an event without its blank line: what it says was paid for, so it is given.
"""

import re

import msgspec

MAX_EVENT = 8 * 1024 * 1024
"""Bytes of one event, comments in it included, above which it is passed on unread."""

MAX_LINES = 10_000
"""Lines of one event above which it is passed on unread: each takes time, however short it is."""

MEDIA_TYPE = "text/event-stream"

_BOM = b"\xef\xbb\xbf"
_BLANK = re.compile(rb"(?>\r\n|\r|\n)(?:\r\n|\r|\n)")
"""The end of a line, and a blank line."""

_USUAL = rb"(?:event: ?+([^\n]*+)\n)?+data: ?+([^\n]*+)\n\n"
"""An event as servers really send it: a name perhaps, and one line of data. LF ends lines, and no CR stands in them."""

_USUAL_ONE = re.compile(rb"(%b)" % _USUAL)
_USUAL_RUN = re.compile(rb"(?:%b)++" % _USUAL)

_IDLE = re.compile(rb"(?:(?:(?!(?:data|event)[:\r\n])[^\r\n]++(?>\r\n|\r|\n))*+[\r\n]++)++")
"""A run of blank lines, and of events of comments and other lines that say nothing: millions of them take no time."""


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


class Event(msgspec.Struct, frozen=True, gc=False):
    """One event, and the bytes it came in."""

    name: str
    """The `event:` field; "" if there is none."""
    data: bytes
    """The `data:` fields joined by newlines. Empty, like the name, for bytes that hold no event to read: comments,
    part of an event over the limit, or what follows the last event."""
    raw: bytes
    """Every byte since the previous event, comments included: the `raw`s joined are the stream. Blank lines and
    comments that come in one piece are one event."""

    @property
    def line_end(self) -> bytes:
        """The LF that belongs to the event before, whose CR came in an earlier piece; nothing, as a rule."""
        return b"\n" if self.data and self.raw.startswith(b"\n") else b""


class EventParser:
    """Cuts a stream into events as it arrives, in any pieces. Never raises."""

    def __init__(self, max_event: int = MAX_EVENT, *, max_lines: int = MAX_LINES) -> None:
        self.skipped = 0
        """Events too large to be read so far."""
        self._max_event = max_event
        self._max_lines = max_lines
        self._buffer = bytearray()  # an event whose end has not come; no blank line is in it
        self._half = 0  # 1: the buffer begins with the LF of a CRLF, whose CR ended the event before
        self._at_start = True
        self._after_cr = False
        self._skipping = False

    def feed(self, data: bytes) -> list[Event]:
        """The events that `data` completes. Takes time linear in `data`, however long the current event is."""
        if not data:
            return []
        if not self._skipping and len(self._buffer) <= self._half:
            return self._feed(data)
        buffered = len(self._buffer)
        end = self._append(data)
        if end < 0:
            return self._give_away()
        del self._buffer[end:]
        return [self._take_buffer(), *self._feed(data[end - buffered :])]

    def _append(self, data: bytes) -> int:
        """Add to the event in the buffer. Returns where it ends; -1: not yet."""
        buffer = self._buffer
        # the last line end may be the one before the blank line
        scanned = max(self._half, len(buffer) - 2)
        buffer += data
        if buffer.find(b"\r", scanned) < 0:
            end = buffer.find(b"\n\n", scanned)
            return end if end < 0 else end + 2
        found = _BLANK.search(buffer, scanned)
        return found.end() if found else -1

    def _feed(self, data: bytes) -> list[Event]:
        """`feed` for any bytes, at the beginning of an event."""
        if not data:
            return []
        if self._buffer:
            data = bytes(self._buffer) + data
            self._buffer.clear()
        elif self._after_cr and data.startswith(b"\n"):
            # a CR was taken for a whole line end when it came; this LF is its second half
            self._half = 1
        self._after_cr = False
        is_usual = b"\r" not in data and len(data) <= self._max_event
        events, start = [], 0
        while start < len(data):
            content = start + self._half
            # a line that begins with a byte order mark may be one of data
            self._at_start = self._at_start and _BOM.startswith(data[:1])
            if is_usual and not (self._at_start or self._half) and (run := _USUAL_RUN.match(data, start)):
                end = run.end()
                events += [
                    Event(name.decode(errors="replace") if name else "", value, raw)
                    for raw, name, value in _USUAL_ONE.findall(data, start, end)
                ]
            elif not self._at_start and (idle := _IDLE.match(data, content)):
                end = idle.end()
                events.append(Event("", b"", data[start:end]))
            elif found := _BLANK.search(data, content):
                end = found.end()
                events.append(self._event(data[start:end]))
            else:
                self._buffer += data[start:]
                return events + self._give_away()
            start, self._half = end, 0
        self._after_cr = data.endswith(b"\r")
        return events

    def finish(self) -> list[Event]:
        """What the end of the data leaves: the event whose blank line is missing, or bytes that hold none."""
        return [self._take_buffer()] if self._buffer else []

    def _take_buffer(self) -> Event:
        event = self._event(bytes(self._buffer))
        self._buffer.clear()
        self._after_cr = event.raw.endswith(b"\r")
        return event

    def _event(self, raw: bytes) -> Event:
        lines = raw[self._half :] if self._half else raw
        if self._at_start:
            lines = lines.removeprefix(_BOM)
        line_ends = raw.count(b"\n") + raw.count(b"\r")
        is_skipped = self._skipping
        if not is_skipped and (len(raw) > self._max_event or line_ends > self._max_lines):
            self.skipped += 1
            is_skipped = True
        self._half, self._at_start, self._skipping = 0, False, False
        if is_skipped:
            return Event("", b"", raw)
        if line_ends <= _LAST and lines.startswith(b"data: "):
            last = lines[-_LAST:]
            behind = len(last) - len(last.rstrip(b"\r\n"))
            if behind == line_ends:
                # one line, which may be long: copied once
                return Event("", lines[6 : len(lines) - behind], raw)
        return _read(lines, raw)

    def _give_away(self) -> list[Event]:
        """What is beyond the limit of the event in the buffer, but for a line end that a blank line may follow."""
        buffer = self._buffer
        if not self._skipping:
            if len(buffer) <= self._max_event:
                return []
            self.skipped += 1
            self._skipping = True
        given = len(buffer) - (2 if buffer.endswith(b"\r\n") else buffer.endswith((b"\r", b"\n")))
        event = Event("", b"", bytes(buffer[:given]))
        del buffer[:given]
        self._half, self._at_start = 0, False
        return [event] if given else []


_LAST = len(b"\r\n\r\n")


def _read(lines: bytes, raw: bytes) -> Event:
    name, values = "", []
    # of bytes it knows no other line ends than the standard
    for line in lines.splitlines():
        field, _, value = line.partition(b":")
        if field == b"data":
            values.append(value.removeprefix(b" "))
        elif field == b"event":
            name = value.removeprefix(b" ").decode(errors="replace")
    return Event(name, b"\n".join(values), raw) if values else Event("", b"", raw)
