"""Secrets of the gateway masked in a flow, so that no file, no page and no log that is made of it holds one."""

from bisect import bisect_right
from itertools import accumulate
from typing import Any

from mitmproxy import http
from mitmproxy.coretypes.multidict import MultiDict
from mitmproxy.flow import Error

from gateway_addon.captures.escapes import Span, replaced
from gateway_addon.captures.finder import Piece, deltas
from gateway_addon.captures.redaction import with_data
from gateway_addon.masking import Mask
from gateway_addon.wire import encodings, sse
from gateway_addon.wire.headers import Headers, media_type

MAX_DECODED = 64 * 1024 * 1024
"""Bytes. A compressed body that is longer is not searched: nobody reads such a one here either."""

AT_HOME = (b"authorization", b"x-api-key")
"""Request headers in which a secret is no surprise."""


def mask_flow(flow: http.HTTPFlow, mask: Mask, *, across: bool = False, messages: bool = True) -> bool:
    """Mask the secrets in a flow, in place; return whether there were any where none belongs.

    A compressed body that holds one is decoded. `across`: also those that are spread over several events of a streamed
    answer, as a model says them. `messages`: those of a WebSocket, too.
    """
    found = [_mask_request(flow.request, mask)]
    if flow.response:
        found.append(_mask_response(flow.response, mask, across))
    if flow.error and (text := mask.text(flow.error.msg)) is not flow.error.msg:
        flow.error = Error(text, flow.error.timestamp)
        found.append(True)
    if flow.websocket and messages:
        for message in flow.websocket.messages:
            if (content := mask.data(message.content)) is not message.content:
                message.content = content
                found.append(True)
    flow.comment = mask.text(flow.comment)
    flow.metadata = mask.value(flow.metadata)
    if flow._backup:
        found.append(_mask_backup(flow._backup, mask))
    return any(found)


def _mask_backup(state: Any, mask: Mask) -> bool:
    """Mask the client's own request, and whatever else mitmproxy would go back to."""
    request = http.Request.from_state(state["request"])
    found = _mask_request(request, mask)
    others = mask.value({name: value for name, value in state.items() if name != "request"})
    state.update(others, request=request.get_state())
    return found


def _mask_request(request: http.Request, mask: Mask) -> bool:
    path, headers = mask.data(request.data.path), request.headers.fields
    found = path is not request.data.path
    request.data.path = path
    if _mask_fields(request.headers, mask):
        changed = zip(headers, request.headers.fields, strict=True)
        found = found or any(old != new and old[0].lower() not in AT_HOME for old, new in changed)
    return _mask_message(request, mask, across=False) or found


def _mask_response(response: http.Response, mask: Mask, across: bool) -> bool:
    reason = mask.data(response.data.reason)
    found = [reason is not response.data.reason, _mask_fields(response.headers, mask)]
    response.data.reason = reason
    return any([*found, _mask_message(response, mask, across)])


def _mask_message(message: http.Message, mask: Mask, across: bool) -> bool:
    found = _mask_fields(message.trailers, mask) if message.trailers else False
    return _mask_body(message, mask, across) or found


def _mask_fields(fields: MultiDict[str, str], mask: Mask) -> bool:
    masked = mask.value(fields.fields)
    is_same = masked is fields.fields
    # also of a set of headers that others hold
    fields.fields = masked
    return not is_same


def _mask_body(message: http.Message, mask: Mask, across: bool) -> bool:
    raw = message.raw_content
    if not raw:
        return False
    headers = Headers(message.headers.items(multi=True))
    encoding = headers.joined("content-encoding")
    plain = _decoded(raw, encoding) if encoding else raw
    masked = mask.data(plain)
    if across and sse.is_stream(plain, is_labelled=media_type(headers) == sse.MEDIA_TYPE):
        masked = _mask_events(masked, mask)
    if masked == plain:
        return False
    message.raw_content = masked
    message.headers.pop("content-encoding", None)
    if "content-length" in message.headers:
        message.headers["content-length"] = str(len(masked))
    return True


def _decoded(raw: bytes, encoding: str) -> bytes:
    """What can be decoded of a body; nothing if that is too much."""
    pieces, size = [], 0
    try:
        for piece in encodings.decoder(encoding).feed(raw):
            size += len(piece)
            if size > MAX_DECODED:
                return b""
            pieces.append(piece)
    except encodings.DecodeError:
        # there may be one in front of the damage
        pass
    return b"".join(pieces)


def _mask_events(stream: bytes, mask: Mask) -> bytes:
    """A stream without the secrets that are spread over the deltas of one block."""
    parser = sse.EventParser(max_event=len(stream), max_lines=len(stream))
    events = [*parser.feed(stream), *parser.finish()]
    texts = [event.data.decode("utf-8", "surrogateescape") for event in events]
    spans: list[list[Span]] = [[] for _ in events]
    for pieces in deltas(texts):
        for number, span in _spread(pieces, mask):
            spans[number].append(span)
    return b"".join(
        with_data(event.raw.decode("utf-8", "surrogateescape"), replaced(text, found)).encode(
            "utf-8", "surrogateescape"
        )
        if found
        else event.raw
        for event, text, found in zip(events, texts, spans, strict=True)
    )


def _spread(pieces: list[Piece], mask: Mask) -> list[tuple[int, Span]]:
    """The secrets in the joined text of the pieces: number of the event, and what to replace there."""
    starts = [0, *accumulate(len(piece.inside.text) for piece in pieces)]
    found = []
    for start, end in mask.spans("".join(piece.inside.text for piece in pieces)):
        for n in range(bisect_right(starts, start) - 1, bisect_right(starts, end - 1)):
            begin, inside = starts[n], pieces[n].inside
            first, last = (inside.position(min(max(at, begin), starts[n + 1]) - begin) for at in (start, end))
            if first < last:
                found.append((pieces[n].event, Span(first, last, "*" * (last - first))))
    return found
