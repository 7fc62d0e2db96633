"""`tail`: calls as they begin and end."""

import signal
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from time import sleep

import click

from gateway_addon.cli.columns import identity, money, number, words
from gateway_addon.cli.options import Unreadable, database, is_flow_file, limited, reading, selecting
from gateway_addon.cli.output import in_utc, moment, print_ndjson, usd
from gateway_addon.cli.sums import MODEL, OUTCOME, SECONDS, TOOLS, with_unknown_costs
from gateway_addon.cli.tables import Column, fitted, print_lines, width
from gateway_addon.store import finished, queries
from gateway_addon.store.queries import Row
from gateway_addon.store.selection import Selection

POLL = 0.5
"""Seconds between two looks at the file: changes are told by no other machine's file system."""


def _so_far(row: Row) -> str:
    return usd(row["so_far"]) + ("+?" if row["so_far_unknown"] else "")


TAIL = (
    Column(heading="began", forms=(lambda row: moment(row["started_at"], "%H:%M:%S"),), rank=1),
    identity(),
    OUTCOME,
    money(),
    Column(heading="so far", forms=(_so_far,), rank=0, right=True),
    number("input_tokens", 3, "in"),
    number("output_tokens", 4, "out"),
    SECONDS,
    MODEL,
    TOOLS,
    words("agent_id", 8, "agent"),
    words("session_id", 9, "session"),
)
"""The columns of `tail`."""

USUAL: Row = {
    "started_at": "2026-11-22T10:00:00.000Z",
    "short_id": "0" * queries.SHORTEST_ID,
    "outcome": "stream_error",
    "error_status": 529,
    "cost_microdollars": None,
    "cost_flags": '["no_usage"]',
    "so_far": 100_000_000,
    "so_far_unknown": True,
    "input_tokens": 1_000_000,
    "output_tokens": 100_000,
    "duration_ms": 100_000,
    "upstream_model": "a/" + "m" * 24,
    "tools_called": "t" * 20,
    "agent_id": "a" * 16,
    "session_id": "s" * 36,
}
"""Whoever prints a line does not know how wide the next ones will be."""

OTHERS: tuple[Row, ...] = (
    {},
    {"cost_microdollars": 12_345, "input_tokens": 123_456, "output_tokens": 12_345},
    {"outcome": "client_aborted", "error_status": None},
)
"""In what other calls differ from the usual one, and take more room for it."""


@click.command()
@database
@selecting
@limited(5, "calls that have ended already are told first")
@in_utc
@click.option("--ndjson", is_flag=True, help="Print JSON, a line as a call begins and as it ends.")
def tail(path: Path, selection: Selection, limit: int, ndjson: bool) -> None:
    """Calls as they begin and end, a line each, with what they have cost so far; until Ctrl-C."""
    if is_flow_file(path):
        raise Unreadable(f"{path}: a flow file, not a database that grows")
    # SIGTERM ends it like Ctrl-C
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    with suppress(KeyboardInterrupt):
        places = fitted(TAIL, [USUAL | other for other in OTHERS], width())
        for number_of_line, call in enumerate(_with_total(_told(path, selection, limit))):
            if ndjson:
                print_ndjson([call])
            else:
                print_lines(places, [call], heading=number_of_line == 0)


def _told(path: Path, selection: Selection, limit: int) -> Iterator[Row]:
    """Calls as they begin, and as they end."""
    with reading(path) as db:
        version, after, began = 0, 0, set[str]()
        while True:
            if (now := finished.version(db)) != version:
                # what has ended is looked for first, so that a call that ends in between is told as begun before
                calls = finished.ended(db, after, selection, limit if version == 0 else -1)
                begun = [call for call in finished.under_way(db, selection) if call["id"] not in began]
                version, after = now, max([after, *(call["finish_sequence"] for call in calls)])
                began |= {call["id"] for call in begun}
                for call in (*calls, *begun):
                    yield call | {"short_id": queries.short_id(db, call["id"])}
            sleep(POLL)


def _with_total(calls: Iterator[Row]) -> Iterator[Row]:
    """Each call with what all before it have cost: `so_far`, and `so_far_unknown`, whether that of one is unknown.

    A call that was changed after it ended is told again, and counted once.
    """
    costs: dict[str, Row] = {}
    for call in calls:
        (costs[call["id"]],) = with_unknown_costs([call])
        known = sum(cost["cost_microdollars"] or 0 for cost in costs.values())
        yield call | {"so_far": known, "so_far_unknown": any(cost["calls_without_cost"] for cost in costs.values())}
