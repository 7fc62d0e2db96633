"""What a call cost: the provider's bill, else an estimate from a table of list prices, in microdollars.

The table is the package genai-prices. It takes a while to import, so nothing here imports it before `PriceTable.load`,
which the proxy calls before it listens.
"""

import re
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import datetime
from decimal import ROUND_HALF_UP, Decimal
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from gateway_addon.api.base import Answer, Pass, Usage
from gateway_addon.dialects.amounts import MAX_USD
from gateway_addon.dialects.base import Bill
from gateway_addon.terms import CostFlag, CostSource, Unpriced

if TYPE_CHECKING:
    from genai_prices.data_snapshot import DataSnapshot
    from genai_prices.types import ModelInfo

MICRODOLLAR = Decimal("0.000001")

FAR_OFF = 3
"""A reported cost this many times above or below the estimate is marked."""

ORDINARY = {
    "service_tier": ("auto", "default", "on_demand", "standard"),  # `on_demand` is Groq's
    "speed": ("standard",),
    "inference_geo": ("global", "not_available"),
    "completion_window": ("soonest",),
    "latency": ("standard",),
}
"""By price modifier: the values at which the list price holds as it is."""

TABLE_WORDS = {("service_tier", "batch"): ("processing", "batch")}
"""Modifiers that the table calls otherwise."""

FREE = dict.fromkeys(
    (
        "input_mtok",
        "cache_read_mtok",
        "cache_write_mtok",
        "cache_write_1h_mtok",
        "input_audio_mtok",
        "output_mtok",
        "output_audio_mtok",
    ),
    Decimal(0),
)
"""The prices of a model whose tokens are free. Fees are not."""

HOSTS = {
    r"chatgpt\.com": "openai",  # a ChatGPT login's calls, as if they were billed
    r"[a-z]{2}\.api\.openai\.com": "openai",
    r"api\.(individual|business|enterprise)\.githubcopilot\.com": "github-copilot",
    r"copilot-api\.[^.]+\.ghe\.com": "github-copilot",
    r"ai-gateway\.vercel\.sh": "vercel",
}
"""Hosts that the table does not know, and whose list holds there."""

REGIONS = {
    # https://developers.openai.com/api/docs/guides/data-residency: 10 % more for models since March 2026 (GPT-5.4)
    r"[a-z]{2}\.api\.openai\.com": r"gpt-(3|4|5(\.[1-3])?(?![.\d]))|o\d",
    # https://cloud.google.com/vertex-ai/generative-ai/pricing: 10 % more for Claude 4.5 or later
    r"[a-z]+-[a-z]+\d+-aiplatform\.googleapis\.com|aiplatform\.(us|eu)\.rep\.googleapis\.com": (
        r"(?!claude)|claude-(3|(opus|sonnet)-4(-1|-2025|@|$))"
    ),
}
"""Hosts that serve from one region, and the models that cost there what the list says; the others cost more."""

BEDROCK = re.compile(r"bedrock-runtime\.[a-z0-9-]+\.amazonaws\.com")
"""Where the id that is asked for tells what is billed, an inference profile of a region or of the whole world: the
answer names the model only. Of an ARN that is the last part; one that the account has made for itself tells nothing."""

VARIANTS = (":exacto", ":floor", ":nitro", ":online", ":thinking")
"""What a model's id may end in to say how it is to be routed or run; it has a price of its own only where it is listed.

Source: https://openrouter.ai/docs/guides/routing/model-variants
"""

VENDORS = {"meta-llama": "meta", "models": "google", "z-ai": "zai"}
"""The table's names of vendors, where the ids of models begin with another one."""

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


class NoPrice(Exception):
    """Why an answer has no list price: `flags`, for the column `cost_flags`."""

    def __init__(self, *flags: CostFlag) -> None:
        super().__init__(*flags)
        self.flags = flags


def unpriced(names: Iterable[str]) -> tuple[Unpriced, ...]:
    """The flags that say of these units or modifiers that the list has no price for them."""
    # a unit may be named by the answer, which may name anything
    return tuple(Unpriced(f"unpriced:{re.sub(r'\W', '_', name)[:40]}") for name in names)


@dataclass(slots=True, frozen=True)
class Seller:
    """Whose prices hold, where and when."""

    provider: str | None
    """The configured provider's id; where `ENTRIES` does not have it, the host tells."""
    host: str | None
    started_at: datetime

    @property
    def list_name(self) -> str | None:
        """A key of `ENTRIES`, or the table's name of a provider, where either is known without the table."""
        if self.provider in ENTRIES:
            return self.provider
        return _name_at(self.host or "")

    @property
    def may_have_a_list(self) -> bool:
        """False for a server of one's own: an address instead of a name, or a name without a domain."""
        return self.list_name is not None or _IN_A_DOMAIN.search(self.host or "") is not None

    def is_dearer_for(self, model: str) -> bool:
        """Whether the model costs more than the list says because the host serves from one region."""
        dear = _dear_at(self.host or "")
        return any(not re.match(models, model.lower().rpartition("/")[2]) for models in dear)


_IN_A_DOMAIN = re.compile(r"[^.:\[]\.[A-Za-z-]{2,}$")


# an agent calls one host, with every call
@lru_cache(maxsize=32)
def _name_at(host: str) -> str | None:
    """The name of a host's list, by `HOSTS`."""
    return next((name for pattern, name in HOSTS.items() if re.fullmatch(pattern, host)), None)


@lru_cache(maxsize=32)
def _dear_at(host: str) -> list[str]:
    """The patterns of models, by `REGIONS`, that cost there what the list says; none where all do."""
    return [models for pattern, models in REGIONS.items() if re.fullmatch(pattern, host)]


@dataclass(slots=True, frozen=True)
class ListPrice:
    """What a model costs in one place, at one time and under the modifiers of one call."""

    rates: Mapping[str, Any]
    """USD by the table's keys: per million tokens (`input_mtok`) or per thousand uses (`web_searches_kcount`); a
    `Decimal`, or tiers by the total input; without a key there is no price."""

    def of_tokens(self, usage: Usage) -> Decimal:
        """The price of one sampling pass in USD. Raises `NoPrice`."""
        counts = _token_counts(usage)
        if "output_reasoning_mtok" in self.rates:  # elsewhere it costs as output
            reasoning = _within(usage.reasoning_tokens, counts["output"])
            counts |= {"output": counts["output"] - reasoning, "output_reasoning": reasoning}
        per_call = self._rate("requests_kcount") or Decimal(0)
        return self._sum(counts, "_mtok", usage.input_tokens or 0) / 1_000_000 + per_call / 1000

    def of_fees(self, fees: Mapping[str, int]) -> Decimal:
        """What uses cost that have a fee of their own, in USD. Raises `NoPrice`."""
        return self._sum(fees, "_kcount", 0) / 1000

    def of_input(self, usage: Usage) -> list[tuple[int, Decimal | None]]:
        """The input as the prompt is read, each stretch as its tokens and USD per token: what came from the cache, what
        was written to it for an hour, what was for five minutes, and the rest. None: there is no price for it."""
        given = max(usage.input_tokens or 0, 0)
        read = _within(usage.cache_read_tokens, given)
        written = _within(usage.cache_write_tokens, given - read)
        for_1h = _within(usage.cache_write_1h_tokens, written)
        stretches = {
            "cache_read_mtok": read,
            "cache_write_1h_mtok": for_1h,
            "cache_write_mtok": written - for_1h,
            "input_mtok": given - read - written,
        }
        rates = ((count, self._rate(key, given)) for key, count in stretches.items() if count)
        return [(count, None if rate is None else rate / 1_000_000) for count, rate in rates]

    def has_long_context(self, input_tokens: int) -> bool:
        """Whether a pass of so much input costs more a token than a short one."""
        return any(input_tokens > tier.start for rate in self.rates.values() for tier in getattr(rate, "tiers", ()))

    def _sum(self, counts: Mapping[str, int], measure: str, input_tokens: int) -> Decimal:
        total, missing = Decimal(0), []
        for unit, number in counts.items():
            if number > 0:
                rate = self._rate(unit + measure, input_tokens)
                if rate is None:
                    missing.append(unit + ("_tokens" if measure == "_mtok" else ""))
                else:
                    total += rate * number
        if missing:
            raise NoPrice(*unpriced(missing))
        return total

    def _rate(self, key: str, input_tokens: int = 0) -> Decimal | None:
        """The price that holds at so much input: a long context is dearer as a whole, cached or not."""
        rate = self.rates.get(key)
        tiers = getattr(rate, "tiers", ())  # in rising order
        exceeded = [tier.price for tier in tiers if input_tokens > tier.start]
        return exceeded[-1] if exceeded else getattr(rate, "base", rate)


class PriceTable:
    """The list prices, once they are loaded. Any thread may ask it."""

    def __init__(self) -> None:
        self._snapshot: DataSnapshot | None = None
        self._entry = lru_cache(maxsize=256)(self._look_up)

    def load(self) -> None:
        """Load the table: 0.05 s, and ten times as long where Python must compile it. Never raises: without it, nothing
        has a price."""
        with suppress(Exception):
            from genai_prices.data_snapshot import get_snapshot

            self._snapshot = get_snapshot()

    @property
    def models(self) -> int:
        """How many it knows; 0 if it could not be loaded."""
        return sum(len(provider.models) for provider in self._snapshot.providers) if self._snapshot else 0

    def find(self, model: str, seller: Seller, modifiers: Mapping[str, str]) -> ListPrice:
        """What `model` costs there. Raises `NoPrice` for what the table does not know, or while it is not loaded."""
        if self._snapshot is None:
            raise NoPrice("price_table_loading")
        try:
            name = seller.list_name or self._snapshot.find_provider(None, None, f"https://{seller.host}/").id
        except LookupError:
            raise NoPrice("unknown_host") from None
        entries = ENTRIES[name](model) if name in ENTRIES else [(name, model)]
        entry = next((found for each in entries if (found := self._entry(*each))), None)
        if _is_free(model) and (entry or entries[-1][0] == "openrouter"):
            return ListPrice(FREE)
        if entry is None:
            raise NoPrice("unknown_model")
        info, has_own_variants = entry
        if seller.is_dearer_for(model):
            modifiers = {**modifiers, "region": seller.host or ""}
        return ListPrice(_rates(info, seller.started_at, modifiers, has_own_variants))

    def _look_up(self, provider: str, model: str) -> "tuple[ModelInfo, bool] | None":
        """The model in a provider's list, and whether it is the provider's own, not one of another that it sells.

        It is listed as it is called, else without its variant, without the vendor that the list is of, or both.
        """
        assert self._snapshot is not None
        names = [model]
        if model.lower().endswith(VARIANTS):
            names.append(model.rpartition(":")[0])
        for name in dict.fromkeys((*names, *(self._without_vendor(provider, name) for name in names))):
            with suppress(LookupError):
                seller, info = self._snapshot.find_provider_model(name, None, provider, None)
                return info, any(info is own for own in seller.models)
        return None

    def _without_vendor(self, provider: str, model: str) -> str:
        assert self._snapshot is not None
        vendor, _, name = model.partition("/")
        with suppress(LookupError):
            seller = self._snapshot.find_provider(None, provider, None)
            maker = self._snapshot.find_provider(None, VENDORS.get(vendor, vendor), None)
            if name and maker.id in (seller.id, *(seller.fallback_model_providers or ())):
                return name
        return model


@dataclass(slots=True, frozen=True)
class Estimate:
    """The list price of an answer, or why there is none."""

    usd: Decimal | None = None
    cache_miss: Decimal | None = None
    """What it cost more than if its whole input had been read from the cache; None also where nothing is cached."""
    flags: tuple[CostFlag, ...] = ()
    """Why `usd` is None, for the column `cost_flags`; empty where it is not."""


@dataclass(slots=True, frozen=True)
class Price:
    """The cost columns of a row."""

    cost_microdollars: int | None
    cost_source: CostSource | None
    charged_microdollars: int | None
    is_byok: bool | None
    cost_flags: tuple[CostFlag, ...]
    """Never empty where the cost is None."""
    cache_miss_microdollars: int | None
    """What the call cost more than if its whole input had been read from the cache, by list price."""


def billed_model(answered: str | None, asked: str | None, host: str | None) -> str | None:
    """The model whose price holds: the one that the answer names, but where the one that was asked for tells more."""
    if asked and BEDROCK.fullmatch(host or ""):
        return asked.rpartition("/")[2]
    return answered or asked


def microdollars(usd: Decimal) -> int:
    """Millionths of a USD, ties up. For 0 <= `usd` <= `MAX_USD`."""
    # quantize rounds the exact value once; a product would be rounded to 28 digits before
    return int(usd.quantize(MICRODOLLAR, ROUND_HALF_UP).scaleb(6))


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

    `model` is the one that answered, where the bill names none; `provider`, `host`, `started_at` as in `Seller`.
    `subscription`: a flat fee pays for the call, its cost is notional. While `table` is not loaded, a cost that only it
    could tell stays unknown, flagged `price_table_loading`. Never raises.
    """
    model = bill.model or model
    listed = estimate(answer, model, Seller(provider, host, started_at), table)
    cost, source = bill.cost, bill.source
    reasons: tuple[CostFlag, ...] = bill.flags
    if cost is None and not bill.final:
        cost, source, reasons = listed.usd, "estimate", (*reasons, *listed.flags)
    marks: dict[CostFlag, bool] = {
        "zero_cost": cost == 0 and bool(answer.usage.output_tokens) and not bill.is_byok and not _is_free(model),
        "off_estimate": _is_far_off(cost, listed.usd),
        "cached_exceeds_input": _cached_exceeds_input(answer.usage),
        "subscription": subscription,
    }
    return Price(
        cost_microdollars=_rounded(cost),
        cost_source=None if cost is None else source,
        charged_microdollars=_rounded(bill.charged),
        is_byok=bill.is_byok,
        cost_flags=(*reasons, *(flag for flag, holds in marks.items() if holds)),
        cache_miss_microdollars=_rounded(listed.cache_miss),
    )


def estimate(answer: Answer, model: str | None, seller: Seller, table: PriceTable) -> Estimate:
    """The list price of an answer, with the passes and fees that its usage leaves out. Never raises.

    What is not known for certain has none: a cut stream, tokens that were not counted, an unknown model or host, and
    anything that the answer names and the model's own list does not. An estimate that leaves something out is wrong.
    """
    try:
        return _estimate(answer, model, seller, table)
    except NoPrice as reason:
        return Estimate(flags=reason.flags)
    except Exception:  # the table is fed what strangers sent; whatever it makes of that, the call goes on
        return Estimate(flags=unpriced(["usage"]))


def _estimate(answer: Answer, model: str | None, seller: Seller, table: PriceTable) -> Estimate:
    if reason := _why_uncounted(answer):
        raise NoPrice(reason)
    if not model:
        raise NoPrice("unknown_model")
    if not seller.may_have_a_list:
        raise NoPrice("unknown_host")
    modifiers = _modifiers(answer)
    own = table.find(model, seller, modifiers)

    def priced(each: Pass) -> Decimal:
        return (table.find(each.model, seller, modifiers) if each.model else own).of_tokens(each.usage)

    passes = _passes(answer, own)
    tokens = sum(map(priced, passes), Decimal(0))
    usd = tokens + sum(map(priced, answer.extra_passes), own.of_fees(answer.fees))
    if usd > MAX_USD:
        raise NoPrice("implausible_cost")
    if answer.usage.cache_read_tokens is None and answer.usage.cache_write_tokens is None:
        return Estimate(usd)  # nothing tells that there is a cache
    with suppress(NoPrice):
        return Estimate(usd, max(tokens - sum(priced(_all_cached(each)) for each in passes), Decimal(0)))
    return Estimate(usd)


def _why_uncounted(answer: Answer) -> CostFlag | None:
    """Why there are no counts to price, if there are none."""
    usage = answer.usage
    if answer.usage_final:
        if usage.input_tokens is None or usage.output_tokens is None or "usage_implausible" in answer.warnings:
            return "no_usage"
        return "hidden_tokens" if answer.hidden_tokens else None
    is_counted = usage.input_tokens is not None or usage.output_tokens is not None
    is_cut = not answer.ended and (answer.started or (answer.recognised and answer.error is None))
    return "cut" if is_counted or is_cut else "no_usage"


def _modifiers(answer: Answer) -> dict[str, str]:
    """What changes the price of this answer, by name."""
    named = {"service_tier": answer.service_tier} | answer.price_context
    return {name: value for name, value in named.items() if value and value not in ORDINARY.get(name, ())}


def _rates(
    info: "ModelInfo", started_at: datetime, modifiers: Mapping[str, str], has_own_variants: bool
) -> Mapping[str, Any]:
    """A model's prices that day. Raises `NoPrice` for modifiers that are not priced together, as they are in the call.

    The table's own calculation ignores modifiers that it does not know. Tokens that it does not price under a modifier
    have no price then; fees are the same under all.
    """
    rates = vars(info.get_prices(started_at))
    if not modifiers:
        return rates
    wanted = dict(TABLE_WORDS.get(modifier, modifier) for modifier in modifiers.items())
    for variant in info.price_variants or () if has_own_variants else ():
        if variant.when == wanted and (variant.constraint is None or variant.constraint.active(started_at)):
            return {key: rate for key, rate in rates.items() if key.endswith("_kcount")} | vars(variant.prices)
    raise NoPrice(*unpriced(modifiers))


def _passes(answer: Answer, listed: ListPrice) -> list[Pass]:
    """The passes to price one by one, because a long context is dearer by the pass. Raises `NoPrice` if in doubt."""
    usage, passes = answer.usage, answer.passes
    if len(passes) < 2:
        return [Pass(None, usage)]
    if _add_up(passes, usage, "input_tokens", "output_tokens"):
        if _add_up(passes, usage, "cache_read_tokens", "cache_write_tokens", "cache_write_1h_tokens"):
            return passes
        if not listed.has_long_context(usage.input_tokens or 0):
            return [Pass(None, usage)]
    # such as one that was declined before another model answered: whether it is billed is not known
    raise NoPrice(*unpriced(["passes"]))


def _add_up(passes: Iterable[Pass], usage: Usage, *counts: str) -> bool:
    return all(
        sum(getattr(each.usage, count) or 0 for each in passes) == (getattr(usage, count) or 0) for count in counts
    )


def _all_cached(each: Pass) -> Pass:
    hit = replace(each.usage, cache_read_tokens=each.usage.input_tokens, cache_write_tokens=0, cache_write_1h_tokens=0)
    return replace(each, usage=hit)


def _token_counts(usage: Usage) -> dict[str, int]:
    """The tokens of a pass, each once, by the unit that prices them. Parts that exceed the whole are cut off.

    Raises `NoPrice` for counts that are missing, and where part of the audio may have been cached, which costs
    otherwise.
    """
    given, made = usage.input_tokens, usage.output_tokens
    if given is None or made is None or given < 0 or made < 0:
        raise NoPrice("no_usage")
    read = _within(usage.cache_read_tokens, given)
    written = _within(usage.cache_write_tokens, given - read)
    written_1h = _within(usage.cache_write_1h_tokens, written)
    heard, said = _within(usage.input_audio_tokens, given), _within(usage.output_audio_tokens, made)
    if heard and (read or written):
        raise NoPrice(*unpriced(["cached_audio_tokens"]))
    return {
        "input": given - read - written - heard,
        "cache_read": read,
        "cache_write": written - written_1h,
        "cache_write_1h": written_1h,
        "input_audio": heard,
        "output": made - said,
        "output_audio": said,
    }


def _within(part: int | None, whole: int) -> int:
    return min(max(part or 0, 0), whole)


def _rounded(usd: Decimal | None) -> int | None:
    return None if usd is None else microdollars(usd)


def _is_free(model: str | None) -> bool:
    return model is not None and model.endswith(":free")  # as OpenRouter marks them


def _is_far_off(cost: Decimal | None, listed: Decimal | None) -> bool:
    if not cost or not listed:  # unknown, or free
        return False
    return not listed / FAR_OFF <= cost <= listed * FAR_OFF


def _cached_exceeds_input(usage: Usage) -> bool:
    cached = (usage.cache_read_tokens or 0) + (usage.cache_write_tokens or 0)
    return usage.input_tokens is not None and cached > usage.input_tokens
