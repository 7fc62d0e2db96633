"""An answer on its way: bytes as received → decoded → events, parsed once → the reader of their kind, and where the
answer is changed, what the client gets.

Live streams, whole bodies, files and replays all come through here. No I/O, no clock, and nothing raises for any bytes.
`AnswerReader` needs no HTTP around it: whoever has events or a body from elsewhere feeds it directly.
"""

from collections.abc import Callable
from functools import partial

from gateway_addon import api
from gateway_addon.api import errors
from gateway_addon.api.base import Answer, ApiKind, Reader, RequestFacts
from gateway_addon.api.values import objects
from gateway_addon.gateway.answers import AnswerChange, UnreadableError
from gateway_addon.terms import Warning
from gateway_addon.wire import aws_events, encodings, jsontext, sse
from gateway_addon.wire.headers import Headers, media_type

BATCH = 16 * 1024
"""Bytes. Until the first token every chunk is read at once, so that its time is known; then in batches of this size,
which costs a fraction of the CPU."""

FRAMINGS: dict[str, type[sse.EventParser] | type[aws_events.EventParser]] = {
    sse.MEDIA_TYPE: sse.EventParser,
    aws_events.CONTENT_TYPE: aws_events.EventParser,
}
"""How a stream is cut into events, by its media type; where that says nothing, as server-sent events."""

SCANT = 32
"""Bytes. An event with less data, or none, says next to nothing; so does one that is no JSON."""

MAX_SCANT = 2_500
"""Such events after which an answer is read no further: with a few bytes each they would keep a proxy busy."""

IDLE = 200
"""Comments and blank lines that come in one piece and count as one such event."""

MAX_DELTA = 16 * 1024
"""Bytes. What is longer is read in full at once: no more than this is looked at twice."""

MAX_BODY = 64 * 1024 * 1024
"""Bytes. A longer answer that is not a stream is forwarded but not read."""


class AnswerReader:
    """Leads parsed events, or a whole body, to the reader of their kind. `answer` is valid, if partial, at any time."""

    def __init__(self, kind: ApiKind, request: RequestFacts) -> None:
        self._kind = kind
        self._request = request
        self._reader: Reader = kind.reader(request)
        self._first_object = True
        self._done = False

    @property
    def answer(self) -> Answer:
        return self._reader.answer

    def goes_on(self, data: bytes, name: str) -> bool:
        """Take the text of an event, if there is no more to it than a reader sees at once (`api.base.Reader`)."""
        return self._reader.goes_on(data, name)

    def event(self, data: object, name: str = "") -> None:
        """Take the parsed data of an event, and its `event:` name. What is no object, or a list of some, is skipped."""
        for event in objects([data] if isinstance(data, dict) else data):
            self._choose_reader(event)
            error = self.answer.error
            self._reader.event(event, name)
            if self._done:
                # its client has stopped reading, with a whole answer
                self.answer.error = error

    def done(self) -> None:
        """Take the `[DONE]` marker. Gateways send events of their own behind it, which are read as well."""
        if not self._done:
            self._done = True
            self._reader.done()

    def body(self, source: bytes, data: object, *, is_error: bool) -> None:
        """Take a whole body, as text and parsed. `is_error`: by its HTTP status it is no answer."""
        if isinstance(data, dict):
            self._choose_reader(data)
            self._reader.body(data)
        answer = self.answer
        if answer.error is None and (is_error or not answer.recognised):
            answer.error = errors.read_error_body(data)
            answer.recognised = answer.recognised or answer.error is not None
        if answer.error is None and (is_error or not answer.recognised):
            # no answer at all: keep what a person could read of it
            answer.error = errors.error_text(source)

    def finish(self) -> Answer:
        """What was read, complete. Called once, last."""
        answer = self._reader.finish()
        # the marker is no answer by itself, whatever the kind makes of it: the stream was whole, and said nothing
        answer.ended = answer.ended or (self._done and not answer.recognised)
        return answer

    def _choose_reader(self, first: api.Json) -> None:
        """Some servers answer in another kind's format than the path promises: the first object tells."""
        if self._first_object:
            self._first_object = False
            kind = api.kind_of_answer(self._kind, first)
            if kind is not self._kind:
                self._reader = kind.reader(self._request)


class AnswerFeed:
    """The body of one answer as it arrives. With a `change`, `feed` and `end` return what the client gets instead.

    `max_body`: bytes (decoded) beyond which an answer that is no stream is not read.
    """

    def __init__(
        self,
        kind: ApiKind,
        request: RequestFacts,
        http_status: int,
        headers: Headers,
        change: AnswerChange | None = None,
        *,
        max_body: int = MAX_BODY,
    ) -> None:
        self.streamed: bool | None = None
        """Whether it is an event stream; None until that is known."""
        self.warning: Warning | None = None
        """Why reading stopped early, if it did."""
        self.is_withheld = False
        """The answer had to be changed and could not be read: its client gets an error instead, and nothing more."""
        self.failure: Exception | None = None
        """What a reader has raised, which is a bug of ours; an answer that is changed goes on being changed."""
        self._reader = AnswerReader(kind, request)
        self._change = change
        self._max_body = max_body
        self._is_error = http_status >= 400
        self._framing = FRAMINGS.get(media_type(headers))
        self._pending: list[bytes] = []
        self._pending_size = 0
        self._batch = 0
        """Bytes that are waited for, to be read together."""
        self._events = (self._framing or sse.EventParser)()
        self._body = bytearray()
        self._marks = 0
        """In the body so far (`jsontext.count_marks`): counted as it comes, they take no time at its end."""
        self._ended = False
        self._scant = 0
        self._given_up = False
        self._out: list[bytes] = []
        try:
            self._decoder: encodings.Decoder | None = encodings.decoder(headers.joined("content-encoding"))
        except encodings.DecodeError:
            self.stop("response_undecodable")
            if not self.is_withheld:
                # nobody can change it either
                self._change = None
        self.is_changed = self._change is not None
        """Whether the client gets what `feed` and `end` return, not what was received."""

    @property
    def answer(self) -> Answer:
        return self._reader.answer

    def feed(self, data: bytes) -> list[bytes]:
        """Take a piece of the body, still content-encoded, of any length."""
        self._pending.append(data)
        self._pending_size += len(data)
        if self._pending_size >= self._batch:
            self._read_pending()
        return self.passed_on() if self._out else []

    def end(self) -> list[bytes]:
        """The body has ended, or nothing more of it will come: read what is left. May be called again."""
        if not self._ended:
            self._ended = True
            self._read_pending()
            if self._decoder is not None:
                try:
                    self._decoder.finish()
                except encodings.DecodeError:
                    self.stop("response_undecodable")
            if self.streamed:
                self._take_events(self._events.finish())
            elif self.warning != "response_too_large":
                self._take_body(bytes(self._body))
        return self.passed_on()

    def finish(self) -> Answer:
        """Read what is left and return the answer. Called once, last."""
        self.end()
        return self._reader.finish()

    def stop(self, warning: Warning) -> None:
        """Read nothing more; what was read stays. An answer that must not be seen unchanged is withheld."""
        self._decoder = None
        self.warning = warning
        self._withhold()

    def _withhold(self, line_end: bytes = b"") -> None:
        if self._change is None or not self._change.fails_closed or self.is_withheld:
            return
        self.is_withheld = True
        is_stream = self._framing is not None if self.streamed is None else self.streamed
        self._out.append(line_end + (self._change.error_event() if is_stream else self._change.error_body()))

    def _pass_on(self, made: Callable[[AnswerChange], bytes], line_end: bytes = b"") -> None:
        """What the client gets next, if it gets anything else than the bytes as received. `line_end`: what it gets also
        if the rest is withheld."""
        if self._change is None or self.is_withheld:
            return
        try:
            self._out.append(made(self._change))
        except UnreadableError:
            self._withhold(line_end)

    def passed_on(self) -> list[bytes]:
        out, self._out = self._out, []
        return [b"".join(out)] if any(out) else []

    def _read_pending(self) -> None:
        data = b"".join(self._pending)
        self._pending.clear()
        self._pending_size = 0
        if self._decoder is None or not data:
            return
        try:
            for piece in self._decoder.feed(data):
                self._take(piece)
        except encodings.DecodeError:
            # nothing behind the damage can be read by anybody
            self.stop("response_undecodable")
        self._batch = BATCH if self._change is None and self.answer.started else 0

    def _take(self, piece: bytes) -> None:
        if self._given_up:
            self._pass_on(lambda change: piece)
            return
        if self.streamed:
            self._take_stream(piece)
            return
        if self.warning == "response_too_large":
            self._pass_on(lambda change: piece)
            return
        self._body += piece
        self._marks += jsontext.count_marks(piece)
        if self.streamed is None:
            self.streamed = sse.is_stream(self._body, is_labelled=self._framing is not None)
            if self.streamed:
                piece, self._body = bytes(self._body), bytearray()
                self._take_stream(piece)
        elif len(self._body) > self._max_body:
            if self._change is None:
                self.stop("response_too_large")
            else:
                self.warning = "response_too_large"
                self._withhold()
                self._pass_on(lambda change: bytes(self._body))
            self._body.clear()

    def _take_stream(self, data: bytes) -> None:
        for start in range(0, len(data), _SLICE):
            piece = data[start : start + _SLICE]
            if self._given_up:
                self._pass_on(partial(_unchanged, piece))
            else:
                self._take_events(self._events.feed(piece))

    def _take_events(self, events: list[sse.Event]) -> None:
        if isinstance(self._events, aws_events.EventParser):
            # packed so that no text of it can be changed
            self._withhold()
        elif self._events.skipped:
            self.warning = self.warning or "response_too_large"
            self._withhold()
        for number, event in enumerate(events):
            is_read = self._goes_on(event)
            if is_read and self._change is None:
                continue
            data = self._data_of(event)
            if data and not is_read and self.failure is None and self._scant <= MAX_SCANT:
                try:
                    self._reader.event(data, event.name)
                except Exception as error:
                    self._fail(error)
            if self._scant > MAX_SCANT:
                self._give_up(events[number:])
                return
            if self._change:
                self._pass_on(partial(AnswerChange.event, event=event, data=_object(data)), event.line_end)

    def _goes_on(self, event: sse.Event) -> bool:
        """Whether an event has been read already, as it does no more than to go on with a text: nearly all do."""
        if self.failure is not None or not SCANT <= len(event.data) <= MAX_DELTA:
            return False
        try:
            return self._reader.goes_on(event.data, event.name)
        except Exception as error:
            self._fail(error)
            return False

    def _data_of(self, event: sse.Event) -> object:
        """An event's data, parsed; None: there is none to be read. Counts what says next to nothing."""
        data: object = None
        if len(event.data) < SCANT:
            self._scant += _lines(event.raw) // IDLE if _is_idle(event) else 1
        if event.data[:64].lstrip().startswith(b"[DONE]"):
            # every kind ends with it on some gateway
            self._reader.done()
        elif event.data:
            data = self._parsed(event.data)
            if isinstance(data, list):
                self._scant += len(data[1:])
            elif data is None:
                self._scant += 1
        return data

    def _give_up(self, events: list[sse.Event]) -> None:
        """Read nothing more of a stream that says nothing, from these events on."""
        self._given_up = True
        self.warning = "response_too_large"
        self._withhold(events[0].line_end)
        rest = b"".join([event.raw for event in (*events, *self._events.finish())])
        self._pass_on(lambda change: rest)
        if self._change is None:
            self._decoder = None

    def _parsed(self, data: bytes) -> object:
        try:
            jsontext.check_values(data)
        except jsontext.TooManyValuesError:
            self.warning = "response_too_large"
            return None
        return jsontext.parse_any(data)

    def _fail(self, error: Exception) -> None:
        self.failure = error
        self.warning = "reader_failed"

    def _take_body(self, body: bytes) -> None:
        data: object = None
        if self._marks >= jsontext.MAX_VALUES:
            self.warning = "response_too_large"
        else:
            data = jsontext.parse_any(body)
            try:
                self._reader.body(body, data, is_error=self._is_error)
            except Exception as error:
                self._fail(error)
        self._pass_on(partial(AnswerChange.body, source=body, data=_object(data), is_error=self._is_error))


_SLICE = 16 * 1024
"""Bytes of a stream that are cut into events at once: more are read only if these say something."""


def _is_idle(event: sse.Event) -> bool:
    """Whether it is no event at all: blank lines and comments, which keep a connection alive. A message of AWS, which
    begins with NUL, always is one."""
    return not event.data and not event.raw.startswith((b"data", b"event", b"\ndata", b"\nevent", b"\0"))


def _lines(data: bytes) -> int:
    return data.count(b"\n") + data.count(b"\r")


def _unchanged(data: bytes, change: AnswerChange) -> bytes:
    return data


def _object(data: object) -> api.Json | None:
    return data if isinstance(data, dict) else None
