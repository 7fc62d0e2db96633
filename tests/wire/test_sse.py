"""wire/sse.py: what the standard says, checked against a slow parser that is plainly right, and what it costs."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway_addon.wire.sse import Event, EventParser


def parsed(*chunks: bytes, max_event: int = 10_000) -> list[Event]:
    parser = EventParser(max_event)
    events = [event for chunk in chunks for event in parser.feed(chunk)]
    return events + parser.finish()


def read(*chunks: bytes) -> list[tuple[str, bytes]]:
    """Names and data of the events, without the bytes that hold none."""
    return said(parsed(*chunks))


def said(events: list[Event]) -> list[tuple[str, bytes]]:
    return [(event.name, event.data) for event in events if event.data or event.name]


@pytest.mark.parametrize(
    ("stream", "events"),
    [
        pytest.param(b"", [], id="nothing"),
        pytest.param(b"data: 1\n\ndata: 2\n\n", [("", b"1"), ("", b"2")], id="two events"),
        pytest.param(b"event: ping\ndata: {}\n\n", [("ping", b"{}")], id="name"),
        pytest.param(b"event: a\n\ndata: 1\n\n", [("", b"1")], id="a name without data is forgotten"),
        pytest.param(b"event: a\ndata: 1\n\ndata: 2\n\n", [("a", b"1"), ("", b"2")], id="a name is for one event"),
        pytest.param(b"event: a\nevent: b\ndata: 1\n\n", [("b", b"1")], id="last name"),
        pytest.param(b"data: 1\r\rdata: 2\r\r", [("", b"1"), ("", b"2")], id="CR only"),
        pytest.param(b"data: 1\r\n\r\ndata: 2\r\n\r\n", [("", b"1"), ("", b"2")], id="CRLF"),
        pytest.param(b"data: 1\r\ndata: 2\rdata: 3\n\r\n", [("", b"1\n2\n3")], id="line ends mixed"),
        pytest.param(
            b'data: "\xe2\x80\xa8\xc2\x85\x0b\x0c"\n\n',
            [("", b'"\xe2\x80\xa8\xc2\x85\x0b\x0c"')],
            id="odd separators",
        ),
        pytest.param(b'data: {\ndata: "a": 1}\n\n', [("", b'{\n"a": 1}')], id="two data lines"),
        pytest.param(b"\xef\xbb\xbfdata: 1\n\n", [("", b"1")], id="BOM"),
        pytest.param(b"data: 1\n\n\xef\xbb\xbfdata: 2\n\n", [("", b"1")], id="BOM further on is part of the field"),
        pytest.param(b"data:{}\n\ndata:[DONE]\n\n", [("", b"{}"), ("", b"[DONE]")], id="no space"),
        pytest.param(b"data:  x\n\n", [("", b" x")], id="one space only"),
        pytest.param(b"data: a: b\n\n", [("", b"a: b")], id="first colon"),
        pytest.param(b": OPENROUTER PROCESSING\n\n" * 40 + b"data: 1\n\n", [("", b"1")], id="comments"),
        pytest.param(b"data: 1\n: comment\ndata: 2\n\n", [("", b"1\n2")], id="comment inside"),
        pytest.param(b"data: 1", [("", b"1")], id="no line end"),
        pytest.param(b"data: 1\n", [("", b"1")], id="no blank line"),
        pytest.param(b'data: 1\n\ndata: {"a', [("", b"1"), ("", b'{"a')], id="cut"),
        pytest.param(b"event: data\ndata: [DONE]\n\n", [("data", b"[DONE]")], id="an event name with [DONE]"),
        pytest.param(b"id: 7\nretry: 100\nother: x\ndata: 1\n\n", [("", b"1")], id="other fields"),
        pytest.param(b"data\ndata\n\n", [("", b"\n")], id="field without colon"),
        pytest.param(b"Data: 1\n data: 2\n\n", [], id="names are exact"),
        pytest.param(b"event: \xff\ndata: \xff\n\n", [("�", b"\xff")], id="not UTF-8"),
    ],
)
def test_events(stream: bytes, events: list[tuple[str, bytes]]):
    assert read(stream) == events


def test_data_line_without_value_is_an_event():
    assert parsed(b"data:\n\n") == [Event("", b"", b"data:\n\n")]


def reference(stream: bytes) -> list[tuple[str, bytes]]:
    """The standard's algorithm, word for word, on a stream that is all there; the end counts as a blank line."""
    lines = stream.removeprefix(b"\xef\xbb\xbf").replace(b"\r\n", b"\n").replace(b"\r", b"\n").split(b"\n")
    events, name, data = [], "", []
    for line in [*lines, b""]:
        field, _, value = line.partition(b":")
        value = value.removeprefix(b" ")
        if field == b"data":
            data.append(value)
        elif field == b"event":
            name = value.decode(errors="replace")
        elif line == b"":
            if data:
                events.append((name, b"\n".join(data)))
            name, data = "", []
    return events


PARTS = [
    b"data",
    b"event",
    b":",
    b" ",
    b"\n",
    b"\r",
    b"\r\n",
    b"\n\n",
    b"data: 1",
    b"\xef\xbb\xbf",
    "é".encode(),
    b": c",
]
streams = st.lists(st.sampled_from(PARTS) | st.binary(max_size=3), max_size=30).map(b"".join)


@st.composite
def cut(draw: st.DrawFn, stream: bytes) -> list[bytes]:
    cuts = sorted(draw(st.lists(st.integers(0, len(stream)), max_size=8)))
    return [stream[start:end] for start, end in zip([0, *cuts], [*cuts, len(stream)], strict=True)]


@given(st.data(), streams)
def test_any_split_gives_what_the_standard_says_and_every_byte(data: st.DataObject, stream: bytes):
    events = parsed(*data.draw(cut(stream)))

    # data of nothing is an event to the standard; here it is no different from bytes that hold no event
    assert said(events) == [e for e in reference(stream) if e[1] or e[0]]
    assert b"".join(event.raw for event in events) == stream


def joined(events: list[Event]) -> list[Event]:
    """The events, those in a row that hold none as one: how many they are depends on the pieces."""
    found: list[Event] = []
    for event in events:
        if found and not (event.data or event.name or found[-1].data or found[-1].name):
            found[-1] = Event("", b"", found[-1].raw + event.raw)
        else:
            found.append(event)
    return found


@given(st.data(), streams)
def test_with_plain_line_ends_any_split_gives_the_very_events_that_single_bytes_give(
    data: st.DataObject, stream: bytes
):
    stream = stream.replace(b"\r", b"")
    assert joined(parsed(*data.draw(cut(stream)))) == joined(parsed(*[bytes([byte]) for byte in stream]))


@pytest.mark.parametrize(
    "stream",
    [
        pytest.param('event: a\r\ndata: {"text": "日本"}\r\n\r\n: c\r\ndata: 2\r\n\r\n'.encode(), id="CRLF"),
        pytest.param("\ufeffevent: a\ndata: é\n\ndata: 2\n\n".encode(), id="BOM and letters cut"),
    ],
)
def test_one_byte_at_a_time(stream: bytes):
    assert read(*[bytes([byte]) for byte in stream]) == reference(stream)


def test_event_is_given_with_its_blank_line_not_later():
    parser = EventParser()

    assert parser.feed(b"data: 1\n") == []
    assert parser.feed(b"\n") == [Event("", b"1", b"data: 1\n\n")]


def test_blank_line_ended_by_cr_does_not_wait_for_a_possible_lf():
    parser = EventParser()

    assert parser.feed(b"data: 1\r\n\r") == [Event("", b"1", b"data: 1\r\n\r")]
    assert parser.feed(b"\ndata: 2\r\n\r\n") == [Event("", b"2", b"\ndata: 2\r\n\r\n")]


@pytest.mark.parametrize(
    "chunks",
    [
        pytest.param([b"data: 1\r", b"\ndata: 2\n\n"], id="CRLF cut in two"),
        pytest.param([b"data: 1\r", b"", b"\ndata: 2\n\n"], id="with an empty chunk between"),
        pytest.param([b"data: 1\r", b"\n", b"data: 2\n\n"], id="LF alone"),
    ],
)
def test_crlf_cut_in_two_is_one_line_end(chunks: list[bytes]):
    assert read(*chunks) == [("", b"1\n2")]


def test_comments_do_not_wait_for_an_event():
    parser = EventParser()
    assert parser.feed(b": wait\n\n") == [Event("", b"", b": wait\n\n")]
    assert parser.feed(b": wait\n\n: wa") == [Event("", b"", b": wait\n\n")]
    assert parser.feed(b"it\n\ndata: 1\n\n") == [Event("", b"", b": wait\n\n"), Event("", b"1", b"data: 1\n\n")]


@pytest.mark.parametrize(
    "idle",
    [b"\n", b"\r", b"\r\n", b": \n\n", b":\r\r", b": wait\r\n\r\n", b"x\n\n", b"id: 7\n\n\n", b": a\n: b\n\n\r\n"],
)
def test_a_run_of_what_is_no_event_is_one(idle: bytes):
    run = idle * 2000
    first, last = b"data: 0\n\n", b"data: 1\n\n"
    events = parsed(first + run + last, max_event=10**6)
    assert [event.data for event in events if event.data] == [b"0", b"1"]
    assert len(events) == 3
    assert b"".join(event.raw for event in events) == first + run + last

    pieces = [(first + run + last)[start : start + 100] for start in range(0, len(first + run + last), 100)]
    assert len(parsed(*pieces, max_event=10**6)) <= 2 * len(pieces) + 2


@pytest.mark.parametrize("line", [b"data:\n", b"event: a\n", b":\n", b"data: x\r\n", b"data: x\r"])
def test_an_event_of_too_many_lines_is_passed_on_unread(line: bytes):
    parser = EventParser(max_lines=100)
    stream = b"data: 0\n\n" + b"data: 1\n" + line * 200 + b"\n\ndata: 2\n\n"
    events = [event for start in range(0, len(stream), 64) for event in parser.feed(stream[start : start + 64])]
    assert [event.data for event in events if event.data] == [b"0", b"2"]
    assert parser.skipped == 1
    assert b"".join(event.raw for event in events) == stream


@given(st.data(), st.lists(st.sampled_from([b"data: x\n", b"event: a\n", b"\n", b": comment\n"]), max_size=40))
def test_how_many_lines_are_too_many_does_not_depend_on_the_split(data: st.DataObject, lines: list[bytes]):
    stream = b"".join(lines)
    found = []
    for pieces in ([stream], data.draw(cut(stream))):
        parser = EventParser(max_lines=5)
        events = [event for piece in pieces for event in parser.feed(piece)] + parser.finish()
        found.append(said(events))
        assert b"".join(event.raw for event in events) == stream
    assert found[0] == found[1]


def test_bytes_behind_the_last_event_come_at_the_end():
    assert parsed(b"event: a\ndata: 1\n\nevent: b\n: bye\n\n")[1:] == [Event("", b"", b"event: b\n: bye\n\n")]


def test_nothing_is_left_after_the_end():
    parser = EventParser()
    parser.feed(b"data: 1")

    assert len(parser.finish()) == 1
    assert parser.finish() == []


@pytest.mark.parametrize("size", [pytest.param(size, id=f"in pieces of {size}") for size in (1024, 25_000_000)])
def test_event_of_many_megabytes(size: int):
    stream = b'event: big\ndata: "' + b"x" * 20_000_000 + b'"\n\n'
    parser = EventParser(len(stream))
    events = [event for start in range(0, len(stream), size) for event in parser.feed(stream[start : start + size])]

    assert [(event.name, len(event.data)) for event in events] == [("big", 20_000_002)]
    assert events[0].raw == stream


@pytest.mark.parametrize("size", [1, 7, 40, 1000])
@pytest.mark.parametrize(
    "big",
    [
        pytest.param(b"data: " + b"x" * 100 + b"\n\n", id="one line"),
        pytest.param(b"event: a\n" + b"data: x\n" * 20 + b"\n", id="many lines"),
    ],
)
def test_event_over_the_limit_is_passed_on_unread(size: int, big: bytes):
    stream = b"event: a\ndata: 1\n\n" + big + b"data: 2\n\n"
    parser = EventParser(max_event=60)
    events, given = [], 0
    for start in range(0, len(stream), size):
        events += parser.feed(stream[start : start + size])
        given = sum(len(event.raw) for event in events)
        assert start + size - given <= 60 + size  # held back

    assert said(events) == [("a", b"1"), ("", b"2")]
    assert all(event.name == "" for event in events[1:])
    assert b"".join(event.raw for event in events) == stream


@given(st.data(), st.lists(st.sampled_from([b"data: x\n", b"event: a\n", b"\n", b": comment\n"]), max_size=40))
def test_what_is_over_the_limit_does_not_depend_on_the_split(data: st.DataObject, lines: list[bytes]):
    stream = b"".join(lines)
    whole = said(parsed(stream, max_event=30))
    events = parsed(*data.draw(cut(stream)), max_event=30)

    assert said(events) == whole
    assert b"".join(event.raw for event in events) == stream
