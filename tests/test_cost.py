"""Microdollars, estimates from the table of list prices, and how the two sources of a cost meet."""

import json
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, date, datetime
from decimal import Decimal
from itertools import product
from typing import Any

import genai_prices
import pytest
from genai_prices import Usage as Tokens
from genai_prices.data_snapshot import DataSnapshot, get_snapshot, set_custom_snapshot
from genai_prices.types import (
    ClauseEquals,
    ModelInfo,
    ModelPrice,
    PriceVariant,
    Provider,
    StartDateConstraint,
    Tier,
    TieredPrices,
)
from hypothesis import given
from hypothesis import strategies as st

from gateway_addon import cost, dialects
from gateway_addon.api.base import Answer, Pass, Problem, Usage
from gateway_addon.cost import Seller
from gateway_addon.dialects import openrouter
from gateway_addon.dialects.amounts import MAX_USD
from gateway_addon.dialects.base import Bill

TABLE = cost.PriceTable()
TABLE.load()

STARTED = datetime(2026, 11, 1, tzinfo=UTC)

BEDROCK = "bedrock-runtime.us-east-1.amazonaws.com"
ARN = "arn:aws:bedrock:us-east-1:123456789012"
SONNET = "claude-sonnet-4-5"  # USD per million tokens: 3 in, 0.3 read, 3.75 written for 5 minutes, 6 for 1 hour, 15 out
GPT = "gpt-5"  # 1.25 in, 0.125 read, no price for writes, 10 out; twice that for `priority`, half for `flex`


@pytest.mark.parametrize(
    ("usd", "expected"),
    [
        pytest.param("0.0000005", 1, id="a-half-goes-up"),
        pytest.param("0.0000004", 0, id="less-than-a-half"),
        pytest.param("0.0000025", 3, id="not-to-even"),
        pytest.param("0.00000049999999999999999999999999999999999999", 0, id="rounded-once"),
        pytest.param("1E-7", 0, id="with-an-exponent"),
        pytest.param("0", 0, id="zero"),
        pytest.param("0.0123", 12300, id="exact"),
        pytest.param("10000", 10_000_000_000, id="largest"),
    ],
)
def test_microdollars(usd, expected):
    assert cost.microdollars(Decimal(usd)) == expected


@given(st.decimals(min_value=0, max_value=MAX_USD))
def test_microdollars_are_the_nearest(usd):
    assert abs(Decimal(cost.microdollars(usd)) - usd * 1_000_000) <= Decimal("0.5")


def answer(input_tokens: int | None = 1000, output_tokens: int | None = 100, **more: Any) -> Answer:
    """A finished answer with these counts; `more` are further fields of its usage."""
    usage = Usage(input_tokens=input_tokens, output_tokens=output_tokens, **more)
    return Answer(usage=usage, usage_final=True, ended=True)


def estimate(of: Answer, model: str | None = SONNET, provider: str | None = "anthropic", host: str | None = None):
    return cost.estimate(of, model, Seller(provider, host, STARTED), TABLE)


@pytest.mark.parametrize(
    ("of", "usd"),
    [
        pytest.param(answer(1000, 100), "0.0045", id="plain"),
        pytest.param(answer(0, 0), "0", id="nothing-used"),
        pytest.param(answer(1000, 100, reasoning_tokens=90), "0.0045", id="reasoning-is-output"),
        pytest.param(answer(1000, 0, cache_read_tokens=600), "0.00138", id="reads-are-input"),
        pytest.param(answer(1000, 0, cache_write_tokens=600), "0.00345", id="writes-are-input"),
        pytest.param(answer(1000, 0, cache_write_tokens=600, cache_write_1h_tokens=400), "0.00435", id="rest-is-5m"),
        pytest.param(answer(1000, 0, cache_write_tokens=600, cache_write_1h_tokens=900), "0.0048", id="1h-over-writes"),
        pytest.param(answer(1000, 0, cache_read_tokens=1200), "0.0003", id="read-over-input"),
        pytest.param(answer(1000, 0, cache_read_tokens=900, cache_write_tokens=900), "0.000645", id="both-over-input"),
        pytest.param(answer(1000, 0, cache_read_tokens=-5), "0.003", id="negative-subset"),
        pytest.param(answer(200_001, 0), "1.200006", id="long-context"),
    ],
)
def test_estimate_of_counts(of, usd):
    assert estimate(of).usd == Decimal(usd)


@pytest.mark.parametrize(
    ("model", "provider", "host", "usd_per_million"),
    [
        pytest.param("claude-sonnet-4-5-20250929", "anthropic", None, "3", id="dated-name"),
        pytest.param("gpt-5-2025-08-07", "openai", None, "1.25", id="dated-name-openai"),
        pytest.param("anthropic/claude-haiku-4.5", "openrouter", None, "1", id="slug"),
        pytest.param("anthropic/claude-4.5-sonnet-20250929", "openrouter", None, "3", id="dated-slug"),
        pytest.param("anthropic/claude-haiku-4.5:nitro", "openrouter", None, "1", id="routed-for-speed"),
        pytest.param("anthropic/claude-haiku-4.5:floor", "openrouter", None, "1", id="routed-for-price"),
        pytest.param("anthropic/claude-haiku-4.5:exacto", "openrouter", None, "1", id="routed-for-tools"),
        pytest.param("anthropic/claude-haiku-4.5:online", "openrouter", None, "1", id="with-searches"),
        pytest.param("anthropic/claude-haiku-4.5:thinking", "openrouter", None, "1", id="thinking"),
        pytest.param("deepseek/deepseek-r1:free", "openrouter", None, "0", id="free-model"),
        pytest.param("acme/some-model:free", "openrouter", None, "0", id="free-model-not-listed"),
        pytest.param("acme/some-model:free", None, "openrouter.ai", "0", id="free-model-by-host"),
        pytest.param("openai/gpt-5", "vercel", None, "1.25", id="vercel-vendor"),
        pytest.param("meta-llama/llama-3.3-70b-instruct:free", "vercel", None, "0", id="vercel-by-openrouter-name"),
        pytest.param("xai/grok-4", "vercel", None, "3", id="vercel-name-openrouter-has-not"),
        pytest.param("openai/gpt-5", None, "ai-gateway.vercel.sh", "1.25", id="vercel-by-host"),
        pytest.param("gpt-5", None, "api.openai.com", "1.25", id="host"),
        pytest.param("grok-4", "my-xai", "api.x.ai", "3", id="host-of-a-provider-of-one's-own"),
        pytest.param("gpt-5", None, "chatgpt.com", "1.25", id="chatgpt-login-as-if-billed"),
        pytest.param("gpt-5", "openai", "127.0.0.1", "1.25", id="configured-provider-wherever-it-is"),
        pytest.param("openai/gpt-5", None, "api.openai.com", "1.25", id="vendor's-name-at-the-vendor"),
        pytest.param("anthropic/claude-sonnet-4.5", "anthropic", None, "3", id="vendor's-name-with-dots"),
        pytest.param("anthropic/claude-sonnet-4.5:thinking", "anthropic", None, "3", id="vendor's-name-and-variant"),
        pytest.param("x-ai/grok-4", None, "api.x.ai", "3", id="vendor's-name-of-xai"),
        pytest.param("z-ai/glm-4.6", None, "api.z.ai", "0.6", id="vendor's-name-that-the-table-has-not"),
        pytest.param("models/gemini-2.5-flash", None, "generativelanguage.googleapis.com", "0.3", id="google's-prefix"),
        pytest.param("openai/gpt-5", None, "acme.openai.azure.com", "1.25", id="vendor's-name-where-it-is-sold"),
        pytest.param("gpt-5", None, "us.api.openai.com", "1.25", id="openai-in-a-region"),
        pytest.param("gpt-5-mini", None, "eu.api.openai.com", "0.25", id="openai-in-another-region"),
        pytest.param("claude-sonnet-4.6", None, "api.individual.githubcopilot.com", "3", id="copilot-individual"),
        pytest.param("claude-sonnet-4.6", None, "api.business.githubcopilot.com", "3", id="copilot-business"),
        pytest.param("claude-sonnet-4.6", None, "api.enterprise.githubcopilot.com", "3", id="copilot-enterprise"),
        pytest.param("claude-sonnet-4.6", None, "copilot-api.acme.ghe.com", "3", id="copilot-of-a-company"),
        pytest.param("global.anthropic.claude-opus-4-6-v1", None, BEDROCK, "5", id="bedrock-worldwide"),
        pytest.param("us.anthropic.claude-opus-4-6-v1", None, BEDROCK, "5.5", id="bedrock-in-a-region"),
        pytest.param("anthropic.claude-3-haiku-20240307-v1:0", None, BEDROCK, "0.25", id="bedrock-before-profiles"),
        pytest.param("claude-opus-4-6@default", None, "aiplatform.googleapis.com", "5", id="vertex-worldwide"),
        pytest.param("claude-sonnet-4-5@20250929", None, "aiplatform.googleapis.com", "3", id="vertex-dated"),
        pytest.param(
            "claude-3-5-haiku@20241022", None, "us-east5-aiplatform.googleapis.com", "0.8", id="vertex-region"
        ),
    ],
)
def test_whose_price(model, provider, host, usd_per_million):
    assert estimate(answer(100_000, 0), model, provider, host).usd == Decimal(usd_per_million) / 10


@pytest.mark.parametrize(
    ("answered", "asked", "host", "billed"),
    [
        ("gpt-5-2025-08-07", "gpt-5", "api.openai.com", "gpt-5-2025-08-07"),
        (None, "gpt-5", "api.openai.com", "gpt-5"),
        ("claude-opus-4-6", "global.anthropic.claude-opus-4-6-v1", BEDROCK, "global.anthropic.claude-opus-4-6-v1"),
        ("claude-opus-4-6", f"{ARN}:inference-profile/us.anthropic.claude-opus-4-6-v1", BEDROCK,
         "us.anthropic.claude-opus-4-6-v1"),
        ("claude-opus-4-6", f"{ARN}:application-inference-profile/a1b2c3", BEDROCK, "a1b2c3"),
        ("claude-opus-4-6", None, BEDROCK, "claude-opus-4-6"),
    ],
)  # fmt: skip
def test_whose_price_holds_where_two_models_are_named(answered, asked, host, billed):
    assert cost.billed_model(answered, asked, host) == billed


def test_the_price_is_that_of_the_day():
    days = (datetime(2026, month, 1, tzinfo=UTC) for month in (10, 11))
    before, after = (
        cost.estimate(answer(1_000_000, 0), "z-ai/glm-4.6", Seller("openrouter", None, day), TABLE).usd for day in days
    )
    assert (before, after) == (Decimal("0.43"), Decimal("0.55"))


CUT = Answer(usage=Usage(1000, output_tokens=1), started=True, recognised=True)
HIDDEN = replace(answer(), hidden_tokens=True)


@pytest.mark.parametrize(
    ("of", "model", "provider", "host", "flag"),
    [
        pytest.param(answer(), "claude-of-next-year", "anthropic", None, "unknown_model", id="a-model-of-next-year"),
        pytest.param(answer(), None, "anthropic", None, "unknown_model", id="no-model"),
        pytest.param(answer(), "openai/gpt-5", "anthropic", None, "unknown_model", id="another-vendor's-model"),
        pytest.param(answer(), "openrouter/auto", "openrouter", None, "unknown_model", id="model-not-told"),
        pytest.param(answer(), "acme/some-model:free", "anthropic", None, "unknown_model", id="free-at-no-gateway"),
        pytest.param(answer(), SONNET, "vercel", None, "unknown_model", id="vercel-name-without-a-vendor"),
        pytest.param(answer(), SONNET, None, None, "unknown_host", id="no-provider"),
        pytest.param(answer(), SONNET, None, "localhost", "unknown_host", id="local-server"),
        pytest.param(answer(), SONNET, None, "10.0.0.5", "unknown_host", id="private-address"),
        pytest.param(answer(), SONNET, "my-proxy", "llm.example", "unknown_host", id="host-not-listed"),
        pytest.param(answer(None, 100), SONNET, "anthropic", None, "no_usage", id="input-unknown"),
        pytest.param(answer(1000, None), SONNET, "anthropic", None, "no_usage", id="output-unknown"),
        pytest.param(answer(-1, 100), SONNET, "anthropic", None, "no_usage", id="impossible-count"),
        pytest.param(answer(2**62), SONNET, "anthropic", None, "implausible_cost", id="more-than-a-call-can-cost"),
        pytest.param(CUT, SONNET, "anthropic", None, "cut", id="lower-bound"),
        pytest.param(Answer(started=True), SONNET, "anthropic", None, "cut", id="cut-before-any-count"),
        pytest.param(Answer(recognised=True), SONNET, "anthropic", None, "cut", id="cut-before-any-token"),
        pytest.param(Answer(started=True, ended=True), SONNET, "anthropic", None, "no_usage", id="none-was-sent"),
        pytest.param(
            Answer(recognised=True, error=Problem("no")), SONNET, "anthropic", None, "no_usage", id="an-error-answered"
        ),
        pytest.param(Answer(), SONNET, "anthropic", None, "no_usage", id="no-answer"),
        pytest.param(HIDDEN, SONNET, "anthropic", None, "hidden_tokens", id="hidden-tokens"),
        pytest.param(answer(), "gpt-5.4", None, "eu.api.openai.com", "unpriced:region", id="dearer-in-a-region"),
        pytest.param(
            answer(),
            "claude-sonnet-4-5",
            None,
            "us-east5-aiplatform.googleapis.com",
            "unpriced:region",
            id="claude-in-a-region",
        ),
    ],
)
def test_no_estimate_and_why(of, model, provider, host, flag):
    assert estimate(of, model, provider, host) == cost.Estimate(flags=(flag,))


def test_passes_that_usage_does_not_count_are_priced_at_their_own_model():
    of = answer(1000, 100)
    of.extra_passes = [
        Pass("claude-haiku-4-5", Usage(input_tokens=1000, output_tokens=0)),
        Pass(None, Usage(input_tokens=1000, output_tokens=0)),
    ]
    assert estimate(of).usd == Decimal("0.0045") + Decimal("0.001") + Decimal("0.003")


def test_a_pass_of_unknown_price_makes_the_sum_unknown():
    of = answer(1000, 100)
    of.extra_passes = [Pass("claude-of-next-year", Usage(input_tokens=1, output_tokens=1))]
    assert estimate(of) == cost.Estimate(flags=("unknown_model",))


def usd(number: str | int) -> Decimal:
    return Decimal(number)


def tiers(short: int, long: int) -> TieredPrices:
    """Dearer, as a whole, for a context of more than 100,000 tokens."""
    return TieredPrices(base=usd(short), tiers=[Tier(start=100_000, price=usd(long))])


PLAIN = {"input_mtok": usd(10), "output_mtok": usd(100)}
CACHING = PLAIN | {"cache_read_mtok": usd(1), "cache_write_mtok": usd(12)}
HALF = {"input_mtok": usd(5), "output_mtok": usd(50)}
LATER = StartDateConstraint(date(2027, 1, 1))

LIST: dict[str, dict[str, Any]] = {
    "plain": PLAIN,
    "caching": CACHING,
    "hourly": CACHING | {"cache_write_1h_mtok": usd(20)},
    "audio": PLAIN | {"input_audio_mtok": usd(30), "output_audio_mtok": usd(300), "cache_read_mtok": usd(1)},
    "reasoning": PLAIN | {"output_reasoning_mtok": usd(200)},
    "per-call": PLAIN | {"requests_kcount": usd(5)},
    "searching": PLAIN | {"web_searches_kcount": usd(10), "storage_searches_kcount": usd("2.5")},
    "tiered": {"input_mtok": tiers(10, 20), "output_mtok": tiers(100, 200), "cache_read_mtok": tiers(1, 2)},
    "varied": CACHING | {"web_searches_kcount": usd(10)},
    "nothing-listed": {},
    "some:free": {},
}
"""The toy table: USD per million tokens, or per thousand uses."""

VARIED = [
    PriceVariant({"speed": "fast"}, ModelPrice(input_mtok=usd(60), output_mtok=usd(600))),
    PriceVariant({"service_tier": "flex"}, ModelPrice(**HALF)),
    PriceVariant({"processing": "batch"}, ModelPrice(**HALF)),
    PriceVariant({"service_tier": "priority"}, ModelPrice(**HALF), LATER),
]


@pytest.fixture(scope="module")
def toy() -> cost.PriceTable:
    """A table whose models are all Anthropic's, and sold by Azure too."""
    models = [
        ModelInfo(name, ClauseEquals(name), prices=ModelPrice(**prices), price_variants=VARIED)
        if name == "varied"
        else ModelInfo(name, ClauseEquals(name), prices=ModelPrice(**prices))
        for name, prices in LIST.items()
    ]
    maker = Provider("anthropic", "Anthropic", "https://api.anthropic.com", models=models)
    seller = Provider("azure", "Azure", "https://azure.example", fallback_model_providers=["anthropic"])
    set_custom_snapshot(DataSnapshot([maker, seller], from_auto_update=False))
    table = cost.PriceTable()
    table.load()
    set_custom_snapshot(None)
    return table


MILLION = 1_000_000


@pytest.mark.parametrize(
    ("model", "of", "expected"),
    [
        pytest.param("plain", answer(MILLION, MILLION), "110", id="input-and-output"),
        pytest.param("plain", answer(MILLION, 0, cache_read_tokens=0, cache_write_tokens=0), "10", id="zero-is-no-use"),
        pytest.param("plain", answer(MILLION, MILLION, reasoning_tokens=MILLION), "110", id="reasoning-is-output"),
        pytest.param("reasoning", answer(0, MILLION, reasoning_tokens=400_000), "140", id="unless-it-has-a-price"),
        pytest.param("reasoning", answer(0, MILLION, reasoning_tokens=2 * MILLION), "200", id="reasoning-over-output"),
        pytest.param("per-call", answer(MILLION, 0), "10.005", id="a-price-per-call"),
        pytest.param("caching", answer(MILLION, 0, cache_read_tokens=MILLION), "1", id="read"),
        pytest.param("caching", answer(MILLION, 0, cache_write_tokens=MILLION), "12", id="written"),
        pytest.param(
            "caching",
            answer(MILLION, 0, cache_write_tokens=MILLION, cache_write_1h_tokens=1),
            "unpriced:cache_write_1h_tokens",
            id="written-for-an-hour",
        ),
        pytest.param(
            "hourly",
            answer(MILLION, 0, cache_write_tokens=MILLION, cache_write_1h_tokens=MILLION),
            "20",
            id="written-for-an-hour-at-a-price",
        ),
        pytest.param(
            "plain", answer(MILLION, 0, cache_read_tokens=1), "unpriced:cache_read_tokens", id="read-without-a-price"
        ),
        pytest.param(
            "plain", answer(MILLION, 0, cache_write_tokens=1), "unpriced:cache_write_tokens", id="written-without-one"
        ),
        pytest.param(
            "audio",
            answer(MILLION, MILLION, input_audio_tokens=900_000, output_audio_tokens=900_000),
            "308",
            id="audio-is-not-text",
        ),
        pytest.param(
            "plain", answer(MILLION, 0, input_audio_tokens=1), "unpriced:input_audio_tokens", id="audio-heard"
        ),
        pytest.param(
            "plain", answer(0, MILLION, output_audio_tokens=1), "unpriced:output_audio_tokens", id="audio-spoken"
        ),
        pytest.param(
            "audio",
            answer(MILLION, 0, input_audio_tokens=1, cache_read_tokens=1),
            "unpriced:cached_audio_tokens",
            id="audio-that-may-have-been-cached",
        ),
        pytest.param("nothing-listed", answer(), "unpriced:input_tokens unpriced:output_tokens", id="nothing-listed"),
        pytest.param("some:free", answer(MILLION, MILLION, cache_read_tokens=1), "0", id="free"),
        pytest.param("tiered", answer(100_000, 0), "1", id="a-short-context"),
        pytest.param(
            "tiered", answer(100_001, 0, cache_read_tokens=100_001), "0.200002", id="a-long-one-though-cached"
        ),
    ],
)
def test_every_count_has_its_own_price_or_there_is_none(toy, model, of, expected):
    assert toy_price(toy, of, model) == expected


def toy_price(toy: cost.PriceTable, of: Answer, model: str, host: str = "api.anthropic.com") -> str:
    """The estimate in USD, or the flags that say why there is none."""
    found = cost.estimate(of, model, Seller(None, host, STARTED), toy)
    return " ".join(found.flags) if found.usd is None else f"{found.usd.normalize():f}"


@pytest.mark.parametrize(
    ("model", "fees", "expected"),
    [
        pytest.param("searching", {"web_searches": 5}, "10.05", id="searches"),
        pytest.param("searching", {"web_searches": 5, "storage_searches": 2}, "10.055", id="of-two-kinds"),
        pytest.param("searching", {"web_searches": 0, "code_executions": 0}, "10", id="none-was-made"),
        pytest.param("searching", {"code_executions": 1}, "unpriced:code_executions", id="no-price-for-this-unit"),
        pytest.param("plain", {"web_searches": 1}, "unpriced:web_searches", id="no-price-at-this-model"),
        pytest.param("plain", {"images": 1}, "unpriced:images", id="a-unit-the-table-has-not"),
        pytest.param("plain", {"a b\n" * 20: 1}, "unpriced:" + "a_b_" * 10, id="a-unit-that-is-no-name"),
        pytest.param("some:free", {"web_searches": 1}, "unpriced:web_searches", id="a-free-model's-fees-are-not-free"),
        pytest.param(
            "plain",
            {"web_searches": 1, "storage_searches": 1},
            "unpriced:web_searches unpriced:storage_searches",
            id="all-that-is-missing-is-named",
        ),
    ],
)
def test_fees_of_the_tools_that_the_server_ran(toy, model, fees, expected):
    assert toy_price(toy, replace(answer(MILLION, 0), fees=fees), model) == expected


@pytest.mark.parametrize(
    ("modifiers", "expected"),
    [
        pytest.param({}, "10", id="none"),
        pytest.param({"service_tier": "default"}, "10", id="the-default"),
        pytest.param({"service_tier": "standard"}, "10", id="the-standard"),
        pytest.param({"service_tier": "auto"}, "10", id="left-to-the-server"),
        pytest.param({"service_tier": "on_demand"}, "10", id="groq's-word-for-it"),
        pytest.param({"service_tier": "flex"}, "5", id="cheap"),
        pytest.param({"service_tier": "batch"}, "5", id="batch"),
        pytest.param({"service_tier": "priority"}, "unpriced:service_tier", id="not-yet-listed"),
        pytest.param({"service_tier": "of-next-year"}, "unpriced:service_tier", id="a-tier-unknown"),
        pytest.param({"speed": "standard"}, "10", id="speed"),
        pytest.param({"speed": "fast"}, "60", id="fast"),
        pytest.param({"speed": "ludicrous"}, "unpriced:speed", id="a-speed-unknown"),
        pytest.param({"inference_geo": "global"}, "10", id="anywhere"),
        pytest.param({"inference_geo": "not_available"}, "10", id="place-not-told"),
        pytest.param({"inference_geo": "us"}, "unpriced:inference_geo", id="in-one-country"),
        pytest.param({"completion_window": "soonest"}, "10", id="at-once"),
        pytest.param({"completion_window": "8h"}, "unpriced:completion_window", id="later"),
        pytest.param({"fallback_credit": "redeemed"}, "unpriced:fallback_credit", id="a-credit-redeemed"),
        pytest.param(
            {"service_tier": "flex", "speed": "fast"}, "unpriced:service_tier unpriced:speed", id="not-priced-together"
        ),
    ],
)
def test_price_modifiers(toy, modifiers, expected):
    of = answer(MILLION, 0)
    of.service_tier = modifiers.pop("service_tier", None)
    of.price_context = modifiers
    assert toy_price(toy, of, "varied") == expected


@pytest.mark.parametrize(
    ("model", "host"),
    [
        pytest.param("plain", "api.anthropic.com", id="the-model-has-no-such-price"),
        pytest.param("varied", "azure.example", id="the-seller-has-none"),
    ],
)
def test_a_modifier_counts_only_if_the_list_of_the_seller_has_it(toy, model, host):
    of = replace(answer(MILLION, 0), price_context={"speed": "fast"})
    assert toy_price(toy, of, model, host) == "unpriced:speed"
    assert toy_price(toy, answer(MILLION, 0), model, host) == "10"


def test_what_a_modifier_does_not_price_has_no_price_under_it_but_for_fees(toy):
    fast = replace(answer(MILLION, 0), price_context={"speed": "fast"})
    cached = replace(fast, usage=Usage(MILLION, cache_read_tokens=1, output_tokens=0))
    assert toy_price(toy, cached, "varied") == "unpriced:cache_read_tokens"
    assert toy_price(toy, replace(fast, fees={"web_searches": 1}), "varied") == "60.01"


def passes(*each: Usage, model: str | None = None) -> list[Pass]:
    return [Pass(model, usage) for usage in each]


LONG, SHORT = Usage(150_000, output_tokens=100), Usage(90_000, output_tokens=100)
CACHED = replace(SHORT, cache_read_tokens=90_000)


@pytest.mark.parametrize(
    ("usage", "each", "expected"),
    [
        pytest.param(Usage(180_000, output_tokens=200), [], "3.64", id="one-pass-that-is-long"),
        pytest.param(Usage(180_000, output_tokens=200), passes(SHORT, SHORT), "1.82", id="two-that-are-short"),
        pytest.param(Usage(240_000, output_tokens=200), passes(LONG, SHORT), "3.93", id="a-long-and-a-short-one"),
        pytest.param(
            Usage(180_000, 90_000, output_tokens=200), passes(SHORT, CACHED), "1.01", id="with-caches-of-their-own"
        ),
        pytest.param(Usage(9, output_tokens=9), passes(SHORT), "0.00099", id="a-single-pass-adds-nothing"),
        pytest.param(
            Usage(180_000, 90_000, output_tokens=200),
            passes(SHORT, SHORT),
            "unpriced:passes",
            id="caches-that-no-pass-tells-of",
        ),
        pytest.param(
            Usage(90_000, output_tokens=100),
            passes(SHORT, SHORT),
            "unpriced:passes",
            id="a-pass-that-is-not-counted",
        ),
        pytest.param(
            Usage(40_000, 9, output_tokens=2),
            passes(Usage(20_000, output_tokens=1), Usage(20_000, output_tokens=1)),
            "0.400119",
            id="short-anyway-whatever-the-caches",
        ),
    ],
)
def test_a_long_context_is_decided_pass_by_pass(toy, usage, each, expected):
    assert toy_price(toy, Answer(usage=usage, usage_final=True, ended=True, passes=each), "tiered") == expected


def test_a_pass_is_priced_at_the_model_that_it_names(toy):
    of = Answer(usage=Usage(180_000, output_tokens=200), usage_final=True)
    of.passes = [*passes(SHORT), *passes(SHORT, model="plain")]
    assert toy_price(toy, of, "tiered") == "1.82"
    of.passes = [*passes(SHORT), *passes(SHORT, model="nobody's")]
    assert toy_price(toy, of, "tiered") == "unknown_model"


@given(
    st.sampled_from(["gpt-5", "gpt-5.4", "o3", "gpt-4o"]),
    st.integers(0, 500_000),
    st.integers(0, 500_000),
    st.integers(0, 9),
)
def test_the_own_calculation_of_the_table_comes_to_the_same(model, given_tokens, read, searches):
    read = min(read, given_tokens)
    of = replace(answer(given_tokens, 100, cache_read_tokens=read), fees={"web_searches": searches})
    tokens = Tokens(input_tokens=given_tokens, cache_read_tokens=read, output_tokens=100, web_searches=searches)
    total = genai_prices.calc_price(tokens, model, provider_id="openai", genai_request_timestamp=STARTED).total_price
    assert estimate(of, model, "openai").usd == total


COUNTS = st.none() | st.integers(min_value=-5, max_value=2**63)
USAGES = st.builds(Usage, *[COUNTS] * 8)
WORDS = st.text(max_size=5) | st.sampled_from(["fast", "flex", "service_tier", "speed"])


@given(
    st.builds(
        Answer,
        usage=USAGES,
        usage_final=st.just(True) | st.booleans(),
        ended=st.booleans(),
        price_context=st.dictionaries(WORDS, WORDS, max_size=2),
        fees=st.dictionaries(WORDS | st.just("web_searches"), st.integers(-5, 2**63), max_size=2),
        passes=st.lists(st.builds(Pass, st.none() | st.just(GPT), USAGES), max_size=3),
        extra_passes=st.lists(st.builds(Pass, st.none() | st.just(GPT), USAGES), max_size=2),
    ),
    st.none() | st.text(max_size=20) | st.sampled_from([SONNET, GPT, "anthropic/claude-sonnet-4.5", ":free", "/"]),
    st.sampled_from([None, *cost.ENTRIES]),
    st.none() | st.text(max_size=20) | st.sampled_from(["api.openai.com", "eu.api.openai.com"]),
)
def test_an_estimate_is_a_price_or_says_why_not(of, model, provider, host):
    found = estimate(of, model, provider, host)
    assert found.usd is None or 0 <= found.usd <= MAX_USD
    assert (found.usd is None) == bool(found.flags)
    assert "unpriced:usage" not in found.flags  # what stands for an exception


def price(of: Answer, bill: Bill, model: str | None = SONNET, **more: Any) -> cost.Price:
    asked: dict[str, Any] = {
        "provider": "anthropic",
        "host": None,
        "started_at": STARTED,
        "subscription": False,
        "table": TABLE,
    } | more
    return cost.price(of, bill, model=model, **asked)


def test_a_reported_cost_goes_before_the_estimate():
    priced = price(answer(), Bill(source="openrouter", cost=Decimal("0.004"), charged=Decimal("0.0002"), is_byok=True))
    assert priced == cost.Price(
        cost_microdollars=4000,
        cost_source="openrouter",
        charged_microdollars=200,
        is_byok=True,
        cost_flags=(),
        cache_miss_microdollars=None,
    )


def test_an_estimate_fills_in():
    priced = price(answer(), Bill(source="reported"))
    assert priced == cost.Price(
        cost_microdollars=4500,
        cost_source="estimate",
        charged_microdollars=None,
        is_byok=None,
        cost_flags=(),
        cache_miss_microdollars=None,
    )


def test_a_final_bill_is_not_estimated():
    priced = price(answer(), Bill(source="openrouter", charged=Decimal(1), flags=("byok_no_upstream",), final=True))
    assert priced == cost.Price(
        cost_microdollars=None,
        cost_source=None,
        charged_microdollars=1_000_000,
        is_byok=None,
        cost_flags=("byok_no_upstream",),
        cache_miss_microdollars=None,
    )


def test_unknown_stays_unknown():
    priced = price(answer(), Bill(source="reported"), model="claude-of-next-year")
    assert (priced.cost_microdollars, priced.cost_source, priced.cost_flags) == (None, None, ("unknown_model",))


@pytest.mark.parametrize(
    ("of", "microdollars"),
    [
        pytest.param(answer(1000, 100, cache_read_tokens=600), 1080, id="the rest at the price of input"),
        pytest.param(answer(1000, 100, cache_read_tokens=0, cache_write_tokens=600), 3150, id="or that of a write"),
        pytest.param(answer(1000, 100, cache_write_tokens=600, cache_write_1h_tokens=600), 4500, id="or of a dear one"),
        pytest.param(answer(1000, 100, cache_read_tokens=1000), 0, id="all was read"),
        pytest.param(answer(1000, 100, cache_read_tokens=0), 2700, id="nothing was read"),
        pytest.param(answer(1000, 100), None, id="there may be no cache"),
        pytest.param(answer(None, None, cache_read_tokens=5), None, id="no counts"),
    ],
)
def test_what_a_cache_would_have_saved(of, microdollars):
    assert price(of, Bill()).cache_miss_microdollars == microdollars


def test_a_reported_cost_leaves_what_a_cache_would_have_saved_to_the_list():
    bill = Bill(source="openrouter", cost=Decimal("0.004"))
    assert price(answer(1000, 100, cache_read_tokens=600), bill).cache_miss_microdollars == 1080


def test_the_model_that_the_gateway_names_is_the_one_that_is_priced():
    bill = Bill(source="vercel", model="anthropic/claude-haiku-4.5")
    priced = price(answer(1000, 0), bill, model="anthropic/claude-sonnet-4.5", provider="vercel")
    assert priced.cost_microdollars == 1000


def costing(usd: str | None, is_byok: bool | None = False) -> Bill:
    return Bill(source="openrouter", cost=Decimal(usd) if usd else None, is_byok=is_byok)


@pytest.mark.parametrize(
    ("of", "bill", "more", "flags"),
    [
        pytest.param(answer(), costing("0"), {}, ["zero_cost"], id="zero-is-marked"),
        pytest.param(answer(1000, 0), costing("0"), {}, [], id="zero-for-no-output"),
        pytest.param(answer(), costing("0", is_byok=True), {}, [], id="zero-byok"),
        pytest.param(answer(), costing("0"), {"model": "acme/some-model:free"}, [], id="zero-of-a-free-model"),
        pytest.param(answer(), costing("0"), {"model": "acme/x"}, ["zero_cost"], id="zero-of-a-model-unknown"),
        pytest.param(answer(), costing("0.0135"), {}, [], id="three-times-the-estimate"),
        pytest.param(answer(), costing("0.0136"), {}, ["off_estimate"], id="more-than-three-times-the-estimate"),
        pytest.param(answer(), costing("0.0015"), {}, [], id="a-third-of-the-estimate"),
        pytest.param(answer(), costing("0.0014"), {}, ["off_estimate"], id="less-than-a-third-of-the-estimate"),
        pytest.param(answer(), costing("5"), {"model": "acme/x"}, [], id="nothing-to-compare-with"),
        pytest.param(answer(cache_read_tokens=1001), costing(None), {}, ["cached_exceeds_input"], id="read"),
        pytest.param(
            answer(cache_read_tokens=600, cache_write_tokens=600),
            costing(None),
            {},
            ["cached_exceeds_input"],
            id="read-and-written",
        ),
        pytest.param(answer(cache_read_tokens=1000), costing(None), {}, [], id="all-cached"),
        pytest.param(answer(None, cache_read_tokens=1), costing(None), {}, ["no_usage"], id="input-unknown"),
        pytest.param(answer(), costing(None), {"subscription": True}, ["subscription"], id="flat-fee"),
        pytest.param(
            answer(),
            Bill(flags=("invalid_cost",), final=True),
            {"subscription": True},
            ["invalid_cost", "subscription"],
            id="the-bill's-flags-first",
        ),
    ],
)
def test_flags(of, bill, more, flags):
    assert price(of, bill, **more).cost_flags == tuple(flags)


class TestAPriceTable:
    def test_is_loaded_once_by_whoever_comes_first(self, monkeypatch):
        table = cost.PriceTable()
        with ThreadPoolExecutor(4) as threads:
            list(threads.map(lambda _: table.load(), range(4)))
        monkeypatch.setitem(sys.modules, "genai_prices.data_snapshot", None)
        table.load()
        assert table.find("gpt-5", cost.Seller("openai", None, datetime.now(UTC)), {})

    def test_does_not_raise_where_it_cannot_be_loaded(self, monkeypatch):
        monkeypatch.setitem(sys.modules, "genai_prices.data_snapshot", None)
        table = cost.PriceTable()
        table.load()
        with pytest.raises(cost.NoPrice) as refused:
            table.find("gpt-5", cost.Seller("openai", None, datetime.now(UTC)), {})
        assert refused.value.flags == ("price_table_loading",)

    @pytest.mark.parametrize(
        ("of", "bill", "more", "flags"),
        [
            pytest.param(answer(), Bill(), {}, ("price_table_loading",), id="only-it-could-tell"),
            pytest.param(answer(), Bill(), {"provider": None, "host": "api.z.ai"}, ("price_table_loading",), id="host"),
            pytest.param(answer(), costing("0.004"), {}, (), id="reported"),
            pytest.param(answer(), Bill(flags=("invalid_cost",), final=True), {}, ("invalid_cost",), id="refused"),
            pytest.param(Answer(), Bill(), {}, ("no_usage",), id="it-could-not-tell-without-counts"),
            pytest.param(answer(), Bill(), {"model": None}, ("unknown_model",), id="nor-without-a-model"),
            pytest.param(
                answer(),
                Bill(),
                {"provider": None, "host": "127.0.0.1"},
                ("unknown_host",),
                id="nor-for-one's-own-server",
            ),
        ],
    )
    def test_while_it_is_not_loaded(self, of, bill, more, flags):
        priced = price(of, bill, **more, table=cost.PriceTable())
        assert priced.cost_flags == flags
        assert (priced.cost_microdollars is None) == (bill.cost is None)


def test_nothing_imports_the_table_before_it_is_loaded():
    # in a process of its own, as this one has loaded the table
    code = """if True:
        import json, sys
        from datetime import UTC, datetime
        from gateway_addon import cost, dialects
        from gateway_addon.api.base import Answer, Usage
        from gateway_addon.dialects.base import Bill

        cost.price(
            Answer(usage=Usage(input_tokens=1, output_tokens=1), usage_final=True), Bill(), model="gpt-5",
            provider="openai", host=None, started_at=datetime.now(UTC), subscription=False, table=cost.PriceTable(),
        )
        print(json.dumps("genai_prices" in sys.modules))
    """
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert json.loads(done.stdout) is False


NO_COST_BECAUSE = {
    "no_usage", "unknown_model", "unknown_host", "cut", "hidden_tokens", "price_table_loading", "invalid_cost",
    "implausible_cost", "byok_no_upstream",
}  # fmt: skip

ANSWERS = {
    "counted": answer(),
    "counted-in-part": answer(None),
    "not-counted": Answer(ended=True),
    "cut": CUT,
    "never-came": Answer(),
    "an-error": Answer(recognised=True, error=Problem("no")),
    "hidden": HIDDEN,
    "fast": replace(answer(), price_context={"speed": "ludicrous"}),
    "with-a-fee": replace(answer(), fees={"code_executions": 1}),
    "with-audio": answer(input_audio_tokens=5),
    "monstrous": answer(2**62),
}
USAGE = {
    "silent": {},
    "refused": {"cost": -1},
    "implausible": {"cost": 10**9},
    "byok": {"cost": 0.01, "is_byok": True},
    "byok-refused": {"is_byok": True, "cost_details": {"upstream_inference_cost": "?"}},
    "metered": {"cost_in_usd_ticks": 1.5},
    "free-of-charge": {"cost": 0, "market_cost": "?"},
}
PLACES = [("anthropic", None), (None, "api.openai.com"), (None, "llm.example"), (None, "127.0.0.1"), (None, None)]


@pytest.mark.parametrize("dialect", dialects.DIALECTS.values(), ids=dialects.DIALECTS)
@pytest.mark.parametrize("usage", USAGE.values(), ids=USAGE)
@pytest.mark.parametrize("of", ANSWERS.values(), ids=ANSWERS)
def test_an_unknown_cost_has_a_reason(of, usage, dialect):
    of = replace(of, reported_usage=usage)
    bill = dialects.read_bill(of, {}, dialect)
    for (provider, host), model, table in product(PLACES, (SONNET, "nobody's", None), (TABLE, cost.PriceTable())):
        priced = price(of, bill, model=model, provider=provider, host=host, table=table)
        reasons = [flag for flag in priced.cost_flags if flag in NO_COST_BECAUSE or flag.startswith("unpriced:")]
        assert reasons or priced.cost_microdollars is not None
        assert (priced.cost_source is None) == (priced.cost_microdollars is None)


def test_a_call_is_looked_up_once(monkeypatch):
    table = cost.PriceTable()
    table.load()
    snapshot = get_snapshot()
    asked: list[str] = []
    find = snapshot.find_provider_model

    def asking(name: str, *more: Any) -> Any:
        asked.append(name)
        return find(name, *more)

    monkeypatch.setattr(snapshot, "find_provider_model", asking)
    for _ in range(3):
        price(answer(cache_read_tokens=5), Bill(), table=table)
        price(answer(), Bill(), model="nobody's", table=table)
    assert asked == [SONNET, "nobody's"]


@given(st.floats() | st.decimals() | st.integers() | st.text(max_size=5), st.booleans(), COUNTS)
def test_price_never_raises_and_fits_a_column(reported_cost, is_byok, output_tokens):
    of = answer(1000, output_tokens)
    of.reported_usage = {"cost": reported_cost, "is_byok": is_byok}
    priced = price(of, openrouter.read_bill(of, {}))
    for amount in (priced.cost_microdollars, priced.charged_microdollars):
        assert amount is None or 0 <= amount < 2**63
