"""Responses over a WebSocket: one flow, many calls. Each `response.create` of the client's begins one, what answers it
is led to the same readers as the events of a stream, and its record is made when it has ended.

Live and from a file the messages come one by one through the same hook. What is written into one is what mitmproxy
sends when the hook has returned; what is kept of it (as its sender sent it, but for secrets of the gateway's) is put
back when the next one comes.
"""

import asyncio
import logging
import sys
import time
from collections import Counter, deque
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, replace
from typing import Protocol

from mitmproxy import ctx, http
from mitmproxy.proxy.layers.websocket import Fragmentizer
from mitmproxy.websocket import WebSocketMessage

from gateway_addon.api import turns
from gateway_addon.api.base import Refusal
from gateway_addon.call import Call, Head, Passage, Request, read_request
from gateway_addon.captures import notes
from gateway_addon.captures.notes import Notes
from gateway_addon.config import Settings
from gateway_addon.gateway.answers import AnswerChange
from gateway_addon.gateway.replies import INTERNAL_ERROR
from gateway_addon.masking import Mask
from gateway_addon.outcome import CLEAN, End
from gateway_addon.proxy import flows
from gateway_addon.proxy.log import describe
from gateway_addon.proxy.under_way import UnderWay, recorder
from gateway_addon.record import Record
from gateway_addon.wire import frames, sse
from gateway_addon.wire.elements import Memory
from gateway_addon.wire.headers import Headers

logger = logging.getLogger(__name__)


@dataclass(slots=True, frozen=True)
class Decision:
    """What becomes of a turn."""

    passage: Passage
    sent: bytes | None = None
    """What is sent in place of the client's message; None: the message itself."""
    refusal: Refusal | None = None
    """Why it is not sent."""


class Way(Protocol):
    """Where the turns of a connection go."""

    @property
    def head(self) -> Head:
        """The upgrade's, as the client sent it."""

    @property
    def fails_closed(self) -> bool:
        """Whether what could not be dealt with must not be sent."""

    def is_doubtful(self, request: Request) -> bool:
        """Whether a message that seems to begin no turn may begin one all the same."""

    def decide(self, request: Request, noted: Notes, settings: Settings) -> Decision:
        """What becomes of a turn. `noted`: what an earlier run has left of it in a saved flow."""


class Calls(Protocol):
    """Who opens and closes calls (`proxy.calls`)."""

    @property
    def settings(self) -> Settings: ...

    @property
    def mask(self) -> Mask: ...

    @property
    def memory(self) -> Memory: ...

    def turn_of(self, flow: http.HTTPFlow, id: str, started: float, request: Request, passage: Passage) -> Call:
        """The call that a turn is. Any thread may ask."""

    def begin_turn(self, flow: http.HTTPFlow, call: Call) -> UnderWay:
        """Open it."""

    def end_turn(
        self, followed: UnderWay, end: End, lasted: float, noted: Notes, *, is_masked: bool
    ) -> tuple[Record, str]:
        """Make its record. Returns that, and a line about it. `is_masked`: a secret was found in its messages."""

    def is_long(self, body: bytes) -> bool:
        """Whether a body is better read in a thread."""


class Observed:
    """The way of a connection, live or saved, that the gateway has no hand in (any more)."""

    fails_closed = False

    def __init__(self, flow: http.HTTPFlow, settings: Settings) -> None:
        there = flow.request
        self.head = flows.head_of(there) if flow.live else flows.client_head(flow)
        self._flow = flow
        self._provider = settings.provider_of_host(there.host, there.port, there.path)

    def is_doubtful(self, request: Request) -> bool:
        return False

    def decide(self, request: Request, noted: Notes, settings: Settings) -> Decision:
        return Decision(flows.observed_turn(self._flow, request, noted, self._provider))


@dataclass(slots=True, frozen=True)
class Asked:
    """A turn that a client has begun."""

    name: str
    """What its row's id has behind the flow's."""
    request: Request
    noted: Notes
    started: float
    """Seconds since the epoch."""


@dataclass(slots=True, eq=False)
class Turn:
    """A turn under way."""

    name: str
    """What its row's id has behind the flow's."""
    followed: UnderWay
    noted: Notes
    stream_id: str | None
    record: Callable[[bytes], bytes | list[bytes]]
    """Leads an event to the reader, and returns what the client gets (`under_way.recorder`)."""
    has_begun: bool = False
    """Its answer has been named."""
    response_id: str | None = None
    """How."""
    is_ending: bool = False
    """An error has come in its answer, of which more may follow."""
    is_masked: bool = False
    latest: float = 0.0
    """When the last message of it came, in seconds since it began."""

    @property
    def is_refused(self) -> bool:
        return self.followed.call.passage.destination is None


class Kept:
    """Which messages of a connection stay in its flow: those of the latest whole turns, up to so many bytes."""

    def __init__(self, limit: int, left_out: int = 0) -> None:
        self.left_out = left_out
        """How many turns have no messages there."""
        self._limit = limit
        self._begins: deque[tuple[int, int]] = deque()
        """Of each turn that is kept, how many messages and bytes had come before it."""
        self._count = self._size = 0
        self._gone = self._gone_size = 0

    def add(self, size: int, *, begins: bool) -> None:
        """A message has come."""
        if begins:
            self._begins.append((self._count, self._size))
        self._count += 1
        self._size += size

    def trim[T](self, messages: list[T]) -> bool:
        """Take out what is too much; all but the last message have been counted. Returns whether turns have gone."""
        before = self.left_out
        until = self._gone, self._gone_size
        while self._begins and self._size - until[1] > self._limit:
            self._begins.popleft()
            self.left_out += 1
            until = self._begins[0] if self._begins else (self._count, self._size)
        if self.left_out and not self._begins:
            # the rest of a turn whose beginning has gone
            until = self._count, self._size
        del messages[: until[0] - self._gone]
        self._gone, self._gone_size = until
        return self.left_out > before


class Connection:
    """A WebSocket with turns. `limit`: bytes of its messages that its flow keeps."""

    def __init__(self, flow: http.HTTPFlow, way: Way, calls: Calls, limit: int) -> None:
        response = flow.response
        assert response
        self._flow = flow
        self._way = way
        self._calls = calls
        self._is_live = flow.live
        self._noted = notes.turns(flow)
        left_out = notes.left_out(flow)
        notes.begin_turns(flow, left_out)
        self._number = left_out
        self._successors: Counter[str] = Counter()
        self._kept = Kept(limit if flow.live else sys.maxsize, left_out)
        self._open: list[Turn] = []
        self._latest: dict[str | None, Turn] = {}
        """By stream, the last turn that was sent; the latest of all is the last."""
        self._steering: list[Request] = []
        self._hidden: list[AnswerChange] = []
        """What no client may see of any turn so far."""
        self._put_back: tuple[WebSocketMessage, bytes] | None = None
        self._comment = ""
        self._clock = flow.request.timestamp_start
        self._heard = time.monotonic()
        self._status = response.status_code
        headers = flows.headers_of(response).without(("content-type", "content-encoding"))
        self._headers = Headers([("content-type", sse.MEDIA_TYPE), *headers.items()])

    @property
    def has_turns(self) -> bool:
        """Whether a call has been made on it."""
        return self._number > 0

    def under_way(self) -> Iterator[UnderWay]:
        """The calls under way."""
        return (turn.followed for turn in self._open)

    def message(self) -> Awaitable[None] | None:
        """A message has come, the flow's last. mitmproxy waits for what is returned before it sends it."""
        message = self._next()
        try:
            if not message.from_client:
                self._take_answer(message)
            elif self._is_live and self._calls.is_long(message.content):
                return self._take_long(message)
            elif self._way.fails_closed or message.dropped or turns.may_ask(message.content):
                self._take_request(message, self._read(message.content))
            else:
                self._kept.add(len(message.content), begins=False)
        except Exception as error:
            self._fail(message, error)
        return None

    def close(self, end: End | None = None) -> None:
        """The connection has ended, or `end`: the proxy ends."""
        socket = self._flow.websocket
        if socket and socket.messages:
            self._settle(socket.messages)
        if socket and socket.timestamp_end:
            self._clock = socket.timestamp_end
        idle = time.monotonic() - self._heard
        for turn in list(self._open):
            # its error has come, and nothing more
            how = CLEAN if turn.is_ending else end
            self._end(turn, how or flows.end_of_turn(self._flow, turn.noted, is_live=self._is_live, idle=idle))

    def _next(self) -> WebSocketMessage:
        """The message that has come; those before it have been sent."""
        assert self._flow.websocket
        messages = self._flow.websocket.messages
        message = messages[-1]
        self._settle(messages)
        self._clock, self._heard = message.timestamp, time.monotonic()
        self._put_back = message, self._calls.mask.data(message.content)
        return message

    def _settle(self, messages: list[WebSocketMessage]) -> None:
        """The last message that was looked at has been sent: what is kept of it takes the place of what was sent."""
        if self._put_back:
            message, content = self._put_back
            message.content = content
            self._put_back = None
        if self._kept.trim(messages):
            notes.leave_out(self._flow, self._kept.left_out)

    def _read(self, content: bytes) -> Request:
        head = self._way.head
        request = read_request("POST", head.path, Headers(), content, self._calls.memory)
        return replace(request, headers=turns.headers_of(head.headers, request.json))

    # -- what the client sends -----------------------------------------------------------------------------------

    async def _take_long(self, message: WebSocketMessage) -> None:
        """`_take_request`, with all that takes long in a thread."""
        try:
            request = await asyncio.to_thread(self._read, message.content)
            if asked := self._asked(message, request):
                self._follow(message, asked, *await asyncio.to_thread(self._decide, asked))
        except Exception as error:
            self._fail(message, error)

    def _take_request(self, message: WebSocketMessage, request: Request) -> None:
        if asked := self._asked(message, request):
            self._follow(message, asked, *self._decide(asked))

    def _asked(self, message: WebSocketMessage, request: Request) -> Asked | None:
        """The turn that a message of the client's begins, if it does."""
        noted = self._noted.get(str(self._number + 1), Notes())
        was_refused = message.dropped and noted.outcome == "rejected"
        begins = turns.creates(request.json) or self._way.is_doubtful(request) or was_refused
        self._kept.add(len(message.content), begins=begins)
        if not begins:
            if turns.steers(request.json):
                self._steering.append(request)
            return None
        self._number += 1
        for turn in [turn for turn in self._open if turn.is_ending]:
            self._end(turn, CLEAN)
        if message.dropped and not was_refused:
            # by somebody else, before us: nobody was asked
            return None
        return Asked(str(self._number), request, noted, message.timestamp)

    def _decide(self, asked: Asked) -> tuple[Decision, Call]:
        """What becomes of a turn. Changes nothing, so that it may be done in a thread."""
        decision = self._way.decide(asked.request, asked.noted, self._calls.settings)
        return decision, self._call(asked, decision.passage)

    def _call(self, asked: Asked, passage: Passage) -> Call:
        id = f"{flows.row_id(self._flow)}/{asked.name}"
        return self._calls.turn_of(self._flow, id, asked.started, asked.request, passage)

    def _follow(self, message: WebSocketMessage, asked: Asked, decision: Decision, call: Call) -> None:
        turn = self._begin(asked, call)
        if decision.refusal:
            message.drop()
            self._tell(turns.error_message(decision.refusal, turn.stream_id))
        elif decision.sent is not None:
            _rewrite(message, decision.sent)

    def _begin(self, asked: Asked, call: Call) -> Turn:
        followed = self._calls.begin_turn(self._flow, call)
        if not self._is_live:
            followed.began, followed.now = asked.started, lambda: self._clock
        followed.reading.start(self._status, self._headers)
        turn = Turn(asked.name, followed, asked.noted, turns.stream_of(asked.request.json), recorder(followed))
        turn.is_masked = self._is_masked
        self._open.append(turn)
        if not turn.is_refused:
            self._latest.pop(turn.stream_id, None)
            self._latest[turn.stream_id] = turn
        change = call.passage.change
        if change and change.fails_closed and change not in self._hidden:
            self._hidden.append(change)
        return turn

    def _tell(self, message: bytes) -> None:
        """Send the client a message of our own. It comes by as one that was injected."""
        ctx.master.commands.call("inject.websocket", self._flow, True, message, True)

    # -- what the server sends -----------------------------------------------------------------------------------

    def _take_answer(self, message: WebSocketMessage) -> None:
        content = message.content
        said = turns.read_message(content)
        self._kept.add(len(content), begins=False)
        # what is answered here is told from what comes from there
        turn = turns.turn_of(said, [turn for turn in self._open if turn.is_refused == message.injected])
        if turn is None and said.begins and not message.injected:
            turn = self._go_on(message, said.stream_id)
        if turn is None:
            if self._must_hide(message):
                message.drop()
            return
        turn.latest = turn.followed.elapsed()
        if said.begins:
            turn.has_begun, turn.response_id = True, said.response_id
        turn.is_masked = turn.is_masked or self._is_masked
        event = frames.as_event(content)
        given = turn.record(event)
        turn.followed.reading.size += len(content) - len(event)
        if isinstance(given, list):
            self._give(message, frames.as_messages(given))
        if said.ends_turn(has_begun=turn.has_begun):
            self._end(turn, CLEAN)
        elif said.fails:
            turn.is_ending = True

    def _give(self, message: WebSocketMessage, instead: list[bytes]) -> None:
        """Have the client get other messages in place of one."""
        if not instead:
            message.drop()
            return
        _rewrite(message, instead[0])
        for other in instead[1:]:
            self._tell(other)

    def _must_hide(self, message: WebSocketMessage) -> bool:
        """Whether a message that belongs to no turn may tell what a free model is, or costs."""
        if not self._hidden or message.injected:
            return False
        return b'"usage"' in message.content or any(change.is_named_in(message.content) for change in self._hidden)

    def _go_on(self, message: WebSocketMessage, stream_id: str | None) -> Turn | None:
        """The server goes on by itself where a client has steered an answer: a call that no `response.create` began.

        On a way that fails closed any answer that nobody asked for is taken for one that goes on.
        """
        latest = self._latest.get(stream_id) or next(reversed(self._latest.values()), None)
        if latest is None:
            return None
        number = latest.name.partition(".")[0]
        name = f"{number}.{self._successors[number] + 1}"
        steering = self._take_steering(stream_id)
        if steering is None and not self._way.fails_closed and name not in self._noted:
            return None
        before = latest.followed.call
        self._successors[number] += 1
        steering = steering or before.request
        passage = replace(before.passage, model=before.facts.model, rewrites=())
        asked = Asked(name, steering, self._noted.get(name, Notes()), message.timestamp)
        return self._begin(asked, self._call(asked, passage))

    def _take_steering(self, stream_id: str | None) -> Request | None:
        """The first message that has steered this stream, or else any, and was not answered yet."""
        found = [one for one in self._steering if turns.stream_of(one.json) == stream_id] or self._steering
        if not found:
            return None
        self._steering = [one for one in self._steering if one is not found[0]]
        return found[0]

    # -- ends ----------------------------------------------------------------------------------------------------

    def _end(self, turn: Turn, end: End) -> None:
        self._open.remove(turn)
        lasted = turn.latest if turn.is_ending else turn.followed.elapsed()
        how = End("rejected") if turn.is_refused else end
        record, line = self._calls.end_turn(turn.followed, how, lasted, turn.noted, is_masked=turn.is_masked)
        if int(turn.name.partition(".")[0]) > self._kept.left_out:
            notes.leave_turn(self._flow, record)
        if self._flow.comment in ("", self._comment):
            self._comment = line if self._number == 1 else f"{self._number} turns · {line}"
            self._flow.comment = self._comment

    def _fail(self, message: WebSocketMessage, error: Exception) -> None:
        """A bug of ours: the message goes on as it came, unless that is what must not be."""
        logger.warning("%s: a message of a WebSocket is only passed on: %s", self._flow.id, describe(error))
        if message.from_client and self._way.fails_closed:
            message.drop()
            self._tell(turns.error_message(INTERNAL_ERROR, None))
        elif any(turn.followed.reading.is_changed for turn in self._open):
            message.drop()

    @property
    def _is_masked(self) -> bool:
        """Whether a secret is in the message that has come."""
        return self._put_back is not None and self._put_back[0].content is not self._put_back[1]


def _rewrite(message: WebSocketMessage, content: bytes) -> None:
    """Have mitmproxy send something else, in one frame: it would cut what has another length than what came into pieces
    of 4,000 bytes, and a character in two, and some servers take no pieces. It names this constant for that."""
    Fragmentizer.FRAGMENT_SIZE = sys.maxsize
    message.content = content
