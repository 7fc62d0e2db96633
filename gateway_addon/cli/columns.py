"""The columns that several tables have: how money, counts, times and texts are written, long and short."""

import json
from collections.abc import Callable
from functools import partial

from gateway_addon import terms
from gateway_addon.cli.output import UNKNOWN, moment, plain, usd
from gateway_addon.cli.tables import Column
from gateway_addon.sinks import console
from gateway_addon.store.queries import Row


def _why(row: Row) -> str:
    """Why the cost of a call is unknown, in brackets."""
    why = terms.why_unknown(json.loads(row.get("cost_flags") or "[]")) if row["cost_microdollars"] is None else None
    return plain(f" ({why})") if why else ""


def _cost(row: Row, written: Callable[[int | None], str] = usd) -> str:
    """A cost or a sum of costs: of what is unknown nobody may think that it costs nothing."""
    known, unknown = row["cost_microdollars"], row.get("calls_without_cost") or 0
    if row.get("outcome") == "rejected":
        return UNKNOWN  # it went nowhere
    return written(known) + ("+?" if unknown and known is not None else "")


def _cents(microdollars: int | None) -> str:
    """From a dollar on without its fractions of a cent."""
    return usd(microdollars) if microdollars is None or microdollars < 1_000_000 else f"${microdollars / 1e6:,.2f}"


def money() -> Column:
    return Column(
        heading="cost",
        forms=(lambda row: _cost(row) + _why(row), _cost, lambda row: _cost(row, _cents)),
        rank=0,
        right=True,
        summed=("cost_microdollars", "calls_without_cost"),
    )


def number(key: str, rank: int, heading: str, *, is_summed: bool = True) -> Column:
    """A count: all its digits, or short."""

    def short(row: Row) -> str:
        return UNKNOWN if row[key] is None else console.tokens(row[key])

    def digits(row: Row) -> str:
        return UNKNOWN if row[key] is None else f"{row[key]:,}"

    return Column(heading=heading, forms=(digits, short), rank=rank, right=True, summed=(key,) if is_summed else ())


def percent(key: str, rank: int, heading: str) -> Column:
    def share(row: Row) -> str:
        return UNKNOWN if row[key] is None else f"{100 * row[key]:.0f}%"

    # the share of a sum is not the sum of shares: whoever wants it in the totals puts it there
    return Column(heading=heading, forms=(share,), rank=rank, right=True, summed=(key,))


def words(key: str, rank: int, heading: str, least: int = 12) -> Column:
    """A text that may be cut."""
    return Column(heading=heading, forms=(lambda row: plain(row[key]),), rank=rank, least=least)


def when(key: str, rank: int, heading: str = "time", *shorter: str) -> Column:
    forms = ("%Y-%m-%d %H:%M:%S", *(shorter or ("%m-%d %H:%M",)))
    return Column(heading=heading, forms=tuple(partial(_when, key, form) for form in forms), rank=rank)


def _when(key: str, form: str, row: Row) -> str:
    return moment(row[key], form)


def identity(rank: int = 0) -> Column:
    return Column(heading="id", forms=(lambda row: plain(row["short_id"]),), rank=rank)
