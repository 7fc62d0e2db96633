"""Reading untrusted JSON: each function takes any value and returns one of the type it names, or None."""

from collections.abc import Iterator
from decimal import Decimal

from gateway_addon.api.base import Json
from gateway_addon.wire import jsontext

MAX_COUNT = 2**63 - 1
"""SQLite's largest integer; a count above it is nonsense."""


def text(value: object) -> str | None:
    """A string with something in it; "" counts as absent: some servers write it for what they do not know."""
    return value if isinstance(value, str) and value else None


def count(value: object) -> int | None:
    """A token count: an int, a float without fraction or a numeric string, not negative."""
    if isinstance(value, bool):
        return None
    if isinstance(value, str):
        value = int(value) if value.isascii() and value.isdigit() and len(value) < 20 else None
    elif isinstance(value, float | Decimal):
        # a Decimal NaN cannot even be compared; a huge exponent must not become a huge int
        is_whole = Decimal(value).is_finite() and 0 <= value <= MAX_COUNT and value == int(value)
        value = int(value) if is_whole else None
    return value if isinstance(value, int) and 0 <= value <= MAX_COUNT else None


def mapping(value: object) -> Json:
    """A JSON object, or an empty one."""
    return value if isinstance(value, dict) else {}


def items(value: object) -> list[object]:
    """A JSON array, or an empty one."""
    return value if isinstance(value, list) else []


def objects(value: object) -> Iterator[Json]:
    """The objects in a JSON array; elements of other types are skipped."""
    return (item for item in items(value) if isinstance(item, dict))


def written(value: object) -> str | None:
    """What a model wrote where the format has a text: a string as sent, anything else as compact JSON.

    None for "", null and {}, which say no more than absence does.
    """
    if isinstance(value, str):
        return value or None
    if value is None or value == {}:
        return None
    try:
        return jsontext.dumps(value)
    except ValueError:  # nested too deeply
        return None
