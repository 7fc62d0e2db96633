"""How times are written."""

import pytest

from gateway_addon.times import milliseconds, seconds, timestamp


def test_timestamps_are_utc_with_milliseconds():
    assert timestamp(0.0005) == "1970-01-01T00:00:00.000Z"
    assert timestamp(1_790_000_000.1239) == "2026-09-21T14:13:20.123Z"


def test_and_are_read_again():
    assert seconds("2026-09-21T14:13:20.123Z") == pytest.approx(1_790_000_000.123)
    assert timestamp(seconds("2026-09-21T14:13:20.123Z")) == "2026-09-21T14:13:20.123Z"


def test_durations():
    assert milliseconds(1, 3.5) == 2500
    assert milliseconds(3, 1) == 0  # the clock was set back
