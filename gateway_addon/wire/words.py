"""The texts in a request body, one by one, whatever API it is of: what a search goes through."""

import re
from collections.abc import Iterator
from typing import Any, NamedTuple

SILENT = ("type", "role")
"""Members whose value says what a part is, as thousands of parts do."""

ARGUMENTS = ("input", "arguments")
"""Members whose value, if it is an object, is what a tool was called with: one text, as where it is one in JSON."""

IDS = ("id", "call_id")
"""Members that hold a call's id, beside its arguments."""

# base64 and the like, and what stands for a text that is elsewhere (cut.py)
_NO_TEXT = re.compile(r"[A-Za-z0-9+/_=-]{200,}|\x1a[0-9]+")


class Arguments(NamedTuple):
    """What a tool was called with, as an object."""

    call_id: str | None
    value: dict[str, Any]


def texts_in(value: object) -> Iterator[str | Arguments]:
    """The strings in a JSON value, in their order; names of members are none, but for those in arguments."""
    pending: list[tuple[str, object, str | None]] = [("", value, None)]
    while pending:
        match pending.pop():
            case key, str(found), _:
                if key not in SILENT and found.strip() and not _NO_TEXT.fullmatch(found):
                    yield found
            case key, dict(members), call_id if call_id and key in ARGUMENTS and members:
                yield Arguments(call_id, members)
            case _, dict(members), _:
                call_id = next((id_ for name in IDS if isinstance(id_ := members.get(name), str)), None)
                pending.extend((name, member, call_id) for name, member in reversed(members.items()))
            case key, list(values), _:
                pending.extend((key, item, None) for item in reversed(values))
