"""The calls under way: from a mitmproxy flow to an exchange, and from its end to the row, the flow and the console."""

import logging
import sys
import time
import traceback
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from mitmproxy import ctx, http
from mitmproxy.connection import Server
from mitmproxy.flow import Error
from mitmproxy.proxy.mode_specs import ReverseMode

from gateway_addon import gateway, summary
from gateway_addon.api import kind_of_path, kind_of_request
from gateway_addon.api.base import ApiKind, Json, Refusal, RequestFacts
from gateway_addon.api.values import text
from gateway_addon.captures.redaction import credential_kind
from gateway_addon.config import Provider
from gateway_addon.exchange import CLEAN, End, Exchange, finish, milliseconds, opening_record, tools_called, unread
from gateway_addon.gateway import GatewayRequest, Plan
from gateway_addon.gateway.answers import AnswerChange
from gateway_addon.gateway.routing import Target, route
from gateway_addon.proxy import forward
from gateway_addon.proxy.options import Options
from gateway_addon.record import TIMINGS, Content, Record, as_row, limited
from gateway_addon.store.contents import storable
from gateway_addon.store.writer import Writer
from gateway_addon.wire import encodings, jsontext

logger = logging.getLogger(__name__)

METADATA = "gateway"
"""The key of the row in `flow.metadata`."""

PACE = "gateway_pace"
"""The key of the answer's pace in `flow.metadata`: a list of [milliseconds since the request's start, body bytes]."""

MAX_TIME = 32_503_680_000.0
"""Seconds since the epoch, or milliseconds of a duration: the year 3000, and a year. Beyond it nothing is believed."""

_ABORTS = ("client_aborted", "upstream_cut", "interrupted")

_BELIEVED = {"outcome": str, "error_type": str, "rewrites": str, "warnings": str, **dict.fromkeys(TIMINGS, float)}
"""What a loaded flow tells of itself that its bytes do not (design 2.4), and of which type it has to be."""


@dataclass(slots=True, eq=False)
class _Open:
    """A call under way, and what only mitmproxy's side of it needs."""

    flow: http.HTTPFlow
    exchange: Exchange
    change: AnswerChange | None
    """How the answer is to be changed on its way to the client."""
    rejected: bool
    """The addon answers itself."""
    received_headers: http.Headers | None = None
    """The answer's, where the client was given others."""


@dataclass(slots=True, frozen=True)
class _Sent:
    """A request that left with the gateway's credentials, or would have."""

    flow: http.HTTPFlow
    provider: Provider
    key_headers: list[str]


class Calls:
    """Every call from its request to its one row. `writer` and `options` may be exchanged while calls are under way."""

    def __init__(self, writer: Writer, options: Options) -> None:
        self.writer = writer
        self.options = options
        self.totals = summary.Totals()
        self._open: dict[str, _Open] = {}
        self._sent: dict[str, _Sent] = {}
        """Requests that the gateway has let go and that have not been answered yet, by flow id."""

    def expect(self, flow: http.HTTPFlow) -> None:
        """A request's head has arrived."""
        if not flow.live:
            return
        if flow.is_replay == "request" and (injected := forward.todays_key(flow, self.options.settings)):
            self._sent[flow.id] = _Sent(flow, *injected)
        if _path_kind(flow.request) is None:
            return
        if flow.is_replay == "request":
            # it is the saved flow that is sent again: what the addon said of it then is not true of this call
            flow.metadata.pop(METADATA, None)
            flow.metadata.pop(PACE, None)
            flow.comment = ""
        if self.options.streams_requests:
            # mitmproxy may stream the request past us: keep a copy of what passes
            flow.request.stream = _RequestCopy()

    def connect(self, server: Server) -> None:
        """A server is about to be dialled.

        For a request that is sent again, mitmproxy asks it for the name in the saved `host` header, which anybody may
        have written: another server behind the same address would answer to it, and be handed the key.
        """
        for sent in self._sent.values():
            request = sent.flow.request
            if sent.flow.is_replay == "request" and server.address == (request.host, request.port) and server.sni:
                server.sni = request.host

    def open(self, flow: http.HTTPFlow) -> None:
        """A request is complete: forward or refuse it, if it is for the gateway; follow it, if it is a model call."""
        if self.options.rewrite and forward.is_gateway_call(flow):
            self._forward(flow)
        else:
            self._observe(flow)

    def _forward(self, flow: http.HTTPFlow) -> None:
        size = len(flow.request.raw_content or b"")
        try:
            request, plan = forward.consult(flow, self.options.settings)
            if isinstance(plan, Plan):
                self._sent[flow.id] = _Sent(flow, plan.provider, list(plan.secret_headers))
                forward.send(flow, plan, self.options.settings)
        except Exception as error:
            # the gateway fails closed: what it could not deal with must not reach anybody
            logger.warning("%s: refused, the gateway failed: %s", flow.id, describe(error))
            self._conceal_key(flow)
            forward.refuse(flow, gateway.INTERNAL_ERROR, kind_of_path(flow.request.path))
            return
        if isinstance(plan, Refusal):
            self._refuse(flow, request, plan, size)
        elif plan.kind is not None and plan.logged:
            exchange = self._exchange(
                flow,
                plan.kind,
                host=flow.request.host,
                path=flow.request.path,
                provider=plan.provider,
                request_headers=request.headers,
                request_size=size,
                body=plan.client_body,
                request_body=request.body,
                facts=plan.facts or RequestFacts(),
                upstream_model=plan.upstream_model,
                side_request=plan.side_request,
                rewrites=gateway.rewrites_json(plan, request),
                key_injected=bool(plan.secret_headers),
            )
            self._follow(flow, exchange, change=plan.answer)

    def _refuse(self, flow: http.HTTPFlow, request: GatewayRequest, refusal: Refusal, size: int) -> None:
        target = _target(request.method, request.path)
        kind = target.route.kind if target else None
        forward.hide_own_tokens(flow, self.options.settings)
        forward.refuse(flow, refusal, kind)
        # for whoever reads the saved flow: this call went nowhere, and has no row unless it gets one below
        flow.metadata[METADATA] = {"outcome": "rejected"}
        if target and kind and target.route.logged:
            body = jsontext.parse_object(request.body)
            exchange = self._exchange(
                flow,
                kind,
                host=None,
                path=None,
                provider=None,
                request_headers=request.headers,
                request_size=size,
                body=body,
                # it is empty if it could not be decoded
                request_body=request.body or None,
                facts=_facts(kind, body),
                side_request=target.route.side_request,
            )
            self._follow(flow, exchange, rejected=True)

    def _observe(self, flow: http.HTTPFlow) -> None:
        if not flow.live and flow.request.timestamp_end is None:
            # it broke off, so that nobody was asked anything
            return
        told = _told(flow)
        sent = _client_request(flow, told)
        # the gateway's own call, in a saved flow: there the path alone says what it is
        target = _target(sent.method, sent.path) if told and _is_reverse_listener(flow) else None
        kind = target.route.kind if target else _path_kind(sent)
        rejected = told.get("outcome") == "rejected"
        if kind is None or (rejected and target is None):
            return
        raw = sent.stream.joined() if isinstance(sent.stream, _RequestCopy) else sent.raw_content
        warnings = ["response_truncated"] if "response_truncated" in told.get("warnings", "") else []
        decoded = body = None
        if raw is None:
            warnings.append("request_missing")
        else:
            try:
                decoded = _decoded(sent, raw)
                body = jsontext.parse_object(decoded)
            except encodings.DecodeError:
                warnings.append("request_undecodable")
        provider = self.options.settings.provider_of_host(flow.request.host, flow.request.port, flow.request.path)
        if provider is None and not _is_reverse_listener(flow) and not _looks_like_a_call(body):
            return
        if target is None:
            kind = kind_of_request(kind, body)
        facts = _facts(kind, body)
        exchange = self._exchange(
            flow,
            kind,
            host=None if rejected else flow.request.host,
            path=None if rejected else flow.request.path,
            provider=None if rejected else provider,
            request_headers=plain_headers(sent.headers),
            request_size=None if raw is None else len(raw),
            body=body,
            request_body=decoded,
            facts=facts,
            upstream_model=None if rejected else facts.model if sent is flow.request else _model_in(flow.request),
            side_request=target.route.side_request if target else None,
            # what the gateway changed only the gateway can say
            rewrites=_rewrites_told(told),
            key_injected=forward.holds_placeholder(flow),
            warnings=warnings,
        )
        self._follow(flow, exchange, rejected=rejected)

    def _exchange(self, flow: http.HTTPFlow, kind: ApiKind, *, provider: Provider | None, **facts: Any) -> Exchange:
        return Exchange(
            id=row_id(flow),
            run_id=self.writer.run_id,
            source="replay" if flow.is_replay else "live" if flow.live else "file",
            kind=kind,
            # a loaded flow may hold anything
            started=flow.request.timestamp_start if 0 <= flow.request.timestamp_start < MAX_TIME else 0.0,
            provider=provider.id if provider else None,
            configured_dialect=provider.dialect if provider else None,
            client_credential=None if facts["host"] is None else self._client_credential(flow),
            copy_limit=self.options.body_limit if flow.live else sys.maxsize,
            **facts,
        )

    def _client_credential(self, flow: http.HTTPFlow) -> str | None:
        sent = self._sent.get(flow.id)
        # in place of the client's there is the gateway's key by now
        return None if sent and sent.key_headers else credential_kind(plain_headers(flow.request.headers))

    def _follow(
        self, flow: http.HTTPFlow, exchange: Exchange, *, change: AnswerChange | None = None, rejected: bool = False
    ) -> None:
        self._open[exchange.id] = _Open(flow, exchange, change, rejected)
        if flow.live:
            record, _ = limited(opening_record(exchange), Content(), self.options.content)
            self.writer.begin(record)

    def stream(self, flow: http.HTTPFlow) -> None:
        """The answer's head has arrived: let the body pass chunk by chunk, with a copy to the reader."""
        forwarded = self._conceal_key(flow)
        response = flow.response
        followed = self._open.get(row_id(flow))
        if response is None or followed is None or followed.exchange.feed is not None:
            if response is not None and forwarded and flow.live:
                response.stream = True
            return
        exchange = followed.exchange
        if flow.live:
            # first of all, so that whatever fails below cannot turn a stream into a buffered answer
            response.stream = _recorder(exchange, None)
        exchange.start_answer(response.status_code, plain_headers(response.headers))
        if not flow.live or not followed.change:
            return
        if response.raw_content:
            # it is here as a whole, from a file (server replay) or another addon, and mitmproxy does not stream it
            _recorder(exchange, None)(response.raw_content)
            forward.change_body(flow, followed.change)
        else:
            followed.received_headers = response.headers.copy()
            response.stream = _recorder(exchange, forward.answer_filter(flow, followed.change))

    def close(self, flow: http.HTTPFlow) -> None:
        """The call has ended: write its row, once, whichever hooks said so."""
        self._conceal_key(flow)
        if self.options.rewrite and forward.is_for_gateway(flow):
            # its client may have left before the request was complete, and `open` never saw it
            forward.hide_own_tokens(flow, self.options.settings)
        if (followed := self._open.get(row_id(flow))) is not None:
            self._close(followed, _end(followed))

    def close_all(self) -> None:
        """The proxy ends: what is still under way is recorded as far as it got."""
        for sent in list(self._sent.values()):
            self._conceal_key(sent.flow)
        for followed in list(self._open.values()):
            self._close(followed, End("interrupted"))

    def _conceal_key(self, flow: http.HTTPFlow) -> bool:
        """The gateway's key has done its work: it stays in no flow. False if the gateway had not sent this one."""
        sent = self._sent.pop(flow.id, None)
        if sent:
            forward.conceal_key(flow, sent.provider, sent.key_headers)
        return sent is not None

    def _close(self, followed: _Open, end: End) -> None:
        flow, exchange = followed.flow, followed.exchange
        del self._open[exchange.id]
        if flow.is_replay:
            # by server replay, which shows only after the call has begun
            exchange.source = "replay"
        now = time.time() if flow.live else None
        try:
            _complete(followed)
            record, content = finish(exchange, end, now, may_load_prices=not flow.live)
        except Exception as error:
            logger.warning("%s: reading the answer failed, the row says little: %s", exchange.id, describe(error))
            record, content = unread(exchange, end), Content()
        if not flow.live:
            _take_times(record, flow)
        if exchange.key_injected:
            self._mask_key(record, flow)
        record, content = limited(record, content, self.options.content)
        self.writer.finish(record, content, wait=not flow.live)
        self.totals.add(record)
        line = summary.line(record, tools_called(content))
        flow.comment = flow.comment or line
        if flow.live and exchange.pace:
            flow.metadata[PACE] = [[int(milliseconds(exchange.started, at)), size] for at, size in exchange.pace]
        flow.metadata[METADATA] = {
            # mitmproxy cannot save lone surrogates either
            name: storable(value) if isinstance(value, str) else value
            for name, value in as_row(record).items()
            if value is not None
        }
        logger.info(line)

    def _mask_key(self, record: Record, flow: http.HTTPFlow) -> None:
        """Some servers quote the key that they refuse. The mask is as long as the key, so that lengths stay true."""
        provider = self.options.settings.providers.get(record.provider or "")
        secret = self.options.settings.provider_key(provider) if provider else None
        if secret is None:
            return
        key = secret.get_secret_value()
        mask = "*" * len(key)
        if record.error_message:
            record.error_message = record.error_message.replace(key, mask)
        if flow.response and flow.response.raw_content:
            flow.response.raw_content = flow.response.raw_content.replace(key.encode(), mask.encode())


class _RequestCopy:
    """A request-stream callable that passes every chunk on and keeps it, up to `forward.MAX_REQUEST`."""

    def __init__(self) -> None:
        self._chunks: list[bytes] = []
        self._size = 0

    def __call__(self, chunk: bytes) -> bytes:
        self._size += len(chunk)
        if self._size <= forward.MAX_REQUEST:
            self._chunks.append(chunk)
        return chunk

    def joined(self) -> bytes | None:
        """The body; None if it was too long to keep."""
        return b"".join(self._chunks) if self._size <= forward.MAX_REQUEST else None


def _recorder(exchange: Exchange, change: forward.Filter | None) -> Callable[[bytes], bytes | list[bytes]]:
    """The callable the answer's chunks pass through: each leaves at once, whatever happens in here.

    As it came, unless `change` makes something else of it for the client.
    """

    def record(chunk: bytes) -> bytes | list[bytes]:
        try:
            exchange.receive(chunk, time.time())
        except Exception as error:
            exchange.give_up()
            logger.warning("%s: reading the answer failed, it is only passed on: %s", exchange.id, describe(error))
        return change(chunk) if change else chunk

    return record


def _target(method: str, path: str) -> Target | None:
    """What the gateway makes of a path, if it takes it."""
    target = route(method, path)
    return target if isinstance(target, Target) else None


def _facts(kind: ApiKind, body: Json | None) -> RequestFacts:
    """What the request says; nothing if reading it fails, for a call must not go without a row."""
    try:
        return kind.read_request(body) if body is not None else RequestFacts()
    except Exception as error:
        logger.warning("reading a request failed: %s", describe(error))
        return RequestFacts()


def _decoded(request: http.Request, raw: bytes) -> bytes:
    """A request's body without its content encoding. Raises `DecodeError`."""
    return encodings.decode(raw, request.headers.get("content-encoding"), forward.MAX_REQUEST)


def _model_in(request: http.Request) -> str | None:
    """The model named in a request's body, if it can be read."""
    with suppress(encodings.DecodeError):
        body = jsontext.parse_object(_decoded(request, request.raw_content or b""))
        return text(body.get("model")) if body else None
    return None


def _client_request(flow: http.HTTPFlow, told: Mapping[str, Any]) -> http.Request:
    """The request as the client sent it: in a saved flow that the gateway has changed, mitmproxy's backup."""
    backup = cast(dict[str, Any] | None, flow._backup)
    if backup and told.get("rewrites", "[]") != "[]":
        request: http.Request = http.Request.from_state(backup["request"])
        return request
    return flow.request


def _complete(followed: _Open) -> None:
    """Bring flow and exchange to the same knowledge of the answer."""
    flow, exchange = followed.flow, followed.exchange
    response = flow.response
    if response is None:
        return
    if followed.received_headers is not None:
        # the client has its head already, and the flow is to hold the answer as received; but for the framing, by
        # which mitmproxy still has to end the body
        framing = response.headers.get("transfer-encoding")
        response.headers = followed.received_headers
        if framing:
            response.headers.pop("content-length", None)
            response.headers["transfer-encoding"] = framing
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


def _end(followed: _Open) -> End:
    """How the transport ended. The error's text names the wrong side at times: the connections tell (live)."""
    if followed.rejected:
        return End("rejected")
    flow, exchange = followed.flow, followed.exchange
    error = flow.error
    if not flow.live:
        told = _told(flow)
        # of an answer that was cut off in the flow the end cannot be read again
        if told.get("outcome") in _ABORTS or "response_truncated" in exchange.warnings:
            return End(told.get("outcome"), told.get("error_type"), error.msg if error else None)
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
    """What an earlier run of the addon left in a loaded flow, as far as it is believed; {} if nothing of ours is there.

    A flow file may come from anybody: a value of another type than ours would cost the row.
    """
    told = flow.metadata.get(METADATA)
    if flow.live or not isinstance(told, dict):
        return {}
    return {
        name: value
        for name, value in told.items()
        if isinstance(value, _BELIEVED.get(name, ())) and not (isinstance(value, float) and not 0 <= value < MAX_TIME)
    }


def _rewrites_told(told: Mapping[str, Any]) -> str:
    """The column `rewrites`, which has to be a JSON list of objects."""
    with suppress(ValueError):
        rewrites = jsontext.parse(told.get("rewrites", "[]"))
        if isinstance(rewrites, list) and all(isinstance(operation, dict) for operation in rewrites):
            return jsontext.dumps(rewrites)
    return "[]"


def _path_kind(request: http.Request) -> ApiKind | None:
    return kind_of_path(request.path) if request.method == "POST" else None


def _is_reverse_listener(flow: http.HTTPFlow) -> bool:
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
