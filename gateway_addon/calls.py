"""The calls under way: from a mitmproxy flow to an exchange, and from its end to the row, the flow and the console."""

import logging
import time
import traceback
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from mitmproxy import ctx, http
from mitmproxy.flow import Error
from mitmproxy.proxy.mode_specs import ReverseMode

from gateway_addon import api, summary
from gateway_addon.api.base import ApiKind, Json, RequestFacts
from gateway_addon.exchange import CLEAN, End, Exchange, finish, milliseconds, opening_record, tools_called
from gateway_addon.options import Options
from gateway_addon.record import TIMINGS, Record, as_row, limited
from gateway_addon.store.writer import Writer
from gateway_addon.wire import encodings, jsontext

logger = logging.getLogger(__name__)

MAX_REQUEST = 64 * 1024 * 1024
"""Bytes. A longer request body (content-decoded) is forwarded but not read."""

METADATA = "gateway"
"""The key in `flow.metadata`."""

_ABORTS = ("client_aborted", "upstream_cut", "interrupted")


class Calls:
    """Every call from its request to its one row. `writer` and `options` may be exchanged while calls are under way."""

    def __init__(self, writer: Writer, options: Options) -> None:
        self.writer = writer
        self.options = options
        self.totals = summary.Totals()
        self._open: dict[str, tuple[http.HTTPFlow, Exchange]] = {}

    def find(self, flow: http.HTTPFlow) -> Exchange | None:
        found = self._open.get(row_id(flow))
        return found[1] if found else None

    def expect(self, flow: http.HTTPFlow) -> None:
        """A request's head has arrived."""
        if _path_kind(flow) is None or not flow.live:
            return
        if flow.is_replay == "request":
            # it is the saved flow that is sent again: what the addon said of it then is not true of this call
            flow.metadata.pop(METADATA, None)
            flow.comment = ""
        if ctx.options.stream_large_bodies:
            # mitmproxy may stream the request past us: keep a copy of what passes
            flow.request.stream = _RequestCopy()

    def open(self, flow: http.HTTPFlow) -> Exchange | None:
        """Begin to follow a flow whose request is complete, if it is a model call."""
        by_path = _path_kind(flow)
        if by_path is None:
            return None
        raw = (
            flow.request.stream.joined() if isinstance(flow.request.stream, _RequestCopy) else flow.request.raw_content
        )
        warnings = []
        body = None
        if raw is None:
            warnings.append("request_missing")
        else:
            try:
                body = jsontext.parse_object(
                    encodings.decode(raw, flow.request.headers.get("content-encoding"), MAX_REQUEST)
                )
            except encodings.DecodeError:
                warnings.append("request_undecodable")
        provider = self.options.settings.provider_of_host(flow.request.host, flow.request.port)
        if provider is None and not _is_reverse_target(flow) and not _looks_like_a_call(body):
            return None
        kind = api.kind_of_request(by_path, body)
        exchange = Exchange(
            id=row_id(flow),
            run_id=self.writer.run_id,
            source="replay" if flow.is_replay else "live" if flow.live else "file",
            kind=kind,
            started=flow.request.timestamp_start,
            host=flow.request.host,
            path=flow.request.path,
            provider=provider.id if provider else None,
            configured_dialect=provider.dialect if provider else None,
            request_headers=plain_headers(flow.request.headers),
            request_size=None if raw is None else len(raw),
            body=body,
            facts=kind.read_request(body) if body is not None else RequestFacts(),
            warnings=warnings,
        )
        self._open[exchange.id] = (flow, exchange)
        if flow.live:
            self.writer.begin(opening_record(exchange))
        return exchange

    def stream(self, flow: http.HTTPFlow) -> None:
        """The answer's head has arrived: let the body pass chunk by chunk, with a copy to the reader."""
        exchange = self.find(flow)
        if exchange is None or flow.response is None:
            return
        if flow.live:
            # first of all, so that whatever fails below cannot turn a stream into a buffered answer
            flow.response.stream = _recorder(exchange)
        exchange.start_answer(flow.response.status_code, plain_headers(flow.response.headers))

    def close(self, flow: http.HTTPFlow) -> None:
        """The call has ended: write its row, once, whichever hooks said so."""
        if (exchange := self.find(flow)) is not None:
            self._close(flow, exchange, _end(flow, exchange))

    def close_all(self) -> None:
        """The proxy ends: what is still under way is recorded as far as it got."""
        for flow, exchange in list(self._open.values()):
            self._close(flow, exchange, End("interrupted"))

    def _close(self, flow: http.HTTPFlow, exchange: Exchange, end: End) -> None:
        del self._open[exchange.id]
        _complete(flow, exchange)
        record, content = finish(exchange, end, time.time() if flow.live else None, may_load_prices=not flow.live)
        if not flow.live:
            _take_times(record, flow)
        record, content = limited(record, content, self.options.content)
        self.writer.finish(record, content, wait=not flow.live)
        self.totals.add(record)
        line = summary.line(record, tools_called(content))
        flow.comment = flow.comment or line
        flow.metadata[METADATA] = {name: value for name, value in as_row(record).items() if value is not None}
        logger.info(line)


class _RequestCopy:
    """A request-stream callable that passes every chunk on and keeps it, up to `MAX_REQUEST`."""

    def __init__(self) -> None:
        self._chunks: list[bytes] = []
        self._size = 0

    def __call__(self, chunk: bytes) -> bytes:
        self._size += len(chunk)
        if self._size <= MAX_REQUEST:
            self._chunks.append(chunk)
        return chunk

    def joined(self) -> bytes | None:
        """The body; None if it was too long to keep."""
        return b"".join(self._chunks) if self._size <= MAX_REQUEST else None


def _recorder(exchange: Exchange) -> Callable[[bytes], bytes]:
    """The callable the answer's chunks pass through: each leaves as it came, at once, whatever happens in here."""

    def record(chunk: bytes) -> bytes:
        try:
            exchange.receive(chunk, time.time())
        except Exception as error:
            exchange.give_up()
            logger.warning("%s: reading the answer failed, it is only passed on: %s", exchange.id, describe(error))
        return chunk

    return record


def _complete(flow: http.HTTPFlow, exchange: Exchange) -> None:
    """Bring flow and exchange to the same knowledge of the answer's body."""
    response = flow.response
    if response is None:
        return
    if exchange.feed is None:
        exchange.start_answer(response.status_code, plain_headers(response.headers))
    if exchange.response_size:
        if response.raw_content is None:
            # what mitmproxy streams it forgets; put back, it is saved and shown, and not sent again
            response.raw_content = b"".join(exchange.copy)
    elif response.raw_content:
        # it was not streamed past us: from a file, a server replay, an answer made by an addon
        exchange.receive(response.raw_content, time.time())
    elif response.raw_content is None:
        if flow.live:
            response.raw_content = b""
        else:
            exchange.warn("response_missing")
    exchange.copy.clear()


def _end(flow: http.HTTPFlow, exchange: Exchange) -> End:
    """How the transport ended. The error's text names the wrong side at times: the connections tell (live)."""
    error = flow.error
    if not flow.live:
        told = _told(flow)
        if told.get("outcome") in _ABORTS:
            return End(told["outcome"], told.get("error_type"), error.msg if error else None)
        if error is None:
            return CLEAN if flow.response else End("interrupted")
        return End("client_aborted" if "disconnected" in error.msg.lower() else "upstream_cut", None, error.msg)
    if error is None:
        return CLEAN
    if error.msg == Error.KILLED_MESSAGE:
        return End("interrupted", None, error.msg)
    if flow.client_conn.connected:
        by_client = flow.server_conn.connected and "CANCEL" in error.msg
        return End("client_aborted" if by_client else "upstream_cut", None, error.msg)
    # mitmproxy says "Client disconnected." of its own idle time-out too; its clock started a little earlier than ours
    idle = time.time() - (exchange.last_byte or flow.request.timestamp_end or exchange.started)
    if idle >= ctx.options.tcp_timeout * 0.95:
        return End("upstream_cut", "timeout", f"nothing was sent for {idle:.0f} s")
    return End("client_aborted", None, error.msg)


def _take_times(record: Record, flow: http.HTTPFlow) -> None:
    """Reading a file takes no time worth a row: the times are those of the capture, as far as the flow tells."""
    told = _told(flow)
    for name in TIMINGS:
        setattr(record, name, told.get(name))
    if record.duration_ms is None and flow.response and flow.response.timestamp_end:
        record.duration_ms = milliseconds(flow.request.timestamp_start, flow.response.timestamp_end)


def _told(flow: http.HTTPFlow) -> Mapping[str, Any]:
    """What an earlier run of the addon left in a loaded flow; {} if there is nothing of ours."""
    told = flow.metadata.get(METADATA)
    return told if isinstance(told, dict) else {}


def _path_kind(flow: http.HTTPFlow) -> ApiKind | None:
    return api.kind_of_path(flow.request.path) if flow.request.method == "POST" else None


def _is_reverse_target(flow: http.HTTPFlow) -> bool:
    return isinstance(flow.client_conn.proxy_mode, ReverseMode)


def _looks_like_a_call(body: Json | None) -> bool:
    """Whether a body alone makes a POST on a kind's path a model call (design 2.2)."""
    return body is not None and isinstance(body.get("model"), str) and ("messages" in body or "input" in body)


def row_id(flow: http.HTTPFlow) -> str:
    """The row's id (design 2.4): the flow's, but each client replay of a flow is a call of its own."""
    if flow.is_replay == "request":
        return f"{flow.id}~{int(flow.request.timestamp_start * 1000)}"
    return flow.id


def plain_headers(headers: http.Headers) -> dict[str, str]:
    """Names in lower case, the first value of each (trap 109)."""
    plain: dict[str, str] = {}
    for name, value in headers.items(multi=True):
        plain.setdefault(name.lower(), value)
    return plain


def describe(error: Exception) -> str:
    """An exception of our own for the log: where it happened, not its text, which may quote a prompt."""
    place = traceback.extract_tb(error.__traceback__)[-1]
    return f"{type(error).__name__} at {Path(place.filename).name}:{place.lineno}"
