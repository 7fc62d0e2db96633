"""Server-sent events as bytes."""

import json

from tests.provider.answer import Json

DONE = b"data: [DONE]\n\n"


def event(data: Json, name: str = "") -> bytes:
    """One event; text stays unescaped UTF-8, as the vendors send it."""
    text = json.dumps(data, ensure_ascii=False, separators=(",", ":"))
    return (f"event: {name}\n" if name else "").encode() + f"data: {text}\n\n".encode()


def typed(data: Json) -> bytes:
    """One event whose name repeats the `type` in its data (Responses, Messages)."""
    return event(data, data["type"])


def keep_alives(count: int) -> list[bytes]:
    return [b": still working on it\n\n"] * count
