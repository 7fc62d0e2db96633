"""When the pieces of a recorded answer came."""

from gateway_addon.api.values import items

MAX_WAIT = 3600
"""Seconds since the request; a recorded time beyond is not believed."""


def schedule(body: bytes, pace: object) -> list[tuple[float, bytes]]:
    """An answer's body in pieces, each with the seconds since the request when it came. `pace`: as under `PACE`.

    What of `pace` makes no sense is skipped; bytes it does not tell of follow the last piece at once.
    """
    pieces: list[tuple[float, bytes]] = []
    sent, seconds = 0, 0.0
    for entry in items(pace):
        match entry:
            case [int() | float() as milliseconds, int() as size] if sent < size and seconds <= milliseconds / 1000:
                seconds = min(milliseconds / 1000, MAX_WAIT)
                pieces.append((seconds, body[sent:size]))
                sent = size
    return [piece for piece in [*pieces, (seconds, body[sent:])] if piece[1]]
