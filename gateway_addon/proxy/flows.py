"""From mitmproxy's flows to the addon's values: what a flow asked for, where it went, and how it ended.

The one place, with `hooks` and `calls`, that knows a live flow from a loaded one.
"""

import sys
from collections.abc import Callable, Mapping
from dataclasses import replace

from mitmproxy import ctx, http
from mitmproxy.flow import Error
from mitmproxy.proxy.mode_specs import ReverseMode
from mitmproxy.websocket import WebSocketData

from gateway_addon.api import conversation_members, kind_of_request, turns
from gateway_addon.api.base import Json
from gateway_addon.api.paths import MODEL_HOSTS, CallPath, asks_a_model, call_path
from gateway_addon.api.values import items, mapping, text
from gateway_addon.call import MAX_REQUEST, Call, Destination, Head, Passage, Request, open_call, read_request
from gateway_addon.captures import notes
from gateway_addon.captures.notes import Notes
from gateway_addon.config import Provider, ReverseTarget, Settings
from gateway_addon.credentials import credential_kind
from gateway_addon.gateway import access
from gateway_addon.gateway.plan import UPGRADE_REQUIRED
from gateway_addon.gateway.routing import Target, route
from gateway_addon.outcome import CLEAN, End
from gateway_addon.reading import Reading
from gateway_addon.record import Record
from gateway_addon.terms import Source
from gateway_addon.times import MAX_TIME, milliseconds
from gateway_addon.wire.elements import Memory
from gateway_addon.wire.headers import Headers

_ABORTS = ("client_aborted", "upstream_cut", "interrupted")


class RequestCopy:
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


# -- requests ------------------------------------------------------------------------------------------------------


def headers_of(message: http.Message) -> Headers:
    """The fields of a request's or an answer's head."""
    return Headers(message.headers.items(multi=True))


def head_of(request: http.Request) -> Head:
    """A request's head; its body is not looked at."""
    return Head(method=request.method, path=request.path, headers=headers_of(request))


def request_of(request: http.Request, memory: Memory | None = None) -> Request:
    """A request, decoded and parsed. Any thread may ask."""
    raw = request.stream.joined() if isinstance(request.stream, RequestCopy) else request.raw_content
    head = head_of(request)
    return read_request(head.method, head.path, head.headers, raw, memory)


def is_reverse(flow: http.HTTPFlow) -> bool:
    """Whether a flow came in at a reverse-mode listener."""
    return isinstance(flow.client_conn.proxy_mode, ReverseMode)


def reverse_target(flow: http.HTTPFlow) -> ReverseTarget:
    """The server that the reverse-mode listener stands for at which a flow came in."""
    mode = flow.client_conn.proxy_mode
    assert isinstance(mode, ReverseMode)
    return mode.scheme, *mode.address


def may_be_call(request: http.Request) -> bool:
    """Whether method and path are those of a model call."""
    return _place_of(request) is not None


def observed(
    flow: http.HTTPFlow,
    settings: Settings,
    memory: Memory | None = None,
    read: Request | None = None,
    *,
    key_is_ours: bool,
) -> tuple[Request, Passage] | None:
    """What a flow asked for and what became of it, where the gateway has no hand in it (any more); None: no model call.

    Of a live flow, and of a saved one, whether or not the gateway had sent or refused it. `read`: the request of a live
    flow, where it has been read already. `key_is_ours`: the gateway
    has put its key into a request that is sent again.
    """
    if not flow.live and flow.request.timestamp_end is None:
        # it broke off, so that nobody was asked anything
        return None
    noted = notes.read(flow)
    sent = _client_request(flow, noted)
    # in a saved flow of the gateway's own the path alone says what it is
    target = _target(sent) if noted and is_reverse(flow) else None
    rejected = noted is not None and noted.outcome == "rejected"
    is_socket = rejected and _is_refused_socket(flow, sent)
    place = CallPath(turns.KIND) if is_socket else _place_of(sent)
    if place is None or (rejected and target is None):
        return None
    request = read or request_of(sent, memory)
    provider = settings.provider_of_host(flow.request.host, flow.request.port, flow.request.path)
    is_addressed = provider is not None or is_reverse(flow)
    if not _is_call(place, request.json, is_addressed=is_addressed):
        return None
    asked = request if sent is flow.request else request_of(flow.request, memory)
    passage = Passage(
        kind=place.kind if target else kind_of_request(place.kind, request.json),
        destination=None if rejected else _destination(flow, asked, provider, noted, place.model, key_is_ours),
        transport="websocket" if is_socket else "http",
        model=place.model,
        side_request=place.side_request,
        # what the gateway changed only the gateway can say
        rewrites=noted.rewrites if noted else (),
        warnings=noted.warnings if noted else (),
    )
    return request, passage


def _is_refused_socket(flow: http.HTTPFlow, sent: http.Request) -> bool:
    """Whether a saved flow is a WebSocket on which no turn could be taken; one that was sent to HTTP is no call."""
    return asks_for_turns(sent) and flow.response is not None and flow.response.status_code != UPGRADE_REQUIRED


def asks_for_turns(request: http.Request) -> bool:
    """Whether a request wants a WebSocket on which model calls are made, each a turn."""
    return head_of(request).is_upgrade and request.path.partition("?")[0].removesuffix("/").endswith(turns.KIND.SUFFIX)


def observed_turn(flow: http.HTTPFlow, request: Request, noted: Notes, provider: Provider | None) -> Passage:
    """What became of a turn of a WebSocket, live or saved, where the gateway has no hand in it (any more)."""
    rejected = noted.outcome == "rejected"
    asked = replace(request, headers=headers_of(flow.request))
    destination = _destination(flow, asked, provider, noted, None, key_is_ours=False)
    return Passage(
        kind=turns.KIND,
        destination=None if rejected else replace(destination, model=noted.upstream_model or destination.model),
        transport="websocket",
        rewrites=noted.rewrites,
        warnings=noted.warnings,
    )


def client_head(flow: http.HTTPFlow) -> Head:
    """The head of a request as the client sent it, where the gateway has changed it: mitmproxy's backup."""
    if flow._backup:
        return head_of(http.Request.from_state(flow._backup["request"]))  # type: ignore[index]
    return head_of(flow.request)


def _destination(
    flow: http.HTTPFlow,
    asked: Request,
    provider: Provider | None,
    noted: Notes | None,
    model_of_path: str | None,
    key_is_ours: bool,
) -> Destination:
    return Destination(
        host=flow.request.host,
        path=flow.request.path.partition("?")[0],
        # a saved flow tells the same without the configuration it was made with
        provider=(noted.provider if noted else None) or (provider.id if provider else None),
        dialect=(noted.dialect if noted else None) or (provider.dialect if provider else None),
        model=_model_of(asked) or model_of_path,
        payer="gateway" if key_is_ours or holds_placeholder(flow) else "client",
        client_credential=None if key_is_ours else credential_kind(asked.headers),
    )


def holds_placeholder(flow: http.HTTPFlow) -> bool:
    """Whether the gateway's key was in a saved request."""
    return any(flow.request.headers.get(name, "").startswith("{gateway:") for name in access.CREDENTIALS)


def _client_request(flow: http.HTTPFlow, noted: Notes | None) -> http.Request:
    """The request as the client sent it: in a saved flow that the gateway has changed, mitmproxy's backup."""
    if noted and noted.rewrites and flow._backup:
        request: http.Request = http.Request.from_state(flow._backup["request"])  # type: ignore[index]
        return request
    return flow.request


def _target(request: http.Request) -> Target | None:
    """What the gateway makes of a path, if it takes it."""
    head = head_of(request)
    target = route(head.method, head.path, is_upgrade=head.is_upgrade)
    return target if isinstance(target, Target) else None


def _place_of(request: http.Request) -> CallPath | None:
    return call_path(request.path) if request.method == "POST" else None


def _model_of(request: Request) -> str | None:
    return text(request.json.get("model")) if request.json else None


def _is_call(place: CallPath, body: Json | None, *, is_addressed: bool) -> bool:
    """Whether a POST to the path of model calls is one. `is_addressed`: it goes where model calls are to be expected,
    so that the path will do; anywhere else the body has to look like one, too."""
    if place.needs_messages:
        return body is not None and "messages" in body
    return is_addressed or (body is not None and _looks_like_a_call(body, place.model))


def _looks_like_a_call(body: Json, model_of_path: str | None) -> bool:
    model = body.get("model", model_of_path)
    if model is not None:
        return isinstance(model, str) and any(name in body for name in conversation_members())
    # a server of one model, such as llama.cpp's, needs no name; but others than models are sent messages, too
    if "messages" in body:
        messages = items(body["messages"])
        return bool(messages) and all("role" in mapping(message) for message in messages)
    return isinstance(body.get("input"), str | list)


def may_be_unread_call(flow: http.HTTPFlow, settings: Settings) -> bool:
    """Whether a flow that is no call of a known kind may have asked a model for something all the same."""
    request = flow.request
    noted = notes.read(flow)
    is_answered_here = flow.response is not None if flow.live else noted is not None and noted.outcome == "rejected"
    # a WebSocket of turns is no call before the first
    asks = request.method == "POST" or (head_of(request).is_upgrade and not asks_for_turns(request))
    if is_answered_here or not asks or not asks_a_model(request.path):
        return False
    return (
        is_reverse(flow)
        or settings.provider_of_host(request.host, request.port) is not None
        or MODEL_HOSTS.fullmatch(request.host.lower()) is not None
    )


# -- calls ---------------------------------------------------------------------------------------------------------


def row_id(flow: http.HTTPFlow) -> str:
    """The row's id: the flow's, but each client replay of a flow is a call of its own."""
    if flow.is_replay == "request":
        return f"{flow.id}~{int(flow.request.timestamp_start * 1000)}"
    return flow.id


def source_of(flow: http.HTTPFlow) -> Source:
    return "replay" if flow.is_replay else "live" if flow.live else "file"


def plausible(time: float) -> float:
    """A time as a flow has it: a loaded one may hold anything."""
    return time if 0 <= time < MAX_TIME else 0.0


def call_of(
    flow: http.HTTPFlow, request: Request, passage: Passage, run_id: str, failed: Callable[[Exception], None]
) -> Call:
    """The call that a flow is."""
    return open_call(
        request,
        passage,
        id=row_id(flow),
        run_id=run_id,
        source=source_of(flow),
        started=plausible(flow.request.timestamp_start),
        failed=failed,
    )


def copy_limit(flow: http.HTTPFlow, body_limit: int) -> int:
    """Bytes of an answer to keep: all of one that is in memory anyway."""
    return body_limit if flow.live else sys.maxsize


# -- ends ----------------------------------------------------------------------------------------------------------


def end_of(flow: http.HTTPFlow, reading: Reading, *, is_live: bool, idle: float, failures: Mapping[str, str]) -> End:
    """How the transport ended. The error's text names the wrong side at times: the connections tell (live).

    `is_live`: as the flow was when the call began (mitmproxy calls one that a script has killed a dead one). `idle`:
    seconds for which nothing came. `failures`: at what an attempt to reach a server failed, by the error's text.
    """
    if reading.call.passage.destination is None:
        return End("rejected")
    if flow.error and flow.error.msg == Error.KILLED_MESSAGE:
        return End("interrupted", "killed", flow.error.msg)
    return _live_end(flow, idle, failures) if is_live else _saved_end(flow, reading)


def _saved_end(flow: http.HTTPFlow, reading: Reading) -> End:
    error, noted = flow.error, notes.read(flow) or Notes()
    # of an answer that was cut off in the flow the end cannot be read again
    if noted.outcome in _ABORTS or "response_truncated" in reading.call.passage.warnings:
        return End(noted.outcome, noted.error_type, error.msg if error else None)
    if error is None:
        return CLEAN if flow.response else End("interrupted")
    return End("client_aborted" if "disconnected" in error.msg.lower() else "upstream_cut", None, error.msg)


def _live_end(flow: http.HTTPFlow, idle: float, failures: Mapping[str, str]) -> End:
    error = flow.error
    if error is None:
        return CLEAN
    if flow.is_replay != "request":
        # else there is no client that could leave, though its connection of old is closed
        if not flow.client_conn.connected:
            # mitmproxy says "Client disconnected." of its own idle time-out too; its clock started a little earlier
            if idle >= ctx.options.tcp_timeout * 0.95:
                return End("upstream_cut", "timeout", f"nothing was sent for {idle:.0f} s")
            return End("client_aborted", None, error.msg)
        if flow.request.is_http2 and error.msg.startswith("stream reset by client") and _is_clients_reset(flow):
            return End("client_aborted", None, error.msg)
    return End("upstream_cut", None if flow.response else failures.get(error.msg), error.msg)


def end_of_turn(flow: http.HTTPFlow, noted: Notes, *, is_live: bool, idle: float) -> End:
    """How a turn ended that had not when its WebSocket did. Arguments as for `end_of`."""
    socket = flow.websocket
    if flow.error and flow.error.msg == Error.KILLED_MESSAGE:
        return End("interrupted", "killed", flow.error.msg)
    if socket is None or (not is_live and socket.timestamp_end is None):
        # saved while it was under way
        return End("interrupted")
    if not is_live and noted.outcome in _ABORTS:
        return End(noted.outcome, noted.error_type, _closing(socket))
    if is_live and socket.close_code == _ABRUPT and idle >= ctx.options.tcp_timeout * 0.95:
        return End("upstream_cut", "timeout", _closing(socket))
    return End("client_aborted" if socket.closed_by_client else "upstream_cut", None, _closing(socket))


_ABRUPT = 1006
"""The close code where a connection ended without one (RFC 6455, section 7.1.5)."""


def _closing(socket: WebSocketData) -> str:
    """How a WebSocket ended, in words."""
    reason = f": {socket.close_reason}" if socket.close_reason else ""
    return f"the WebSocket was closed with code {socket.close_code}{reason}"


def _is_clients_reset(flow: http.HTTPFlow) -> bool:
    """Whether an HTTP/2 stream was reset by the client, although its connection goes on.

    mitmproxy uses the same words for either side, and closes an HTTP/1 upstream before it says so. Where both speak
    HTTP/2, clients cancel, and servers give other reasons.
    """
    return flow.server_conn.alpn != b"h2" or (flow.error is not None and "CANCEL" in flow.error.msg)


def take_times(record: Record, flow: http.HTTPFlow) -> None:
    """Reading a file takes no time worth a row: the times are those of the capture, as far as the flow tells."""
    noted = notes.read(flow) or Notes()
    record.time_to_first_byte_ms = noted.timings.get("time_to_first_byte_ms")
    record.time_to_first_token_ms = noted.timings.get("time_to_first_token_ms")
    record.duration_ms = noted.timings.get("duration_ms")
    if record.duration_ms is None and flow.response and flow.response.timestamp_end:
        record.duration_ms = milliseconds(flow.response.timestamp_end - flow.request.timestamp_start)
