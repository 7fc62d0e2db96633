"""The copy of an answer that its flow keeps."""

from gateway_addon.proxy.tape import Tape


def test_it_is_bounded_has_no_gap_and_is_marked():
    tape = Tape(10)
    for piece in (b"12345", b"6789", b"cut", b"1"):
        tape.add(piece, 0.0)
    assert tape.joined() == b"123456789"
    assert tape.is_truncated


def test_what_fits_is_whole():
    tape = Tape(10)
    tape.add(b"1234567890", 0.0)
    assert (tape.joined(), tape.is_truncated) == (b"1234567890", False)


def test_the_pace_counts_from_the_requests_start():
    tape = Tape(10)
    tape.add(b"123", 0.25)
    tape.add(b"45", 1.0)
    assert tape.pace() == [[250, 3], [1000, 5]]


def test_the_pace_stays_short_and_keeps_its_end():
    tape = Tape(10, max_pace=8)
    for i in range(30):
        tape.add(b"123", float(i))
    pace = tape.pace()
    assert len(pace) <= 8
    assert pace[-1] == [29_000, 90]
    assert pace == sorted(pace)
