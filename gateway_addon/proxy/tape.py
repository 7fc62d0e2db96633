"""The copy of an answer that is kept for its flow, and when its pieces came."""

MAX_PACE = 4096
"""Entries kept of when an answer's bytes came; beyond that every second one goes."""


class Tape:
    """Takes an answer's pieces as they pass. `limit`: bytes to keep; what is longer is still forwarded and read."""

    def __init__(self, limit: int, max_pace: int = MAX_PACE) -> None:
        self._limit = limit
        self._max_pace = max_pace
        self._pieces: list[bytes] = []
        self._size = 0
        self._pace: list[tuple[float, int]] = []

    @property
    def is_truncated(self) -> bool:
        """There was more than is kept."""
        return self._size > self._limit

    def add(self, data: bytes, at: float) -> None:
        """Keep a piece that came `at` seconds into the call."""
        self._size += len(data)
        if self._size <= self._limit:
            # what is kept is the beginning, without a gap
            self._pieces.append(data)
        self._pace.append((at, self._size))
        if len(self._pace) > self._max_pace:
            del self._pace[:-1:2]

    def joined(self) -> bytes:
        """What was kept."""
        return b"".join(self._pieces)

    def pace(self) -> list[list[int]]:
        """When, in milliseconds into the call, and how many bytes had come by then: for a replay at that pace."""
        return [[int(at * 1000), size] for at, size in self._pace]

    def clear(self) -> None:
        """Forget the pieces; the pace stays."""
        self._pieces.clear()
