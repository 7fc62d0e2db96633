"""How a request's history reads, as far as the kinds agree: roles, and what stands for parts that are no text."""

import re
from collections.abc import Iterable

from gateway_addon.api.base import Json, ToolResult
from gateway_addon.api.prompts import clean
from gateway_addon.api.values import text
from gateway_addon.terms import Role

ROLES: dict[object, Role] = {
    "system": "system",
    "developer": "system",
    "assistant": "assistant",
    "tool": "tool",
    "function": "tool",
}
"""Who speaks, by the `role` of a message; any other is a user's."""

DATA_FIELDS = ("data", "file_data", "encrypted_content", "signature")
"""Members that hold encoded bytes: their size says enough. So does that of a long word anywhere."""

CONTAINERS = ("base64", "url")
"""Types of a picture's source that say nothing of the picture."""

_DATA_URL = re.compile(r"data:([^;,]{0,100})[^,]{0,100};base64,(.*)", re.DOTALL)
_LONG_WORD = re.compile(r"[^\s]{200,}")


def role_of(message: Json) -> Role:
    role = message.get("role")
    return ROLES.get(role, "user") if isinstance(role, str) else "user"


def note(part: Json) -> str:
    """What stands for a part without text: its type, then the names, addresses and sizes in it."""
    words: list[str] = []
    pending: list[tuple[str, object]] = [("", part)]  # no recursion: how deep it goes is the sender's choice
    while pending:
        match pending.pop():
            case key, str(value) if value and not (key == "type" and value in CONTAINERS):
                words.append(_word(key, value))
            case _, dict(members):
                pending.extend(reversed([(str(key), value) for key, value in members.items()]))
            case key, list(values):
                pending.extend((key, value) for value in reversed(values))
    return clean(", ".join(words)) or "nothing"


def _word(key: str, value: str) -> str:
    if url := _DATA_URL.fullmatch(value):
        return f"{url[1] or 'data'}, {_size(url[2])} bytes"
    if key in DATA_FIELDS or _LONG_WORD.fullmatch(value):
        return f"{_size(value)} bytes"
    return value


def _size(base64: str) -> int:
    return len(base64.rstrip("=")) * 3 // 4


def with_notes(result: ToolResult, parts: Iterable[Json]) -> ToolResult:
    """A result whose content also names its parts that are no text."""
    notes = [f"[{note(part)}]" for part in parts]
    result.content = "\n".join(filter(None, [result.content, *notes]))
    return result


def words(value: object) -> str | None:
    """A text with something in it, fit for reading; None for anything else."""
    return clean(text(value) or "") or None
