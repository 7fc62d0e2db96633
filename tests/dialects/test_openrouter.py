"""OpenRouter's bill: who pays what, and which figures are doubted."""

from decimal import Decimal

import pytest

from gateway_addon.api.base import Answer
from gateway_addon.dialects import openrouter
from tests.dialects.answers import reported


def usage(cost: str | None, is_byok: str | None, upstream: str | None) -> Answer:
    """An answer with these JSON values; None leaves the field out."""
    fields = [f'"cost": {cost}'] if cost else []
    fields += [f'"is_byok": {is_byok}'] if is_byok else []
    fields += [f'"cost_details": {{"upstream_inference_cost": {upstream}}}'] if upstream else []
    return reported("{" + ", ".join(fields) + "}")


@pytest.mark.parametrize(
    ("answer", "cost", "charged", "flags"),
    [
        pytest.param(usage("0.0005", "true", "0.01"), "0.01", "0.0005", (), id="the-price-and-the-fee"),
        pytest.param(usage("0", "true", "0.01"), "0.01", "0", (), id="fee-waived"),
        pytest.param(usage("0.01", "true", "0.01"), "0.01", "0.01", ("byok_mismatch",), id="a-fee-that-is-none"),
        pytest.param(usage("0.0000005", "true", "0.0000111"), "0.0000111", "0.0000005", (), id="mismatch-by-rounding"),
        pytest.param(
            usage("0.0000005", "true", "0.0000112"),
            "0.0000112",
            "0.0000005",
            ("byok_mismatch",),
            id="mismatch-beyond-rounding",
        ),
        pytest.param(usage(None, "true", "0.01"), "0.01", None, (), id="byok-without-a-fee"),
        pytest.param(usage("0.01", "false", "0.01"), "0.01", "0.01", (), id="never-added"),
        pytest.param(usage("0.01", "false", "null"), "0.01", "0.01", (), id="no-upstream-price"),
        pytest.param(usage("0.01", "false", "0"), "0.01", "0.01", (), id="upstream-price-of-zero"),
        pytest.param(usage("0.016", "false", "0.00018"), "0.016", "0.016", ("upstream_unexpected",), id="server-tool"),
        pytest.param(usage("0.01", None, None), "0.01", "0.01", ("byok_unknown",), id="byok-not-told"),
        pytest.param(usage("0.01", "null", None), "0.01", "0.01", ("byok_unknown",), id="null"),
        pytest.param(usage("0.01", '"yes"', None), "0.01", "0.01", ("byok_unknown",), id="byok-of-another-type"),
        pytest.param(
            usage("0.016", None, "0.00018"), "0.016", "0.016", ("byok_unknown",), id="server-tool-and-byok-not-told"
        ),
        pytest.param(usage("0", None, "0"), "0", "0", (), id="nothing-to-doubt"),
        pytest.param(usage('"1E-7"', "false", None), "0.0000001", "0.0000001", (), id="text-with-an-exponent"),
        pytest.param(usage(None, None, None), None, None, (), id="nothing-reported"),
        pytest.param(Answer(), None, None, (), id="no-usage"),
    ],
)
def test_bill(answer, cost, charged, flags):
    bill = openrouter.read_bill(answer, {})
    assert (bill.source, bill.final) == ("openrouter", False)
    assert (bill.cost, bill.charged) == (cost and Decimal(cost), charged and Decimal(charged))
    assert bill.flags == flags


@pytest.mark.parametrize(
    ("answer", "charged", "flags"),
    [
        pytest.param(usage("NaN", "false", None), None, ("invalid_cost",), id="nan"),
        pytest.param(usage("-1", "false", None), None, ("invalid_cost",), id="negative"),
        pytest.param(usage("true", "false", None), None, ("invalid_cost",), id="bool"),
        pytest.param(usage("{}", "false", None), None, ("invalid_cost",), id="object"),
        pytest.param(usage("1e9", "false", None), None, ("implausible_cost",), id="implausible"),
        pytest.param(usage("0.01", "true", "-1"), Decimal("0.01"), ("invalid_cost",), id="byok-upstream-refused"),
        pytest.param(usage("0.01", "true", None), Decimal("0.01"), ("byok_no_upstream",), id="byok-no-upstream"),
        pytest.param(usage("0.01", "true", "null"), Decimal("0.01"), ("byok_no_upstream",), id="byok-upstream-null"),
    ],
)
def test_a_cost_known_to_be_unknown_is_not_to_be_estimated(answer, charged, flags):
    bill = openrouter.read_bill(answer, {})
    assert (bill.cost, bill.charged, bill.flags, bill.final) == (None, charged, flags, True)


def test_a_refused_fee_does_not_spoil_the_price():
    bill = openrouter.read_bill(usage('"abc"', "true", "0.01"), {})
    assert (bill.cost, bill.charged) == (Decimal("0.01"), None)
    assert (bill.flags, bill.final) == (("invalid_cost",), False)


@pytest.mark.parametrize(("value", "is_byok"), [("true", True), ("false", False), ("null", None), ("1", None)])
def test_is_byok_is_what_was_said(value, is_byok):
    assert openrouter.read_bill(usage("0.01", value, "0.01"), {}).is_byok is is_byok
