"""A call under way: what is kept of it between its request and its record, whatever it came by."""

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace

from mitmproxy import http

from gateway_addon import reading
from gateway_addon.call import Call
from gateway_addon.content import Content, limited
from gateway_addon.cost import PriceTable
from gateway_addon.masking import Mask
from gateway_addon.outcome import End
from gateway_addon.proxy.log import describe
from gateway_addon.proxy.tape import Tape
from gateway_addon.proxy.veil import Answer
from gateway_addon.reading import Reading
from gateway_addon.record import Record
from gateway_addon.sinks import Sinks
from gateway_addon.wire import digest

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
    now: Callable[[], float] = time.monotonic
    """The clock of `began`; in a file, what the messages of a WebSocket tell."""
    has_failed: bool = field(default=False)
    """A bug of ours in reading the answer has been reported."""

    @property
    def call(self) -> Call:
        return self.reading.call

    def elapsed(self) -> float:
        """Seconds since it began."""
        return self.now() - self.began

    def idle(self) -> float:
        """Seconds since anything was heard of it."""
        heard = self.reading.last_byte
        return self.elapsed() - (self.asked if heard is None else heard)


def recorder(followed: UnderWay) -> Callable[[bytes], bytes | list[bytes]]:
    """The callable the answer's chunks pass through: each leaves at once, whatever happens in here.

    As it came, unless the answer is changed. An empty chunk is the end.
    """

    # looked up once: between two chunks the proxy does other things, and each step here is a cold one
    reading, tape, now, began = followed.reading, followed.tape, followed.now, followed.began

    def record(chunk: bytes) -> bytes | list[bytes]:
        try:
            if chunk:
                at = now() - began
                tape.add(chunk, at)
                instead = reading.receive(chunk, at)
            else:
                instead = reading.end()
            if reading.feed and reading.feed.failure:
                _warn(followed, reading.feed.failure)
        except Exception as error:
            instead = give_up(followed, error)
        return chunk if instead is None else instead

    return record


def give_up(followed: UnderWay, error: Exception) -> list[bytes] | None:
    """Reading failed. Returns what the client gets in the chunk's place; None: the chunk itself."""
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


def finish(
    followed: UnderWay,
    end: End,
    lasted: float | None,
    prices: PriceTable,
    complete: Callable[[], None] = lambda: None,
) -> tuple[Record, Content]:
    """The record and texts of a call that has ended. `complete` brings its reading to what is known of the answer;
    a bug of ours there, or in reading, leaves a record that says little. `lasted`: as in `reading.finish`."""
    try:
        complete()
        return reading.finish(followed.reading, end, lasted, prices)
    except Exception as error:
        logger.warning("%s: reading the answer failed, the row says little: %s", followed.call.id, describe(error))
        return reading.unread(followed.reading, end), Content()


def kept(
    record: Record, content: Content, mask: Mask, mode: str, mask_flow: Callable[[bool], bool]
) -> tuple[Record, Content]:
    """What is kept of a finished call: without the gateway's own secrets, and no more than `mode` lets through
    (`gateway_content`). `mask_flow` masks its flow, told whether one was in the texts, and says if it found any."""
    masked, masked_content = mask.value(record), mask.value(content)
    is_said = masked_content is not content
    if mask_flow(is_said) or is_said or masked is not record:
        record, content = (
            replace(masked, warnings=(*dict.fromkeys((*masked.warnings, "secret_masked")),)),
            masked_content,
        )
        if record.request_sha256 and content.body is not None:
            record.request_sha256 = digest.sha256_of(content.body)
    return limited(record, content, mode)
