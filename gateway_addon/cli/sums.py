"""What the calls are and come to: `list`, `report`."""

from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import click

from gateway_addon.cli import context
from gateway_addon.cli.columns import identity, money, number, percent, when, words
from gateway_addon.cli.options import database, limited, reading, selecting
from gateway_addon.cli.output import (
    UNKNOWN,
    Output,
    is_utc,
    plain,
    print_heading,
    printing,
    say,
    seconds,
    usd,
)
from gateway_addon.cli.tables import Column, Totals, summed
from gateway_addon.store import queries
from gateway_addon.store.database import Database
from gateway_addon.store.queries import Row
from gateway_addon.store.selection import MAIN, Selection

_OUTCOMES = defaultdict(lambda: "red", complete="", in_flight="dim", client_aborted="yellow", rejected="yellow")


def _outcome(call: Row) -> str:
    """With the status that an error came with."""
    status = {"stream_error": call.get("error_status"), "http_error": call.get("http_status")}.get(call["outcome"])
    return plain(f"{call['outcome']} {status}" if status else call["outcome"])


def _model(call: Row) -> str:
    return plain(call["upstream_model"] or call["request_model"])


MODEL = Column(heading="model", forms=(_model, lambda call: _model(call).rpartition("/")[2]), rank=1, least=16)
OUTCOME = Column(
    heading="outcome",
    forms=(_outcome, lambda call: plain(call["outcome"])),
    rank=0,
    style=lambda call: _OUTCOMES[str(call["outcome"])],
)
SECONDS = Column(heading="seconds", forms=(lambda call: seconds(call["duration_ms"]),), rank=6, right=True)
TOOLS = words("tools_called", 7, "tools", 8)

LIST = (
    when("started_at", 2),
    identity(),
    MODEL,
    OUTCOME,
    number("input_tokens", 3, "in"),
    number("cache_read_tokens", 5, "cached"),
    number("output_tokens", 4, "out"),
    money(),
    SECONDS,
    TOOLS,
    words("client", 8, "client"),
    words("session_id", 9, "session"),
    words("api_kind", 10, "kind"),
)
"""The columns of `list`."""

PART = tuple(
    column for column in LIST if column.heading in ("time", "id", "model", "outcome", "cost", "seconds", "tools")
)
"""The columns of the calls that stand out in a report."""

STANDING_OUT = 3
"""How many of the dearest calls, of the slowest, and of the tools that fail a report ends with."""

SUMS = (
    number("calls", 1, "calls"),
    number("errors", 2, "errors"),
    number("input_tokens", 3, "in"),
    percent("cache_hit_rate", 5, "cached"),
    number("output_tokens", 4, "out"),
    number("reasoning_tokens", 8, "reasoning"),
    number("cache_write_tokens", 7, "cache writes"),
    money(),
    Column(
        heading="charged",
        forms=(lambda row: UNKNOWN if row["charged_microdollars"] is None else usd(row["charged_microdollars"]),),
        rank=6,
        right=True,
        summed=("charged_microdollars",),
    ),
)
"""The columns of `report` behind those by which it sums up."""

KEY_COLUMNS = {
    "model": words("model", 0, "model", 26),
    "day": words("day", 0, "day", 10),
    "week": words("week", 0, "week of", 10),
    "session_id": words("session_id", 0, "session"),
    "client": words("client", 0, "client"),
    "agent_id": Column(
        heading="agent",
        forms=(lambda row: plain(MAIN if row["agent_id"] is None else row["agent_id"]),),
        rank=0,
        least=8,
    ),
}
"""By what `report` sums up."""

TOOL_USAGE = (
    words("name", 0, "tool"),
    number("calls", 1, "calls"),
    number("requests", 3, "requests", is_summed=False),
    number("errors", 0, "failed"),
    percent("error_rate", 2, "rate"),
)
"""The columns of `report --by tool`."""

ERRORS = (
    Column(heading="outcome", forms=OUTCOME.forms[1:], rank=0, style=OUTCOME.style),
    Column(heading="status", forms=(lambda row: plain(row["status"]),), rank=3, right=True),
    words("error_type", 2, "error"),
    number("calls", 0, "calls"),
    when("started_at", 4, "latest"),
    identity(1),
    words("error_message", 5, "message", 20),
)
"""The columns of `report --by error`."""

REWRITTEN = number("rewritten_tokens", 1, "tokens")

BREAKS = (
    when("started_at", 3),
    identity(),
    words("model", 4, "model"),
    REWRITTEN,
    money(),
    words("cause", 2, "cause"),
    Column(heading="idle s", forms=(lambda row: f"{row['idle_seconds']:,.0f}",), rank=6, right=True),
    words("segment", 5, "differs in", 10),
    words("where", 7, "where", 20),
)
"""The columns of cache breaks: tokens that were processed again, and why."""


@click.command("list")
@database
@selecting
@limited(20, "calls")
@printing
def list_calls(path: Path, selection: Selection, limit: int, output: Output) -> None:
    """The latest calls, newest first."""
    with reading(path) as db:
        rows = queries.calls(db, selection, limit)
    output.print(rows, LIST, totals=summed(LIST, with_unknown_costs(rows), f"{len(rows)} calls"))


def with_unknown_costs(calls: list[Row]) -> list[Row]:
    """The calls, those whose cost is unknown marked so for a sum of them."""
    return [
        call
        | {"calls_without_cost": call["cost_microdollars"] is None and call["outcome"] not in ("rejected", "in_flight")}
        for call in calls
    ]


CACHE_BREAK, TOOL, ERROR, CONTEXT = "cache-break", "tool", "error", "context"
ALONE = (TOOL, ERROR, CONTEXT, CACHE_BREAK)
"""What is reported on by itself, as it is not summed up from calls."""


def _keys(given: str) -> tuple[str, ...]:
    keys = tuple(given.split(","))
    known = [*queries.KEYS, *ALONE]
    if unknown := [key for key in keys if key not in known]:
        raise click.BadParameter(f"{unknown[0]!r} is none of {', '.join(known)}")
    if len(keys) > 1 and (alone := [key for key in keys if key in ALONE]):
        raise click.BadParameter(f"{alone[0]!r} stands alone")
    return tuple(dict.fromkeys(keys))


@click.command()
@database
@click.option(
    "--by", type=_keys, metavar="KEYS", default="model", show_default=True,
    help=f"{', '.join(queries.KEYS)}, or several with commas: day,model; or {', '.join(ALONE)}.",
)  # fmt: skip
@selecting
@limited(20, "rows of a table")
@printing
def report(path: Path, by: tuple[str, ...], selection: Selection, limit: int, output: Output) -> None:
    """Calls, tokens and cost, summed up; then the dearest and slowest calls, tools that fail, and missed caches.

    `cached` is how much of the input came from a prompt cache. Days and weeks are those of this machine's time zone,
    with --utc and for programs those of UTC.
    """
    with reading(path) as db:
        sections = REPORTS.get(by[0], _sums)(db, by, selection, limit, output)
    first, *more = sections
    output.print(first.rows, first.columns, first.none, first.totals)
    for section in [first, *more] if output.is_table else []:
        if section.heading:
            print_heading(section.heading)
            output.print(section.rows, section.columns)
        if section.note:
            say(section.note)


class Section(NamedTuple):
    """A part of a report. For programs there is only the first."""

    rows: list[Row]
    columns: Sequence[Column] = ()
    none: str = "no calls"
    totals: Totals | None = None
    heading: str = ""
    note: str = ""
    """A line below it."""


def _rest(count: int) -> str:
    return f"… and {count} more (--limit)" if count > 0 else ""


def _sums(db: Database, by: tuple[str, ...], selection: Selection, limit: int, output: Output) -> list[Section]:
    rows = queries.report(db, by, selection, local=output.is_table and not is_utc())
    columns = (*(KEY_COLUMNS[name] for key in by for name in queries.KEYS[key][0]), *SUMS)
    if not output.is_table or not rows:
        return [Section(rows, columns)]
    (everything,) = queries.report(db, (), selection)
    totals = Totals(everything, **{columns[0].heading: "total"})
    sections = [Section(rows[:limit], columns, totals=totals, note=_rest(len(rows) - limit))]
    for order in ("dearest", "slowest"):
        if calls := queries.calls(db, selection, STANDING_OUT, order):
            sections.append(Section(calls, PART, heading=f"{order} calls"))
    if failing := [tool for tool in _tools(db, selection) if tool["errors"]]:
        failing.sort(key=lambda tool: -tool["errors"])
        sections.append(Section(failing[:STANDING_OUT], TOOL_USAGE, heading="tools that fail"))
    missed = queries.cache_breaks_in_all(db, selection)
    if count := missed["breaks"]:
        tokens, cost = (column.cell(missed, -1) for column in (REWRITTEN, money()))
        breaks = "cache break" if count == 1 else "cache breaks"
        line = f"\n{count} {breaks}: {tokens} tokens processed again for {cost} (--by {CACHE_BREAK})"
        sections.append(Section([], note=line))
    return sections


def _tools(db: Database, selection: Selection) -> list[Row]:
    return [
        row | {"error_rate": None if row["errors"] is None else row["errors"] / row["calls"]}
        for row in queries.tools(db, selection)
    ]


def _tool_usage(db: Database, by: tuple[str, ...], selection: Selection, limit: int, output: Output) -> list[Section]:
    rows = _tools(db, selection)
    totals = summed(TOOL_USAGE, rows)
    totals["error_rate"] = None if totals["errors"] is None else totals["errors"] / totals["calls"]
    return [_cut(Section(rows, TOOL_USAGE, "no tool calls", totals), limit, output)]


def _errors(db: Database, by: tuple[str, ...], selection: Selection, limit: int, output: Output) -> list[Section]:
    rows = queries.errors(db, selection)
    return [_cut(Section(rows, ERRORS, "no errors", summed(ERRORS, rows)), limit, output)]


def _cut(section: Section, limit: int, output: Output) -> Section:
    """For people, only so many rows."""
    if not output.is_table:
        return section
    return section._replace(rows=section.rows[:limit], note=_rest(len(section.rows) - limit))


def _breaks(db: Database, by: tuple[str, ...], selection: Selection, limit: int, output: Output) -> list[Section]:
    rows = queries.cache_breaks(db, limit, selection)
    in_all = queries.cache_breaks_in_all(db, selection)
    rest = _rest(in_all["breaks"] - len(rows))
    return [Section(rows, BREAKS, "no cache breaks", Totals(in_all, time="total"), note=rest)]


def _filling(db: Database, by: tuple[str, ...], selection: Selection, limit: int, output: Output) -> list[Section]:
    filled = context.of_calls(db, queries.selected_ids(db, selection))
    section = _cut(Section(filled.rows, context.COLUMNS, totals=filled.totals), limit, output)
    return [section._replace(note="\n".join(filter(None, (section.note, *filled.notes))))]


REPORTS = {TOOL: _tool_usage, ERROR: _errors, CONTEXT: _filling, CACHE_BREAK: _breaks}
"""What is reported on by itself."""
