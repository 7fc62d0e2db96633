"""Spans of a text and what takes their place, also inside of JSON strings with their escapes."""

import json
import re
from bisect import bisect_right
from collections.abc import Iterable, Iterator
from functools import cached_property
from typing import NamedTuple

from gateway_addon.wire import jsontext


class Span(NamedTuple):
    """A piece of a text and what takes its place."""

    start: int
    end: int
    new: str

    def moved(self, by: int) -> "Span":
        return Span(self.start + by, self.end + by, self.new)


class Unescaped:
    """The text that a JSON string (or a part of one) stands for, and where in the source each of it was."""

    def __init__(self, source: str, start: int, end: int) -> None:
        self._source, self._start, self._end = source, start, end
        self.text = _text(source[start:end])

    def position(self, at: int) -> int:
        """Where in the source the character at a position of `text` begins; `len(text)`: where the string ends."""
        marks, sources = self._marks
        n = bisect_right(marks, at) - 1
        return sources[n] + at - marks[n]

    def outside(self, span: Span) -> Span:
        """The same span in the source. A placeholder means the same inside of a JSON string: it needs no escape."""
        return Span(self.position(span.start), self.position(span.end), span.new)

    @cached_property
    def _marks(self) -> tuple[list[int], list[int]]:
        """Positions in `text` behind an escape sequence, and the beginning; and where these are in the source."""
        marks, sources, size, at = [0], [self._start], 0, self._start
        for escape in _ESCAPE.finditer(self._source, self._start, self._end):
            size += escape.start() - at + 1
            at = escape.end()
            marks.append(size)
            sources.append(at)
        return marks, sources


_ESCAPE = re.compile(
    r"""\\(?:u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}|u[0-9a-fA-F]{4}|["\\/bfnrt])""", re.ASCII
)
_STRING = json.JSONDecoder(strict=False)
LITERAL = re.compile(r'"(?P<string>[^"\\]*(?:\\.[^"\\]*)*)"(?P<colon>\s*:)?', re.DOTALL)


_SHORT = {"n": "\n", '"': '"', "\\": "\\", "t": "\t", "r": "\r", "/": "/", "b": "\b", "f": "\f"}


def unescaped(source: str, start: int = 0, end: int | None = None) -> Unescaped:
    return Unescaped(source, start, len(source) if end is None else end)


def _text(source: str) -> str:
    if "\\" not in source:
        return source
    try:
        # most are whole strings, which the C decoder reads many times faster
        text, end = _STRING.raw_decode(f'"{source}"')
    except ValueError:
        text, end = "", 0
    return text if end == len(source) + 2 else _ESCAPE.sub(_character, source)


def _character(escape: re.Match[str]) -> str:
    return _SHORT.get(escape[0][1]) or str(json.loads(f'"{escape[0]}"'))


MAX_PLACE = 16
"""How deep in an event a string may stand. Each level is read once more, and no event of any kind is nearly as deep."""


def strings(text: str, at: int, place: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], int, int]]:
    """The strings in the JSON value at a position, up to `MAX_PLACE` deep: their place, and the span between quotes."""
    for member in jsontext.members(text, at):
        match member.value:
            case str():
                yield (*place, str(member.key)), member.start + 1, member.end - 1
            case dict() | list() if len(place) < MAX_PLACE:
                # parallel choices and calls say themselves which they are; their place in the list changes
                key = member.value.get("index", member.key) if isinstance(member.value, dict) else member.key
                yield from strings(text, member.start, (*place, str(key)))


def merged(spans: Iterable[Span]) -> list[Span]:
    """The spans in order, those that overlap made one."""
    merged: list[Span] = []
    for span in sorted(spans, key=lambda span: (span.start, -span.end)):
        if merged and span.start < merged[-1].end:
            merged[-1] = merged[-1]._replace(end=max(span.end, merged[-1].end))
        else:
            merged.append(span)
    return merged


def replaced(text: str, spans: Iterable[Span]) -> str:
    pieces: list[str] = []
    at = 0
    for span in merged(spans):
        pieces += text[at : span.start], span.new
        at = span.end
    return "".join([*pieces, text[at:]])
