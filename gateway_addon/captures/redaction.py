"""Redaction of saved flows: secrets give way to placeholders, and everything around them stays valid. No I/O.

A flow is taken as mitmproxy's `Flow.get_state()` gives it: nested dicts, lists, strings and bytes. A `Redactor` first
learns from every flow which credentials there are, then replaces them wherever they stand, so that a key known from one
header is also found where another flow's error text repeats it. Equal secrets get equal placeholders.

Not covered: a secret that stands nowhere but in pictures and other binary formats, in the headers within an AWS event,
written in other than UTF-8, split between two flows or two TCP messages, or of which only a part was sent.
"""

import codecs
import hashlib
import re
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from gateway_addon.captures.finder import Finder
from gateway_addon.wire import aws_events, encodings, sse
from gateway_addon.wire.headers import Headers, media_type

State = dict[str, Any]


class Redactor:
    """Replaces the secrets that a `Finder` finds in flows. Call `learn` for every flow, then `redact` for each."""

    def __init__(self, finder: Finder) -> None:
        self._finder = finder
        self.unread: Counter[str] = Counter()
        """What nobody has looked into, and how often, in the flows of `redact`: pictures, text in UTF-16 and the
        like, in which only bytes that are UTF-8 were searched, and bodies that cannot be decoded."""

    def learn(self, state: State) -> None:
        """Note the credentials in a flow."""
        self._flow(state)
        self.unread.clear()

    def redact(self, state: State) -> State:
        """The state with placeholders. Bodies stay encoded and framed as they were, and lengths follow."""
        self._finder.prepare()
        return self._flow(state)

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
                return self._finder.text(value)
            case bytes():
                return _encode(self._finder.text(_decode(value)))
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
        return tuple(
            (name, _encode(self._finder.header(_decode(name).lower(), _decode(value)))) for name, value in headers
        )

    def _body(self, content: bytes, headers: Headers) -> bytes:
        """A body as it is saved, still encoded.

        One that cannot be decoded to its end keeps what could be decoded, again without an end, so that it reads as
        before; one that cannot be decoded at all is replaced as a whole, since nobody knows what it holds.
        """
        encoding = headers.joined("content-encoding")
        plain, cut_off = decoded(content, encoding)
        if cut_off and not plain:
            self.unread[f"body in the encoding {encoding!r} (replaced as a whole)"] += 1
            return self._finder.whole(_decode(content), "body").encode()
        text = _decode(plain)
        if (b"\0" in plain or not _is_utf_8(plain)) and media_type(headers) != aws_events.CONTENT_TYPE:
            utf_16 = " in UTF-16" if plain.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)) else ""
            self.unread[f"{media_type(headers) or 'binary data'}{utf_16}"] += 1
        if media_type(headers) == aws_events.CONTENT_TYPE:
            redacted = self._aws_stream(plain)
        elif sse.is_stream(plain, is_labelled=media_type(headers) == sse.MEDIA_TYPE):
            redacted = self._stream(text)
        else:
            redacted = self._finder.text(text)
        # something else may stand behind the encoded data, or behind where it is damaged
        if redacted == text and not cut_off and not (encoding and self._finder.find(_decode(content))):
            return content
        return encodings.encode(_encode(redacted), encoding, cut_off=cut_off)

    def _stream(self, text: str) -> str:
        """Server-sent events, each in its own framing."""
        data = _encode(text)
        parser = sse.EventParser(max_event=len(data), max_lines=len(data))
        events = [*parser.feed(data), *parser.finish()]
        redacted = self._finder.events([_decode(event.data) for event in events])
        raw = [_decode(event.raw) for event in events]
        return "".join(with_data(*event, self._finder.text) for event in zip(raw, redacted, strict=True))

    def _aws_stream(self, data: bytes) -> str:
        """Messages of AWS's event stream, each in its own framing with lengths and checksums that fit."""
        parser = aws_events.EventParser(max_event=len(data))
        raw = [event.raw for event in (*parser.feed(data), *parser.finish())]
        said = [aws_events.content(message) for message in raw]
        before = [_decode(message if content is None else content) for message, content in zip(raw, said, strict=True)]
        after = self._finder.events(before)
        return _decode(
            b"".join(
                message
                if old == new
                # what is cut off stays so: no longer than it was, it is no whole message
                else _encode(new)[: len(message)]
                if content is None
                else aws_events.with_content(message, _encode(new))
                for message, content, old, new in zip(raw, said, before, after, strict=True)
            )
        )

    def _websocket(self, messages: Sequence[Sequence[Any]]) -> list[tuple[Any, ...]]:
        """The messages of both directions. Each holds one event at most."""
        self.unread["binary WebSocket messages"] += sum(b"\0" in content for _, _, content, *_ in messages)
        texts = self._finder.events([_decode(content) for _, _, content, *_ in messages])
        return [
            (kind, from_client, _encode(text), *others)
            for (kind, from_client, _, *others), text in zip(messages, texts, strict=True)
        ]


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


def _is_utf_8(data: bytes) -> bool:
    """Whether bytes are text as far as they go: the last character may be cut off."""
    try:
        codecs.getincrementaldecoder("utf-8")().decode(data)
    except UnicodeDecodeError:
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


def decoded(content: bytes, encoding: str | None) -> tuple[bytes, bool]:
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
    return hashlib.sha256(decoded(message["content"], encoding)[0]).hexdigest()


def _scaled(entry: object, new: int, old: int) -> object:
    match entry:
        case [milliseconds, int() as size]:
            return [milliseconds, size * new // old]
    return entry
