"""Spans of a text and what takes their place, also inside of JSON strings with their escapes."""

import json
import re
from bisect import bisect_right
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from gateway_addon.wire import jsontext


class Span(NamedTuple):
    """A piece of a text and what takes its place."""

    start: int
    end: int
    new: str

    def moved(self, by: int) -> "Span":
        return Span(self.start + by, self.end + by, self.new)


class Unescaped(NamedTuple):
    """The text that a JSON string (or a part of one) stands for, and where in the source each of it was."""

    text: str
    marks: list[int]
    """Positions in `text` behind an escape sequence, and the beginning."""
    sources: list[int]
    """The positions of the marks in the source."""

    def position(self, at: int) -> int:
        n = bisect_right(self.marks, at) - 1
        return self.sources[n] + at - self.marks[n]

    def outside(self, span: Span) -> Span:
        """The same span in the source. A placeholder means the same inside of a JSON string: it needs no escape."""
        return Span(self.position(span.start), self.position(span.end), span.new)


_ESCAPE = re.compile(
    r"""\\(?:u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}|u[0-9a-fA-F]{4}|["\\/bfnrt])""", re.ASCII
)
LITERAL = re.compile(r'"(?P<string>[^"\\]*(?:\\.[^"\\]*)*)"(?P<colon>\s*:)?', re.DOTALL)


def unescaped(source: str, start: int = 0, end: int | None = None) -> Unescaped:
    end = len(source) if end is None else end
    marks, sources, size, at = [0], [start], 0, start
    pieces: list[str] = []
    for escape in _ESCAPE.finditer(source, start, end):
        pieces += source[at : escape.start()], json.loads(f'"{escape[0]}"')
        size += escape.start() - at + 1
        at = escape.end()
        marks.append(size)
        sources.append(at)
    pieces.append(source[at:end])
    return Unescaped("".join(pieces), marks, sources)


def strings(text: str, at: int, place: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], int, int]]:
    """The strings in the JSON value at a position: their place, and the span between the quotes."""
    for member in jsontext.members(text, at):
        match member.value:
            case str():
                yield (*place, str(member.key)), member.start + 1, member.end - 1
            case dict() | list():
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
