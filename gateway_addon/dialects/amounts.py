"""Amounts of money as they stand on the wire: exact, or refused with the reason."""

from dataclasses import dataclass
from decimal import Decimal, InvalidOperation

from gateway_addon.terms import CostFlag

MAX_USD = Decimal(10_000)
"""More than one call can cost; a larger figure is a mistake of unit or worse."""


@dataclass(slots=True, frozen=True)
class Amount:
    """A reported amount. Both fields are None where nothing was reported."""

    usd: Decimal | None = None
    flag: CostFlag | None = None
    """Why a reported figure is not believed: `invalid_cost` or `implausible_cost`."""


def amount(value: object) -> Amount:
    """Read an amount in USD from a JSON value: a number or a numeric string, finite and not negative.

    `None` counts as not reported; everything else that is no such number is refused: bools, words, and the `NaN` and
    `Infinity` that some servers write.
    """
    if value is None:
        return Amount()
    number = _number(value)
    if number is None or not number.is_finite() or number < 0:
        return Amount(flag="invalid_cost")
    return Amount(number) if number <= MAX_USD else Amount(flag="implausible_cost")


def flags_of(*amounts: Amount) -> tuple[CostFlag, ...]:
    """The flags of the refused ones among `amounts`, without repeats."""
    return tuple(dict.fromkeys(each.flag for each in amounts if each.flag))


def _number(value: object) -> Decimal | None:
    if isinstance(value, bool) or not isinstance(value, int | float | Decimal | str):
        return None
    try:
        # a float's own digits are the shortest ones that name it, not its binary expansion
        return Decimal(str(value) if isinstance(value, float) else value)
    except InvalidOperation:
        return None
