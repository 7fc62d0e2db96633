"""The bill of a provider that is no gateway: normally none, sometimes a figure of its own (wire-formats §10.4)."""

from collections.abc import Mapping
from decimal import Decimal

from gateway_addon.api.base import Answer
from gateway_addon.api.values import count, mapping
from gateway_addon.dialects.amounts import amount, flags_of
from gateway_addon.dialects.base import Bill

TICKS_PER_USD = 10**10

HIDDEN_MEMBERS = ("x-opencode-type",)
"""How OpenCode Zen marks an event that tells its cost and nothing else."""


def read_bill(answer: Answer, headers: Mapping[str, str]) -> Bill:
    """The first figure found: `usage.cost` (a number, or Perplexity's object with its total), xAI's ticks, LiteLLM's
    header. A figure that is there but refused is final: no estimate takes its place.
    """
    usage = mapping(answer.reported_usage)
    figures = (
        _total(usage.get("cost")),
        _from_ticks(usage.get("cost_in_usd_ticks")),
        _from_header(headers.get("x-litellm-response-cost")),
    )
    cost = amount(next((figure for figure in figures if figure is not None), None))
    return Bill(source="reported", cost=cost.usd, flags=flags_of(cost), final=cost.flag is not None)


def _total(cost: object) -> object:
    """The total of an itemised cost; any other value as it is."""
    return cost["total_cost"] if isinstance(cost, dict) and "total_cost" in cost else cost


def _from_ticks(value: object) -> Decimal | None:
    if value is None:
        return None
    ticks = count(value)
    return Decimal("NaN") if ticks is None else Decimal(ticks) / TICKS_PER_USD


def _from_header(value: str | None) -> Decimal | None:
    # the head of a stream leaves before the cost is known: what LiteLLM then puts there, if anything, is no figure
    return amount(value).usd or None
