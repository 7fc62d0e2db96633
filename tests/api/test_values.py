"""Reading untrusted JSON: every value in, one type or None out."""

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway_addon.api.values import (
    MAX_COUNT,
    MAX_WHOLE,
    count,
    is_implausible,
    items,
    mapping,
    objects,
    text,
    whole,
    written,
)

SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | st.decimals() | st.text()
VALUES = st.recursive(SCALARS, lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner))


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (12, 12),
        (0, 0),
        pytest.param(12.0, 12, id="float"),
        pytest.param(Decimal("12.0"), 12, id="decimal"),
        pytest.param("12", 12, id="numeric string"),
        pytest.param(True, None, id="bool"),
        pytest.param(-1, None, id="negative"),
        (12.5, None),
        (Decimal("0.5"), None),
        (float("nan"), None),
        (float("inf"), None),
        (Decimal("NaN"), None),
        (Decimal("1E+999999"), None),
        ("-1", None),
        ("1.0", None),
        ("", None),
        pytest.param("١٢", None, id="digits of another script"),
        pytest.param("9" * 5000, None, id="more digits than int() takes"),
        (MAX_COUNT, MAX_COUNT),
        (MAX_COUNT + 1, None),
        (None, None),
        ([1], None),
        ({"a": 1}, None),
    ],
)
def test_count_takes_whole_numbers_that_are_plausible(value: object, expected: int | None):
    assert count(value) == expected


@pytest.mark.parametrize(("value", "expected"), [(MAX_WHOLE, MAX_WHOLE), (MAX_WHOLE + 1, None), (-1, None)])
def test_whole_takes_what_sqlite_can_hold(value: object, expected: int | None):
    assert whole(value) == expected


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (MAX_COUNT, False),
        (MAX_COUNT + 1, True),
        (10**30, True),
        (1e13, True),
        (float("inf"), True),
        (float("nan"), False),
        (Decimal("sNaN"), False),
        (Decimal("1E+999999"), True),
        (str(MAX_COUNT + 1), True),
        ("9" * 5000, True),
        ("0" * 5000, False),
        ("x", False),
        (-(10**30), False),
        (True, False),
        (None, False),
    ],
)
def test_what_is_implausible(value: object, expected: bool):
    assert is_implausible(value) is expected


@pytest.mark.parametrize(
    ("value", "expected"), [("a", "a"), (" ", " "), ("", None), (None, None), (1, None), ([], None)]
)
def test_text_takes_strings_with_something_in_them(value: object, expected: str | None):
    assert text(value) == expected


def test_containers_of_another_type_count_as_empty():
    assert mapping({"a": 1}) == {"a": 1}
    assert mapping([1]) == {}
    assert items([1, "a"]) == [1, "a"]
    assert items({"a": 1}) == []
    assert items("text") == []


def test_objects_skips_what_is_no_object():
    assert list(objects([{"a": 1}, None, "text", 3, [{}], {}])) == [{"a": 1}, {}]
    assert list(objects({"a": 1})) == []


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ('{"a" : 1}', '{"a" : 1}'),
        ({"a": [1, Decimal("1.50"), "ä"]}, '{"a":[1,1.50,"ä"]}'),
        ([], "[]"),
        (0, "0"),
        ({}, None),
        ("", None),
        (None, None),
    ],
)
def test_what_is_no_string_is_written_as_compact_json(value: object, expected: str | None):
    assert written(value) == expected


def test_what_is_nested_too_deeply_is_not_written():
    value: list[object] = []
    for _ in range(100_000):
        value = [value]
    assert written(value) is None


@given(VALUES)
def test_no_value_raises_and_each_result_has_its_type(value: object):
    number = count(value)
    assert number is None or (type(number) is int and 0 <= number <= MAX_COUNT)
    assert text(value) is None or isinstance(value, str)
    assert written(value) is None or isinstance(written(value), str)
    assert isinstance(mapping(value), dict)
    assert isinstance(items(value), list)
    assert all(isinstance(item, dict) for item in objects(value))
