"""Microdollars, estimates from the table of list prices, and how the two sources of a cost meet (wire-formats §11)."""

import json
import subprocess
import sys
import threading
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import genai_prices
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway_addon import cost
from gateway_addon.api.base import Answer, Pass, Usage
from gateway_addon.dialects import openrouter
from gateway_addon.dialects.amounts import MAX_USD
from gateway_addon.dialects.base import Bill

STARTED = datetime(2026, 11, 1, tzinfo=UTC)

SONNET = "claude-sonnet-4-5"  # USD per million tokens: 3 in, 0.3 read, 3.75 written for 5 minutes, 6 for 1 hour, 15 out
GPT = "gpt-5"  # 1.25 in, 0.125 read, no price for writes, 10 out; twice that for `priority`, half for `flex`


@pytest.mark.parametrize(
    ("usd", "expected"),
    [
        pytest.param("0.0000005", 1, id="trap-71-a-half-goes-up"),
        pytest.param("0.0000004", 0, id="trap-71-less-than-a-half"),
        pytest.param("0.0000025", 3, id="not-to-even"),
        pytest.param("0.00000049999999999999999999999999999999999999", 0, id="rounded-once"),
        pytest.param("1E-7", 0, id="trap-72"),
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
    return Answer(usage=Usage(input_tokens=input_tokens, output_tokens=output_tokens, **more), usage_final=True)


def estimate(of: Answer, model: str | None = SONNET, provider: str | None = "anthropic", host: str | None = None):
    return cost.estimate(of, model, provider=provider, host=host, started_at=STARTED)


@pytest.mark.parametrize(
    ("of", "usd"),
    [
        pytest.param(answer(1000, 100), "0.0045", id="plain"),
        pytest.param(answer(0, 0), "0", id="nothing-used"),
        pytest.param(answer(1000, 100, reasoning_tokens=90), "0.0045", id="reasoning-is-output"),
        pytest.param(answer(1000, 0, cache_read_tokens=600), "0.00138", id="reads-are-input"),
        pytest.param(answer(1000, 0, cache_write_tokens=600), "0.00345", id="writes-are-input"),
        pytest.param(
            answer(1000, 0, cache_write_tokens=600, cache_write_1h_tokens=400), "0.00435", id="trap-54-rest-is-5m"
        ),
        pytest.param(answer(1000, 0, cache_write_tokens=600, cache_write_1h_tokens=900), "0.0048", id="1h-over-writes"),
        pytest.param(answer(1000, 0, cache_read_tokens=1200), "0.0003", id="trap-51-read-over-input"),
        pytest.param(
            answer(1000, 0, cache_read_tokens=900, cache_write_tokens=900), "0.000645", id="trap-51-both-over-input"
        ),
        pytest.param(answer(1000, 0, cache_read_tokens=-5), "0.003", id="negative-subset"),
        pytest.param(answer(200_001, 0), "1.200006", id="long-context"),
    ],
)
def test_estimate_of_counts(of, usd):
    assert estimate(of) == Decimal(usd)


@pytest.mark.parametrize(
    ("model", "provider", "host", "usd_per_million"),
    [
        pytest.param("claude-sonnet-4-5-20250929", "anthropic", None, "3", id="dated-name"),
        pytest.param("gpt-5-2025-08-07", "openai", None, "1.25", id="dated-name-openai"),
        pytest.param("anthropic/claude-haiku-4.5", "openrouter", None, "1", id="slug"),
        pytest.param("anthropic/claude-4.5-sonnet-20250929", "openrouter", None, "3", id="dated-slug"),
        pytest.param("deepseek/deepseek-r1:free", "openrouter", None, "0", id="free-model"),
        pytest.param("openai/gpt-5", "vercel", None, "1.25", id="vercel-vendor"),
        pytest.param("meta-llama/llama-3.3-70b-instruct:free", "vercel", None, "0", id="vercel-by-openrouter-name"),
        pytest.param("xai/grok-4", "vercel", None, "3", id="vercel-name-openrouter-has-not"),
        pytest.param("gpt-5", None, "api.openai.com", "1.25", id="host"),
        pytest.param("grok-4", "my-xai", "api.x.ai", "3", id="host-of-a-provider-of-one's-own"),
        pytest.param("gpt-5", None, "chatgpt.com", "1.25", id="chatgpt-login-as-if-billed"),
        pytest.param("gpt-5", "openai", "127.0.0.1", "1.25", id="configured-provider-wherever-it-is"),
    ],
)
def test_whose_price(model, provider, host, usd_per_million):
    usd = estimate(answer(100_000, 0), model, provider, host)
    assert usd == Decimal(usd_per_million) / 10


def test_the_price_is_that_of_the_day():
    days = (datetime(2026, month, 1, tzinfo=UTC) for month in (10, 11))
    before, after = (
        cost.estimate(answer(1_000_000, 0), "z-ai/glm-4.6", provider="openrouter", host=None, started_at=day)
        for day in days
    )
    assert (before, after) == (Decimal("0.43"), Decimal("0.55"))


@pytest.mark.parametrize(
    ("of", "model", "provider", "host"),
    [
        pytest.param(answer(), "claude-of-next-year", "anthropic", None, id="trap-76"),
        pytest.param(answer(), None, "anthropic", None, id="no-model"),
        pytest.param(answer(), "anthropic/claude-sonnet-4.5", "anthropic", None, id="another-provider's-name"),
        pytest.param(answer(), "openrouter/auto", "openrouter", None, id="model-not-told"),
        pytest.param(answer(), "acme/some-model:free", "openrouter", None, id="unknown-free-model"),
        pytest.param(answer(), SONNET, "vercel", None, id="vercel-name-without-a-vendor"),
        pytest.param(answer(), SONNET, None, None, id="no-provider"),
        pytest.param(answer(), SONNET, None, "localhost", id="local-server"),
        pytest.param(answer(), SONNET, None, "10.0.0.5", id="private-address"),
        pytest.param(answer(), SONNET, "my-anthropic-proxy", "llm.example", id="named-like-a-vendor"),
        pytest.param(answer(None, 100), SONNET, "anthropic", None, id="input-unknown"),
        pytest.param(answer(1000, None), SONNET, "anthropic", None, id="output-unknown"),
        pytest.param(answer(-1, 100), SONNET, "anthropic", None, id="counts-the-table-refuses"),
        pytest.param(answer(2**62, 100), SONNET, "anthropic", None, id="more-than-a-call-can-cost"),
        pytest.param(Answer(usage=Usage(1000, output_tokens=1)), SONNET, "anthropic", None, id="lower-bound"),
    ],
)
def test_no_estimate(of, model, provider, host):
    assert estimate(of, model, provider, host) is None


@pytest.mark.parametrize(
    ("tier", "factor"),
    [
        (None, "1"),
        ("default", "1"),
        ("standard", "1"),
        ("of-next-year", "1"),
        ("flex", "0.5"),
        ("batch", "0.5"),
        pytest.param("priority", "2", id="trap-105"),
    ],
)
def test_service_tier(tier, factor):
    of = answer(1_000_000, 0)
    of.service_tier = tier
    assert estimate(of, GPT, "openai") == Decimal("1.25") * Decimal(factor)


def test_price_modifiers_reach_the_table(monkeypatch):
    # not by a price: the oldest table allowed has none for a speed
    asked: list[dict[str, Any]] = []
    monkeypatch.setattr(genai_prices, "calc_price", lambda *_, **how: asked.append(how))
    of = answer()
    of.service_tier = "priority"
    of.price_context = {"speed": "fast"}
    estimate(of)
    assert asked[0]["price_context"] == {"service_tier": "priority", "speed": "fast"}


def test_trap_55_passes_that_usage_does_not_count_are_priced_at_their_own_model():
    of = answer(1000, 100)
    of.extra_passes = [
        Pass("claude-haiku-4-5", Usage(input_tokens=1000, output_tokens=0)),
        Pass(None, Usage(input_tokens=1000, output_tokens=0)),
    ]
    assert estimate(of) == Decimal("0.0045") + Decimal("0.001") + Decimal("0.003")


def test_a_pass_of_unknown_price_makes_the_sum_unknown():
    of = answer(1000, 100)
    of.extra_passes = [Pass("claude-of-next-year", Usage(input_tokens=1, output_tokens=1))]
    assert estimate(of) is None


COUNTS = st.none() | st.integers(min_value=-5, max_value=2**63)


@given(
    st.builds(Usage, COUNTS, COUNTS, COUNTS, COUNTS, COUNTS, COUNTS),
    st.none() | st.text(max_size=20) | st.sampled_from([SONNET, GPT, "anthropic/claude-sonnet-4.5"]),
    st.sampled_from([None, *cost.ENTRIES]),
    st.none() | st.text(max_size=20),
    st.dictionaries(st.text(max_size=5), st.text(max_size=5), max_size=2),
)
def test_estimate_never_raises(usage, model, provider, host, context):
    usd = estimate(Answer(usage=usage, usage_final=True, price_context=context), model, provider, host)
    assert usd is None or 0 <= usd <= MAX_USD


def price(of: Answer, bill: Bill, model: str = SONNET, **more: Any) -> cost.Price:
    asked: dict[str, Any] = {
        "provider": "anthropic",
        "host": None,
        "started_at": STARTED,
        "subscription": False,
        "may_load": True,
    } | more
    return cost.price(of, bill, model=model, **asked)


def test_a_reported_cost_goes_before_the_estimate():
    priced = price(answer(), Bill(source="openrouter", cost=Decimal("0.004"), charged=Decimal("0.0002"), is_byok=True))
    assert priced == cost.Price(
        cost_microdollars=4000,
        cost_source="openrouter",
        charged_microdollars=200,
        is_byok=True,
        cost_flags=[],
        cache_miss_microdollars=None,
    )


def test_an_estimate_fills_in():
    priced = price(answer(), Bill(source="reported"))
    assert priced == cost.Price(
        cost_microdollars=4500,
        cost_source="estimate",
        charged_microdollars=None,
        is_byok=None,
        cost_flags=[],
        cache_miss_microdollars=None,
    )


def test_a_final_bill_is_not_estimated():
    priced = price(answer(), Bill(source="openrouter", charged=Decimal(1), flags=("byok_no_upstream",), final=True))
    assert priced == cost.Price(
        cost_microdollars=None,
        cost_source=None,
        charged_microdollars=1_000_000,
        is_byok=None,
        cost_flags=["byok_no_upstream"],
        cache_miss_microdollars=None,
    )


def test_unknown_stays_unknown():
    priced = price(answer(), Bill(source="reported"), model="claude-of-next-year")
    assert (priced.cost_microdollars, priced.cost_source, priced.cost_flags) == (None, None, [])


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
        pytest.param(answer(), costing("0"), {}, ["zero_cost"], id="trap-73-zero-is-marked"),
        pytest.param(answer(1000, 0), costing("0"), {}, [], id="zero-for-no-output"),
        pytest.param(answer(), costing("0", is_byok=True), {}, [], id="zero-byok"),
        pytest.param(answer(), costing("0"), {"model": "acme/some-model:free"}, [], id="zero-of-a-free-model"),
        pytest.param(answer(), costing("0"), {"model": "acme/x"}, ["zero_cost"], id="zero-of-a-model-unknown"),
        pytest.param(answer(), costing("0.0135"), {}, [], id="three-times-the-estimate"),
        pytest.param(answer(), costing("0.0136"), {}, ["off_estimate"], id="more-than-three-times-the-estimate"),
        pytest.param(answer(), costing("0.0015"), {}, [], id="a-third-of-the-estimate"),
        pytest.param(answer(), costing("0.0014"), {}, ["off_estimate"], id="less-than-a-third-of-the-estimate"),
        pytest.param(answer(), costing("5"), {"model": "acme/x"}, [], id="nothing-to-compare-with"),
        pytest.param(answer(cache_read_tokens=1001), costing(None), {}, ["cached_exceeds_input"], id="trap-51-read"),
        pytest.param(
            answer(cache_read_tokens=600, cache_write_tokens=600),
            costing(None),
            {},
            ["cached_exceeds_input"],
            id="trap-51-read-and-written",
        ),
        pytest.param(answer(cache_read_tokens=1000), costing(None), {}, [], id="all-cached"),
        pytest.param(answer(None, cache_read_tokens=1), costing(None), {}, [], id="input-unknown"),
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
    assert price(of, bill, **more).cost_flags == flags


@pytest.fixture
def table_not_loaded(monkeypatch):
    monkeypatch.setattr(cost, "_loaded", threading.Event())


@pytest.mark.usefixtures("table_not_loaded")
class TestWithoutTheTable:
    def test_a_cost_only_it_could_tell_stays_unknown_and_is_marked(self):
        priced = price(answer(), Bill(source="reported"), may_load=False)
        assert (priced.cost_microdollars, priced.cost_source) == (None, None)
        assert priced.cost_flags == ["price_table_loading"]

    def test_it_is_loaded_where_that_is_allowed(self):
        assert price(answer(), Bill(source="reported"), may_load=True).cost_microdollars == 4500

    @pytest.mark.parametrize(
        ("of", "bill"),
        [
            pytest.param(answer(), costing("0.004"), id="reported"),
            pytest.param(answer(), Bill(final=True), id="known-to-be-unknown"),
            pytest.param(Answer(), Bill(), id="no-counts"),
        ],
    )
    def test_what_it_could_not_tell_either_is_not_marked(self, of, bill):
        assert price(of, bill, may_load=False).cost_flags == []

    def test_it_is_ready_after_warming_up(self):
        assert not cost.ready()
        cost.warm_up()
        assert cost.ready()
        assert price(answer(), Bill(source="reported"), may_load=False).cost_microdollars == 4500

    def test_warming_up_does_not_raise_where_the_table_cannot_be_imported(self, monkeypatch):
        monkeypatch.setitem(sys.modules, "genai_prices", None)
        cost.warm_up()
        assert not cost.ready()
        assert price(answer(), Bill(source="reported"), may_load=True).cost_microdollars is None


def test_nothing_imports_the_table_before_it_is_needed():
    # in a process of its own, as this one has loaded the table
    code = """if True:
        import json, sys
        from datetime import UTC, datetime
        from gateway_addon import cost
        from gateway_addon.api.base import Answer, Usage
        from gateway_addon.dialects.base import Bill

        cost.price(
            Answer(usage=Usage(input_tokens=1, output_tokens=1), usage_final=True), Bill(), model="gpt-5",
            provider="openai", host=None, started_at=datetime.now(UTC), subscription=False, may_load=False,
        )
        print(json.dumps("genai_prices" in sys.modules))
    """
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert json.loads(done.stdout) is False


@given(st.floats() | st.decimals() | st.integers() | st.text(max_size=5), st.booleans(), COUNTS)
def test_price_never_raises_and_fits_a_column(reported_cost, is_byok, output_tokens):
    of = answer(1000, output_tokens)
    of.reported_usage = {"cost": reported_cost, "is_byok": is_byok}
    priced = price(of, openrouter.read_bill(of, {}))
    for amount in (priced.cost_microdollars, priced.charged_microdollars):
        assert amount is None or 0 <= amount < 2**63
