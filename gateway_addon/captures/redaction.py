"""Redaction of saved flows: secrets give way to placeholders, and everything around them stays valid. No I/O.

A flow is taken as mitmproxy's `Flow.get_state()` gives it: nested dicts, lists, strings and bytes. A `Redactor` first
learns from every flow which credentials there are, then replaces them wherever they stand, so that a key known from one
header is also found where another flow's error text repeats it. Equal secrets get equal placeholders.

Not covered: a secret that is base64-coded outside of a credential's own place (a Basic authorization is one), written
in other than UTF-8, split between two flows or two TCP messages, or of which only a part was sent.
"""

import hashlib
import hmac
import re
from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import lru_cache
from typing import Any, NamedTuple
from urllib.parse import quote, unquote

from gateway_addon.captures.escapes import LITERAL, Span, Unescaped, merged, replaced, strings, unescaped
from gateway_addon.credentials import (
    CONTEXTS,
    CREDENTIAL,
    ENVIRONMENT,
    HEADER_SECRETS,
    MIN_LENGTH,
    NO_SECRET,
    SCHEME,
    SHAPE,
    Rule,
    is_credential,
    is_no_word,
)
from gateway_addon.wire import encodings, jsontext, sse
from gateway_addon.wire.headers import Headers, media_type

State = dict[str, Any]

CACHED_STRINGS = 4096
"""How many strings are known to have been searched, of at most `CACHED_LENGTH` characters each."""
CACHED_LENGTH = 32 * 1024


def read_rules(document: Mapping[str, Any]) -> list[Rule]:
    """The rules of a parsed rule file: `[[rules]]` tables with a `name` (it becomes the kind) and a `regex`.

    A group `(?P<secret>...)` narrows a match down to the secret in it. Raises ValueError, one line, for anything else.
    """
    tables = document.get("rules")
    if not isinstance(tables, list) or document.keys() != {"rules"}:
        raise ValueError("a rule file holds [[rules]] tables and nothing else")
    return [_read_rule(number, table) for number, table in enumerate(tables, start=1)]


def _read_rule(number: int, table: object) -> Rule:
    match table:
        case {"name": str(name), "regex": str(regex), **others} if not others:
            if not re.fullmatch(r"[\w.-]+", name):
                raise ValueError(f"rule {number}: a name has letters, digits, '.', '_' and '-' only, not {name!r}")
            try:
                compiled = re.compile(regex)
            except re.error as error:
                raise ValueError(f"rule {name!r}: bad regex: {error}") from error
            if compiled.search(""):
                raise ValueError(f"rule {name!r}: the regex matches the empty text")
            return Rule(name, compiled)
    raise ValueError(f"rule {number}: expected a table with the strings `name` and `regex`")


class Redactor:
    """Replaces secrets by `[redacted:KIND:8 hex digits]`. Call `learn` for every flow, then `redact` for every flow.

    `key` makes the digits: the same key and secret give the same placeholder, and nobody without the key can check a
    guess. `rules` are looked for besides the built-in ones, and `known` secrets (`environment_secrets`) everywhere.
    """

    def __init__(self, key: bytes, rules: Iterable[Rule] = (), known: Iterable[str] = ()) -> None:
        self._key = key
        self._rules = tuple(rules)
        self._kinds: dict[str, str] = {}  # by secret; the kind it was first found as stays
        self._placeholders: dict[str, str] = {}
        self._spellings: dict[str, str] = {}  # the secrets that are looked for everywhere, by each way to write them
        for secret in known:
            self._look_for(secret)
            self._kinds[secret] = ENVIRONMENT
        self._prepare()

    @property
    def found(self) -> int:
        """How many different secrets the flows held so far."""
        return len(self._placeholders)

    @property
    def kinds(self) -> dict[str, str]:
        """The secrets found so far: the kind each was first found as."""
        return {secret: self._kinds[secret] for secret in self._placeholders}

    def learn(self, state: State) -> None:
        """Note the credentials in a flow."""
        self._flow(state)

    def learn_text(self, text: str) -> None:
        """Note the secrets in a text that belongs to no flow."""
        self._find(text)

    def redact(self, state: State) -> State:
        """The state with placeholders. Bodies stay encoded and framed as they were, and lengths follow."""
        if self._prepared_for != len(self._spellings):
            self._prepare()
        return self._flow(state)

    def _prepare(self) -> None:
        self._prepared_for = len(self._spellings)
        self._anywhere = _any_of(self._spellings)
        # agents send their whole conversation again with every call
        self._find_in_string_again = lru_cache(CACHED_STRINGS)(self._find_in_string)

    # -- the parts of a flow -------------------------------------------------------------------------------------

    def _flow(self, state: State) -> State:
        redacted: State = {name: self._part(name, value) for name, value in state.items()}
        _follow_bodies(state, redacted)
        return redacted

    def _part(self, name: str, value: Any) -> Any:
        match name, value:
            case "request" | "response", {"headers": _}:
                return self._message(value)
            case "websocket", {"messages": [*messages]}:
                return self._values(value | {"messages": None}) | {"messages": self._websocket(messages)}
            case "backup", dict():
                return self._flow(value)
            case "client_conn" | "server_conn", _:
                # addresses, modes and certificates, which mitmproxy must be able to read again
                return value
        return self._values(value)

    def _values(self, value: Any) -> Any:
        """Any value with the texts in it redacted."""
        match value:
            case str():
                return self._text(value)
            case bytes():
                return _encode(self._text(_decode(value)))
            case list() | tuple():
                return type(value)(map(self._values, value))
            case dict():
                return {self._values(name): self._values(item) for name, item in value.items()}
        return value

    def _message(self, message: State) -> State:
        apart = {"headers": message["headers"], "trailers": message.get("trailers"), "content": message.get("content")}
        redacted: State = self._values({name: value for name, value in message.items() if name not in apart})
        redacted["headers"] = self._headers(apart["headers"])
        redacted["trailers"] = self._headers(apart["trailers"]) if apart["trailers"] else apart["trailers"]
        redacted["content"] = None
        if (content := apart["content"]) is not None:
            redacted["content"] = self._body(content, _headers(apart["headers"]))
            redacted["headers"] = _with_length(redacted["headers"], len(redacted["content"]) - len(content))
        return redacted

    def _headers(self, headers: Sequence[tuple[bytes, bytes]]) -> tuple[tuple[bytes, bytes], ...]:
        return tuple((name, _encode(self._header(_decode(name).lower(), _decode(value)))) for name, value in headers)

    def _header(self, name: str, value: str) -> str:
        if not is_credential(name):
            return self._text(value)
        where = HEADER_SECRETS.get(name, SCHEME)
        return replaced(value, [*self._credentials(value, where), *self._find(value)])

    def _body(self, content: bytes, headers: Headers) -> bytes:
        """A body as it is saved, still encoded.

        One that cannot be decoded to its end keeps what could be decoded, again without an end, so that it reads as
        before; one that cannot be decoded at all is replaced as a whole, since nobody knows what it holds.
        """
        encoding = headers.joined("content-encoding")
        plain, cut_off = _decoded(content, encoding)
        if cut_off and not plain:
            return self._placeholder(_decode(content), "body").encode()
        text = _decode(plain)
        redacted = self._stream(text) if sse.is_stream(plain, media_type(headers)) else self._text(text)
        # something else may stand behind the encoded data, or behind where it is damaged
        if redacted == text and not cut_off and not (encoding and self._find(_decode(content))):
            return content
        return encodings.encode(_encode(redacted), encoding, cut_off=cut_off)

    def _stream(self, text: str) -> str:
        """Server-sent events, each in its own framing."""
        data = _encode(text)
        parser = sse.EventParser(max_event=len(data))
        events = [*parser.feed(data), *parser.finish()]
        redacted = self._events([_decode(event.data) for event in events])
        raw = [_decode(event.raw) for event in events]
        return "".join(with_data(*event, self._text) for event in zip(raw, redacted, strict=True))

    def _websocket(self, messages: Sequence[Sequence[Any]]) -> list[tuple[Any, ...]]:
        """The messages of both directions. Each holds one event at most."""
        texts = self._events([_decode(content) for _, _, content, *_ in messages])
        return [
            (kind, from_client, _encode(text), *others)
            for (kind, from_client, _, *others), text in zip(messages, texts, strict=True)
        ]

    # -- texts ---------------------------------------------------------------------------------------------------

    def _text(self, text: str) -> str:
        return replaced(text, self._find(text))

    def _events(self, texts: list[str]) -> list[str]:
        """The texts of consecutive events, also without the secrets that are spread over the deltas of one block."""
        spans: list[list[Span]] = [[] for _ in texts]
        for pieces in deltas(texts):
            if len(pieces) > 1:
                for number, span in self._find_across(pieces):
                    spans[number].append(span)
        return [replaced(text, [*across, *self._find(text)]) for text, across in zip(texts, spans, strict=True)]

    def _find_across(self, pieces: list["Piece"]) -> Iterator[tuple[int, Span]]:
        """Secrets in the joined text of the pieces: number of the event, and what to replace there."""
        starts = [0]
        for piece in pieces:
            starts.append(starts[-1] + len(piece.inside.text))
        for span in merged(self._find("".join(piece.inside.text for piece in pieces))):
            for n in range(bisect_right(starts, span.start) - 1, bisect_right(starts, span.end - 1)):
                piece, begin = pieces[n], starts[n]
                start, end = max(span.start, begin), min(span.end, starts[n + 1])
                if start < end:
                    # the first piece gets the placeholder, the others only lose their part
                    new = span.new if start == span.start else ""
                    inside = piece.inside
                    yield piece.event, Span(inside.position(start - begin), inside.position(end - begin), new)

    def _find(self, text: str) -> list[Span]:
        """What to replace in a text; spans may overlap. JSON is taken apart, however deep it is packed in strings."""
        if _is_json(text):
            return list(self._find_in_json(text))
        spans = list(self._search(text))
        if "\\" in text:
            inside = unescaped(text)
            if len(inside.text) < len(text):
                spans += (inside.outside(span) for span in self._find(inside.text))
        return spans

    def _find_in_json(self, text: str) -> Iterator[Span]:
        name, value_at = "", 0
        for literal in LITERAL.finditer(text):
            start, source = literal.start("string"), literal["string"]
            if name and is_credential(name) and not text[value_at : literal.start()].strip():
                inside = unescaped(source)
                yield from (inside.outside(span).moved(start) for span in self._credentials(inside.text, SCHEME))
            find = self._find_in_string_again if len(source) <= CACHED_LENGTH else self._find_in_string
            yield from (span.moved(start) for span in find(source))
            name, value_at = (source, literal.end()) if literal["colon"] else ("", 0)

    def _find_in_string(self, source: str) -> list[Span]:
        """`_find` for a JSON string, as it is written between its quotes."""
        inside = unescaped(source)
        return [inside.outside(span) for span in self._find(inside.text)]

    def _search(self, text: str) -> Iterator[Span]:
        for kind, regex in self._rules:
            for found in regex.finditer(text):
                yield from self._spans(found, kind)
        if len(text) < MIN_LENGTH:
            return
        for found in SHAPE.finditer(text):
            yield from self._spans(found, str(found.lastgroup))
        for kind, regex in CONTEXTS:
            for found in regex.finditer(text):
                yield from self._spans(found, kind)
        for found in self._anywhere.finditer(text):
            yield Span(*found.span(), self._placeholder(self._spellings[found[0]], CREDENTIAL))

    def _credentials(self, text: str, where: re.Pattern[str]) -> Iterator[Span]:
        for found in where.finditer(text):
            yield from self._spans(found, CREDENTIAL)

    def _spans(self, found: re.Match[str], kind: str) -> Iterator[Span]:
        group = "secret" if "secret" in found.re.groupindex else 0
        if not found[group] or NO_SECRET.fullmatch(found[group]):
            return
        # in a URL it may be written in another way than elsewhere
        secret = unquote(found[group])
        if kind == CREDENTIAL and is_no_word(secret):
            self._look_for(secret)
        yield Span(*found.span(group), self._placeholder(secret, kind))

    def _look_for(self, secret: str) -> None:
        for spelling in (secret, quote(secret.encode("utf-8", "surrogatepass"), safe="")):
            self._spellings[spelling] = secret

    def _placeholder(self, secret: str, kind: str) -> str:
        if secret not in self._placeholders:
            kind = self._kinds.setdefault(secret, kind)
            digest = hmac.new(self._key, secret.encode("utf-8", "surrogatepass"), hashlib.sha256)
            self._placeholders[secret] = f"[redacted:{kind}:{digest.hexdigest()[:8]}]"
        return self._placeholders[secret]


def with_data(raw: str, data: str, others: Callable[[str], str] = str) -> str:
    """A server-sent event in its own framing, with other data of as many lines; `others` is applied to other lines."""
    new_lines = iter(data.split("\n"))

    def line(found: re.Match[str]) -> str:
        field, colon, value = found[0].partition(":")
        if field.removeprefix("\ufeff") != "data":
            return others(found[0])
        space = " " if value.startswith(" ") else ""
        return f"{field}{colon}{space}{next(new_lines, '')}"

    return re.sub(r"[^\r\n]+", line, raw)


class Piece(NamedTuple):
    """A string in an event that continues the one of an earlier event."""

    event: int
    inside: Unescaped


_BLOCK = ("type", "index", "output_index", "content_index", "summary_index", "item_id")
"""What tells at the top of an event which block of the answer its delta belongs to."""


def deltas(texts: list[str]) -> Iterable[list[Piece]]:
    """The strings below `delta`, in any kind's events, collected by the block they continue."""
    blocks: dict[tuple[str, ...], list[Piece]] = {}
    for number, text in enumerate(texts):
        if '"delta"' in text and (event := jsontext.parse_object(text)) is not None:
            block = tuple(str(event.get(name)) for name in _BLOCK)
            for place, start, end in strings(text, 0, ()):
                if "delta" in place:
                    blocks.setdefault(block + place, []).append(Piece(number, unescaped(text, start, end)))
    return blocks.values()


def _any_of(spellings: Iterable[str]) -> re.Pattern[str]:
    # the longest first, as one may begin like another; of none at all, nothing
    return re.compile("|".join(re.escape(text) for text in sorted(spellings, key=len, reverse=True)) or r"(?!)")


def _is_json(text: str) -> bool:
    if not text.lstrip("\ufeff \t\r\n").startswith(("{", "[", '"')):
        return False
    try:
        jsontext.parse(text)
    except ValueError:
        return False
    return True


def _decode(data: bytes) -> str:
    # lossless for bytes of any kind
    return data.decode("utf-8", "surrogateescape")


def _encode(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")


def _headers(fields: Iterable[tuple[bytes, bytes]]) -> Headers:
    return Headers((_decode(name), _decode(value)) for name, value in fields)


def _with_length(headers: Iterable[tuple[bytes, bytes]], growth: int) -> tuple[tuple[bytes, bytes], ...]:
    """The headers of a body that became longer. One that is short of its declared length stays short by as much."""
    return tuple(
        (name, b"%d" % (int(value) + growth) if name.lower() == b"content-length" and value.isdigit() else value)
        for name, value in headers
    )


def _decoded(content: bytes, encoding: str | None) -> tuple[bytes, bool]:
    """What can be decoded of a body, and whether its end is missing."""
    pieces: list[bytes] = []
    try:
        decoder = encodings.decoder(encoding)
        pieces.extend(decoder.feed(content))
        decoder.finish()
    except encodings.DecodeError:
        return b"".join(pieces), True
    return b"".join(pieces), False


def _follow_bodies(before: State, after: State) -> None:
    """Let what the addon noted in the metadata of its bodies' sizes and hash follow the bodies."""
    row, pace = (after["metadata"].get(name) for name in ("gateway", "gateway_pace"))
    for (side, old), (_, new) in zip(_messages(before), _messages(after), strict=True):
        if not old or old.get("content") is None:
            continue
        if isinstance(row, dict):
            _follow(row, f"{side}_bytes", *(len(message["content"]) for message in (old, new)))
            _follow(row, f"{side}_sha256", *map(_sha256, (old, new)))
        if side == "response" and isinstance(pace, list) and old["content"]:
            lengths = len(new["content"]), len(old["content"])
            after["metadata"]["gateway_pace"] = [_scaled(entry, *lengths) for entry in pace]


def _messages(state: State) -> list[tuple[str, Any]]:
    """The messages of a flow and, where the gateway has rewritten it, the client's own request; None if it has none."""
    own: State = state.get("backup") or {}
    return [("request", state.get("request")), ("response", state.get("response")), ("request", own.get("request"))]


def _follow(row: State, name: str, old: object, new: object) -> None:
    if row.get(name) == old:
        row[name] = new


def _sha256(message: State) -> str:
    encoding = _headers(message["headers"]).joined("content-encoding")
    return hashlib.sha256(_decoded(message["content"], encoding)[0]).hexdigest()


def _scaled(entry: object, new: int, old: int) -> object:
    match entry:
        case [milliseconds, int() as size]:
            return [milliseconds, size * new // old]
    return entry
