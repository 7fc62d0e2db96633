"""Which dialect an answer is read with, and what all dialects promise."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway_addon.api import KINDS
from gateway_addon.api.base import Answer
from gateway_addon.dialects import DIALECTS, detect
from tests.dialects.answers import json_values, reported


@pytest.mark.parametrize(
    ("answer", "name"),
    [
        pytest.param(Answer(gateway={}), "vercel", id="metadata"),
        pytest.param(reported('{"cost": 0.01, "market_cost": 0.01}'), "vercel", id="trap-63-market-cost"),
        pytest.param(reported('{"cost": 0.01, "gateway_cost": 0}'), "vercel", id="gateway-cost"),
        pytest.param(reported('{"cost": 0.01}', generation_id="gen_1"), "vercel", id="trap-63-generation-id"),
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
)
def test_no_dialect_raises_whatever_was_reported(usage, gateway, headers):
    answer = Answer(reported_usage=usage, gateway=gateway)
    detect(None, answer, "openai")
    for dialect in DIALECTS.values():
        bill = dialect.read_bill(answer, headers)
        assert bill.cost is None or not bill.final
