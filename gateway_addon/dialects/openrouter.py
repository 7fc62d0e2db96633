"""OpenRouter: the bill is in `usage`, only a fee where the caller brings a key.

https://openrouter.ai/docs/guides/administration/usage-accounting
"""

from collections.abc import Mapping
from decimal import Decimal

from gateway_addon.api.base import Answer
from gateway_addon.api.values import mapping
from gateway_addon.dialects.amounts import Amount, amount, flags_of
from gateway_addon.dialects.base import Bill
from gateway_addon.terms import CostFlag

NAME = "openrouter"
SENDS_USAGE = True
IS_STRICT = False
TAKES_WEBSOCKETS = False
BETA_HEADERS = ("anthropic-beta", "x-anthropic-beta")
PROVIDERS = {
    "openrouter": {
        "api_url": "https://openrouter.ai/api/v1",
        "api_kinds": ["chat_completions", "responses", "messages"],
        "dialect": NAME,
        "api_key_env": "OPENROUTER_API_KEY",
    }
}
HIDDEN_MEMBERS = ("openrouter_metadata",)

FEE_FACTOR = 20
"""For a call on the caller's own key ("BYOK") OpenRouter charges 5 % of the upstream price, or waives it."""
TOLERANCE = Decimal("0.0000011")
"""USD that rounding may put between the fee times `FEE_FACTOR` and the upstream price."""


def is_spoken(answer: Answer) -> bool:
    """Whether an answer from an unknown provider reads like OpenRouter's: `usage.cost` is a number."""
    cost = mapping(answer.reported_usage).get("cost")
    return isinstance(cost, int | float | Decimal) and not isinstance(cost, bool)


def has_bill(answer: Answer, headers: Mapping[str, str]) -> bool:
    """Whether the fields stand in `usage` that only OpenRouter writes beside its cost."""
    usage = mapping(answer.reported_usage)
    return isinstance(usage.get("is_byok"), bool) or any(
        key.startswith("upstream_inference_") for key in mapping(usage.get("cost_details"))
    )


def read_bill(answer: Answer, headers: Mapping[str, str]) -> Bill:
    """BYOK: the price is what the upstream charges the caller's key, `usage.cost` only the fee. Else it is the cost.

    The two are never added: without BYOK the upstream price is part of the cost.
    """
    usage = mapping(answer.reported_usage)
    is_byok = usage.get("is_byok")
    if not isinstance(is_byok, bool):
        is_byok = None
    charged = amount(usage.get("cost"))
    upstream = amount(mapping(usage.get("cost_details")).get("upstream_inference_cost"))
    cost = upstream if is_byok else charged
    doubts = _DOUBTS[is_byok](charged, upstream)
    return Bill(
        source="openrouter",
        cost=cost.usd,
        charged=charged.usd,
        is_byok=is_byok,
        flags=(*flags_of(charged, cost), *doubts),
        final=cost.flag is not None or "byok_no_upstream" in doubts,
    )


def key_headers(kind: str, key: str) -> dict[str, str]:
    """OpenRouter takes a bearer token for every kind, Messages included."""
    return {"authorization": f"Bearer {key}"}


def _doubts_with_byok(fee: Amount, upstream: Amount) -> list[CostFlag]:
    if upstream == Amount():
        return ["byok_no_upstream"]
    # Nothing but this ratio tells the two figures apart. Once the fee rule changes, or the figures are swapped, every
    # price would be wrong by up to a factor of 20, and silently. A fee of 0 was waived and proves nothing.
    if fee.usd and upstream.usd is not None and abs(fee.usd * FEE_FACTOR - upstream.usd) > TOLERANCE:
        return ["byok_mismatch"]
    return []


def _doubts_without_byok(cost: Amount, upstream: Amount) -> list[CostFlag]:
    # usual with server tools, which the cost includes
    return ["upstream_unexpected"] if upstream.usd and cost.usd is not None and upstream.usd != cost.usd else []


def _doubts_if_unknown(cost: Amount, upstream: Amount) -> list[CostFlag]:
    # the cost may be the whole price or only the fee
    return ["byok_unknown"] if cost.usd or upstream.usd else []


_DOUBTS = {True: _doubts_with_byok, False: _doubts_without_byok, None: _doubts_if_unknown}
