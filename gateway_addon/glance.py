"""One message of a model call as a person reads it at a glance: what was said, to whom, and what it cost.

For windows that show it whenever somebody looks, on a thread that has other things to do: whatever the bytes are, no
more than so many of them are read, and the text has its bounds. No I/O, no clock.
"""

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from itertools import accumulate, islice
from textwrap import wrap
from typing import Any

from gateway_addon import terms
from gateway_addon.answer import AnswerFeed, AnswerReader
from gateway_addon.api import KINDS
from gateway_addon.api.base import Answer, ApiKind, Json, RequestFacts
from gateway_addon.api.values import items
from gateway_addon.conversation import Said, Turn, history, read_history, uses
from gateway_addon.conversation import answer as said_in
from gateway_addon.record import Record
from gateway_addon.sinks.console import dollars
from gateway_addon.transcript import Part, shortened
from gateway_addon.transcript import history as parts_of
from gateway_addon.wire import jsontext
from gateway_addon.wire.cut import CONVERSATION, SYSTEM, TOOLS
from gateway_addon.wire.headers import Headers
from gateway_addon.wire.text import printable

MAX_DATA, MAX_VALUES = 4_000_000, 300_000
"""Bytes of a body, and values in it, beyond which it is not parsed."""

MAX_EVENTS, PIECE = 10_000, 64_000
"""Events of a stream that are put together, and bytes that are read at once."""

DEAR = 20
"""As many events count for one that does not go on with a text: it takes ten times as long, and more."""

KILOBYTE = 1_000
"""Bytes that count for an event."""

MAX_MESSAGES = 200
"""The latest messages of a conversation that are read."""

MAX_ITEMS = 500
"""Things said in them, or in an answer, and elements of any list."""

MAX_NODES, MAX_DEPTH = 20_000, 50
"""JSON values that are looked at, the latest messages' first, and how deep."""

MAX_CHARACTERS, MAX_LINES = 64_000, 480
"""Of the whole text; mitmweb shows 512 lines before it asks."""

TEXT = (120, 8_000)
ANSWER = (400, 40_000)
FOLDED = (3, 300)
ARGUMENTS = (200, 16_000)
"""Lines and characters of one text: of a prompt or of what was answered before, of the answer itself, of a system
prompt, and of arguments before they are read."""

WIDTH = 90
"""Characters of a line, unless it is one word."""

MAX_VALUE = 200
"""Characters of a parameter."""


def request(kind: ApiKind, data: bytes) -> str:
    """A request: its parameters, the tools offered, the system prompt folded, the conversation up to its end."""
    body = _object(data)
    if body is None:
        return _text(["no JSON object that can be shown as a conversation", *_raw(data)])
    return _text([*_parameters(kind, body), *_conversation(kind, body)])


def response(kind: ApiKind, data: bytes, status: int, content_type: str, record: Record | None) -> str:
    """An answer, a stream put together: how it ended, what it cost, what it says.

    `record`: the call's, once it has ended; until then what the answer itself tells.
    """
    read = _read_body if data.lstrip()[:1] in (b"{", b"[") else _read_stream
    answer, left = read(kind, data, status, content_type)
    said = _said(answer)
    facts = filter(None, _facts(record) if record else _told(answer))
    shown = _parts(said) if said or (answer.recognised and not answer.error) else ["", *_raw(data)]
    return _text([*facts, *shown, f"… {left} more bytes of the stream" if left else ""])


def message(kind: ApiKind, data: bytes, *, from_client: bool) -> str:
    """A message of a WebSocket: a request, or an event of an answer, of which the last has all that was said."""
    event = _object(data)
    if event is None:
        return _text(_raw(data))
    name = str(event.get("type", ""))
    if from_client:
        return _text([name, *_parameters(kind, event), *_conversation(kind, event)])
    reader = AnswerReader(kind, RequestFacts())
    reader.event(_Pruning().of(event))
    answer = reader.finish()
    said, told = _said(answer), [*filter(None, _told(answer))]
    return _text([name, *told, *_parts(said)] if said or answer.error else [name, *told, *_raw(data)])


def turn(record: Record, request: bytes, response: bytes, content_type: str) -> Turn:
    """A whole call, uncut, for somebody who has asked for it."""
    kind = KINDS[record.api_kind]
    feed = AnswerFeed(kind, RequestFacts(), record.http_status or 200, Headers({"content-type": content_type}))
    feed.feed(response)
    answer = feed.finish()
    told = read_history(record.api_kind, request)
    return Turn(
        record=record,
        history=told,
        missing="the request is no JSON object" if told is None else None,
        reasoning_text=answer.reasoning or None,
        answer_text=answer.text or None,
        tool_uses=tuple(uses(answer.tool_calls, answer.tool_results)),
    )


def raw(data: bytes, why: str = "") -> str:
    """The beginning of a message as it is."""
    return _text([why, "", *_raw(data)])


# -- requests ------------------------------------------------------------------------------------------------------


def _object(data: bytes) -> Json | None:
    """A body parsed, if it is a JSON object and not too much."""
    value = _parsed(data)
    return value if isinstance(value, dict) else None


def _parsed(data: bytes) -> object:
    is_too_much = len(data) > MAX_DATA or jsontext.count_values(data) > MAX_VALUES
    return None if is_too_much else jsontext.parse_any(data)


class _Pruning:
    """Copies JSON values as long as there is room for more; what is left out shows as `…`."""

    def __init__(self) -> None:
        self.left = MAX_NODES

    def of(self, value: Any, depth: int = 0) -> Any:
        self.left -= 1
        match value:
            case dict():
                kept = {name: self.of(member, depth + 1) for name, member in value.items() if self._has_room(depth)}
                return kept if len(kept) == len(value) else kept | {"…": "…"}
            case list():
                some = [self.of(element, depth + 1) for element in value[:MAX_ITEMS] if self._has_room(depth)]
                return some if len(some) == len(value) else [*some, "…"]
        return value

    def _has_room(self, depth: int) -> bool:
        return self.left > 0 and depth < MAX_DEPTH


def _parameters(kind: ApiKind, body: Json) -> Iterator[str]:
    """All that stands beside the parts, then the tools."""
    values = ((name, value) for name, value in body.items() if name not in kind.MEMBERS)
    words = [f"{name} {_value(value)}" for name, value in islice(values, MAX_ITEMS)]
    yield shortened(" · ".join(words), 1, 2_000)
    offered = {name: items(body.get(name))[:MAX_ITEMS] for name, part in kind.MEMBERS.items() if part == TOOLS}
    if names := kind.read_request(offered).tools:
        yield shortened(f"{len(names)} tools: {', '.join(names)}", 1, 2_000)


def _value(value: object) -> str:
    words = value if isinstance(value, str) else jsontext.dumps(value) if _is_small(value) else "…"
    return words if len(words) <= MAX_VALUE else f"{words[:MAX_VALUE]}…"


def _is_small(value: object) -> bool:
    """Whether a value has so few others in it that it takes no time to write."""
    pending = [value]
    for _ in range(MAX_VALUE):
        if not pending:
            return True
        match pending.pop():
            case dict() as members:
                pending.extend(members.values())
            case list() as elements:
                pending.extend(elements)
    return False


def _conversation(kind: ApiKind, body: Json) -> list[str]:
    """The system prompt, then what was said, and in between how much is left out."""
    told, left, pruning = dict(body), 0, _Pruning()
    for name, part in kind.MEMBERS.items():
        if part == CONVERSATION and isinstance(sent := body.get(name), list):
            kept = [pruning.of(one) for one in reversed(sent[-MAX_MESSAGES:]) if pruning.left > 0]
            left += len(sent) - len(kept)
            told[name] = kept[::-1]
        elif part == SYSTEM:
            told[name] = _Pruning().of(body.get(name))
        elif part == TOOLS:
            told[name] = items(body.get(name))[:MAX_ITEMS]
    said = history(islice(kind.history(told), MAX_ITEMS))
    system = [one for one in said if one.role == "system"]
    lines = _parts([one for one in said if one.role != "system"])
    latest = _latest(lines)
    gap = f"… {left} earlier messages" if left else "… the beginning is left out" if len(latest) < len(lines) else ""
    return [*_parts(system), *(["", gap] if gap else []), *latest]


def _latest(lines: Sequence[str]) -> list[str]:
    """As many of the last lines as there is room for."""
    sizes = accumulate(len(line) + 1 for line in reversed(lines[-MAX_LINES * 3 // 4 :]))
    count = sum(size <= MAX_CHARACTERS * 3 // 4 for size in sizes)
    return list(lines[len(lines) - count :])


# -- answers -------------------------------------------------------------------------------------------------------


def _read_body(kind: ApiKind, data: bytes, status: int, content_type: str) -> tuple[Answer, int]:
    reader = AnswerReader(kind, RequestFacts())
    reader.body(data, _Pruning().of(_parsed(data)), is_error=status >= 400)
    return reader.finish(), 0


def _read_stream(kind: ApiKind, data: bytes, status: int, content_type: str) -> tuple[Answer, int]:
    """What a stream says, and how many bytes of it were not read."""
    feed = AnswerFeed(kind, RequestFacts(), status, Headers({"content-type": content_type}))
    room, at = MAX_EVENTS, 0
    while room > 0 and at < len(data):
        piece = data[at : at + PIECE]
        feed.feed(piece)
        at += len(piece)
        events = piece.count(b"data:")
        beginning = max(0, events - piece.count(b'"delta"')) + piece.count(b'"name"')
        room -= events + DEAR * beginning + len(piece) // KILOBYTE
    return feed.finish(), len(data) - at


def _said(given: Answer) -> list[Said]:
    told = said_in(given.reasoning, given.text, uses(given.tool_calls[:MAX_ITEMS], given.tool_results[:MAX_ITEMS]))
    return list(told)


def _facts(record: Record) -> Iterator[str]:
    """What the row says of how it ended, tokens, cost and times."""
    names = dict.fromkeys(filter(None, (record.request_model, record.upstream_model, record.response_model)))
    status = record.http_status if record.http_status != 200 or record.outcome != "complete" else None
    yield _line(record.outcome, status, record.finish_reason, record.finish_detail, " → ".join(names))
    if record.error_type or record.error_message:
        named = " ".join(str(word) for word in (record.error_status, record.error_type) if word)
        yield ": ".join(filter(None, (named, record.error_message)))
    yield _line(*_counts(record, "≥" if record.usage_is_lower_bound else ""))
    why = terms.why_unknown(record.cost_flags) if record.cost_microdollars is None else ", ".join(record.cost_flags)
    charged = dollars(record.charged_microdollars) if record.charged_microdollars is not None else ""
    yield _line(
        f"cost {dollars(record.cost_microdollars)}" + (f" ({why})" if why else ""),
        record.cost_source,
        f"charged {charged}" if charged else None,
    )
    first, lasted = record.time_to_first_token_ms, record.duration_ms
    yield _line(
        lasted is not None and f"{lasted / 1000:.2f} s",
        first is not None and f"first token after {first / 1000:.2f} s",
        record.inference_provider or record.provider,
        ", ".join(record.warnings),
    )


def _told(answer: Answer) -> Iterator[str]:
    """The same, as far as the answer tells it."""
    yield _line(answer.model, answer.finish_reason, answer.finish_detail)
    if problem := answer.error:
        named = " ".join(str(word) for word in (problem.status, problem.type) if word)
        yield ": ".join(filter(None, (named, problem.message)))
    yield _line(*_counts(answer.usage))


def _counts(usage: object, least: str = "") -> Iterator[str]:
    for name in ("input", "cache_read", "cache_write", "output", "reasoning"):
        if (count := getattr(usage, f"{name}_tokens")) is not None:
            yield f"{name.replace('_', ' ')} {least}{count:,}"


def _line(*words: object) -> str:
    return " · ".join(str(word) for word in words if word)


# -- text ----------------------------------------------------------------------------------------------------------


def _parts(said: Sequence[Said]) -> list[str]:
    bounds = TEXT if len(said) > 20 else ANSWER
    return [line for part in parts_of([_bounded(one, bounds) for one in said], shortened) for line in _lines(part)]


def _lines(part: Part) -> list[str]:
    if part.style == "heading":
        return ["", f"── {part.text}"]
    return [piece for line in part.text.splitlines() for piece in _wrapped(line)]


_BEGINNING = re.compile(r"[ │]*")


def _wrapped(line: str) -> list[str]:
    """A line on several, where it is long: mitmweb wraps none. What comes next begins below where it began."""
    if len(line) <= WIDTH:
        return [line]
    found = _BEGINNING.match(line)
    beginning = found[0][: WIDTH // 2] if found else ""
    rest = line[len(beginning) :]
    width = WIDTH - len(beginning)
    return [beginning + piece for piece in wrap(rest, width, break_long_words=False, break_on_hyphens=False)]


def _bounded(said: Said, bounds: tuple[int, int]) -> Said:
    if said.text:
        return replace(said, text=shortened(said.text, *(FOLDED if said.role == "system" else bounds)))
    if said.tool_use and said.tool_use.arguments:
        return replace(said, tool_use=replace(said.tool_use, arguments=shortened(said.tool_use.arguments, *ARGUMENTS)))
    return said


def _raw(data: bytes) -> list[str]:
    """The beginning of what is no message of its kind."""
    return shortened(data[: 4 * MAX_CHARACTERS].decode(errors="replace"), *ANSWER).splitlines()


def _text(lines: Iterable[str]) -> str:
    text = printable("\n".join(islice(lines, MAX_LINES))[:MAX_CHARACTERS])
    # spelled out, characters take more room
    return text.strip("\n")[:MAX_CHARACTERS]
