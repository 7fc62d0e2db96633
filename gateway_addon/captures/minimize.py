"""The smallest capture for which something still is as before: delta debugging over the structure of flows. No I/O.

Flows are taken as mitmproxy's `Flow.get_state()` gives them. What may go is tried in halves, quarters, ... down to one
by one: flows, header fields, messages and members of JSON, events and lines of a stream, characters. Every candidate is
a whole flow with right lengths and encodings. Nothing here is random: the same question gives the same answer.
"""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from gateway_addon.captures.notes import PACE
from gateway_addon.captures.replay import schedule
from gateway_addon.wire import encodings, jsontext
from gateway_addon.wire.headers import Headers

type State = dict[str, Any]
type Keeps[T] = Callable[[T], bool]
"""Whether things would still be as before if that were in the place of what is there."""

MAX_DEPTH = 100
"""Levels of JSON that are taken apart; what is deeper goes as a whole or stays."""
MAX_PLAIN = 256_000_000
"""Bytes; a body that decodes to more stays encoded."""

MIN_TEXT = 16
"""Characters; a shorter text is rather a name or an id, which goes as a whole or stays."""

BORDER = "\U0010ffff"
"""Stands in a body's text where a chunk of the answer ended."""


@dataclass(frozen=True, slots=True)
class Joined:
    """A text of parts, each of which may go."""

    parts: list["Node"]
    between: str


@dataclass(frozen=True, slots=True)
class After:
    """A text with something in front of it that stays, such as the name of an event's field."""

    prefix: str
    inside: "Node"


@dataclass(frozen=True, slots=True)
class Json:
    """A text that is the JSON of a value."""

    value: Any


type Node = str | Joined | After | Json


def text_of(node: Node) -> str:
    """The text that a node stands for."""
    match node:
        case Joined(parts, between):
            return between.join(map(text_of, parts))
        case After(prefix, inside):
            return prefix + text_of(inside)
        case Json(value):
            # a byte that is no UTF-8 is one again
            return _ESCAPED_BYTE.sub(lambda found: chr(int(found[1], 16)), jsontext.dumps(value))
    return node


_ESCAPED_BYTE = re.compile(r"\\u(dc[89a-f][0-9a-f])")


# -- lists, JSON, texts --------------------------------------------------------------------------------------------


def fewer[T: Sequence[Any]](items: T, keeps: Keeps[T]) -> T:
    """A list, text or bytes without what may go from it: none of what is left may go alone."""
    size = len(items)
    while size:
        position, smaller = 0, False
        while position < len(items):
            candidate: T = items[:position] + items[position + size :]  # type: ignore[operator]
            if keeps(candidate):
                items, smaller = candidate, True
            else:
                position += size
        if size > 1:
            size = size // 2
        elif not smaller:
            break
    return items


def smaller_json(value: Any, keeps: Keeps[Any], depth: int = 0) -> Any:
    """A JSON value without what may go from it."""
    if depth > MAX_DEPTH:
        return value
    match value:
        case dict():
            value = dict(fewer(list(value.items()), lambda members: keeps(dict(members))))
            for name in _largest_first(value):
                value[name] = smaller_json(value[name], _in_place(value, name, keeps), depth + 1)
        case list():
            value = fewer(value, keeps)
            for index in _largest_first(dict(enumerate(value))):
                value[index] = smaller_json(value[index], _in_place(value, index, keeps), depth + 1)
        case str():
            return text_of(smaller_text(value, lambda node: keeps(text_of(node)), depth + 1))
        case int() | float() | Decimal() if value != 0 and not isinstance(value, bool) and keeps(0):
            return 0
    return value


def _in_place[C: (dict[Any, Any], list[Any])](container: C, key: Any, keeps: Keeps[C]) -> Keeps[Any]:
    def tried(instead: Any) -> bool:
        changed = container.copy()
        changed[key] = instead
        return keeps(changed)

    return tried


def _largest_first(members: Mapping[Any, Any]) -> list[Any]:
    return sorted(members, key=lambda key: -len(repr(members[key])))


def smaller_text(text: str, keeps: Keeps[Node], depth: int = 0) -> Node:
    """A text without what may go from it: as JSON, by its blocks, lines and fields, or by characters."""
    if not text or keeps(""):
        return ""
    if depth > MAX_DEPTH:
        return text
    if isinstance(value := _parsed(text), dict | list) and keeps(Json(value)):
        return Json(smaller_json(value, lambda instead: keeps(Json(instead)), depth + 1))
    for between in ("\r\n\r\n", "\n\n", "\n"):
        if between in text:
            return _smaller_parts(text.split(between), between, keeps, depth)
    if (field := _FIELD.match(text)) and len(field[0]) < len(text):
        prefix = field[0]
        inside = smaller_text(text[len(prefix) :], lambda node: keeps(After(prefix, node)), depth + 1)
        return After(prefix, inside)
    return fewer(text, keeps) if len(text) >= MIN_TEXT else text


_FIELD = re.compile(r"[\w-]+: ?(?=[\[{])")


def _smaller_parts(parts: list[str], between: str, keeps: Keeps[Node], depth: int) -> Node:
    left: list[Node] = list(fewer(parts, lambda some: keeps(Joined(list(some), between))))
    for index in _largest_first(dict(enumerate(left))):
        part = left[index]
        assert isinstance(part, str)

        def tried(node: Node, at: int = index) -> bool:
            return keeps(Joined([*left[:at], node, *left[at + 1 :]], between))

        left[index] = smaller_text(part, tried, depth + 1)
    return Joined(left, between)


def _parsed(text: str) -> object:
    """The value of a text that is JSON, unless it is nested too deeply to be written again."""
    value = jsontext.parse_any(text) if text.lstrip()[:1] in ("{", "[") else None
    level: list[Any] = [value]
    for _ in range(MAX_DEPTH):
        level = [inside for outside in level for inside in _inside(outside)]
        if not level:
            return value
    return None


def _inside(value: object) -> Iterable[object]:
    return value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()


# -- flows ---------------------------------------------------------------------------------------------------------

DROPS: tuple[tuple[tuple[str, ...], Any], ...] = (
    (("backup",), None),
    (("response",), None),
    (("websocket",), None),
    (("error",), None),
    (("metadata",), {}),
    (("comment",), ""),
    (("marked",), ""),
    (("request", "trailers"), None),
    (("response", "trailers"), None),
    (("client_conn", "certificate_list"), []),
    (("server_conn", "certificate_list"), []),
    (("client_conn", "mitmcert"), None),
)
"""What of a flow may go as a whole, and what stands there then."""


def smaller_capture(flows: list[State], keeps: Keeps[list[State]]) -> list[State]:
    """The flows without what may go from them. There is always one left.

    `keeps` may raise to put an end to it.
    """
    size = None
    while size != (size := len(repr(flows))):
        flows = fewer(flows, lambda some: len(some) > 0 and keeps(some))
        for index in _largest_first(dict(enumerate(flows))):
            flows[index] = smaller_flow(flows[index], _in_place(flows, index, keeps))
    return flows


def smaller_flow(flow: State, keeps: Keeps[State]) -> State:
    """A flow without what may go from it."""
    for path, instead in DROPS:
        changed = _changed(flow, path, instead)
        if changed is not None and keeps(changed):
            flow = changed
    messages = [name for name in ("request", "response") if flow.get(name)]
    for name in sorted(messages, key=lambda name: -len(flow[name]["content"] or b"")):
        flow = smaller_body(flow, name, keeps)
        flow = _fewer_at(flow, (name, "headers"), tuple, keeps)
    changed = _changed(flow, ("request", "path"), flow["request"]["path"].partition(b"?")[0])
    if changed is not None and keeps(changed):
        flow = changed
    for name in flow["metadata"]:
        if isinstance(flow["metadata"][name], dict):
            flow = _fewer_at(flow, ("metadata", name), dict, keeps)
    return _fewer_at(flow, ("metadata",), dict, keeps)


def _fewer_at(
    flow: State, path: tuple[str, ...], kind: type[tuple[Any, ...] | dict[Any, Any]], keeps: Keeps[State]
) -> State:
    """A flow with fewer items in the tuple or dict at a place."""
    at: Any = flow
    for name in path:
        at = at[name]
    items = list(at.items()) if isinstance(at, dict) else list(at)
    left = fewer(items, lambda some: (changed := _changed(flow, path, kind(some))) is not None and keeps(changed))
    return _changed(flow, path, kind(left)) or flow


def _changed(state: State, path: tuple[str, ...], instead: Any) -> State | None:
    """A copy with something else at a place; None if it is there already, or there is no such place."""
    name, *rest = path
    if rest:
        inside = state.get(name)
        changed = _changed(inside, tuple(rest), instead) if isinstance(inside, dict) else None
        return None if changed is None else state | {name: changed}
    return None if name not in state or state[name] == instead else state | {name: instead}


# -- bodies --------------------------------------------------------------------------------------------------------


def smaller_body(flow: State, name: str, keeps: Keeps[State]) -> State:
    """A flow with less in the body of its `request` or `response`, and fewer borders between chunks."""
    if not flow[name]["content"]:
        return flow
    body = _Body(flow, name)
    if body.encoding and keeps(decoded := body.without_encoding()):
        body = _Body(decoded, name)
    text = body.text
    if BORDER in text:
        pieces = text.split(BORDER)
        borders = fewer(list(range(len(pieces) - 1)), lambda some: keeps(body.filled(_bordered(pieces, some))))
        flow = body.filled(_bordered(pieces, borders))
        # without borders in them characters are whole again
        body = _Body(flow, name)
        text = body.text
    return body.filled(text_of(smaller_text(text, lambda node: keeps(body.filled(text_of(node))))))


def _bordered(pieces: list[str], borders: Sequence[int]) -> str:
    wanted = set(borders)
    return "".join(piece + (BORDER if number in wanted else "") for number, piece in enumerate(pieces))


class _Body:
    """The body of a message as text, and the flow with another text in its place."""

    def __init__(self, flow: State, name: str) -> None:
        self._flow = flow
        self._name = name
        content: bytes = flow[name]["content"]
        headers = Headers((key.decode("latin-1"), value.decode("latin-1")) for key, value in flow[name]["headers"])
        self.encoding = headers.joined("content-encoding")
        try:
            plain = encodings.decode(content, self.encoding, MAX_PLAIN)
        except encodings.DecodeError:
            # cut off or damaged: as it is
            self.encoding, plain = "", content
        pieces = _pieces(plain, flow["metadata"].get(PACE)) if name == "response" and plain is content else [plain]
        texts = [piece.decode("utf-8", "surrogateescape") for piece in pieces]
        self._has_pace = not any(BORDER in text for text in texts) and len(texts) > 1
        self.text = (BORDER if self._has_pace else "").join(texts)

    def filled(self, text: str) -> State:
        """The flow with this text, and what depends on its length."""
        pieces = [piece.encode("utf-8", "surrogateescape") for piece in text.split(BORDER)] if self._has_pace else []
        plain = b"".join(pieces) if pieces else text.encode("utf-8", "surrogateescape")
        flow = self._with(encodings.encode(plain, self.encoding))
        if self._has_pace:
            ends = [sum(map(len, pieces[: number + 1])) for number in range(len(pieces))]
            pace = [[number, end] for number, end in enumerate(dict.fromkeys(ends), start=1)]
            flow = flow | {"metadata": flow["metadata"] | {PACE: pace}}
        return flow

    def without_encoding(self) -> State:
        """The flow with its body decoded."""
        plain = encodings.decode(self._flow[self._name]["content"], self.encoding, MAX_PLAIN)
        return self._with(plain, without=b"content-encoding")

    def _with(self, content: bytes, without: bytes = b"") -> State:
        message = self._flow[self._name]
        length = b"%d" % len(content)
        headers = tuple(
            (name, length if name.lower() == b"content-length" else value)
            for name, value in message["headers"]
            if name.lower() != without
        )
        return self._flow | {self._name: message | {"content": content, "headers": headers}}


def _pieces(content: bytes, pace: object) -> list[bytes]:
    """An answer's body in the chunks it came in, as far as the flow tells."""
    return [piece for _, piece in schedule(content, pace)]
