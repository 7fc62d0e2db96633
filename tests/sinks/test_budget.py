"""One warning for each session that becomes too dear."""

from decimal import Decimal
from typing import Any

import pytest

from gateway_addon.content import Content
from gateway_addon.sinks.budget import Budget
from tests.store.calls import make_record


def spend(budget: Budget, session: str | None, microdollars: int | None, **more: Any) -> None:
    record = make_record(session_id=session, cost_microdollars=microdollars, **more)
    budget.begin(record)
    budget.finish(record, Content(), wait=False)


def test_a_session_that_passes_the_limit_is_named_once(caplog: pytest.LogCaptureFixture):
    budget = Budget(Decimal("0.01"))
    for session in ("a", "b", "a\x1b[2J"):
        spend(budget, session, 10_000)
    assert caplog.messages == []
    for session in ("a", "a", "a\x1b[2J"):
        spend(budget, session, 5_000)
    assert caplog.messages == [
        "gateway-addon: session a has cost $0.0150, more than gateway_warn_usd=0.01",
        "gateway-addon: session a?[2J has cost $0.0150, more than gateway_warn_usd=0.01",
    ]


def test_what_names_no_session_counts_together(caplog: pytest.LogCaptureFixture):
    budget = Budget(Decimal(1))
    for _ in range(3):
        spend(budget, None, 600_000)
    assert caplog.messages == ["gateway-addon: session without a name has cost $1.2000, more than gateway_warn_usd=1"]


def test_what_cost_nothing_or_is_unknown_is_not_counted(caplog: pytest.LogCaptureFixture):
    budget = Budget(Decimal(1))
    spend(budget, "a", None)
    spend(budget, "a", 2_000_000, id="f1", source="replay")
    assert caplog.messages == []
    spend(budget, "a", 2_000_000, id="f1~1790000000000", source="replay")
    assert len(caplog.messages) == 1


def test_a_limit_that_is_set_later_counts_what_was_spent_before(caplog: pytest.LogCaptureFixture):
    budget = Budget()
    spend(budget, "a", 2_000_000)
    assert caplog.messages == []
    budget.limit = Decimal(1)
    spend(budget, "a", 1)
    assert len(caplog.messages) == 1
