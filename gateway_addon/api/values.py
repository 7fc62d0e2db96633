"""Reading untrusted JSON: each function takes any value and returns one of the type it names, or None."""

from collections.abc import Iterator
from decimal import Decimal

from gateway_addon.api.base import Json
from gateway_addon.wire import jsontext

MAX_COUNT = 10**12
"""More tokens than any call has; a count above it is nonsense, and a sum of such could be more than SQLite holds."""

MAX_WHOLE = 2**63 - 1
"""SQLite's largest integer."""


def text(value: object) -> str | None:
    """A string with something in it; "" counts as absent: some servers write it for what they do not know."""
    return value if isinstance(value, str) and value else None


def count(value: object) -> int | None:
    """A count of tokens or the like: a whole number that is plausible (`MAX_COUNT`)."""
    number = whole(value)
    return None if number is None or number > MAX_COUNT else number


def is_implausible(value: object) -> bool:
    """Whether a value is a number, or a numeric string, above `MAX_COUNT`."""
    if isinstance(value, bool):
        return False
    if isinstance(value, str):
        digits = value.lstrip("0")
        return digits.isascii() and digits.isdigit() and (len(digits) >= 20 or int(digits) > MAX_COUNT)
    if isinstance(value, float | Decimal):
        return not Decimal(value).is_nan() and value > MAX_COUNT
    return isinstance(value, int) and value > MAX_COUNT


def whole(value: object) -> int | None:
    """An int, a float without fraction or a numeric string, not negative, that SQLite can hold."""
    if isinstance(value, bool):
        return None
    if isinstance(value, str):
        value = int(value) if value.isascii() and value.isdigit() and len(value) < 20 else None
    elif isinstance(value, float | Decimal):
        # a Decimal NaN cannot even be compared; a huge exponent must not become a huge int
        is_whole = Decimal(value).is_finite() and 0 <= value <= MAX_WHOLE and value == int(value)
        value = int(value) if is_whole else None
    return value if isinstance(value, int) and 0 <= value <= MAX_WHOLE else None


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
