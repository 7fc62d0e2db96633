"""Figures that providers without a gateway's bill send of their own accord."""

from decimal import Decimal

import pytest

from gateway_addon.api.base import Answer
from gateway_addon.dialects import reported as dialect
from tests.dialects.answers import reported

HEADER = "x-litellm-response-cost"


@pytest.mark.parametrize(
    ("answer", "headers", "cost"),
    [
        pytest.param(Answer(), {}, None, id="none-normally"),
        pytest.param(reported('{"cost": 0.02}'), {}, "0.02", id="a-number"),
        pytest.param(reported('{"cost": {"request_cost": 0.01, "total_cost": 0.02}}'), {}, "0.02", id="itemised"),
        pytest.param(reported('{"cost": {"usd": 0.02, "hypercredits": 12}}'), {}, "0.02", id="in-two-currencies"),
        pytest.param(reported('{"cost": {"input": 0.01, "total": "0.02"}}'), {}, "0.02", id="itemised-as-text"),
        pytest.param(reported('{"cost": 0.05}', own_cost="0.02"), {}, "0.02", id="outside-of-the-usage"),
        pytest.param(Answer(own_cost={"usd": Decimal("0.02")}), {}, "0.02", id="outside-and-itemised"),
        pytest.param(Answer(own_cost=0), {}, "0", id="nothing-and-said-so"),
        pytest.param(reported('{"cost_in_usd_ticks": 123456789}'), {}, "0.0123456789", id="ticks"),
        pytest.param(reported('{"cost_in_usd_ticks": 0}'), {}, "0", id="no-ticks"),
        pytest.param(Answer(), {HEADER: "1.5e-05"}, "0.000015", id="header"),
        pytest.param(reported('{"cost": 0.02}'), {HEADER: "0.5"}, "0.02", id="the-answer-before-its-head"),
        pytest.param(Answer(), {HEADER: "0.0"}, None, id="header-sent-before-the-cost-was-known"),
        pytest.param(Answer(), {HEADER: "None"}, None, id="header-without-a-figure"),
    ],
)
def test_figure(answer, headers, cost):
    bill = dialect.read_bill(answer, headers)
    assert (bill.source, bill.charged, bill.is_byok) == ("reported", None, None)
    assert (bill.cost, bill.flags, bill.final) == (cost and Decimal(cost), (), False)


@pytest.mark.parametrize(
    ("usage", "flag"),
    [
        pytest.param('{"cost": true}', "invalid_cost", id="bool"),
        pytest.param('{"cost": {}}', "invalid_cost", id="object"),
        pytest.param('{"cost": {"total_cost": "abc"}}', "invalid_cost", id="total"),
        pytest.param('{"cost": 1e9}', "implausible_cost", id="implausible"),
        pytest.param('{"cost_in_usd_ticks": 1.5}', "invalid_cost", id="a-part-of-a-tick"),
        pytest.param('{"cost_in_usd_ticks": -1}', "invalid_cost", id="negative-ticks"),
        pytest.param('{"cost_in_usd_ticks": 1000000000000000000}', "implausible_cost", id="too-many-ticks"),
    ],
)
def test_a_refused_figure_is_not_to_be_estimated(usage, flag):
    bill = dialect.read_bill(reported(usage), {HEADER: "0.5"})
    assert (bill.cost, bill.flags, bill.final) == (None, (flag,), True)


@pytest.mark.parametrize("figure", ["", "free", True, [], {}, {"usd": "?"}, Decimal("NaN")])
def test_a_refused_figure_outside_of_the_usage_is_not_to_be_estimated_either(figure):
    bill = dialect.read_bill(Answer(own_cost=figure), {HEADER: "0.5"})
    assert (bill.cost, bill.flags, bill.final) == (None, ("invalid_cost",), True)


@pytest.mark.parametrize(
    ("charge", "charged", "flags"),
    [
        pytest.param(None, None, (), id="not-told"),
        pytest.param("0", Decimal(0), (), id="nothing"),
        pytest.param("0.01", Decimal("0.01"), (), id="a-part"),
        pytest.param("x", None, ("invalid_cost",), id="no-number"),
    ],
)
def test_what_was_charged_is_another_figure(charge, charged, flags):
    bill = dialect.read_bill(Answer(own_cost="0.02", own_charge=charge), {})
    assert (bill.cost, bill.charged, bill.flags, bill.final) == (Decimal("0.02"), charged, flags, False)
