"""What changes on the way back: the answers of free models, and the usage that a client did not ask for.

An answer's reading hands over each event, or the whole body, as received and as parsed; it gets back the bytes for the
client. What must be hidden is stated by the modules of kinds (where names and usage stand) and dialects (which members
tell money, or the model that really served).
"""

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import lru_cache

from gateway_addon.api.base import ApiKind, Json, Operation, Refusal
from gateway_addon.api.values import text
from gateway_addon.dialects import DIALECTS
from gateway_addon.wire import jsontext
from gateway_addon.wire.jsontext import pointer
from gateway_addon.wire.sse import Event

WITHHELD = Refusal(502, "the gateway could not read the answer and has withheld it", "answer_withheld")
"""What a client gets of an answer that must be changed and cannot be."""


class UnreadableError(Exception):
    """What came cannot be changed, and may hold what must be hidden."""


@dataclass(slots=True, frozen=True)
class AnswerChange:
    """Why an answer must be changed."""

    kind: ApiKind
    public_model: str | None = None
    """The name a free model goes by; None: it is not free, and names and costs stay."""
    hide_usage: bool = False
    """Chat Completions: the gateway asked for the usage chunk, not the client."""

    @property
    def fails_closed(self) -> bool:
        """Whether what cannot be changed must not be seen. Of usage that was not asked for nobody is harmed."""
        return self.public_model is not None

    def concerns(self, http_status: int) -> bool:
        """Whether an answer of this status can have anything to change: no error has a usage chunk."""
        return self.public_model is not None or http_status < 400

    def event(self, event: Event, data: Json | None) -> bytes:
        """What the client gets of an event of a stream; b"" for one it must not see. `data`: its data, parsed.

        Raises `UnreadableError` if the change fails closed.
        """
        if data is None:
            if self.fails_closed and not _is_bare(event):
                raise UnreadableError
            return event.raw
        operations = self.operations(data) if data else []
        if operations is None:
            # the second half of a CRLF belongs to the event before, which has gone on already
            return b"\n" if event.raw.startswith(b"\n") else b""
        return _with_data(event, _edited(event.data, operations)) if operations else event.raw

    def body(self, source: bytes, data: Json | None) -> bytes:
        """What the client gets of a whole body. `data`: the same, parsed. Raises `UnreadableError` like `event`."""
        if data is None:
            if self.fails_closed and source.strip():
                raise UnreadableError
            return source
        return _edited(source, self.operations(data) or [])

    def error_event(self) -> bytes:
        """The last event of a stream of which no more may be seen."""
        name, data = self.kind.error_event(WITHHELD)
        return (f"event: {name}\n" if name else "").encode() + b"data: %b\n\n" % jsontext.dumps(data).encode()

    def error_body(self) -> bytes:
        """The body in place of a whole answer."""
        return jsontext.dumps(self.kind.error_body(WITHHELD)).encode()

    def operations(self, answer: Json) -> list[Operation] | None:
        """The change to one event, or to a whole answer; None: nothing of it is left to be seen."""
        if self.hide_usage and answer.get("choices") == [] and answer.get("usage") and not answer.get("error"):
            return None
        if self.public_model is None:
            return []
        found = _Found()
        _look(_places(self.kind), answer, "", found)
        if found.hidden and _is_empty(answer, found.hidden):
            return None
        return [
            *({"op": "replace", "path": place, "value": self.public_model} for place in found.names),
            *({"op": "remove", "path": place} for place in dict.fromkeys(found.hidden)),
        ]


@dataclass(slots=True)
class _Place:
    """A place in an answer: what there is to do with its value, and the places below."""

    look: "Callable[[object, str, _Found], None] | None" = None
    below: "dict[str, _Place]" = field(default_factory=dict)

    def at(self, pattern: str) -> "_Place":
        place = self
        for token in pattern.split("/")[1:]:
            place = place.below.setdefault(token, _Place())
        return place


@dataclass(slots=True)
class _Found:
    """JSON pointers into an answer."""

    names: list[str] = field(default_factory=list)
    """Of names of the model that served."""
    hidden: list[str] = field(default_factory=list)
    """Of what must go."""


_TREES: dict[str, _Place] = {}
"""By kind, the places of its answers where a name or a cost may stand."""


def _places(kind: ApiKind) -> _Place:
    if kind.NAME not in _TREES:
        _TREES[kind.NAME] = _tree(kind)
    return _TREES[kind.NAME]


def _tree(kind: ApiKind) -> _Place:
    root = _Place()
    for pattern in kind.MODEL_PLACES:
        root.at(pattern).look = _take_name
    for holder in kind.METADATA_PLACES:
        root.at(holder).look = _take_costs
        for dialect in DIALECTS.values():
            for member in dialect.HIDDEN_MEMBERS:
                root.at(f"{holder}/{member}").look = _hide
    for pattern in kind.USAGE_PLACES:
        root.at(pattern).look = _take_nested_costs
    return root


def _look(place: _Place, value: object, at: str, found: _Found) -> None:
    if place.look:
        place.look(value, at, found)
    if not place.below:
        return
    if isinstance(value, dict):
        for token, below in place.below.items():
            if token in value:
                _look(below, value[token], at + pointer(token), found)
    elif isinstance(value, list) and "*" in place.below:
        for index, element in enumerate(value):
            _look(place.below["*"], element, f"{at}/{index}", found)


def _take_name(value: object, at: str, found: _Found) -> None:
    if text(value):
        found.names.append(at)


def _hide(value: object, at: str, found: _Found) -> None:
    found.hidden.append(at)


def _take_costs(holder: object, at: str, found: _Found) -> None:
    """Every member that names a cost: `cost`, `total_cost`, `costDetails`."""
    if isinstance(holder, dict):
        found.hidden += (at + pointer(name) for name in holder if _names_a_cost(name))


def _take_nested_costs(usage: object, at: str, found: _Found) -> None:
    """The same at any depth of a usage object, and whose key paid."""
    pending = [(usage, at)]
    while pending:
        value, place = pending.pop()
        members: Iterator[tuple[str | int, object]] = iter(())
        if isinstance(value, dict):
            members = iter(value.items())
        elif isinstance(value, list):
            members = iter(enumerate(value))
        for key, member in members:
            if isinstance(key, str) and (_names_a_cost(key) or key == "is_byok"):
                found.hidden.append(place + pointer(key))
            elif isinstance(member, dict | list):
                pending.append((member, place + pointer(key)))


@lru_cache(1024)
def _names_a_cost(name: str) -> bool:
    return "cost" in name.lower()


def _is_empty(answer: Json, hidden: list[str]) -> bool:
    """Whether nothing is left of an event once these are gone: a frame that some gateways send for its cost alone."""
    gone = {place for place in hidden if place.count("/") == 1}
    return not any(value for name, value in answer.items() if pointer(name) not in gone)


def _edited(source: bytes, operations: list[Operation]) -> bytes:
    """A JSON object's text after its edit."""
    if not operations:
        return source
    renamed = _renamed(source, operations)
    if renamed is not None:
        return renamed
    try:
        return jsontext.apply(source, operations)
    except ValueError as error:  # a name twice in one object, its values of different shapes
        raise UnreadableError from error


def _renamed(source: bytes, operations: list[Operation]) -> bytes | None:
    """The edit of a usual event, which does nothing but replace members `model`: without going through the text again.

    In valid JSON the bytes `"model":` are always the name of a member: no quote stands unescaped inside a string. So
    where there are as many as places to change, those are the places. None: it is no such edit.
    """
    for operation in operations:
        if operation["op"] != "replace" or not operation["path"].endswith("/model"):
            return None
    literal, done = _literal(operations[0]["value"]), 0
    pieces: list[bytes] = []
    at = source.find(_MODEL_NAME)
    while at >= 0:
        found = _MODEL.match(source, at)
        if found is None or len(pieces) == 2 * len(operations):
            return None
        pieces += [source[done : found.end(1)], literal]
        done = found.end()
        at = source.find(_MODEL_NAME, done)
    return b"".join([*pieces, source[done:]]) if len(pieces) == 2 * len(operations) else None


_MODEL_NAME = b'"model"'
_MODEL = re.compile(rb'("model"\s*:\s*)"[^"\\]*"')


@lru_cache(256)
def _literal(name: str) -> bytes:
    return jsontext.dumps(name).encode()


_BARE = re.compile(
    rb"(?:(?:\xef\xbb\xbf)?(?:(?::|event:|id:|retry:)[^\r\n]*+|data(?:: *+(?:\[DONE\] *+)?)?)?(?:[\r\n]++|\Z))*+"
)
"""Lines of an event that tell nothing of an answer."""


def _is_bare(event: Event) -> bool:
    """Whether an event holds nothing but names, comments and the end marker."""
    return _BARE.fullmatch(event.raw) is not None


_DATA_LINE = re.compile(rb"(?:\A(\xef\xbb\xbf)?|(?<=[\r\n]))data(?:: ?([^\r\n]*))?(\r\n|\r|\n|\Z)")
"""A byte order mark before it, its value, and the end of the line."""


def _with_data(event: Event, data: bytes) -> bytes:
    """The event's bytes with other data where its first data line was; other fields and comments stay in place."""
    if b"\n" not in event.data:
        # as in nearly all: its data is one line
        found = None if event.raw.startswith(b"data: ") else _DATA_LINE.search(event.raw)
        at = found.start(2) if found else len(b"data: ")
        return b"%b%b%b" % (event.raw[:at], data, event.raw[at + len(event.data) :])
    lines = list(_DATA_LINE.finditer(event.raw))
    if b"\n".join([line[2] or b"" for line in lines]) != event.data:
        raise UnreadableError
    bom, _, line_end = lines[0].groups(b"")
    new = (line_end or b"\n").join([b"data: " + line for line in data.split(b"\n")]) + line_end
    before, behind = event.raw[: lines[0].start()], event.raw[lines[0].end() :]
    return before + bom + new + _DATA_LINE.sub(b"", behind)
