"""Messages of a WebSocket, each one event's data, as the server-sent events they would be in a stream, and back: so
that whoever reads or changes streams need not know of another way in which events come."""

from collections.abc import Iterable

from gateway_addon.wire import sse

_LINE_ENDS = bytes.maketrans(b"\r\n", b"  ")


def as_event(message: bytes) -> bytes:
    """The event whose data is a message. Line ends in it, which JSON has between its tokens only, become spaces."""
    return b"data: %b\n\n" % message.translate(_LINE_ENDS)


def as_messages(stream: Iterable[bytes]) -> list[bytes]:
    """The messages that whole events stand for; one without data stands for none."""
    parser = sse.EventParser()
    events = [event for piece in stream for event in parser.feed(piece)]
    return [event.data for event in (*events, *parser.finish()) if event.data]
