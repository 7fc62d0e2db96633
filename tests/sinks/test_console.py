"""What a person reads of a call."""

from collections import Counter
from typing import Any

import pytest

from gateway_addon.record import Record
from gateway_addon.sinks.console import Totals, comment, dollars, line, tokens


def row(**more: Any) -> Record:
    same: dict[str, Any] = {"id": "f", "run_id": "r", "started_at": 0.0, "source": "live", "api_kind": "messages"}
    return Record(**same | {"outcome": "complete", "request_model": "m"} | more)


@pytest.mark.parametrize(
    ("record", "tools", "said"),
    [
        (row(), {}, "messages m · $?"),
        (row(input_tokens=950, output_tokens=0, cost_microdollars=0), {}, "messages m · in 950 out 0 · $0.0000"),
        (
            row(
                input_tokens=12_345,
                cache_read_tokens=11_000,
                output_tokens=7,
                cost_microdollars=12_300,
                duration_ms=3e3,
            ),
            {"Read": 1, "Bash": 2},
            "messages m · in 12.3k (cached 11.0k) out 7 · $0.0123 · Read, Bash ×2 · 3.0 s",
        ),
        (
            row(outcome="stream_error", http_status=200, error_status=529, error_type="overloaded_error"),
            {},
            "messages m · stream_error 529 overloaded_error · $?",
        ),
        (row(outcome="http_error", http_status=502), {}, "messages m · http_error 502 · $?"),
        (
            row(outcome="client_aborted", http_status=200, input_tokens=5, output_tokens=2, usage_is_lower_bound=True),
            {},
            "messages m · client_aborted · in ≥5 out ≥2 · $?",
        ),
        (row(outcome="upstream_cut", error_type="timeout"), {}, "messages m · upstream_cut timeout · $?"),
        (row(cost_flags=("no_usage",)), {}, "messages m · $? (no usage)"),
        (row(cost_microdollars=100, cost_flags=("zero_cost",)), {}, "messages m · $0.0001"),
        (row(side_request="title", request_model=None, response_model="n"), {}, "messages n · $? · title"),
    ],
)
def test_line(record: Record, tools: dict[str, int], said: str):
    assert line(record, Counter(tools)) == said


@pytest.mark.parametrize(
    ("record", "tools", "said"),
    [
        (row(), {}, "$? · m"),
        (
            row(input_tokens=12_345, cache_read_tokens=11_000, output_tokens=7, cost_microdollars=12_300),
            {"Read": 1, "Bash": 2},
            "$0.0123 · 12.3k→7 · Read, Bash ×2 · m",
        ),
        (
            row(outcome="stream_error", http_status=200, error_status=529, error_type="overloaded_error"),
            {},
            "stream_error 529 overloaded_error · $? · m",
        ),
        (
            row(outcome="client_aborted", input_tokens=5, usage_is_lower_bound=True, side_request="title"),
            {},
            "client_aborted · $? · ≥5→? · m · title",
        ),
        (row(request_model="a\x1bb"), {"x" * 100: 1}, f"$? · {'x' * 74}…"),
    ],
)
def test_a_comment_has_the_trouble_and_the_money_first_and_is_short(record: Record, tools: dict[str, int], said: str):
    assert comment(record, Counter(tools)) == said


def test_tokens():
    assert [tokens(n) for n in (None, 0, 999, 1000, 1_234_567)] == ["?", "0", "999", "1.0k", "1.2M"]


def test_dollars():
    assert [dollars(n) for n in (None, 0, 7, 99, 100, 12_345, 2_000_000)] == [
        *("$?", "$0.0000", "$0.000007", "$0.000099", "$0.0001", "$0.0123", "$2.0000"),
    ]


PRICED = row(input_tokens=10, output_tokens=2, cost_microdollars=5000)
UNCOUNTED = row(cost_flags=("upstream_unexpected", "no_usage"))
CUT = row(outcome="upstream_cut", cost_flags=("cut",))


@pytest.mark.parametrize(
    ("calls", "said"),
    [
        ([PRICED, PRICED], "in 20 (cached ?) out 4 · $0.0100"),
        ([PRICED, UNCOUNTED], "in 10 (cached ?) out 2 · $0.0050 + 1 of unknown cost (1 no usage)"),
        ([CUT, UNCOUNTED, CUT], "in ? (cached ?) out ? · 3 of unknown cost (2 cut, 1 no usage)"),
        ([row()], "in ? (cached ?) out ? · 1 of unknown cost (1 reason unknown)"),
        ([row(cost_microdollars=0)], "in ? (cached ?) out ? · $0.0000"),
        # went nowhere and cost nothing
        ([row(outcome="rejected", cost_flags=("no_usage",))], "in ? (cached ?) out ?"),
    ],
)
def test_totals(calls: list[Record], said: str):
    totals = Totals()
    for call in calls:
        totals.add(call)
    failed = sum(call.outcome != "complete" for call in calls)
    assert totals.line() == f"{len(calls)} calls, {failed} not complete · {said}"
