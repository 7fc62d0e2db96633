"""The calls under way: each from its request to its one record, which the sinks are given and its flow keeps."""

import asyncio
import logging
import re
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field, replace

from mitmproxy import http

from gateway_addon import api, reading
from gateway_addon.api.base import ApiKind
from gateway_addon.call import Call, Passage, Request
from gateway_addon.captures import notes
from gateway_addon.content import Content, limited
from gateway_addon.cost import PriceTable
from gateway_addon.outcome import End
from gateway_addon.proxy import flows, forward, framing
from gateway_addon.proxy.callers import OwnConnections, caller_of
from gateway_addon.proxy.keys import Keys, hide_own_tokens
from gateway_addon.proxy.log import describe
from gateway_addon.proxy.options import Options
from gateway_addon.proxy.tape import Tape
from gateway_addon.proxy.unrecorded import Unrecorded
from gateway_addon.proxy.veil import Answer, Veil
from gateway_addon.reading import Reading
from gateway_addon.record import Record
from gateway_addon.sinks import Sinks, console
from gateway_addon.wire import digest, sse
from gateway_addon.wire.elements import Memory
from gateway_addon.wire.headers import media_type

logger = logging.getLogger(__name__)


@dataclass(slots=True, eq=False)
class UnderWay:
    """A call under way."""

    flow: http.HTTPFlow
    reading: Reading
    tape: Tape
    sinks: Sinks
    """Where it began, and so where it ends."""
    began: float
    """When its head arrived, by the monotonic clock, in seconds."""
    asked: float
    """When the request was complete, in seconds since then."""
    is_live: bool
    """Not from a file. Its flow says so only until a script kills it."""
    received_headers: http.Headers | None = None
    """The answer's, where the client was given others."""
    instead: Answer | None = None
    """What the client is still to get in place of a whole answer."""
    has_failed: bool = field(default=False)
    """A bug of ours in reading the answer has been reported."""

    @property
    def call(self) -> Call:
        return self.reading.call

    def elapsed(self) -> float:
        """Seconds since it began."""
        return time.monotonic() - self.began

    def idle(self) -> float:
        """Seconds since anything was heard of it."""
        heard = self.reading.last_byte
        return self.elapsed() - (self.asked if heard is None else heard)


_NO_SUCH_NAME = re.compile(r"\[Errno -\d+\]|getaddrinfo|name resolution|servname")
"""What the various systems say when a host's name leads nowhere."""

LONG, LONG_ENCODED = 1_000_000, 16_000
"""Bytes of a request's body that are new, as sent, from which it is read in a thread of its own. Few bytes may be many,
encoded."""

MANY = 4_000
"""Objects in them from which it is, too: no agent has so many to say, and each costs something."""

MAX_FAILURES = 64
"""Failed attempts to reach a server that are remembered until their calls have ended, which is at once."""


class Calls:
    """Every call from its request to its one record. `options` may be set anew at any time; the calls under way go on
    with the new ones."""

    def __init__(self, sinks: Sinks, run_id: str, options: Options, prices: PriceTable) -> None:
        self.sinks = sinks
        self.run_id = run_id
        self.options = options
        self.own = OwnConnections()
        self._prices = prices
        self._memory = Memory(api.members)
        self.keys = Keys()
        self._forwarder = forward.Forwarder(self.keys, lambda: self.sinks.turn_away(), self._memory)
        self._arrived: dict[str, float] = {}
        """When the heads of requests came whose bodies have not, by the monotonic clock and flow id."""
        self._veil = Veil()
        self._under_way: dict[http.HTTPFlow, UnderWay] = {}
        self._leaving: list[tuple[Sinks, Callable[[], object]]] = []
        self._failures: dict[str, str] = {}
        self._unrecorded = Unrecorded()

    def move(self, sinks: Sinks, run_id: str, close_previous: Callable[[], object]) -> None:
        """Calls go to other sinks from now on; those under way end where they began, and then `close_previous` is
        called, in a thread of its own."""
        self._leaving.append((self.sinks, close_previous))
        self.sinks, self.run_id = sinks, run_id
        self._close_left()

    def expect(self, flow: http.HTTPFlow, host: str | None) -> None:
        """A request's head has arrived. `host`: what its client calls the listener, None if that is not known."""
        if not flow.live:
            return
        arrived = time.monotonic()
        self._veil.watch(flow)
        if flow.is_replay == "request" and self.options.streams_requests:
            # its head may leave before it is complete
            self.keys.renew(flow, self.options.settings, with_keys=self.options.replay_keys)
        for_gateway = self.options.rewrite and forward.is_gateway_call(flow)
        if not for_gateway and not flows.may_be_call(flow.request):
            return
        self._arrived[flow.id] = arrived
        if for_gateway:
            self._forwarder.admit(flow, caller_of(flow, host, self.own), self.options.settings)
        if flow.is_replay == "request":
            notes.remove(flow)
        if self.options.streams_requests:
            # mitmproxy may stream the request past us: keep a copy of what passes
            flow.request.stream = flows.RequestCopy()

    def kind_of(self, flow: http.HTTPFlow) -> ApiKind | None:
        """The kind of a call under way; None: it is none."""
        followed = self._under_way.get(flow)
        return followed.call.passage.kind if followed else None

    def failed(self, what: str, message: str | None) -> None:
        """A server could not be reached: at `what`, `connect` or `tls`, with an error's text that a call will have."""
        if message is None:
            return
        if len(self._failures) >= MAX_FAILURES:
            self._failures.clear()
        self._failures[message] = "dns" if what == "connect" and _NO_SUCH_NAME.search(message) else what

    def is_long(self, flow: http.HTTPFlow) -> bool:
        """Whether reading a request would take longer than a chunk of another call may wait (`open_long`)."""
        if flow.id not in self._arrived or flow.response:
            return False
        body = flow.request.raw_content or b""
        if "content-encoding" in flow.request.headers:
            return len(body) > LONG_ENCODED
        recognised = self._memory.recognised(body)
        return len(body) - recognised > LONG or body.count(b"{", recognised) > MANY

    async def open_long(self, flow: http.HTTPFlow) -> None:
        """`open`, with all that takes long in a thread: what holds the interpreter there are many short steps."""
        try:
            read, prepared = None, None
            settings = self.options.settings
            # what fails here fails below again, where it is known what follows from it
            with suppress(Exception):
                read = await asyncio.to_thread(_read_long, flow.request, self._memory)
                prepared = await asyncio.to_thread(self._forwarder.prepare, flow, settings, read)
            began, opened = self._let_go(flow, read, prepared)
            if opened:
                self._follow(flow, await asyncio.to_thread(self._call, flow, *opened), began)
        except Exception as error:
            logger.warning("%s: a long request is not recorded: %s", flow.id, describe(error))

    def open(self, flow: http.HTTPFlow) -> None:
        """A request is complete: forward or refuse it, if it is for the gateway; follow it, if it is a model call."""
        began, opened = self._let_go(flow)
        if opened:
            self._follow(flow, self._call(flow, *opened), began)

    def _let_go(
        self, flow: http.HTTPFlow, read: Request | None = None, prepared: forward.Prepared | None = None
    ) -> tuple[float, tuple[Request, Passage] | None]:
        """Forward or refuse a request. Returns when it began, by the monotonic clock, and what it is, if a call."""
        began = self._arrived.pop(flow.id, None)
        if flow.live and flow.is_replay == "request":
            self.keys.renew(flow, self.options.settings, with_keys=self.options.replay_keys)
        opened: tuple[Request, Passage] | None
        if self.options.rewrite and (self._forwarder.is_waiting(flow) or forward.is_gateway_call(flow)):
            opened = self._forwarder.forward(
                flow, lambda: caller_of(flow, None, self.own), self.options.settings, prepared
            )
        else:
            key_is_ours = self.keys.has_key(flow)
            opened = flows.observed(flow, self.options.settings, self._memory, read, key_is_ours=key_is_ours)
            if opened is None and flows.may_be_unread_call(flow, self.options.settings):
                self._unrecorded.add(flow.request.host, flow.request.path.partition("?")[0])
        return time.monotonic() if began is None else began, opened

    def _call(self, flow: http.HTTPFlow, request: Request, passage: Passage) -> Call:
        return flows.call_of(flow, request, passage, self.run_id, _report("reading a request"))

    def _follow(self, flow: http.HTTPFlow, call: Call, began: float) -> None:
        followed = UnderWay(
            flow,
            Reading(call),
            Tape(flows.copy_limit(flow, self.options.body_limit)),
            self.sinks,
            began,
            time.monotonic() - began,
            flow.live,
        )
        self._under_way[flow] = followed
        if followed.is_live:
            record, _ = limited(reading.opening_record(call), Content(), self.options.content)
            self.sinks.begin(self.options.mask.value(record))

    def stream(self, flow: http.HTTPFlow) -> None:
        """The answer's head has arrived: let the body pass chunk by chunk, with a copy to the reader."""
        self._forwarder.forget(flow)
        forwarded = self.keys.conceal(flow)
        response = flow.response
        followed = self._under_way.get(flow)
        if response is None or followed is None or followed.reading.feed is not None:
            if response is not None and forwarded and flow.live:
                response.stream = flow not in self._forwarder.unrecorded_changes
            return
        if flow.live:
            # first of all, so that whatever fails below cannot turn a stream into a buffered answer
            response.stream = _recorder(followed)
        followed.reading.start(response.status_code, flows.headers_of(response))
        change = followed.call.passage.change
        if not flow.live or change is None or not followed.reading.is_changed:
            return
        if response.raw_content or _can_wait(followed):
            # mitmproxy sends it as a whole, so that it can still be withheld
            response.stream = False
            return
        followed.received_headers = response.headers.copy()
        framing.prepare_head(flow, change)

    def close(self, flow: http.HTTPFlow) -> None:
        """The call has ended: make its record, once, whichever hooks said so."""
        self._arrived.pop(flow.id, None)
        self.keys.conceal(flow)
        if self.options.rewrite and forward.is_for_gateway(flow):
            # its client may have left before the request was complete, and `open` never saw it
            hide_own_tokens(flow, self.options.settings)
        # behind that, as what it cuts may end within a token
        self._forwarder.forget(flow)
        if (followed := self._under_way.get(flow)) is not None:
            end = flows.end_of(
                flow, followed.reading, is_live=followed.is_live, idle=followed.idle(), failures=self._failures
            )
            self._close(followed, end)
        else:
            changes, response = self._forwarder.unrecorded_changes.pop(flow, ()), flow.response
            instead = framing.side_answer(changes, response) if changes and response and flow.error is None else None
            self._veil.draw(flow, self.options.mask, instead=instead)

    def pass_on(self, flow: http.HTTPFlow) -> None:
        """mitmproxy goes on with a flow: what it sends next must be what is to be sent."""
        if flow.live:
            self.keys.arm(flow)
            self._veil.lift(flow)

    def close_all(self) -> None:
        """The proxy ends: what is still under way is recorded as far as it got."""
        self.keys.conceal_all()
        for followed in list(self._under_way.values()):
            self._close(followed, End("interrupted"))
        self._unrecorded.report()
        self._veil.draw_all(self.options.mask)

    def _close(self, followed: UnderWay, end: End) -> None:
        flow, call, mask = followed.flow, followed.call, self.options.mask
        del self._under_way[flow]
        record, content = self._finish(followed, end)
        # by server replay, which shows only after the call has begun
        record.source = "replay" if flow.is_replay else call.source
        if not followed.is_live:
            flows.take_times(record, flow)
        masked, masked_content = mask.value(record), mask.value(content)
        is_said = masked_content is not content
        if self._veil.draw(flow, mask, across=is_said, instead=followed.instead) or is_said or masked is not record:
            record, content = (
                replace(masked, warnings=(*dict.fromkeys((*masked.warnings, "secret_masked")),)),
                masked_content,
            )
            if record.request_sha256 and content.body is not None:
                record.request_sha256 = digest.sha256_of(content.body)
        record, content = limited(record, content, self.options.content)
        flow.comment = flow.comment or console.comment(record, console.tools_called(content))
        notes.leave(flow, record, followed.tape.pace() if followed.is_live else None)
        followed.sinks.finish(record, content, wait=not followed.is_live)
        self._close_left()

    def _close_left(self) -> None:
        in_use = [followed.sinks for followed in self._under_way.values()]
        for sinks, close in self._leaving:
            if sinks not in in_use:
                # a writer may take a while to finish
                threading.Thread(target=close, name="closing a database").start()
        self._leaving = [(sinks, close) for sinks, close in self._leaving if sinks in in_use]

    def _finish(self, followed: UnderWay, end: End) -> tuple[Record, Content]:
        try:
            _complete(followed)
            return reading.finish(followed.reading, end, followed.elapsed() if followed.is_live else None, self._prices)
        except Exception as error:
            logger.warning("%s: reading the answer failed, the row says little: %s", followed.call.id, describe(error))
            return reading.unread(followed.reading, end), Content()


def _read_long(request: http.Request, memory: Memory) -> Request:
    read = flows.request_of(request, memory)
    return read if read.body is None or read.sha256 else replace(read, sha256=digest.sha256_of(read.body))


def _report(what: str) -> Callable[[Exception], None]:
    return lambda error: logger.warning("%s failed: %s", what, describe(error))


def _recorder(followed: UnderWay) -> Callable[[bytes], bytes | list[bytes]]:
    """The callable the answer's chunks pass through: each leaves at once, whatever happens in here.

    As it came, unless the answer is changed. An empty chunk is the end.
    """

    def record(chunk: bytes) -> bytes | list[bytes]:
        try:
            instead = _read(followed, chunk)
        except Exception as error:
            instead = _give_up(followed, error)
        return chunk if instead is None else instead

    return record


def _read(followed: UnderWay, chunk: bytes) -> list[bytes] | None:
    """Lead a chunk to the reader. Returns what the client gets in its place; None: the chunk itself."""
    answer = followed.reading
    if chunk:
        at = followed.elapsed()
        followed.tape.add(chunk, at)
        instead = answer.receive(chunk, at)
    else:
        instead = answer.end()
    if answer.failure:
        _warn(followed, answer.failure)
    return instead


def _give_up(followed: UnderWay, error: Exception) -> list[bytes] | None:
    """Reading failed. Returns what the client gets in the chunk's place, as `_read`."""
    try:
        instead = followed.reading.give_up()
        _warn(followed, error)
    except Exception:
        # mitmproxy would drop the chunk, and tell of each in the log
        followed.has_failed = True
        # what cannot be changed must not be seen
        instead = [] if followed.reading.is_changed else None
    return instead


def _warn(followed: UnderWay, error: Exception) -> None:
    if not followed.has_failed:
        followed.has_failed = True
        logger.warning("%s: reading the answer failed, it is only passed on: %s", followed.call.id, describe(error))


def _can_wait(followed: UnderWay) -> bool:
    """Whether the head of an answer that may have to be withheld waits for its body: not if it may be a stream."""
    change, answer = followed.call.passage.change, followed.reading
    if change is None or not change.fails_closed:
        return False
    if media_type(answer.headers) == sse.MEDIA_TYPE:
        return False
    # where a stream was asked for, one may come under any label
    return not followed.call.facts.streamed or (answer.http_status or 0) >= 400


def _complete(followed: UnderWay) -> None:
    """Bring flow and reading to the same knowledge of the answer."""
    flow, answer, tape = followed.flow, followed.reading, followed.tape
    response = flow.response
    if response is None:
        return
    prepared = None
    if followed.received_headers is not None:
        prepared = response.headers.copy()
        framing.restore_head(response, followed.received_headers)
    if answer.feed is None:
        answer.start(response.status_code, flows.headers_of(response))
    if answer.size:
        if response.raw_content is None:
            # what mitmproxy streams it forgets; put back, it is saved and shown, and not sent again
            response.raw_content = tape.joined()
    elif response.raw_content:
        # it was not streamed past us: from a file, a server replay, an answer made by an addon
        at = followed.elapsed()
        tape.add(response.raw_content, at)
        changed = answer.receive(response.raw_content, at)
        if followed.is_live and changed is not None:
            followed.instead = framing.changed_answer(
                followed.call.passage.change, response, [*changed, *(answer.end() or [])], withheld=answer.is_withheld
            )
    elif response.raw_content is None:
        if followed.is_live:
            response.raw_content = b""
        else:
            answer.warn("response_missing")
    change = followed.call.passage.change
    if followed.is_live and change and answer.is_changed and not answer.size:
        followed.instead = framing.bare_answer(change, response, prepared)
    elif followed.is_live and change and change.fails_closed and response.trailers:
        # of a stream, all that is still to be sent
        followed.instead = replace(Answer.of(response), trailers=None)
    if tape.is_truncated:
        answer.warn("response_truncated")
    tape.clear()
