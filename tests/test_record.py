"""A record becomes a row of the columns, and a row a record again."""

from decimal import Decimal

from gateway_addon.record import COLUMNS, as_row, from_row
from tests.store.calls import make_record

RECORD = make_record(
    started_at=1_795_341_600.0,
    usage={"output_tokens": 5, "cost": Decimal("0.10")},
    cost_flags=("byok_unknown",),
    rewrites=({"op": "remove", "path": "/body/models"},),
    warnings=("response_truncated",),
)


def test_a_row_has_the_columns_in_order():
    assert tuple(as_row(RECORD)) == COLUMNS


def test_lists_and_times_become_text_last_and_come_back():
    row = as_row(RECORD)
    assert {name: row[name] for name in ("started_at", "usage", "cost_flags", "warnings")} == {
        "started_at": "2026-11-22T10:00:00.000Z",
        "usage": '{"output_tokens":5,"cost":0.10}',
        "cost_flags": '["byok_unknown"]',
        "warnings": '["response_truncated"]',
    }
    assert from_row(row) == RECORD
