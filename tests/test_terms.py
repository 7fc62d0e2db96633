"""Every word of a column is defined once: SQL and the reference know no other, and that explains each outcome."""

import re
from pathlib import Path
from typing import get_args

import pytest

from gateway_addon import terms
from gateway_addon.store import schema

REFERENCE = Path(__file__).parents[1].joinpath("gateway_addon", "REFERENCE.md").read_text("utf-8")
OUTCOMES = get_args(terms.Outcome.__value__)


def words_compared(sql: str, column: str) -> set[str]:
    """The words that a statement compares a column with."""
    lists = re.findall(rf"\b{column} (?:NOT )?IN \(([^()]*)\)", sql)
    single = re.findall(rf"\b{column} *(?:=|<>) *'(\w+)'", sql)
    return {word for found in lists for word in re.findall(r"'(\w+)'", found)} | set(single)


@pytest.mark.parametrize(("column", "known"), [("outcome", OUTCOMES), ("source", get_args(terms.Source.__value__))])
def test_sql_knows_no_other_word(column: str, known: tuple[str, ...]):
    package = Path(schema.__file__).parents[1]
    sql = "\n".join(path.read_text("utf-8") for path in package.rglob("*.py"))
    used = words_compared(sql, column)
    assert used
    assert used <= set(known)


@pytest.mark.parametrize("outcome", OUTCOMES)
def test_the_reference_explains_every_outcome(outcome: str):
    assert f"`{outcome}`" in REFERENCE


@pytest.mark.parametrize("column", ["outcome", "cost_source"])
def test_the_reference_names_no_other(column: str):
    known = OUTCOMES if column == "outcome" else get_args(terms.CostSource.__value__)
    (listed,) = re.findall(rf"`{column}` (?:is one of|says) ([^.]*)\.", REFERENCE)
    assert set(re.findall(r"`(\w+)`", listed)) <= {*known, "requests"}


@pytest.mark.parametrize(
    ("flags", "why"),
    [
        ((), None),
        (("no_usage",), "no usage"),
        (("unpriced:web_searches", "unpriced:other"), "unpriced web searches"),
        (("upstream_unexpected", "unknown_model"), "unknown model"),
        (("invalid_cost", "subscription"), "invalid cost"),
    ],
)
def test_why_a_cost_is_unknown(flags: tuple[str, ...], why: str | None):
    assert terms.why_unknown(flags) == why
