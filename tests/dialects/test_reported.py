"""Figures that providers without a gateway's bill send of their own accord (wire-formats §10.4)."""

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
        pytest.param('{"cost": true}', "invalid_cost", id="trap-69-bool"),
        pytest.param('{"cost": {}}', "invalid_cost", id="trap-69-object"),
        pytest.param('{"cost": {"total_cost": "abc"}}', "invalid_cost", id="trap-69-total"),
        pytest.param('{"cost": 1e9}', "implausible_cost", id="trap-70"),
        pytest.param('{"cost_in_usd_ticks": 1.5}', "invalid_cost", id="a-part-of-a-tick"),
        pytest.param('{"cost_in_usd_ticks": -1}', "invalid_cost", id="negative-ticks"),
        pytest.param('{"cost_in_usd_ticks": 1000000000000000000}', "implausible_cost", id="too-many-ticks"),
    ],
)
def test_a_refused_figure_is_not_to_be_estimated(usage, flag):
    bill = dialect.read_bill(reported(usage), {HEADER: "0.5"})
    assert (bill.cost, bill.flags, bill.final) == (None, (flag,), True)
