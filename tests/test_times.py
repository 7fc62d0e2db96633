"""How times are written."""

import math

import pytest

from gateway_addon.times import milliseconds, seconds, timestamp


def test_timestamps_are_utc_with_milliseconds():
    assert timestamp(0.0005) == "1970-01-01T00:00:00.000Z"
    assert timestamp(1_790_000_000.1239) == "2026-09-21T14:13:20.123Z"


def test_and_are_read_again():
    assert seconds("2026-09-21T14:13:20.123Z") == pytest.approx(1_790_000_000.123)
    assert timestamp(seconds("2026-09-21T14:13:20.123Z")) == "2026-09-21T14:13:20.123Z"


def test_durations():
    assert milliseconds(2.5) == 2500
    assert milliseconds(0.0) == 0


@pytest.mark.parametrize("seconds", [None, -2.0, -0.0001, 1e9, math.inf, math.nan])
def test_a_duration_that_is_unknown_or_impossible_is_none(seconds):
    assert milliseconds(seconds) is None
