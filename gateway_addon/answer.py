"""The bytes of an answer, as received, led to the reader of its kind: decode, tell stream from body, cut into events.

Live streams, whole bodies, files and replays all come through here. No I/O, no clock.
"""

from gateway_addon import api
from gateway_addon.api import errors
from gateway_addon.api.base import Answer, ApiKind, Reader, RequestFacts
from gateway_addon.wire import encodings, jsontext, sse

BATCH = 16 * 1024
"""Bytes. Until the first token every chunk is read at once, so that its time is known; then in batches of this size,
which costs a fraction of the CPU."""

MAX_BODY = 64 * 1024 * 1024
"""Bytes. A longer answer that is not a stream is forwarded but not read."""

_STREAM_STARTS = (b"data:", b"event:", b"id:", b"retry:", b":")


class AnswerFeed:
    """Reads one answer. `answer` is valid, if partial, at every moment; nothing here raises for any bytes.

    `warning` says why reading stopped early, if it did: `response_undecodable`, `response_too_large`, ...
    """

    def __init__(
        self, kind: ApiKind, request: RequestFacts, content_type: str = "", content_encoding: str | None = None
    ) -> None:
        self.streamed: bool | None = None
        self.warning: str | None = None
        self._kind = kind
        self._request = request
        self._reader: Reader = kind.reader(request)
        self._says_stream = content_type.partition(";")[0].strip().lower() == "text/event-stream"
        self._pending: list[bytes] = []
        self._pending_size = 0
        self._events = sse.EventParser()
        self._body = bytearray()
        self._first_object = True
        self._done = False
        try:
            self._decoder: encodings.Decoder | None = encodings.decoder(content_encoding)
        except encodings.DecodeError:
            self.stop("response_undecodable")

    @property
    def answer(self) -> Answer:
        return self._reader.answer

    def feed(self, data: bytes) -> None:
        """Take a piece of the body, still content-encoded, of any length."""
        if self._decoder is None:
            return
        self._pending.append(data)
        self._pending_size += len(data)
        if self._pending_size >= BATCH or not self.answer.started:
            self._read_pending()

    def finish(self, http_status: int | None) -> Answer:
        """Read what is left and return the answer. `http_status` decides how a body that is no answer is read."""
        self._read_pending()
        if self._decoder is not None:
            try:
                self._decoder.finish()
            except encodings.DecodeError:
                self.stop("response_undecodable")
        if self.streamed:
            self._take_events(self._events.finish())
        elif self.warning != "response_too_large":
            self._read_body(bytes(self._body), is_error=(http_status or 0) >= 400)
        return self._reader.finish()

    def stop(self, warning: str) -> None:
        """Read nothing more; what was read stays."""
        self._decoder = None
        self.warning = warning

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
            self.stop("response_undecodable")

    def _take(self, piece: bytes) -> None:
        if self.streamed:
            self._take_events(self._events.feed(piece))
            return
        self._body += piece
        if self.streamed is None:
            self.streamed = self._looks_streamed(self._body)
            if self.streamed:
                piece, self._body = bytes(self._body), bytearray()
                self._take_events(self._events.feed(piece))
        elif len(self._body) > MAX_BODY:
            self._body.clear()
            self.stop("response_too_large")

    def _looks_streamed(self, start: bytearray) -> bool | None:
        """Stream or body? The first bytes decide where the content type is wrong; None while they are blank."""
        text = start.removeprefix(b"\xef\xbb\xbf").lstrip()
        if not text and len(start) < BATCH:
            return None
        if text.startswith((b"{", b"[", b"<")):
            return False
        return self._says_stream or text.startswith(_STREAM_STARTS)

    def _take_events(self, events: list[sse.Event]) -> None:
        for event in events:
            if self._done:
                return
            if event.data.lstrip().startswith(b"[DONE]"):
                # every kind ends with it on some gateway (wire-formats §2.1)
                self._done = True
                self._reader.done()
            elif (data := jsontext.parse_object(event.data)) is not None:
                self._choose_reader(data)
                self._reader.event(data, event.name)

    def _read_body(self, body: bytes, *, is_error: bool) -> None:
        data = jsontext.parse_object(body)
        if data is not None:
            self._choose_reader(data)
            self._reader.body(data)
        answer = self.answer
        if answer.error is None and (is_error or not answer.recognised):
            answer.error = errors.read_error_body(data)
            answer.recognised = answer.recognised or answer.error is not None
        if answer.error is None and (is_error or not answer.recognised):
            # no answer at all: keep what a person could read of it
            answer.error = errors.error_text(body)

    def _choose_reader(self, first: api.Json) -> None:
        """Some servers answer in another kind's format than the path promises: the first object tells."""
        if self._first_object:
            self._first_object = False
            kind = api.kind_of_answer(self._kind, first)
            if kind is not self._kind:
                self._reader = kind.reader(self._request)
