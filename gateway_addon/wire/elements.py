"""Reading a request body as its elements, and remembering them: a client sends its whole history with every call, and
what was read before is only compared.

`read` walks a body from left to right. Where an element of a remembered body stands, its bytes are compared and its
value is taken; only what differs is scanned. `Memory` keeps the elements of a few bodies.
"""

import hashlib
import re
import sys
import threading
from codecs import BOM_UTF8, utf_8_decode
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from hashlib import blake2b
from itertools import chain, count
from operator import attrgetter, is_
from typing import Any

from gateway_addon.wire import digest, jsontext

MAX_ELEMENTS = 10_000
"""Elements of a part; no conversation has so many, and millions would keep a store busy for minutes."""

MAX_BODIES = 8
"""Bodies remembered: agents that work at the same time each have a conversation of their own."""

MAX_REMEMBERED = 12 * 1024 * 1024
"""Bytes of the bodies remembered; with their values and beginnings they take about four times as much."""

MIN_REMEMBERED = 4 * 1024
"""Bytes of a body from which on remembering pays."""

_WINDOW, *_LARGER = (2 * 1024, 16 * 1024, 4 * 1024 * 1024, sys.maxsize)
"""Bytes looked into at first, and for a value that is longer: what few are is read again from its start."""

_MANY = 32
"""Elements that are new: of a conversation that goes on there are fewer."""

MAX_PIECES = 32
"""In which a beginning is held; then it is put together, as it is compared piece by piece."""

_CLOSED = b'}]"'
"""How an element ends that cannot go on, as a number might."""
_SPACE = re.compile(rb"[ \t\n\r]*+")

# What a client puts somewhere else, or writes anew, with every call, by how it begins: to look for that alone costs
# next to nothing
_PASSING = {
    # Cache markers: Anthropic's, and what OpenRouter takes on parts of a chat message
    '"cache_control"': re.compile(r'("cache_control"\s*:\s*\{[^{}]*\})(?:\s*,\s*)?'),
    '"prompt_cache_breakpoint"': re.compile(r'("prompt_cache_breakpoint"\s*:\s*\{[^{}]*\})(?:\s*,\s*)?'),
    # Claude Code's first system block
    '"x-anthropic-billing-header:': re.compile(r'"(x-anthropic-billing-header:[^"\\]*)'),
}
_COMMA_BEFORE = re.compile(r",\s*\Z")
_MAX_SPACE = 100


class Element:
    """An element of a part. Bodies share it, and threads: nothing of it is ever changed."""

    def __init__(self, sent: bytes, value: Any) -> None:
        self.sent = sent
        self.value = value
        """As `jsontext.parse` gives it."""
        self._facts: dict[Callable[[Any], Any], Any] = {}

    def fact(self, function: Callable[[Any], Any]) -> Any:
        """What a function makes of `value`, remembered."""
        if function not in self._facts:
            self._facts[function] = function(self.value)
        return self._facts[function]

    @cached_property
    def settled(self) -> tuple[str, list[tuple[int, str]]]:
        """Its text without what will have changed in the next call, and that, each with its offset in characters."""
        return _settle(self.sent.decode())

    @cached_property
    def digest(self) -> bytes:
        """Of the settled text."""
        text, passing = self.settled
        return blake2b(text.encode() if passing else self.sent, digest_size=16).digest()


@dataclass(slots=True, frozen=True, eq=False)
class Part:
    """The elements of one part of a body: the items of an array, or what there is instead; at least one."""

    name: str
    start: int
    """Where the first element begins, in bytes."""
    end: int
    """Behind the last one."""
    separators: frozenset[bytes]
    """What stands between them: one text, as a rule."""
    elements: list[Element]


class Body:
    """A body that was read."""

    sha256: str | None = None
    """Of what was sent, in hex, where a memory has read it."""
    begun: "Beginning | None" = None
    """What was known of it when it was read."""
    beginning: "Beginning | None" = None
    """What is known of it to those that follow."""

    def __init__(self, sent: bytes, json: dict[str, Any], parts: list[Part]) -> None:
        self.sent = sent
        self.json = json
        """As `jsontext.parse` gives it; the values of elements are shared with other bodies."""
        self.parts = parts
        """In the order of the text."""

    def part(self, name: str) -> list[Element]:
        """The elements of a part; none if the body has no such part."""
        return next((part.elements for part in self.parts if part.name == name), [])

    @property
    def frame(self) -> bytes:
        """What was sent, with one `null` for the elements of each part: JSON with the same members, and short."""
        pieces: list[bytes] = []
        done = 0
        for part in self.parts:
            pieces.append(self.sent[done : part.start])
            done = part.end
        return b"null".join((*pieces, self.sent[done:]))

    @cached_property
    def _elements(self) -> dict[int, Element]:
        return {id(element.value): element for part in self.parts for element in part.elements}

    def of[V, T](self, function: Callable[[V], T], values: Iterable[V]) -> list[T]:
        """`function(value)` of each, remembered where it is an element's. The function must depend on nothing else."""
        asked = list(values)
        part = next((part for part in self.parts if _are_elements(asked, part.elements)), None)
        if part is None:
            known = self._elements
            elements = [(known.get(id(value)), value) for value in asked]
            return [function(value) if element is None else element.fact(function) for element, value in elements]
        begun, beginning = self.begun, self.beginning
        found: list[T] = begun.facts.get(function, []) if begun and begun.part == part.name else []
        found = [*found, *(element.fact(function) for element in part.elements[len(found) :])]
        if beginning and beginning.part == part.name:
            # for the next one as a whole: there may be thousands
            beginning.facts[function] = found[: len(beginning.elements)]
        return found


def _are_elements(values: Sequence[object], elements: Sequence[Element]) -> bool:
    """Whether values are those of these elements, all of them and in their order."""
    return len(values) == len(elements) and all(map(is_, values, map(_VALUE, elements)))


_VALUE = attrgetter("value")


@dataclass(slots=True, frozen=True, eq=False)
class Beginning:
    """The beginning of a body that was read, up to the last few elements of its longest part."""

    pieces: tuple[bytes, ...]
    """Its bytes: as conversations grow, theirs share all but the last."""
    size: int
    """Of all pieces."""
    sha256: digest.Sha256
    """Of all pieces."""
    part: str
    start: int
    """Where the first element begins, in bytes."""
    separators: frozenset[bytes]
    elements: list[Element]
    """Those that end within."""
    facts: dict[Callable[[Any], Any], list[Any]]
    """What functions made of their values (`Body.of`)."""

    def begins(self, sent: bytes) -> bool:
        """Whether a body begins with it."""
        at = 0
        for piece in self.pieces:
            if not sent.startswith(piece, at):
                return False
            at += len(piece)
        return True


def read(
    sent: bytes,
    members: Mapping[str, str],
    known: Sequence[Mapping[str, list[Element]]] = (),
    beginning: Beginning | None = None,
) -> Body:
    """Read a body. `members`: the part that each member of it holds; `known`: the elements by part of other bodies;
    `beginning`: its own, if it has been read as that of another one.

    Whatever is known, the result is the same. Raises `ValueError` for no JSON object, and for one that
    `jsontext.parse` may read all the same: with an array of too many elements; `TooManyValuesError` if too much of it
    is new.
    """
    scanner = _Scanner(sent)
    if not sent.startswith(b"{", scanner.at):
        raise ValueError("no JSON object")
    json: dict[str, Any] = {}
    parts: dict[str, Part | None] = {}
    begun: Beginning | None = None
    for name in scanner.members():
        part = members.get(str(name))
        if part is None or part in parts:
            json[str(name)] = scanner.value()
            continue
        trail = _Trail([one[part] for one in known if part in one])
        is_array = sent.startswith(b"[", scanner.at)
        separators: set[bytes] = set()
        elements: list[Element] = []
        first = end = scanner.at
        for _ in scanner.members() if is_array else (name,):
            if beginning and (scanner.at, part) == (beginning.start, beginning.part):
                begun = beginning
                first, end = scanner.at, beginning.size
                elements += trail.join(beginning.elements)
                # between the elements of which none stands in it, there may be another one now
                separators |= beginning.separators if len(beginning.elements) > 1 else set()
                scanner.at = end
                continue
            if elements:
                separators.add(sent[end : scanner.at])
            else:
                first = scanner.at
            elements.append(_element(scanner, trail))
            if len(separators) == 1:
                (separator,) = separators
                elements += trail.run(scanner, separator)
            if len(elements) > MAX_ELEMENTS:
                raise ValueError(f"{part}: too many elements")
            end = scanner.at
        values = [element.value for element in elements]
        json[str(name)] = values if is_array else values[0]
        parts[part] = Part(part, first, end, frozenset(separators), elements) if elements else None
    if scanner.at != len(sent):
        raise ValueError("something follows the object")
    body = Body(sent, json, [part for part in parts.values() if part])
    body.begun = begun
    return body


def _element(scanner: "_Scanner", trail: "_Trail") -> Element:
    start = scanner.at
    if element := trail.follow(scanner.sent, start):
        scanner.at += len(element.sent)
        return element
    scanner.unknown += 1
    if scanner.unknown == _MANY:
        # elements cost more than values; that there are too many must not be found out one by one
        jsontext.check_values(scanner.sent[start:])
    value = scanner.value()
    return Element(scanner.sent[start : scanner.at], value)


class _Trail:
    """The elements of a part in the bodies known, one of which is followed as long as it goes the same way."""

    def __init__(self, ways: list[list[Element]]) -> None:
        self._ways = ways
        self._way: list[Element] = []
        self._next = 0

    def follow(self, sent: bytes, at: int) -> Element | None:
        """The element known that stands here."""
        # one may have been added, changed or taken out
        for way, index in (
            (self._way, self._next),
            (self._way, self._next + 1),
            (self._way, self._next - 1),
            *((way, self._next) for way in self._ways),
        ):
            if 0 <= index < len(way) and sent.startswith(way[index].sent, at) and way[index].sent[-1] in _CLOSED:
                self._way, self._next = way, index + 1
                return way[index]
        self._next += 1
        return None

    def join(self, elements: list[Element]) -> list[Element]:
        """Go on behind these elements of a body known."""
        count = len(elements)
        self._way = next((way for way in self._ways if way[count - 1 : count] == elements[-1:]), [])
        self._next = count
        return elements

    def run(self, scanner: "_Scanner", separator: bytes) -> list[Element]:
        """The elements that follow as they did before, each behind a separator; moves behind them."""
        sent, at, start = scanner.sent, scanner.at, self._next
        for element in self._way[start:]:
            if not (sent.startswith(separator, at) and element.sent[-1] in _CLOSED):
                break
            if not sent.startswith(element.sent, at + len(separator)):
                break
            at += len(separator) + len(element.sent)
            self._next += 1
        scanner.at = at
        return self._way[start : self._next]


class _Scanner:
    """Pulls a JSON text in UTF-8 apart. No more of it is decoded than what is looked into: a window that moves along.

    Every method raises `ValueError` where the text is not JSON.
    """

    def __init__(self, sent: bytes) -> None:
        self.sent = sent
        self.at = len(BOM_UTF8) if sent.startswith(BOM_UTF8) else 0
        """Where the next value begins, in bytes; to be moved behind one that is known."""
        self.unknown = 0
        """Elements that were not known, for `read` to count."""
        self._window = ""
        self._end = 0
        """Where the window ends, in bytes."""
        self._values = 0
        """In what was decoded."""
        self._byte = self._character = 0
        """One and the same place, in the text and in the window."""
        self._skip_space()

    def value(self) -> Any:
        """The value at `at`; moves behind it."""
        self._reach()
        larger = iter(_LARGER)
        while True:
            is_rest = self._end >= len(self.sent)
            try:
                value, end = jsontext.scan(self._window, self._character)
            except ValueError:
                if is_rest:
                    raise
            else:
                # a number may go on behind the window
                if is_rest or end < len(self._window):
                    # counted from whichever end of the window is nearer
                    if end - self._character < len(self._window) - end:
                        self.at += _size(self._window[self._character : end])
                    else:
                        self.at = self._end - _size(self._window[end:])
                    self._byte, self._character = self.at, end
                    return value
            # beyond what has been looked into, so that however long it is, nothing is looked into many times
            self._open_window(next(size for size in larger if self.at + size > self._end))

    def _reach(self) -> None:
        if self.at < self._end:
            between = self.sent[self._byte : self.at]
            self._character += len(between) if between.isascii() else len(between.decode())
            self._byte = self.at
        else:
            self._open_window(_WINDOW)

    def _open_window(self, size: int) -> None:
        end = self.at + size
        self._values += jsontext.count_values(self.sent[max(self._end, self.at) : end])
        if self._values > jsontext.MAX_VALUES:
            raise jsontext.TooManyValuesError(f"more than {jsontext.MAX_VALUES} values")
        self._window, decoded = utf_8_decode(self.sent[self.at : end], "strict", end >= len(self.sent))
        self._byte, self._character, self._end = self.at, 0, self.at + decoded

    def members(self) -> Iterator[str | int]:
        """Enter the object or array at `at` and stop in front of each member's value, which the caller moves behind.

        Yields names or indices. At the end `at` is behind the closing bracket, and white space after it.
        """
        is_object = self.sent.startswith(b"{", self.at)
        closing = b"}" if is_object else b"]"
        self._expect(b"{" if is_object else b"[")
        if self._take(closing):
            return
        for index in count():
            yield self._name() if is_object else index
            self._skip_space()
            if self._take(closing):
                return
            self._expect(b",")

    def _name(self) -> str:
        if not self.sent.startswith(b'"', self.at):
            raise ValueError(f"no name at {self.at}")
        name: str = self.value()
        self._skip_space()
        self._expect(b":")
        return name

    def _skip_space(self) -> None:
        found = _SPACE.match(self.sent, self.at)
        assert found is not None  # it matches the empty string
        self.at = found.end()

    def _take(self, character: bytes) -> bool:
        if not self.sent.startswith(character, self.at):
            return False
        self.at += 1
        self._skip_space()
        return True

    def _expect(self, character: bytes) -> None:
        if not self._take(character):
            raise ValueError(f"no {character.decode()} at {self.at}")


def _size(text: str) -> int:
    """Bytes."""
    return len(text) if text.isascii() else len(text.encode())


class Memory:
    """The elements of the last bodies read, of a few conversations. Any thread may read with it."""

    def __init__(self, members: Callable[[], Mapping[str, str]]) -> None:
        self._members = members
        self._lock = threading.Lock()
        self._known: list[_Known] = []
        """The body read last is the first."""
        self._found: tuple[bytes, Beginning | None] = b"", None
        """The body that was asked for last, and its beginning."""

    def read(self, sent: bytes) -> Body:
        """`read`, with what is remembered, and remember the body in place of the one that it continues."""
        known = self._known
        beginning = self._beginning(sent)
        self._found = b"", None
        body = read(sent, self._members(), [one.ways for one in known], beginning)
        if MIN_REMEMBERED <= len(sent) <= MAX_REMEMBERED:
            body.beginning = _hashed(body, beginning)
            self._keep(body)
        return body

    def recognised(self, sent: bytes) -> int:
        """How many bytes of a body need not be read again, from its start."""
        beginning = self._beginning(sent)
        return beginning.size if beginning else 0

    def _beginning(self, sent: bytes) -> Beginning | None:
        asked, found = self._found
        if asked is not sent:
            begin = (one.beginning for one in self._known if one.beginning and one.beginning.begins(sent))
            found = max(begin, key=lambda one: one.size, default=None)
            self._found = sent, found
        return found

    def _keep(self, body: Body) -> None:
        latest = _Known(len(body.sent), {part.name: part.elements for part in body.parts}, body.beginning)
        elements = set(map(id, chain.from_iterable(latest.ways.values())))
        with self._lock:
            others = [known for known in self._known if not any(id(element) in elements for element in known.ends)]
            kept = [latest, *others][:MAX_BODIES]
            while sum(known.size for known in kept) > MAX_REMEMBERED:
                kept.pop()
            # as a whole, because another thread may be reading with it
            self._known = kept


def _hashed(body: Body, known: Beginning | None) -> Beginning | None:
    """Note a body's SHA-256, where only what follows the known beginning is hashed. Returns its own beginning."""
    sent = body.sent
    sha256, done = (known.sha256.copy(), known.size) if known else (hashlib.sha256(), 0)
    beginning = None
    longest = max(body.parts, key=lambda part: len(part.elements), default=None)
    if longest and len(longest.separators) == 1 and len(longest.elements) > LAST:
        (separator,) = longest.separators
        last = longest.elements[-LAST:]
        until = longest.end - sum(len(element.sent) for element in last) - len(separator) * len(last)
        if until >= done and longest.elements[-LAST - 1].sent[-1] in _CLOSED:
            piece = sent[done:until]
            digest.add(sha256, piece)
            beginning = Beginning(
                _with(known.pieces if known else (), piece),
                until,
                sha256.copy(),
                longest.name,
                longest.start,
                longest.separators,
                longest.elements[:-LAST],
                {},
            )
            done = until
    digest.add(sha256, sent[done:])
    body.sha256 = sha256.hexdigest()
    return beginning


def _with(pieces: tuple[bytes, ...], piece: bytes) -> tuple[bytes, ...]:
    pieces = (*pieces, piece) if piece else pieces
    return pieces if len(pieces) <= MAX_PIECES else (b"".join(pieces),)


LAST = 6
"""Elements at the end of a conversation that may look different in the next call."""


class _Known:
    """What is remembered of a body."""

    def __init__(self, size: int, ways: dict[str, list[Element]], beginning: Beginning | None) -> None:
        self.size = size
        self.ways = ways
        self.beginning = beginning
        longest = max(ways.values(), key=len, default=[])
        # a marker or two may move; and the first one may be a system prompt, which many conversations have
        self.ends = longest[max(1, len(longest) - 3) :] or longest
        """Elements that a body has which continues this one, and no other."""


MAX_TAKEN_APART = 4_000_000
"""Characters of an element that is more than one piece: the search in a longer one would hold up other threads."""


def _settle(element: str) -> tuple[str, list[tuple[int, str]]]:
    if len(element) > MAX_TAKEN_APART:
        return element, []
    pieces: list[str] = []
    passing: list[tuple[int, str]] = []
    done = 0
    for start, end in sorted(_passing(element)):
        # two neighbours may both lay claim to the comma between them
        if start >= done:
            pieces.append(element[done:start])
            passing.append((start, element[start:end]))
            done = end
    pieces.append(element[done:])
    return "".join(pieces), passing


def _passing(element: str) -> Iterator[tuple[int, int]]:
    """Where an element holds what belongs to this call only, each with one of the commas around it."""
    for opening, pattern in _PASSING.items():
        for found in pattern.finditer(element) if opening in element else ():
            comma = _COMMA_BEFORE.search(element, max(0, found.start() - _MAX_SPACE), found.start())
            yield (comma.start(), found.end(1)) if comma else (found.start(1), found.end())
