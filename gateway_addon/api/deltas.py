"""The commonest events of a stream, which do no more than to go on with a text: read without a look at anything else.

A kind describes its own as classes, with all members that such an event may have. An event with any other member, or a
value of another type, is none of them and takes the full road.
"""

from collections.abc import Callable
from typing import Any

import msgspec

from gateway_addon.api.base import Json

Silent = Any
"""The type of a member that nobody reads."""

_UNFIT = (msgspec.MsgspecError, ValueError, RecursionError)
"""What is raised for what has another shape, is no JSON or no UTF-8, or is nested too deeply."""


class Delta(msgspec.Struct, forbid_unknown_fields=True, gc=False):
    """An event, or an object in one."""


def decoder[D: Delta](shape: type[D]) -> Callable[[bytes], D | None]:
    """Reads the JSON text of an event; None: it has another shape, or cannot be read."""
    decode = msgspec.json.Decoder(shape).decode

    def read(data: bytes) -> D | None:
        try:
            return decode(data)
        except _UNFIT:
            return None

    return read


def delta_of[D: Delta](shape: type[D], event: Json) -> D | None:
    """The same of a parsed event."""
    try:
        return msgspec.convert(event, shape)
    except _UNFIT:
        return None
