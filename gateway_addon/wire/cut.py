"""A request body taken apart, so that what is sent again with every call can be stored once.

`cut` takes a body apart into elements and the rest, `split_texts` an element into its long texts and the rest; `join`
and `fill_texts` give back what was taken apart, byte for byte. Nothing is parsed and written again: all of it are
spans of the text as it was sent.
"""

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from json.encoder import encode_basestring
from typing import NamedTuple

from gateway_addon.wire.elements import MAX_TAKEN_APART, Body, Part, read
from gateway_addon.wire.jsontext import BOM, Scanner, scan

SYSTEM, TOOLS, CONVERSATION = PARTS = ("system", "tools", "conversation")
"""The parts of a call that stand in members of a body; which in which, the modules of the kinds say."""

MIN_TEXT = 64
"""Characters from which on a text is worth a place of its own."""

_STAND_IN = b"null"

MAX_REMEMBERED = 64 * 1024
"""Characters of an envelope of which it is remembered that it is one; of what a client has put into a longer one nobody
knows how much there is."""

# As JSON of a control character no client begins a text with; a template stays JSON that SQLite can look into
_HOLE = re.compile(r'"\\u001a([0-9]+)"')


class Edit(NamedTuple):
    """What an element has in this call only."""

    part: str
    element: int
    """Its index in the part."""
    offset: int
    """In the element as sent, in characters; the edits of an element are in the order of their offsets."""
    text: str


@dataclass(slots=True, frozen=True)
class Cut:
    """A body in pieces. All are texts."""

    envelope: str
    """The body with `null` for its elements: for one, for the only one, or for the first two of an array, which show
    what stands between them."""
    parts: dict[str, list[str]] = field(default_factory=dict)
    """The elements by part (`PARTS`), without what edits put back: the items of an array, or what there is instead."""
    edits: list[Edit] = field(default_factory=list)


type _Spans = list[tuple[int, int]]


def cut(body: bytes, members: Mapping[str, str]) -> Cut:
    """Take a content-decoded body apart; `join` gives it back. `members`: names of members, each with its part.

    A part that occurs twice is taken out once. Raises `ValueError` for a body that must be kept whole: no JSON object,
    nested too deeply, or an array in it with too many items, or with different white space between them.
    """
    found = read(body, members)
    parts = {part.name: [element.settled[0] for element in part.elements] for part in found.parts}
    return Cut(envelope(found, members), parts, [edit for part in found.parts for edit in edits(part)])


def envelope(body: Body, members: Mapping[str, str]) -> str:
    """A body without its elements, as in `Cut`. Raises `ValueError` for one that must be kept whole."""
    pieces: list[bytes] = []
    done = 0
    for part in body.parts:
        if len(part.separators) > 1:
            raise ValueError(f"{part.name}: items are not all separated alike")
        between = b"".join(part.separators)
        pieces += body.sent[done : part.start], between.join([_STAND_IN] * min(len(part.elements), 2))
        done = part.end
    text = b"".join((*pieces, body.sent[done:])).decode()
    stand_ins = tuple((part.name, min(len(part.elements), 2)) for part in body.parts)
    is_exact = _is_exact if len(text) <= MAX_REMEMBERED else _is_exact.__wrapped__
    if not is_exact(text, stand_ins, tuple(members.items())):
        raise ValueError("cannot be cut exactly")
    return text


@lru_cache(maxsize=32)
def _is_exact(text: str, stand_ins: tuple[tuple[str, int], ...], members: tuple[tuple[str, str], ...]) -> bool:
    """Whether elements go back to where they stood: where two do, any number does. All calls of a conversation have one
    envelope, as a rule."""
    elements = {part: [_STAND_IN.decode()] * number for part, number in stand_ins}
    return join(Cut(text, elements), dict(members)) == text.encode()


def edits(part: Part, start: int = 0) -> list[Edit]:
    """What the elements of a part, from `start` on, have in this call only."""
    return [
        Edit(part.name, index, *edit)
        for index, element in enumerate(part.elements[start:], start)
        for edit in element.settled[1]
    ]


def join(parts: Cut, members: Mapping[str, str]) -> bytes:
    """The body that was taken apart, by these `members` or fewer: those of a kind may have been added since.

    Raises `ValueError` or `LookupError` if these are no such pieces.
    """
    text = parts.envelope

    def was_cut(part: str, spans: _Spans) -> bool:
        stand_ins = [text[start:end] for start, end in spans]
        return stand_ins == [_STAND_IN.decode()] * min(len(parts.parts.get(part, ())), 2)

    elements = {part: list(items) for part, items in parts.parts.items()}
    for part, index, offset, passing in parts.edits:
        element = elements[part][index]
        elements[part][index] = element[:offset] + passing + element[offset:]
    pieces: list[str] = []
    done = 0
    for part, spans in _spans(text, members, was_cut):
        between = text[spans[0][1] : spans[-1][0]] if len(spans) > 1 else ""
        pieces += text[done : spans[0][0]], between.join(elements[part])
        done = spans[-1][1]
    pieces.append(text[done:])
    return "".join(pieces).encode()


def _spans(text: str, members: Mapping[str, str], fits: Callable[[str, _Spans], bool]) -> Iterator[tuple[str, _Spans]]:
    """The parts of a body, each with where its elements stand: in the first of its members that fits.

    A part without any elements is left out.
    """
    scanner = Scanner(text, len(BOM) if text.startswith(BOM) else 0)
    if not text.startswith("{", scanner.at):
        raise ValueError("no JSON object")
    left = set(PARTS)
    for name, _ in scanner.members():
        part = members.get(str(name), "")
        if part not in left:
            scanner.value()
            continue
        is_array = text.startswith("[", scanner.at)
        spans = [_span(scanner) for _ in scanner.members()] if is_array else [_span(scanner)]
        if not fits(part, spans):
            continue
        left.remove(part)
        if spans:
            yield part, spans


def _span(scanner: Scanner) -> tuple[int, int]:
    start = scanner.at
    scanner.value()
    return start, scanner.at


def split_texts(element: str) -> tuple[str, list[str]]:
    """Take the long texts out of an element, so that a text is the same wherever it stands; see `fill_texts`.

    Returns a template, which is JSON with the JSON of `"\\x1a0"`, `"\\x1a1"`, ... in the places of the texts, and these
    as they read, without escapes. Texts stay in the template where they are written with unusual escapes, or hold what
    a database has no text for: NUL and lone surrogates; and in an element longer than `MAX_TAKEN_APART`.
    """
    if len(element) > MAX_TAKEN_APART or _HOLE.search(element):
        return element, []
    texts: list[str] = []
    pieces: list[str] = []
    done, start = 0, element.find('"')
    while start >= 0:
        try:
            text, end = scan(element, start)
        except ValueError:
            # without what passes it may be no JSON any more, if that was said by somebody and not meant
            return element, []
        if end - start >= MIN_TEXT and _comes_back(element[start:end], text):
            pieces += element[done:start], f'"\\u001a{len(texts)}"'
            texts.append(text)
            done = end
        start = element.find('"', end)
    return "".join((*pieces, element[done:])), texts


def _comes_back(literal: str, text: str) -> bool:
    """Whether a database can hold a text, and `encode_basestring` writes it so."""
    if "\\u" not in literal and "\\/" not in literal:
        # what is told by this alone, as most is, is told in a fraction of the time
        return True
    return literal.isascii() == text.isascii() and "\0" not in text and encode_basestring(text) == literal


def fill_texts(template: str, texts: list[str]) -> str:
    """The element that `split_texts` took apart. Raises `IndexError` if a text is missing."""
    if not texts:
        return template
    return _HOLE.sub(lambda hole: encode_basestring(texts[int(hole[1])]), template)
