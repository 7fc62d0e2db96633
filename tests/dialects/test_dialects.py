"""Which dialect an answer has, whose bill stands in it, and what all dialects promise."""

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway_addon.api import KINDS
from gateway_addon.api.base import Answer
from gateway_addon.dialects import DIALECTS, detect, read_bill
from tests.dialects.answers import json_values, reported


@pytest.mark.parametrize(
    ("answer", "name"),
    [
        pytest.param(Answer(gateway={}), "vercel", id="metadata"),
        pytest.param(reported('{"cost": 0.01, "market_cost": 0.01}'), "vercel", id="market-cost"),
        pytest.param(reported('{"cost": 0.01, "gateway_cost": 0}'), "vercel", id="gateway-cost"),
        pytest.param(reported('{"cost": 0.01}', generation_id="gen_1"), "vercel", id="generation-id"),
        pytest.param(reported('{"cost": 0.01}', response_id="gen_1"), "vercel", id="id-of-the-body"),
        pytest.param(reported('{"cost": 0.01}', response_id="gen-1"), "openrouter", id="numeric-cost"),
        pytest.param(reported('{"cost": 0}'), "openrouter", id="cost-of-zero"),
        pytest.param(reported('{"cost": NaN}'), "openrouter", id="a-number-though-a-refused-one"),
        pytest.param(reported('{"cost": {"total_cost": 0.01}}'), "anthropic", id="cost-is-an-object"),
        pytest.param(reported('{"cost": true}'), "anthropic", id="cost-is-a-bool"),
        pytest.param(reported('{"cost": null}'), "anthropic", id="cost-is-null"),
        pytest.param(Answer(response_id="msg_1"), "anthropic", id="the-kind's-vendor"),
    ],
)
def test_detection(answer, name):
    assert detect(None, answer, "anthropic") is DIALECTS[name]


def test_the_configured_dialect_needs_no_sign():
    assert detect("openai", Answer(gateway={}), "anthropic") is DIALECTS["openai"]


VERCEL = {"cost": "0.02", "marketCost": "0.02"}
HEADER = {"x-litellm-response-cost": "0.09"}


@pytest.mark.parametrize("dialect", DIALECTS)
@pytest.mark.parametrize(
    ("answer", "headers", "source", "cost"),
    [
        pytest.param(Answer(gateway=VERCEL), {}, "vercel", "0.02", id="vercel's-metadata"),
        pytest.param(reported('{"cost": 0.02, "market_cost": 0.02}'), {}, "vercel", "0.02", id="vercel's-amounts"),
        pytest.param(
            reported('{"cost": 0.05, "is_byok": false, "cost_in_usd_ticks": 9}', gateway=VERCEL),
            HEADER,
            "vercel",
            "0.02",
            id="vercel-before-openrouter",
        ),
        pytest.param(
            reported('{"cost": 0.03, "is_byok": false}'), {}, "openrouter", "0.03", id="openrouter-that-tells-of-keys"
        ),
        pytest.param(
            reported('{"cost": 0.001, "is_byok": true, "cost_details": {"upstream_inference_cost": 0.02}}'),
            {},
            "openrouter",
            "0.02",
            id="openrouter-with-a-key-of-the-caller's",
        ),
        pytest.param(
            reported('{"cost": 0.03, "cost_details": {"upstream_inference_cost": null}, "cost_in_usd_ticks": 9}'),
            HEADER,
            "openrouter",
            "0.03",
            id="openrouter-before-its-upstream",
        ),
        pytest.param(reported('{"cost": {"usd": 0.04}}'), {}, "reported", "0.04", id="itemised"),
        pytest.param(reported('{"cost_in_usd_ticks": 10000000000}'), {}, "reported", "1", id="ticks"),
        pytest.param(Answer(), HEADER, "reported", "0.09", id="a-header"),
        pytest.param(
            reported('{"cost": 0.03, "is_byok": false}', own_cost="0.06", gateway=VERCEL),
            {},
            "reported",
            "0.06",
            id="who-stands-in-front-goes-first",
        ),
    ],
)
def test_the_answer_tells_whose_bill_it_is_whatever_was_configured(answer, headers, source, cost, dialect):
    bill = read_bill(answer, headers, DIALECTS[dialect])
    assert (bill.source, bill.cost) == (source, Decimal(cost))


@pytest.mark.parametrize(
    ("dialect", "source"),
    [("openrouter", "openrouter"), ("vercel", "vercel"), ("openai", "reported"), ("anthropic", "reported")],
)
def test_a_bare_cost_is_read_as_the_dialect_means_it(dialect, source):
    bill = read_bill(reported('{"cost": 0.02}'), {}, DIALECTS[dialect])
    assert (bill.source, bill.cost) == (source, Decimal("0.02"))


@pytest.mark.parametrize("dialect", DIALECTS.values(), ids=DIALECTS)
def test_without_a_figure_there_is_no_bill(dialect):
    bill = read_bill(reported('{"prompt_tokens": 5}'), {}, dialect)
    assert (bill.cost, bill.charged, bill.flags, bill.final) == (None, None, (), False)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("name", "headers"),
    [
        ("openrouter", {"authorization": "Bearer a-key"}),
        ("vercel", {"authorization": "Bearer a-key"}),
        ("openai", {"authorization": "Bearer a-key"}),
        ("anthropic", {"x-api-key": "a-key", "anthropic-version": "2023-06-01"}),
    ],
)
def test_headers_that_carry_the_key(name, headers, kind):
    assert DIALECTS[name].key_headers(kind, "a-key") == headers


USAGE_KEYS = ("cost", "is_byok", "cost_details", "market_cost", "gateway_cost", "cost_in_usd_ticks")
GATEWAY_KEYS = ("cost", "marketCost", "routing")
ROUTING = st.dictionaries(st.sampled_from(["attempts", "modelAttempts", "finalProvider"]), json_values)


@given(
    st.none() | st.dictionaries(st.sampled_from(USAGE_KEYS), json_values),
    st.none() | st.dictionaries(st.sampled_from(GATEWAY_KEYS), json_values | ROUTING),
    st.dictionaries(st.just("x-litellm-response-cost"), st.text()),
    json_values | st.dictionaries(st.sampled_from(["usd", "total", "total_cost"]), json_values),
    json_values,
)
def test_no_dialect_raises_whatever_was_reported(usage, gateway, headers, own_cost, own_charge):
    answer = Answer(reported_usage=usage, gateway=gateway, own_cost=own_cost, own_charge=own_charge)
    detect(None, answer, "openai")
    for dialect in DIALECTS.values():
        for bill in (dialect.read_bill(answer, headers), read_bill(answer, headers, dialect)):
            assert bill.cost is None or not bill.final
            assert bill.flags or not bill.final
