"""The calls under way: each from its request to its one record, which the sinks are given and its flow keeps."""

import asyncio
import logging
import re
import threading
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import replace
from itertools import chain

from mitmproxy import http

from gateway_addon import api, reading
from gateway_addon.api.base import ApiKind
from gateway_addon.call import Call, Passage, Request, open_call
from gateway_addon.captures import notes
from gateway_addon.config import Settings
from gateway_addon.content import Content, limited
from gateway_addon.cost import PriceTable
from gateway_addon.masking import Mask
from gateway_addon.outcome import End
from gateway_addon.proxy import flows, forward, framing, websocket
from gateway_addon.proxy.callers import OwnConnections, caller_of
from gateway_addon.proxy.keys import Keys, hide_own_tokens
from gateway_addon.proxy.log import describe
from gateway_addon.proxy.options import Options
from gateway_addon.proxy.tape import Tape
from gateway_addon.proxy.under_way import UnderWay, finish, kept, recorder
from gateway_addon.proxy.unrecorded import Unrecorded
from gateway_addon.proxy.veil import Answer, Veil
from gateway_addon.reading import Reading
from gateway_addon.record import Record
from gateway_addon.sinks import Sinks, console
from gateway_addon.wire import digest, sse
from gateway_addon.wire.elements import Memory
from gateway_addon.wire.headers import media_type

logger = logging.getLogger(__name__)


_NO_SUCH_NAME = re.compile(r"\[Errno -\d+\]|getaddrinfo|name resolution|servname")
"""What the various systems say when a host's name leads nowhere."""

LARGE = 32_000
"""Bytes of a request's body from which it is read in turns of the event loop of its own."""

LONG = 1_000_000
"""Bytes of a body that are new, from which it is read in a thread instead. So is one that is encoded, of which a few
bytes may be as many."""

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
        self.memory = Memory(api.members)
        self.keys = Keys()
        self._forwarder = forward.Forwarder(self.keys, lambda: self.sinks.turn_away(), self.memory)
        self._arrived: dict[str, float] = {}
        """When the heads of requests came whose bodies have not, by the monotonic clock and flow id."""
        self._veil = Veil()
        self._under_way: dict[http.HTTPFlow, UnderWay] = {}
        self._leaving: list[tuple[Sinks, Callable[[], object]]] = []
        self._sockets: dict[http.HTTPFlow, websocket.Connection] = {}
        self._failures: dict[str, str] = {}
        self._unrecorded = Unrecorded()

    @property
    def settings(self) -> Settings:
        """The configuration as it is now."""
        return self.options.settings

    @property
    def mask(self) -> Mask:
        """Masks the gateway's own secrets."""
        return self.options.mask

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

    def has_large(self, flow: http.HTTPFlow) -> bool:
        """Whether reading a request would take longer than a chunk of another call should wait (`open_large`)."""
        if flow.id not in self._arrived or flow.response:
            return False
        size = len(flow.request.raw_content or b"")
        return size > LARGE or (size > 0 and "content-encoding" in flow.request.headers)

    def is_long(self, body: bytes) -> bool:
        """Whether reading a body would take too long for any turn of the event loop."""
        recognised = self.memory.recognised(body)
        return len(body) - recognised > LONG or body.count(b"{", recognised) > MANY

    async def open_large(self, flow: http.HTTPFlow) -> None:
        """`open` in several turns of the event loop, between which the chunks of other calls pass. What would take too
        long even so is done in a thread: what holds the interpreter there are many short steps."""
        try:
            self._renew(flow)
            await asyncio.sleep(0)
            read, prepared, in_thread = None, None, True
            settings = self.options.settings
            # whatever fails, the gateway has to decide below what becomes of the request
            with suppress(Exception):
                in_thread = "content-encoding" in flow.request.headers or self.is_long(flow.request.raw_content or b"")
            run = asyncio.to_thread if in_thread else _in_a_turn
            # what fails here fails below again, where it is known what follows from it
            with suppress(Exception):
                read = await run(_read_large, flow.request, self.memory)
                prepared = await run(self._forwarder.prepare, flow, settings, read)
            began, opened = self._let_go(flow, read, prepared)
            if opened:
                self._follow(flow, await run(self._call, flow, *opened), began)
        except Exception as error:
            logger.warning("%s: a large request is not recorded: %s", flow.id, describe(error))

    def open(self, flow: http.HTTPFlow) -> None:
        """A request is complete: forward or refuse it, if it is for the gateway; follow it, if it is a model call."""
        self._renew(flow)
        began, opened = self._let_go(flow)
        if opened:
            self._follow(flow, self._call(flow, *opened), began)

    def _renew(self, flow: http.HTTPFlow) -> None:
        """Before a request is read that is sent again: what is on record is what leaves."""
        if flow.live and flow.is_replay == "request":
            self.keys.renew(flow, self.options.settings, with_keys=self.options.replay_keys)

    def _let_go(
        self, flow: http.HTTPFlow, read: Request | None = None, prepared: forward.Prepared | None = None
    ) -> tuple[float, tuple[Request, Passage] | None]:
        """Forward or refuse a request. Returns when it began, by the monotonic clock, and what it is, if a call."""
        began = self._arrived.pop(flow.id, None)
        opened: tuple[Request, Passage] | None
        if self.options.rewrite and (self._forwarder.is_waiting(flow) or forward.is_gateway_call(flow)):
            opened = self._forwarder.forward(
                flow, lambda: caller_of(flow, None, self.own), self.options.settings, prepared
            )
        else:
            key_is_ours = self.keys.has_key(flow)
            opened = flows.observed(flow, self.options.settings, self.memory, read, key_is_ours=key_is_ours)
            if opened is None and flows.may_be_unread_call(flow, self.options.settings):
                self._pass_over(flow)
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
        self._announce(followed)

    def _announce(self, followed: UnderWay) -> None:
        if followed.is_live:
            record, _ = limited(reading.opening_record(followed.call), Content(), self.options.content)
            self.sinks.begin(self.mask.value(record))

    # -- WebSockets ----------------------------------------------------------------------------------------------

    def converse(self, flow: http.HTTPFlow) -> websocket.Connection | None:
        """A WebSocket is open: follow its turns, if it is one on which calls are made."""
        way: websocket.Way | None = self._forwarder.ways.get(flow)
        if way is None and flows.asks_for_turns(flow.request):
            way = websocket.Observed(flow, self.settings)
        if way is not None and flow not in self._sockets:
            self._sockets[flow] = websocket.Connection(flow, way, self, self.options.body_limit)
        return self._sockets.get(flow)

    def message(self, flow: http.HTTPFlow) -> Awaitable[None] | None:
        """A message has come on a WebSocket. mitmproxy waits for what is returned before it sends it."""
        connection = self._sockets.get(flow)
        if connection is None and flow in self._forwarder.ways and flow.websocket:
            # a bug of ours, and nobody can say what would be sent with the gateway's key
            flow.websocket.messages[-1].drop()
        return connection.message() if connection else None

    def turn_of(self, flow: http.HTTPFlow, id: str, started: float, request: Request, passage: Passage) -> Call:
        """The call that a turn of a WebSocket is (`websocket.Calls`)."""
        return open_call(
            request,
            passage,
            id=id,
            run_id=self.run_id,
            source=flows.source_of(flow),
            started=flows.plausible(started),
            failed=_report("reading a request"),
        )

    def begin_turn(self, flow: http.HTTPFlow, call: Call) -> UnderWay:
        """A call begins that is a turn of a WebSocket (`websocket.Calls`)."""
        followed = UnderWay(flow, Reading(call), Tape(0), self.sinks, time.monotonic(), 0.0, flow.live)
        self._announce(followed)
        return followed

    def end_turn(
        self, followed: UnderWay, end: End, lasted: float, noted: notes.Notes, *, is_masked: bool
    ) -> tuple[Record, str]:
        """A call has ended that is a turn of a WebSocket (`websocket.Calls`)."""
        record, content = finish(followed, end, lasted, self._prices)
        for name, value in noted.timings.items():
            setattr(record, name, value)
        record, content = kept(record, content, self.mask, self.options.content, lambda is_said: is_masked)
        followed.sinks.finish(record, content, wait=not followed.is_live)
        self._close_left()
        return record, console.comment(record, console.tools_called(content))

    # -- answers -------------------------------------------------------------------------------------------------

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
            response.stream = recorder(followed)
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
        if flow.websocket is None:
            self._forwarder.ways.pop(flow, None)
        if self.options.rewrite and forward.is_for_gateway(flow):
            # its client may have left before the request was complete, and `open` never saw it
            hide_own_tokens(flow, self.options.settings)
        # behind that, as what it cuts may end within a token
        self._forwarder.forget(flow)
        if flow.websocket is not None:
            self._close_socket(flow)
        elif flow.response is not None and flow.response.status_code == 101 and flows.asks_for_turns(flow.request):
            # with the option `websocket` off it passes as bytes that nobody reads
            self._pass_over(flow)
        elif (followed := self._under_way.get(flow)) is not None:
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
        for connection in self._sockets.values():
            connection.close(End("interrupted"))
        self._unrecorded.report()
        self._veil.draw_all(self.options.mask)

    def _pass_over(self, flow: http.HTTPFlow) -> None:
        """What a flow asks of a model is in no row."""
        self._unrecorded.add(flow.request.host, flow.request.path.partition("?")[0])

    def _close_socket(self, flow: http.HTTPFlow) -> None:
        self._forwarder.ways.pop(flow, None)
        connection = self._sockets.pop(flow, None)
        if connection:
            connection.close()
        if connection and not connection.has_turns:
            self._pass_over(flow)
        self._veil.draw(flow, self.mask, messages=connection is None)

    def _close(self, followed: UnderWay, end: End) -> None:
        flow, call, mask = followed.flow, followed.call, self.options.mask
        del self._under_way[flow]
        record, content = finish(
            followed,
            end,
            followed.elapsed() if followed.is_live else None,
            self._prices,
            lambda: _complete(followed),
        )
        # by server replay, which shows only after the call has begun
        record.source = "replay" if flow.is_replay else call.source
        if not followed.is_live:
            flows.take_times(record, flow)
        record, content = kept(
            record,
            content,
            mask,
            self.options.content,
            lambda is_said: self._veil.draw(flow, mask, across=is_said, instead=followed.instead),
        )
        flow.comment = flow.comment or console.comment(record, console.tools_called(content))
        notes.leave(flow, record, followed.tape.pace() if followed.is_live else None)
        followed.sinks.finish(record, content, wait=not followed.is_live)
        self._close_left()

    def _close_left(self) -> None:
        turns = chain.from_iterable(connection.under_way() for connection in self._sockets.values())
        in_use = [followed.sinks for followed in chain(self._under_way.values(), turns)]
        for sinks, close in self._leaving:
            if sinks not in in_use:
                # a writer may take a while to finish
                threading.Thread(target=close, name="closing a database").start()
        self._leaving = [(sinks, close) for sinks, close in self._leaving if sinks in in_use]


async def _in_a_turn[*A, T](function: Callable[[*A], T], *arguments: *A) -> T:
    """What a function gives, in a turn of the event loop of its own."""
    await asyncio.sleep(0)
    return function(*arguments)


def _read_large(request: http.Request, memory: Memory) -> Request:
    read = flows.request_of(request, memory)
    return read if read.body is None or read.sha256 else replace(read, sha256=digest.sha256_of(read.body))


def _report(what: str) -> Callable[[Exception], None]:
    return lambda error: logger.warning("%s failed: %s", what, describe(error))


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
