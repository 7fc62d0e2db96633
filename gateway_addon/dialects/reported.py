"""A figure of the provider's own: what one that is no gateway says its answer cost, where it says so."""

from collections.abc import Mapping
from decimal import Decimal

from gateway_addon.api.base import Answer
from gateway_addon.api.values import mapping, whole
from gateway_addon.dialects.amounts import amount, flags_of
from gateway_addon.dialects.base import Bill

TICKS_PER_USD = 10**10
"""xAI counts in these: https://docs.x.ai/docs/key-information/consumption-and-rate-limits"""

TOTALS = ("usd", "total_cost", "total")
"""Where a cost that is an object has its sum in USD: Charm Hyper's, Perplexity's, and others'."""


def is_announced(answer: Answer, headers: Mapping[str, str]) -> bool:
    """Whether a figure stands outside of the usage, which is passed on from another: OpenCode Zen's frames."""
    return answer.own_cost is not None


def is_spoken(answer: Answer) -> bool:
    """A figure alone names no dialect: who answers without a gateway's signs is taken for the kind's own vendor."""
    return False


def has_bill(answer: Answer, headers: Mapping[str, str]) -> bool:
    """Whether a figure stands there that no gateway of the other dialects writes."""
    usage = mapping(answer.reported_usage)
    return (
        _is_itemised(usage.get("cost"))
        or usage.get("cost_in_usd_ticks") is not None
        or _from_header(headers.get("x-litellm-response-cost")) is not None
    )


HIDDEN_MEMBERS = ("x-opencode-type",)
"""How OpenCode Zen marks an event that tells its cost and nothing else."""


def read_bill(answer: Answer, headers: Mapping[str, str]) -> Bill:
    """The first figure found: one outside of the usage, `usage.cost` (a number, or an object with its total), xAI's
    ticks, LiteLLM's header. A figure that is there but refused is final: no estimate takes its place.
    """
    usage = mapping(answer.reported_usage)
    figures = (
        _total(answer.own_cost),
        _total(usage.get("cost")),
        _from_ticks(usage.get("cost_in_usd_ticks")),
        _from_header(headers.get("x-litellm-response-cost")),
    )
    cost = amount(next((figure for figure in figures if figure is not None), None))
    charged = amount(_total(answer.own_charge))
    return Bill(
        source="reported",
        cost=cost.usd,
        charged=charged.usd,
        flags=flags_of(cost, charged),
        final=cost.flag is not None,
    )


def _is_itemised(cost: object) -> bool:
    return isinstance(cost, dict) and any(cost.get(key) is not None for key in TOTALS)


def _total(cost: object) -> object:
    """The total of an itemised cost; any other value as it is."""
    if not isinstance(cost, dict):
        return cost
    return next((cost[key] for key in TOTALS if cost.get(key) is not None), cost)


def _from_ticks(value: object) -> Decimal | None:
    if value is None:
        return None
    ticks = whole(value)
    return Decimal("NaN") if ticks is None else Decimal(ticks) / TICKS_PER_USD


def _from_header(value: str | None) -> Decimal | None:
    # the head of a stream leaves before the cost is known: what LiteLLM then puts there, if anything, is no figure
    return amount(value).usd or None
