"""What a call cost: the provider's bill, else an estimate from a table of list prices, in microdollars.

The table is the package genai-prices. It takes a second to import, so nothing here imports it before it is needed:
a live proxy calls `warm_up` in a thread and prices without the table until that is done.
"""

import re
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import datetime
from decimal import ROUND_HALF_UP, Decimal
from typing import TypedDict

from gateway_addon.api.base import Answer, Pass, Usage
from gateway_addon.dialects.amounts import MAX_USD
from gateway_addon.dialects.base import Bill

MICRODOLLAR = Decimal("0.000001")

FAR_OFF = 3
"""A reported cost this many times above or below the estimate is marked (wire-formats §11.2)."""

TIERS = {
    "flex": {"service_tier": "flex"},
    "priority": {"service_tier": "priority"},
    "fast": {"service_tier": "fast"},
    "batch": {"processing": "batch"},
}
"""The table's words for the service tiers that have prices of their own; any other tier has the list price."""

HOSTS = {"chatgpt.com": "api.openai.com"}
"""Hosts the table does not know, and the host whose prices to take: a ChatGPT login's calls as if they were billed."""

type Entry = tuple[str, str]
"""Where a price stands: the table's name of the provider, and the model's name there."""


def _vercel_entries(model: str) -> list[Entry]:
    # Vercel sells at the vendor's list price under the names that OpenRouter uses; only the vendor's own list tells
    # one-hour cache writes apart
    vendor, _, name = model.partition("/")
    return [(vendor, name), ("openrouter", model)]


ENTRIES: dict[str, Callable[[str], list[Entry]]] = {
    "anthropic": lambda model: [("anthropic", model)],
    "openai": lambda model: [("openai", model)],
    "openrouter": lambda model: [("openrouter", model)],
    "vercel": _vercel_entries,
}
"""By configured provider: the entries to try for a model, the best one first."""


@dataclass(slots=True, frozen=True)
class Price:
    """The cost columns of a row (design 2.4)."""

    cost_microdollars: int | None
    cost_source: str | None
    charged_microdollars: int | None
    is_byok: bool | None
    cost_flags: list[str]
    cache_miss_microdollars: int | None
    """What the call cost more than if its whole input had been read from the cache, by list price."""


class _Place(TypedDict):
    """Where and when a price holds, as `estimate` takes it."""

    provider: str | None
    host: str | None
    started_at: datetime


def microdollars(usd: Decimal) -> int:
    """Millionths of a USD, ties up (wire-formats §11.1). For 0 <= `usd` <= `MAX_USD`."""
    # quantize rounds the exact value once; a product would be rounded to 28 digits before
    return int(usd.quantize(MICRODOLLAR, ROUND_HALF_UP).scaleb(6))


class PriceTable:
    """The table of list prices: a value that is loaded or not. Loading takes up to a second, and is done once."""

    def __init__(self) -> None:
        self._loaded = threading.Event()
        self._lock = threading.Lock()

    @property
    def loaded(self) -> bool:
        return self._loaded.is_set()

    def load(self) -> None:
        """Load the table. Never raises: where it cannot be loaded, `loaded` stays false."""
        with self._lock, suppress(Exception):
            if self.loaded:
                return
            from genai_prices import Usage as Tokens
            from genai_prices import calc_price

            # the first price builds the table's indexes, whether or not the table still knows this model
            with suppress(LookupError):
                calc_price(Tokens(input_tokens=1), "gpt-5", provider_id="openai")
            self._loaded.set()


def estimate(
    answer: Answer, model: str | None, *, provider: str | None, host: str | None, started_at: datetime
) -> Decimal | None:
    """The list price of an answer in USD, including the passes that its usage does not count.

    `provider` is the configured provider's id; where `ENTRIES` does not have it, `host` tells whose prices hold. A
    host the table does not know, such as a server of one's own, has no known price. Neither has an unknown model, nor
    an answer whose counts are not final: what a cut stream cost is not known. None in all these cases, and for counts
    that cannot be true. Loads the table while `ready()` is false. Never raises.

    Not in the table: surcharges by `inference_geo`, code execution, images; not in the counts: searches
    (wire-formats §11.3).
    """
    if not model or not answer.usage_final:
        return None
    context = TIERS.get(answer.service_tier or "", {}) | answer.price_context
    total = Decimal(0)
    for each in (Pass(model, answer.usage), *answer.extra_passes):
        usd = _list_price(each.usage, each.model or model, provider, host, started_at, context)
        if usd is None:
            return None
        total += usd
    return total if total <= MAX_USD else None


def price(
    answer: Answer,
    bill: Bill,
    *,
    model: str | None,
    provider: str | None,
    host: str | None,
    started_at: datetime,
    subscription: bool,
    table: PriceTable,
) -> Price:
    """Put a call's cost together: what was reported, else (unless the bill is final) an estimate, else unknown.

    `model` is the one that answered, where the bill names none; `provider`, `host`, `started_at` as for `estimate`.
    `subscription`: a flat fee pays for the call, its cost is notional. `may_load`: the table may be loaded on the
    spot; otherwise, until it is ready, a cost that only it could tell stays unknown, flagged `price_table_loading`.
    Never raises.
    """
    model = bill.model or model
    has_table = table.loaded or not _has_price_list(provider, host)
    place: _Place = {"provider": provider, "host": host, "started_at": started_at}
    listed = estimate(answer, model, **place) if has_table else None
    miss = None if listed is None else _cache_miss(answer, model, listed, place)
    cost, source = bill.cost, bill.source
    if cost is None:
        cost, source = (None, None) if bill.final or listed is None else (listed, "estimate")
    marks = {
        "price_table_loading": cost is None and not bill.final and not has_table and answer.usage_final,
        "zero_cost": cost == 0 and bool(answer.usage.output_tokens) and not bill.is_byok and not _is_free(model),
        "off_estimate": _is_far_off(cost, listed),
        "cached_exceeds_input": _cached_exceeds_input(answer.usage),
        "subscription": subscription,
    }
    return Price(
        cost_microdollars=None if cost is None else microdollars(cost),
        cost_source=source,
        charged_microdollars=None if bill.charged is None else microdollars(bill.charged),
        is_byok=bill.is_byok,
        cost_flags=[*bill.flags, *(flag for flag, holds in marks.items() if holds)],
        cache_miss_microdollars=None if miss is None else microdollars(miss),
    )


def _cache_miss(answer: Answer, model: str | None, listed: Decimal, place: _Place) -> Decimal | None:
    usage = answer.usage
    if usage.cache_read_tokens is None and usage.cache_write_tokens is None:
        return None  # nothing tells that there is a cache
    hit = replace(usage, cache_read_tokens=usage.input_tokens, cache_write_tokens=0, cache_write_1h_tokens=0)
    cheapest = estimate(replace(answer, usage=hit), model, **place)
    return None if cheapest is None else max(listed - cheapest, Decimal(0))


def _list_price(
    usage: Usage, model: str, provider: str | None, host: str | None, started_at: datetime, context: dict[str, str]
) -> Decimal | None:
    counts = _counts(usage)
    if counts is None:
        return None
    # the table is fed what strangers sent; whatever it makes of that, the call goes on
    with suppress(Exception):
        from genai_prices import Usage as Tokens
        from genai_prices import calc_price

        for price_list, name in _entries(model, provider, host):
            with suppress(LookupError):
                return calc_price(
                    Tokens(**counts),
                    name,
                    provider_id=price_list,
                    genai_request_timestamp=started_at,
                    price_context=context,
                ).total_price
    return None


def _counts(usage: Usage) -> dict[str, int] | None:
    """The usage in the table's words, which refuses subsets larger than the input, as good answers have (trap 51)."""
    if usage.input_tokens is None or usage.output_tokens is None:
        return None
    read = _within(usage.cache_read_tokens, usage.input_tokens)
    write = _within(usage.cache_write_tokens, usage.input_tokens - read)
    return {
        "input_tokens": usage.input_tokens,
        "cache_read_tokens": read,
        "cache_write_tokens": write,
        "cache_write_1h_tokens": _within(usage.cache_write_1h_tokens, write),
        "output_tokens": usage.output_tokens,
    }


def _within(part: int | None, whole: int) -> int:
    return min(max(part or 0, 0), whole)


def _entries(model: str, provider: str | None, host: str | None) -> list[Entry]:
    """Where to look for a model's price. Raises `LookupError` if neither provider nor host is known."""
    if provider in ENTRIES:
        return ENTRIES[provider](model)
    if not _has_price_list(provider, host):
        raise LookupError(host)
    from genai_prices.data_snapshot import get_snapshot

    return [(get_snapshot().find_provider(None, None, f"https://{HOSTS.get(host or '', host)}/").id, model)]


def _has_price_list(provider: str | None, host: str | None) -> bool:
    """False for a server of one's own: an address instead of a name, or a name without a domain."""
    return provider in ENTRIES or (host is not None and re.search(r"[^.:\[]\.[A-Za-z-]{2,}$", host) is not None)


def _is_free(model: str | None) -> bool:
    return model is not None and model.endswith(":free")  # as OpenRouter marks them


def _is_far_off(cost: Decimal | None, listed: Decimal | None) -> bool:
    if not cost or not listed:  # unknown, or free
        return False
    return not listed / FAR_OFF <= cost <= listed * FAR_OFF


def _cached_exceeds_input(usage: Usage) -> bool:
    cached = (usage.cache_read_tokens or 0) + (usage.cache_write_tokens or 0)
    return usage.input_tokens is not None and cached > usage.input_tokens
