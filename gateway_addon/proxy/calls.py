"""The calls under way: each from its request to its one record, which the sinks are given and its flow keeps."""

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from mitmproxy import http
from mitmproxy.connection import Server

from gateway_addon import reading
from gateway_addon.call import Call, Passage, Request
from gateway_addon.captures import notes
from gateway_addon.cost import PriceTable
from gateway_addon.proxy import flows, forward
from gateway_addon.proxy.log import describe
from gateway_addon.proxy.options import Options
from gateway_addon.proxy.tape import Tape
from gateway_addon.reading import End, Reading
from gateway_addon.record import Content, Record, limited
from gateway_addon.sinks import Sinks, console

logger = logging.getLogger(__name__)


@dataclass(slots=True, eq=False)
class UnderWay:
    """A call under way."""

    flow: http.HTTPFlow
    reading: Reading
    tape: Tape
    received_headers: http.Headers | None = None
    """The answer's, where the client was given others."""
    has_failed: bool = field(default=False)
    """A bug of ours in reading the answer has been reported."""

    @property
    def call(self) -> Call:
        return self.reading.call


class Calls:
    """Every call from its request to its one record. `sinks`, `run_id` and `options` may be set anew at any time; the
    calls under way go on with the new ones."""

    def __init__(self, sinks: Sinks, run_id: str, options: Options, prices: PriceTable) -> None:
        self.sinks = sinks
        self.run_id = run_id
        self.options = options
        self._prices = prices
        self._forwarder = forward.Forwarder()
        self._under_way: dict[str, UnderWay] = {}

    def expect(self, flow: http.HTTPFlow) -> None:
        """A request's head has arrived."""
        if not flow.live:
            return
        if flow.is_replay == "request":
            self._forwarder.renew(flow, self.options.settings, with_keys=self.options.replay_keys)
        if not flows.may_be_call(flow.request):
            return
        if flow.is_replay == "request":
            notes.remove(flow)
        if self.options.streams_requests:
            # mitmproxy may stream the request past us: keep a copy of what passes
            flow.request.stream = flows.RequestCopy()

    def connect(self, server: Server) -> None:
        """A server is about to be dialled."""
        self._forwarder.pin(server)

    def open(self, flow: http.HTTPFlow) -> None:
        """A request is complete: forward or refuse it, if it is for the gateway; follow it, if it is a model call."""
        opened: tuple[Request, Passage] | None
        if self.options.rewrite and forward.is_gateway_call(flow):
            opened = self._forwarder.forward(flow, self.options.settings)
        else:
            opened = flows.observed(flow, self.options.settings, key_is_ours=self._forwarder.has_key(flow))
        if opened:
            self._follow(flow, flows.call_of(flow, *opened, self.run_id, _report("reading a request")))

    def _follow(self, flow: http.HTTPFlow, call: Call) -> None:
        tape = Tape(flows.copy_limit(flow, self.options.body_limit))
        self._under_way[call.id] = UnderWay(flow, Reading(call), tape)
        if flow.live:
            record, _ = limited(reading.opening_record(call), Content(), self.options.content)
            self.sinks.begin(record)

    def stream(self, flow: http.HTTPFlow) -> None:
        """The answer's head has arrived: let the body pass chunk by chunk, with a copy to the reader."""
        forwarded = self._forwarder.conceal(flow)
        response = flow.response
        followed = self._under_way.get(flows.row_id(flow))
        if response is None or followed is None or followed.reading.feed is not None:
            if response is not None and forwarded and flow.live:
                response.stream = True
            return
        if flow.live:
            # first of all, so that whatever fails below cannot turn a stream into a buffered answer
            response.stream = _recorder(followed)
        followed.reading.start(response.status_code, flows.headers_of(response))
        change = followed.call.passage.change
        if not flow.live or change is None or not followed.reading.is_changed:
            return
        followed.received_headers = response.headers.copy()
        forward.prepare_head(flow, change)
        if response.raw_content:
            # it is here as a whole, from a file (server replay) or another addon, and mitmproxy does not stream it
            record = _recorder(followed)
            response.raw_content = b"".join([*record(response.raw_content), *record(b"")])
            response.headers.pop("transfer-encoding", None)
            response.headers["content-length"] = str(len(response.raw_content))
            followed.received_headers = None

    def close(self, flow: http.HTTPFlow) -> None:
        """The call has ended: make its record, once, whichever hooks said so."""
        self._forwarder.conceal(flow)
        if self.options.rewrite and forward.is_for_gateway(flow):
            # its client may have left before the request was complete, and `open` never saw it
            forward.hide_own_tokens(flow, self.options.settings)
        if (followed := self._under_way.get(flows.row_id(flow))) is not None:
            self._close(followed, flows.end_of(flow, followed.reading))

    def close_all(self) -> None:
        """The proxy ends: what is still under way is recorded as far as it got."""
        self._forwarder.conceal_all()
        for followed in list(self._under_way.values()):
            self._close(followed, End("interrupted"))

    def _close(self, followed: UnderWay, end: End) -> None:
        flow, call = followed.flow, followed.call
        del self._under_way[call.id]
        record, content = self._finish(followed, end)
        # by server replay, which shows only after the call has begun
        record.source = flows.source_of(flow)
        if not flow.live:
            flows.take_times(record, flow)
        self._mask_key(record, call, flow)
        record, content = limited(record, content, self.options.content)
        flow.comment = flow.comment or console.line(record, console.tools_called(content))
        notes.leave(flow, record, followed.tape.pace_since(call.started) if flow.live else None)
        self.sinks.finish(record, content, wait=not flow.live)

    def _finish(self, followed: UnderWay, end: End) -> tuple[Record, Content]:
        flow = followed.flow
        if not flow.live:
            self._prices.load()
        try:
            _complete(followed)
            return reading.finish(followed.reading, end, time.time() if flow.live else None, self._prices)
        except Exception as error:
            logger.warning("%s: reading the answer failed, the row says little: %s", followed.call.id, describe(error))
            return reading.unread(followed.reading, end), Content()

    def _mask_key(self, record: Record, call: Call, flow: http.HTTPFlow) -> None:
        """Some servers quote the key that they refuse. The mask is as long as the key, so that lengths stay true."""
        there = call.passage.destination
        provider = self.options.settings.providers.get(there.provider or "") if there else None
        if there is None or there.payer != "gateway" or provider is None:
            return
        secret = self.options.settings.provider_key(provider)
        if secret is None:
            return
        key = secret.get_secret_value()
        mask = "*" * len(key)
        if record.error_message:
            record.error_message = record.error_message.replace(key, mask)
        if flow.response and flow.response.raw_content:
            flow.response.raw_content = flow.response.raw_content.replace(key.encode(), mask.encode())


def _report(what: str) -> Callable[[Exception], None]:
    return lambda error: logger.warning("%s failed: %s", what, describe(error))


def _recorder(followed: UnderWay) -> Callable[[bytes], bytes | list[bytes]]:
    """The callable the answer's chunks pass through: each leaves at once, whatever happens in here.

    As it came, unless the answer is changed. An empty chunk is the end.
    """

    def record(chunk: bytes) -> bytes | list[bytes]:
        answer = followed.reading
        instead: list[bytes] | None = None
        try:
            if chunk:
                now = time.time()
                followed.tape.add(chunk, now)
                instead = answer.receive(chunk, now)
            else:
                instead = answer.end()
        except Exception as error:
            answer.give_up()
            if answer.is_changed:
                # what cannot be changed must not be seen
                instead = []
            _warn(followed, error)
        if answer.failure and not followed.has_failed:
            _warn(followed, answer.failure)
        return chunk if instead is None else instead

    return record


def _warn(followed: UnderWay, error: Exception) -> None:
    if not followed.has_failed:
        followed.has_failed = True
        logger.warning("%s: reading the answer failed, it is only passed on: %s", followed.call.id, describe(error))


def _complete(followed: UnderWay) -> None:
    """Bring flow and reading to the same knowledge of the answer."""
    flow, answer, tape = followed.flow, followed.reading, followed.tape
    response = flow.response
    if response is None:
        return
    if followed.received_headers is not None:
        forward.restore_head(response, followed.received_headers)
    if answer.feed is None:
        answer.start(response.status_code, flows.headers_of(response))
    if answer.size:
        if response.raw_content is None:
            # what mitmproxy streams it forgets; put back, it is saved and shown, and not sent again
            response.raw_content = tape.joined()
    elif response.raw_content:
        # it was not streamed past us: from a file, a server replay, an answer made by an addon
        now = time.time()
        tape.add(response.raw_content, now)
        answer.receive(response.raw_content, now)
    elif response.raw_content is None:
        if flow.live:
            response.raw_content = b""
        else:
            answer.warn("response_missing")
    if tape.is_truncated:
        answer.warn("response_truncated")
    tape.clear()
