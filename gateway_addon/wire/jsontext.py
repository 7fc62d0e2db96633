"""JSON as text: exact numbers in and out, and edits that leave every byte alone that they do not mean.

A body is never parsed and written again: `apply` cuts the changes into the text.
"""

import json
import math
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from decimal import Decimal, InvalidOperation
from itertools import count
from json.encoder import encode_basestring
from typing import Any, NamedTuple, cast

import msgspec

BOM = "\ufeff"

MAX_VALUES = 250_000
"""Values of a text that a proxy parses: each takes up to 0.1 µs, and a hostile text can have one in two bytes."""

_SPACE = re.compile(r"[ \t\n\r]*")
_SURROGATE = re.compile("[\ud800-\udfff]")


def _fraction(digits: str) -> Decimal | float:
    try:
        return Decimal(digits)
    except InvalidOperation:  # an exponent beyond what Decimal holds
        return math.nan


_DECODER = json.JSONDecoder(parse_float=_fraction)
_FAST = msgspec.json.Decoder(float_hook=Decimal)


def parse(data: bytes | str) -> Any:
    """The value of a JSON text; fractions and exponents become `Decimal`, so that no digit is lost.

    A UTF-8 BOM and white space around the value are accepted. `NaN`, `Infinity` and numbers beyond all
    bounds become floats that are not finite, for readers to reject. Raises `ValueError` for anything unreadable:
    no JSON, no UTF-8, nested too deeply, an integer of more than 4,300 digits.
    """
    try:
        return _FAST.decode(data)
    except (ValueError, ArithmeticError, RecursionError, msgspec.MsgspecError):
        # it takes a quarter of the time, and refuses some of what the other takes: lone surrogates, NaN, a BOM
        pass
    text = data if isinstance(data, str) else data.decode()
    try:
        return _DECODER.decode(text.removeprefix(BOM))
    except RecursionError as error:
        raise ValueError("nested too deeply") from error


class TooManyValuesError(ValueError):
    """A text is not parsed because it would take too long."""


def count_marks(data: bytes) -> int:
    """How many marks `data` has that may stand in front of a value: each value but the first has one."""
    return data.count(b",") + data.count(b"[") + data.count(b"{")


def count_values(data: bytes) -> int:
    """At least as many as `data` has values: the marks within strings are counted, too."""
    return 1 + count_marks(data)


def check_values(data: bytes) -> None:
    """Raise `TooManyValuesError` for a text of more than `MAX_VALUES`."""
    if len(data) > MAX_VALUES and count_values(data) > MAX_VALUES:
        raise TooManyValuesError(f"more than {MAX_VALUES} values")


def scan(text: str, at: int) -> tuple[Any, int]:
    """The value that begins at `at`, as `parse` gives it, and where it ends. Raises `ValueError` as `parse` does."""
    try:
        return _DECODER.raw_decode(text, at)
    except RecursionError as error:
        raise ValueError("nested too deeply") from error


def parse_any(data: bytes | str) -> object:
    """`parse`, or None if `data` is not readable."""
    try:
        return cast(object, parse(data))
    except ValueError:
        return None


def parse_object(data: bytes | str) -> dict[str, Any] | None:
    """`parse`, or None if `data` is not readable or not a JSON object."""
    try:
        value = parse(data)
    except ValueError:
        return None
    return value if isinstance(value, dict) else None


def dumps(value: Any) -> str:
    """Compact JSON text of a parsed value, with a `Decimal`'s own digits; always valid JSON and valid Unicode.

    Non-ASCII characters are kept, lone surrogates escaped; what is no JSON number becomes a string (`"NaN"`,
    `"Infinity"`). Raises `ValueError` if nested too deeply.
    """
    try:
        text = _dump(value)
    except RecursionError as error:
        raise ValueError("nested too deeply") from error
    return _SURROGATE.sub(lambda found: f"\\u{ord(found[0]):04x}", text)


def _dump(value: Any) -> str:
    match value:
        case dict():
            return "{" + ",".join([f"{encode_basestring(key)}:{_dump(item)}" for key, item in value.items()]) + "}"
        case list() | tuple():
            return "[" + ",".join(map(_dump, value)) + "]"
        case str():
            return encode_basestring(value)
        case Decimal() if value.is_finite():
            return str(value)
        case int() if not isinstance(value, bool):
            return str(value)
        case float() | Decimal() if not math.isfinite(value):
            return f'"{Decimal(value)}"'
        case _:
            return json.dumps(value)


def pointer(*parts: str | int) -> str:
    """A JSON pointer (RFC 6901) from its parts."""
    return "".join(["/" + str(part).replace("~", "~0").replace("/", "~1") for part in parts])


class Member(NamedTuple):
    """A member of an object or array, and where its value stands in the text."""

    key: str | int
    """Its name, or its index."""
    start: int
    end: int
    value: Any
    """As `parse` gives it."""


def members(text: str, start: int = 0) -> Iterator[Member]:
    """The members of the object or array that begins at `start` (white space before it is skipped).

    Spans are exact: `text[member.start:member.end]` is the value as written. Raises `ValueError` where the text is
    not JSON, or if what begins there is no object or array.
    """
    scanner = Scanner(text, start)
    for key, _ in scanner.members():
        start = scanner.at
        value = scanner.value()
        yield Member(key, start, scanner.at, value)


class Scanner:
    """Pulls a JSON text apart from left to right. Values nobody looks into are left to the C scanner.

    Every method raises `ValueError` where the text is not JSON.
    """

    def __init__(self, text: str, at: int) -> None:
        self.text = text
        self.at = at
        """Where the next value begins."""
        self._skip_space()

    def value(self) -> Any:
        """The value at `at`; moves behind it."""
        value, self.at = scan(self.text, self.at)
        return value

    def members(self) -> Iterator[tuple[str | int, int]]:
        """Enter the object or array at `at` and stop in front of each member's value, which the caller moves behind.

        Yields the name or index, and where the member begins (for an object's: at its name). At the end `at` is
        behind the closing bracket.
        """
        is_object = self._take("{")
        if not is_object and not self._take("["):
            raise ValueError(f"no object or array at {self.at}")
        closing = "}" if is_object else "]"
        self._skip_space()
        if self._take(closing):
            return
        for index in count():
            start = self.at
            yield (self._name() if is_object else index), start
            self._skip_space()
            if self._take(closing):
                return
            self._expect(",")
            self._skip_space()

    def _name(self) -> str:
        if not self.text.startswith('"', self.at):
            raise ValueError(f"no name at {self.at}")
        name: str = self.value()
        self._skip_space()
        self._expect(":")
        self._skip_space()
        return name

    def _skip_space(self) -> None:
        found = _SPACE.match(self.text, self.at)
        assert found is not None  # it matches the empty string
        self.at = found.end()

    def _take(self, character: str) -> bool:
        taken = self.text.startswith(character, self.at)
        self.at += taken
        return taken

    def _expect(self, character: str) -> None:
        if not self._take(character):
            raise ValueError(f"no {character} at {self.at}")


def apply(text: bytes, operations: list[dict[str, Any]]) -> bytes:
    """Carry out RFC 6902 `add`, `replace` and `remove` on a JSON text; every byte outside their places survives.

    One pass over the text, however many operations. All of them address the *original* document, so their order only
    matters for several `add`s at one place of an array, which keep it: in front of an element, or at the end (`-`,
    which comes after the length as index). `add` of a name that an object has replaces the value, of a new one
    appends it. Where a name occurs twice, an operation acts on every occurrence: back ends differ in which they read.

    Raises `ValueError` naming the JSON pointer for a place that is not there, for two operations on one place or one
    inside the other, and for what is not supported (other operations, the document as a whole); also if the text is
    not JSON.
    """
    if not operations:
        return text
    root = _Place("")
    places = [root.insert(operation) for operation in operations]
    source = text.decode()
    edits: list[_Edit] = []
    _edit_value(Scanner(source, len(BOM) if source.startswith(BOM) else 0), root, edits)
    for place in places:
        if not place.met:
            raise ValueError(f"no such place: {place.pointer}")
    pieces: list[str] = []
    done = 0
    for edit in edits:
        pieces += source[done : edit.start], edit.text
        done = edit.end
    pieces.append(source[done:])
    return "".join(pieces).encode()


class _Edit(NamedTuple):
    """New text for a span of the source. Edits are collected in the order of the text and never overlap."""

    start: int
    end: int
    text: str


@dataclass(slots=True)
class _Place:
    """What is to happen at a JSON pointer, and below it: the pointers of all operations form a tree."""

    pointer: str
    adds: list[str] = field(default_factory=list)
    """Texts of the values to add."""
    changes: list[str | None] = field(default_factory=list)
    """What the value there becomes; None: it is removed."""
    below: dict[str, "_Place"] = field(default_factory=dict)
    met: bool = False

    def insert(self, operation: dict[str, Any]) -> "_Place":
        """Note an operation on the document whose root this is."""
        op, pointer = operation["op"], operation["path"]
        if op not in ("add", "replace", "remove") or not pointer.startswith("/"):
            raise ValueError(f"not supported: {op} {pointer}")
        place = self
        for token in pointer.split("/")[1:]:
            name = token.replace("~1", "/").replace("~0", "~")
            place = place.below.setdefault(name, _Place(f"{place.pointer}/{token}"))
        if op == "add":
            place.adds.append(dumps(operation["value"]))
        else:
            place.changes.append(None if op == "remove" else dumps(operation["value"]))
        return place


def _edit_value(scanner: Scanner, place: _Place, edits: list[_Edit]) -> None:
    """Collect the edits of the places below `place` in the value the scanner is at; moves behind it."""
    if place.below and scanner.text.startswith(("{", "["), scanner.at):
        _edit_members(scanner, place, edits)
    else:
        scanner.value()


def _edit_members(scanner: Scanner, place: _Place, edits: list[_Edit]) -> None:
    """The same for an object or array; the commas between what is left are kept, cut or added here."""
    is_object = scanner.text.startswith("{", scanner.at)
    untouched = _Place("")
    not_seen = dict(place.below)
    size = 0
    empty = True  # nothing was kept or added so far: the next member needs no comma
    end = scanner.at + 1  # of the previous member
    for key, start in scanner.members():
        not_seen.pop(str(key), None)
        here = place.below.get(str(key), untouched)
        here.met = True
        # An object has one value for a name, so that to add it is to replace it; in an array it is to insert in front
        adds, changes = ([], [*here.adds, *here.changes]) if is_object else (here.adds, here.changes)
        if len(changes) > 1 or (changes and here.below):
            raise ValueError(f"operations overlap: {here.pointer}")
        if size == 0:
            end = start
        if adds:
            edits.append(_Edit(end, end, _joined(adds, empty)))
            empty = False
        if None in changes:
            scanner.value()
            edits.append(_Edit(end, scanner.at, ""))
        else:
            # The comma in front, with its white space, is the source's own, unless all before it was removed or added
            if empty or size == 0:
                edits.append(_Edit(end, start, "" if empty else ","))
            empty = False
            at = scanner.at
            if changes:
                scanner.value()
                edits.append(_Edit(at, scanner.at, changes[0] or ""))
            else:
                _edit_value(scanner, here, edits)
        end = scanner.at
        size += 1
    for name in not_seen if is_object else (str(size), "-"):
        here = not_seen.get(name, untouched)
        adds = [f"{dumps(name)}:{value}" for value in here.adds] if is_object else here.adds
        if is_object and len(adds) > 1:
            raise ValueError(f"operations overlap: {here.pointer}")
        if adds and not here.changes:
            here.met = True
            edits.append(_Edit(end, end, _joined(adds, empty)))
            empty = False


def _joined(values: list[str], first: bool) -> str:
    return ("" if first else ",") + ",".join(values)
