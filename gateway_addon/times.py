"""How times and durations are written."""

from datetime import UTC, datetime

MAX_TIME = 32_503_680_000.0
"""Seconds since the epoch, or milliseconds of a duration: the year 3000, and a year. Beyond it nothing is believed."""


def timestamp(seconds: float) -> str:
    """RFC 3339 in UTC with milliseconds, of seconds since the epoch."""
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def seconds(timestamp: str) -> float:
    """Seconds since the epoch, of what `timestamp` has written. Raises `ValueError` for anything else."""
    return datetime.fromisoformat(timestamp).timestamp()


def milliseconds(seconds: float | None) -> float | None:
    """A duration, given in seconds; None if it is unknown, or impossible (by clocks that were set in between)."""
    return None if seconds is None or not 0 <= seconds * 1000 < MAX_TIME else round(seconds * 1000, 3)
