"""What fills the context: `show --composition` and `report --by context`."""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from gateway_addon.cli.columns import money, number, percent, usd, words
from gateway_addon.cli.output import print_json, say, tracked
from gateway_addon.cli.tables import Totals, print_table, summed
from gateway_addon.composition import UNSIZED, Part, Sum, composed, in_microdollars, summed_up
from gateway_addon.cost import PriceTable
from gateway_addon.record import Record
from gateway_addon.sinks.console import tokens
from gateway_addon.store import asked
from gateway_addon.store.database import Database
from gateway_addon.store.queries import Row

COLUMNS = (
    words("part", 0, "part", 11),
    words("name", 1, "name", 16),
    number("tokens", 0, "tokens"),
    percent("share", 3, "share"),
    number("calls", 2, "sent", is_summed=False),
    money(),
    number("bytes", 4, "bytes"),
)
"""Of a table of parts; `sent` is how many calls sent the part."""


class Context(NamedTuple):
    """What fills the context of some calls."""

    rows: list[Row]
    """Largest first, all times that a part was sent together: `part`, `name`, `calls` that sent it, `bytes`, `tokens`,
    `share` of all tokens, `cost_microdollars`, `calls_without_cost`."""
    left_out: int
    """Calls that are not counted: their request or their usage is unknown."""
    has_unsized: bool
    bill: Sequence[str] = ()
    """Of one call: how its cost comes about."""

    @property
    def totals(self) -> Totals:
        totals = summed(COLUMNS, self.rows)
        totals["share"] = 1 if totals["tokens"] else None
        return totals

    @property
    def notes(self) -> list[str]:
        told = {
            f"calls left out, as their requests or tokens are unknown: {self.left_out}": self.left_out,
            f"what is of {UNSIZED} counts among the others": self.has_unsized,
        }
        return [*(self.bill if self.rows else ()), *(note for note, holds in told.items() if holds)]


def of_calls(db: Database, ids: Sequence[str]) -> Context:
    """What filled the context of these calls together."""
    return _context([parts for _, parts in _composed(db, ids)], len(ids))


def of_call(db: Database, request_id: str) -> Context:
    """What filled the context of a call; `calls` are those of its session."""
    parts = dict(_composed(db, asked.session_of(db, request_id)))
    sent = {(each.category, each.name): each.sent for each in summed_up(parts.values())}
    context = _context([parts[request_id]] if request_id in parts else [], 1)
    rows = [row | {"calls": sent[row["part"], row["name"]]} for row in context.rows]
    rows.sort(key=lambda row: -(row["tokens"] or 0) * row["calls"])
    ((record, _),) = asked.sent(db, [request_id])
    return context._replace(rows=rows, bill=_bill(record, context.totals["cost_microdollars"]))


def _bill(record: Record, cost_of_input: int | None) -> list[str]:
    counts = {
        "read": record.input_tokens,
        "from the cache": record.cache_read_tokens,
        "written to it": record.cache_write_tokens,
        "answered": record.output_tokens,
    }
    told = ", ".join(f"{name} {tokens(count)}" for name, count in counts.items() if count is not None)
    return [f"tokens: {told}", f"cost: {usd(record.cost_microdollars)}, of that {usd(cost_of_input)} for the input"]


def _composed(db: Database, ids: Sequence[str]) -> Iterable[tuple[str, list[Part]]]:
    """The parts of each call of which they are known."""
    table = PriceTable()
    table.load()
    for record, body in asked.sent(db, tracked(ids, "reading requests")):
        if body is not None and record.input_tokens is not None and not record.is_served_again:
            yield record.id, composed(record, body, table)


def _context(calls: list[list[Part]], of: int) -> Context:
    sums = summed_up(calls)
    total = sum(each.tokens or 0 for each in sums)
    rows = [_row(each, cost, total) for each, cost in zip(sums, in_microdollars(sums), strict=True)]
    return Context(rows, of - len(calls), any(each.tokens is None for each in sums))


def _row(part: Sum, cost: int | None, total: int) -> Row:
    return {
        "part": part.category,
        "name": part.name,
        "calls": part.sent,
        "bytes": part.bytes,
        "tokens": part.tokens,
        "share": None if part.tokens is None or not total else part.tokens / total,
        "cost_microdollars": cost,
        "calls_without_cost": part.unknown_costs,
    }


def print_context(context: Context, *, as_json: bool) -> None:
    """All parts, with their totals."""
    totals = context.totals
    if as_json:
        sums = {name: totals.get(name) for name in ("tokens", "cost_microdollars", "calls_without_cost")}
        print_json(sums | {"calls_left_out": context.left_out, "parts": context.rows})
        return
    if context.rows:
        print_table(COLUMNS, context.rows, totals)
    for note in context.notes:
        say(note)
