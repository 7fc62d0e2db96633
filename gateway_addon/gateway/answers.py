"""What changes on the way back: the answers of free models, and the usage that a client did not ask for.

Fed the answer's bytes without content encoding, returns the bytes for the client. Everything that is not to be changed,
or cannot be read, passes as it came; nothing waits for more than the end of its own event.
"""

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Protocol

from gateway_addon.api.base import ApiKind, Json, Operation
from gateway_addon.api.values import mapping, text
from gateway_addon.gateway.rewrites import pointer
from gateway_addon.wire import jsontext
from gateway_addon.wire.sse import MAX_EVENT, Event, EventParser

COST_HEADERS = (
    "x-litellm-response-cost",
    "x-litellm-response-cost-original",
    "x-litellm-response-cost-discount-amount",
    "x-litellm-response-cost-margin-amount",
    "x-litellm-key-spend",
)
"""Headers of an answer that name money: they must not reach the client of a free model."""

USAGE_PLACES = ("/usage", "/response/usage", "/message/usage", "/x_groq/usage")

GATEWAY_PLACES = tuple(
    f"{place}/{name}"
    for place in ("", "/response", "/message", "/choices/*/delta", "/choices/*/message")
    for name in ("provider_metadata", "providerMetadata", "openrouter_metadata")
)
"""Objects of the gateways that name both the cost and the model that really served (wire-formats §10.1, 10.2)."""

Edit = Callable[[Json], list[Operation] | None]
"""From a parsed event or body to what must change in its text; None: the client must not see it at all."""


class AnswerRewriter(Protocol):
    """Takes an answer piece by piece and gives what the client is to see. Never raises."""

    def feed(self, data: bytes) -> list[bytes]:
        """What can go on now; [] to hold back. No element is empty (it would end a chunked body)."""

    def finish(self) -> list[bytes]:
        """What is left at the end of the answer. Called once, last."""


@dataclass(slots=True, frozen=True)
class AnswerChange:
    """Why an answer must be changed."""

    kind: ApiKind
    public_model: str | None = None
    """The name a free model goes by; None: it is not free, and names and costs stay."""
    hide_usage: bool = False
    """Chat Completions: the gateway asked for the usage chunk, not the client."""

    def rewriter(self, *, streamed: bool) -> AnswerRewriter | None:
        """For an answer that is an event stream, or one body; None if such a one passes as it comes."""
        if streamed:
            return StreamRewriter(self.edit)
        return BodyRewriter(self.edit) if self.public_model is not None else None

    def edit(self, answer: Json) -> list[Operation] | None:
        """The change to one event, or to a whole answer (an `Edit`)."""
        if self.hide_usage and answer.get("choices") == [] and answer.get("usage") and not answer.get("error"):
            return None
        if self.public_model is None:
            return []
        named = [
            place for pattern in self.kind.MODEL_PLACES for place, name in _existing(answer, pattern) if text(name)
        ]
        return [
            *({"op": "replace", "path": place, "value": self.public_model} for place in named),
            *({"op": "remove", "path": place} for place in _cost_fields(answer)),
        ]


class StreamRewriter:
    """Server-sent events, one at a time."""

    def __init__(self, edit: Edit) -> None:
        self._edit = edit
        self._parser = EventParser()

    def feed(self, data: bytes) -> list[bytes]:
        return self._joined(self._parser.feed(data))

    def finish(self) -> list[bytes]:
        return self._joined(self._parser.finish())

    def _joined(self, events: list[Event]) -> list[bytes]:
        out = b"".join([self._rewritten(event) for event in events])
        return [out] if out else []

    def _rewritten(self, event: Event) -> bytes:
        data = _edited(event.data, self._edit)
        if data is None:
            # the second half of a CRLF belongs to the event before, which has gone on already
            return b"\n" if event.raw.startswith(b"\n") else b""
        return event.raw if data == event.data else _with_data(event, data)


class BodyRewriter:
    """One JSON body, which cannot be changed before it is complete."""

    def __init__(self, edit: Edit, max_body: int = MAX_EVENT) -> None:
        self._edit = edit
        self._max_body = max_body
        self._held = bytearray()
        self._passing = False

    def feed(self, data: bytes) -> list[bytes]:
        if self._passing:
            return [data] if data else []
        self._held += data
        if len(self._held) <= self._max_body:
            return []
        self._passing = True
        return self._release()

    def finish(self) -> list[bytes]:
        if self._passing or not self._held:
            return []
        edited = _edited(bytes(self._held), self._edit)
        return self._release() if edited is None else [edited]

    def _release(self) -> list[bytes]:
        held = bytes(self._held)
        self._held.clear()
        return [held]


def _edited(source: bytes, edit: Edit) -> bytes | None:
    """A JSON text after its edit, or as it came where it is no JSON object."""
    answer = jsontext.parse_object(source)
    if answer is None:
        return source
    operations = edit(answer)
    if operations is None:
        return None
    try:
        return jsontext.apply(source, operations)
    except ValueError:  # a name twice in one object, its values of different shapes
        return source


_DATA_LINE = re.compile(rb"(?:\A(\xef\xbb\xbf)?|(?<=[\r\n]))data(?:: ?([^\r\n]*))?(\r\n|\r|\n|\Z)")
"""A byte order mark before it, its value, and the end of the line (wire-formats §2.1)."""


def _with_data(event: Event, data: bytes) -> bytes:
    """The event's bytes with other data where its first data line was; other fields and comments stay in place."""
    lines = list(_DATA_LINE.finditer(event.raw))
    if b"\n".join([line[2] or b"" for line in lines]) != event.data:
        return event.raw
    bom, _, line_end = lines[0].groups(b"")
    new = (line_end or b"\n").join([b"data: " + line for line in data.split(b"\n")]) + line_end
    before, behind = event.raw[: lines[0].start()], event.raw[lines[0].end() :]
    return before + bom + new + _DATA_LINE.sub(b"", behind)


def _cost_fields(answer: Json) -> Iterator[str]:
    """JSON pointers to everything in an answer that tells what it cost."""
    for pattern in USAGE_PLACES:
        for place, usage in _existing(answer, pattern):
            yield from (place + pointer(key) for key in mapping(usage) if "cost" in key.lower() or key == "is_byok")
    for pattern in GATEWAY_PLACES:
        yield from (place for place, _ in _existing(answer, pattern))


def _existing(answer: Json, pattern: str) -> Iterator[tuple[str, object]]:
    """The JSON pointers that a pattern stands for in an answer (`*` is every element of an array), and the values."""
    found: list[tuple[str, object]] = [("", answer)]
    for token in pattern.split("/")[1:]:
        found = [member for place, value in found for member in _members(place, value, token)]
    return iter(found)


def _members(place: str, value: object, token: str) -> Iterator[tuple[str, object]]:
    if isinstance(value, dict) and token in value:
        yield place + pointer(token), value[token]
    elif isinstance(value, list) and token == "*":
        yield from ((place + pointer(index), element) for index, element in enumerate(value))
