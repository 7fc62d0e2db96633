"""What counts as an amount of money, and what is refused."""

from decimal import Decimal

import pytest
from hypothesis import given

from gateway_addon.dialects.amounts import MAX_USD, Amount, amount, flags_of
from tests.dialects.answers import json_values

INVALID = Amount(flag="invalid_cost")
IMPLAUSIBLE = Amount(flag="implausible_cost")


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        pytest.param(None, Amount(), id="not-reported"),
        pytest.param(Decimal("0.0123"), Amount(Decimal("0.0123")), id="decimal"),
        pytest.param("0.0123", Amount(Decimal("0.0123")), id="string"),
        pytest.param(2, Amount(Decimal(2)), id="int"),
        pytest.param(0.1, Amount(Decimal("0.1")), id="float-by-its-digits"),
        pytest.param(Decimal("1E-7"), Amount(Decimal("0.0000001")), id="number"),
        pytest.param("1E-7", Amount(Decimal("0.0000001")), id="string"),
        pytest.param(0, Amount(Decimal(0)), id="zero-is-reported"),
        pytest.param("0", Amount(Decimal(0)), id="zero-string"),
        pytest.param(MAX_USD, Amount(MAX_USD), id="largest"),
        pytest.param(float("nan"), INVALID, id="nan"),
        pytest.param("NaN", INVALID, id="nan-word"),
        pytest.param("sNaN", INVALID, id="signalling-nan"),
        pytest.param(float("inf"), INVALID, id="infinity"),
        pytest.param("-Infinity", INVALID, id="infinity-word"),
        pytest.param(-1, INVALID, id="negative"),
        pytest.param(True, INVALID, id="bool"),
        pytest.param({}, INVALID, id="object"),
        pytest.param([], INVALID, id="list"),
        pytest.param("abc", INVALID, id="word"),
        pytest.param("", INVALID, id="empty-string"),
        pytest.param("1e99999999999999999999", INVALID, id="exponent-out-of-range"),
        pytest.param(Decimal("1e9"), IMPLAUSIBLE, id="a-thousand-million"),
        pytest.param(MAX_USD + 1, IMPLAUSIBLE, id="more-than-a-call-can-cost"),
        pytest.param("1e999999", IMPLAUSIBLE, id="huge"),
        pytest.param(10**5000, IMPLAUSIBLE, id="int-of-more-digits-than-text-may-have"),
    ],
)
def test_amount(value, expected):
    assert amount(value) == expected


@given(json_values)
def test_any_json_value_is_read_or_refused(value):
    read = amount(value)
    assert (read.usd is None) or (read.flag is None and 0 <= read.usd <= MAX_USD)


def test_flags_of_several_amounts_come_once():
    assert flags_of(amount("abc"), amount(1), amount(-1), amount(10**9)) == ("invalid_cost", "implausible_cost")
