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
    upstream_model: str | None = None
    """The name that it has at its provider, and that stands nowhere in what the client gets."""
    where_named: bool = False
    """Only an answer that names the upstream model is of this one: nothing else tells."""
    hide_usage: bool = False
    """Chat Completions: the gateway asked for the usage chunk, not the client."""

    @property
    def fails_closed(self) -> bool:
        """Whether what cannot be changed must not be seen. Of usage that was not asked for nobody is harmed."""
        return self.public_model is not None

    def concerns(self, http_status: int) -> bool:
        """Whether an answer of this status can have anything to change: no error has a usage chunk."""
        return self.public_model is not None or http_status < 400

    def is_named_in(self, body: bytes) -> bool:
        """Whether a body names the upstream model."""
        names = self._names(is_error=True)
        return names is not None and names.hidden_in(body.decode("utf-8", "replace")) is not None

    def event(self, event: Event, data: Json | None) -> bytes:
        """What the client gets of an event of a stream; b"" for one it must not see. `data`: its data, parsed.

        Raises `UnreadableError` if the change fails closed.
        """
        if data is None:
            if self.fails_closed and not _is_bare(event):
                raise UnreadableError
            return self._other_lines(event.raw)
        is_unasked = self.hide_usage and data.get("choices") == [] and data.get("usage") and not data.get("error")
        operations = None if is_unasked else self.operations(data) if data else []
        if operations is None:
            # the second half of a CRLF belongs to the event before, which has gone on already
            return b"\n" if event.raw.startswith(b"\n") else b""
        changed = _with_data(event, _edited(event.data, operations)) if operations else event.raw
        return self._other_lines(changed)

    def _other_lines(self, raw: bytes) -> bytes:
        """An event whose name, id and comments do not name the upstream model either."""
        if not (names := self._names(is_error=True)) or names.tail.encode() not in raw.lower():
            return raw

        def shown(line: bytes) -> bytes:
            hidden = line if line.removeprefix(BOM).startswith(b"data") else self.header(line)
            return b":" if hidden is None else hidden

        return b"".join(map(shown, re.split(rb"([\r\n]+)", raw)))

    def header(self, value: bytes) -> bytes | None:
        """A header's value as the client gets it; None: it must not get it."""
        names = self._names(is_error=True)
        text = value.decode("utf-8", "surrogateescape")
        if names is None or (hidden := names.hidden_in(text)) is None:
            return value
        return hidden.encode() if hidden.isascii() and (hidden.isprintable() or not hidden) else None

    def body(self, source: bytes, data: Json | None, *, is_error: bool = False) -> bytes:
        """What the client gets of a whole body. `data`: the same, parsed; `is_error`: its status says that it is one.

        Raises `UnreadableError` like `event`.
        """
        if data is None:
            if self.fails_closed and source.strip():
                raise UnreadableError
            return source
        operations = self.operations(data, is_error=is_error)
        return b"{}" if operations is None else _edited(source, operations)

    def error_event(self) -> bytes:
        """The last event of a stream of which no more may be seen."""
        name, data = self.kind.error_event(WITHHELD)
        return (f"event: {name}\n" if name else "").encode() + b"data: %b\n\n" % jsontext.dumps(data).encode()

    def error_body(self) -> bytes:
        """The body in place of a whole answer."""
        return jsontext.dumps(self.kind.error_body(WITHHELD)).encode()

    def _names(self, *, is_error: bool) -> "_Names | None":
        if self.public_model is None or self.upstream_model is None:
            return None
        return _names(self.upstream_model, self.public_model, is_error)

    def operations(self, answer: Json, *, is_error: bool = False) -> list[Operation] | None:
        """The change to one event, or to a whole answer; None: nothing of it is left to be seen."""
        if self.public_model is None:
            return []
        found = _Found()
        _look(_places(self.kind), answer, "", found)
        if is_error or answer.get("type") == "error" or answer.get("object") == "error":
            is_error = True
            _take_costs_of_error(answer, "", found)
        if names := self._names(is_error=is_error or found.is_error):
            names.take(answer, found)
        found.hidden = _outermost(found.hidden)
        gone = set(found.hidden)
        if found.hidden and _is_empty(answer, found.hidden):
            return None
        return [
            *(
                {"op": "replace", "path": place, "value": value}
                for place, value in (found.texts | dict.fromkeys(found.names, self.public_model)).items()
                if not _is_within(place, gone)
            ),
            *({"op": "remove", "path": place} for place in found.hidden),
        ]


def _outermost(places: list[str]) -> list[str]:
    """Each once, and none inside another."""
    all_of_them = set(places)
    return [place for place in dict.fromkeys(places) if not _is_within(place.rpartition("/")[0], all_of_them)]


def _is_within(place: str, places: set[str]) -> bool:
    while place:
        if place in places:
            return True
        place = place.rpartition("/")[0]
    return False


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
    texts: dict[str, str] = field(default_factory=dict)
    """Of other texts that name it, with what they are to say."""
    is_error: bool = False
    """An error stands in the answer."""


BOM = b"\xef\xbb\xbf"
MIN_NAME, MIN_BARE_NAME = 5, 8
"""Characters of a model's name, and of one without its vendor or variant, from which it is looked for in texts."""


class _Names:
    """The names of a free model at its provider as they may stand in a text: in any case, with or without a variant
    (`:free`), with the slash as JSON in JSON and URLs write it; in errors also without the vendor."""

    def __init__(self, upstream: str, public: str, *, is_error: bool) -> None:
        self._public = public.strip()
        core, _, variant = upstream.partition(":")
        if variant and not _is_distinctive(core, MIN_BARE_NAME):
            core = upstream
        bare = core.rpartition("/")[2]
        self.tail = bare.lower()
        wanted = [core] if _is_distinctive(core, MIN_NAME) else []
        if is_error and bare != core and _is_distinctive(bare, MIN_BARE_NAME):
            wanted.append(bare)
        names = "|".join(
            ("" if "/" in name else r"(?:(?<![A-Za-z0-9])|(?<=\\[bfnrt]))")
            + r"(?:\\*/|\\+u002f|%(?:25)*2f)".join(map(re.escape, name.split("/")))
            for name in wanted
        )
        self._pattern = (
            # the public name may hold the other
            re.compile(
                rf"{re.escape(self._public)}(?![A-Za-z0-9])|(?:{names})(?::[\w-]+)?(?![A-Za-z0-9])", re.IGNORECASE
            )
            if wanted
            else None
        )

    def hidden_in(self, text: str) -> str | None:
        """The text under the public name; None if it does not name the model."""
        if self._pattern is None or self.tail not in text.lower():
            return None
        hidden = self._pattern.sub(self._instead, text)
        return None if hidden == text else hidden

    def _instead(self, found: re.Match[str]) -> str:
        return found[0] if found[0].lower() == self._public.lower() else self._public

    def take(self, answer: Json, found: _Found) -> None:
        """Find every text of an answer that names the model; a member whose own name does must go."""
        pending: list[tuple[object, str]] = [(answer, "")]
        while pending:
            value, place = pending.pop()
            for key, member in _members(value):
                if isinstance(key, str) and self.hidden_in(key) is not None:
                    found.hidden.append(place + pointer(key))
                elif isinstance(member, str):
                    if (hidden := self.hidden_in(member)) is not None:
                        found.texts.setdefault(place + pointer(key), hidden)
                elif isinstance(member, dict | list):
                    pending.append((member, place + pointer(key)))


def _is_distinctive(name: str, length: int) -> bool:
    return len(name) >= length and not name.isalpha()


@lru_cache(256)
def _names(upstream: str, public: str, is_error: bool) -> _Names:
    return _Names(upstream, public, is_error=is_error)


def _members(value: object) -> Iterator[tuple[str | int, object]]:
    if isinstance(value, dict):
        return iter(value.items())
    return iter(enumerate(value)) if isinstance(value, list) else iter(())


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
        root.at(f"{holder}/error").look = _take_error
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
        for token, inner in value.items():
            if below := place.below.get(token):
                _look(below, inner, at + pointer(token), found)
    elif isinstance(value, list) and "*" in place.below:
        for index, element in enumerate(value):
            _look(place.below["*"], element, f"{at}/{index}", found)


def _take_name(value: object, at: str, found: _Found) -> None:
    if text(value):
        found.names.append(at)


def _hide(value: object, at: str, found: _Found) -> None:
    found.hidden.append(at)


def _take_costs(holder: object, at: str, found: _Found) -> None:
    """Every member that names a cost: `cost`, `total_cost`, `costDetails`, `price`, `charged`."""
    if isinstance(holder, dict):
        found.hidden += (at + pointer(name) for name in holder if _names_a_cost(name))


def _take_nested_costs(usage: object, at: str, found: _Found) -> None:
    """The same at any depth of a usage object, and whose key paid."""
    pending = [(usage, at)]
    while pending:
        value, place = pending.pop()
        for key, member in _members(value):
            if isinstance(key, str) and (_names_a_cost(key) or key == "is_byok"):
                found.hidden.append(place + pointer(key))
            elif isinstance(member, dict | list):
                pending.append((member, place + pointer(key)))


_HIDDEN_MEMBERS = {member for dialect in DIALECTS.values() for member in dialect.HIDDEN_MEMBERS}


def _take_error(error: object, at: str, found: _Found) -> None:
    if error:
        found.is_error = True
        _take_costs_of_error(error, at, found)


def _take_costs_of_error(error: object, at: str, found: _Found) -> None:
    """Costs and the gateways' own members at any depth; and whole texts that are another server's JSON with a cost."""
    pending = [(error, at)]
    while pending:
        value, place = pending.pop()
        for key, member in _members(value):
            if isinstance(key, str) and (_names_a_cost(key) or key == "is_byok" or key in _HIDDEN_MEMBERS):
                found.hidden.append(place + pointer(key))
            elif isinstance(member, str):
                if _tells_a_cost(member) and member.lstrip().startswith(("{", "[")):
                    found.texts[place + pointer(key)] = ""
            elif isinstance(member, dict | list):
                pending.append((member, place + pointer(key)))


def _tells_a_cost(words: str) -> bool:
    return any(word in words.lower() for word in ("cost", "price", "charge"))


_names_a_cost = lru_cache(1024)(_tells_a_cost)


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
        if operation["value"] != operations[0]["value"]:
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
