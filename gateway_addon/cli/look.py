"""Looking into a database: `show`, `search`, `body`."""

import os
import sys
from collections.abc import Iterable
from dataclasses import asdict, replace
from pathlib import Path

import click
from rich.text import Text
from rich.tree import Tree

from gateway_addon.cli import context
from gateway_addon.cli.columns import identity, money, number, when, words
from gateway_addon.cli.options import (
    NotFound,
    database_and,
    is_flow_file,
    limited,
    meant,
    one_call,
    reading,
    selecting,
    writing,
)
from gateway_addon.cli.output import (
    Output,
    in_utc,
    moment,
    plain,
    print_json,
    printable,
    printing,
    say,
    tracked,
)
from gateway_addon.cli.sums import LIST, MODEL, OUTCOME, SECONDS, TOOLS, with_unknown_costs
from gateway_addon.cli.tables import Column, fitted, line, rendered, summed, width
from gateway_addon.conversation import Said, Turn, said_before, turn_of_row
from gateway_addon.store import bodies, queries
from gateway_addon.store.queries import Row
from gateway_addon.store.search import find_texts, index_texts, unindexed_texts
from gateway_addon.store.selection import MAIN, Selection
from gateway_addon.times import timestamp
from gateway_addon.transcript import HEADINGS, Part, transcript

FOUND = (
    when("started_at", 3),
    identity(),
    number("calls", 4, "calls", is_summed=False),
    Column(
        heading="where",
        forms=(
            lambda row: plain(f"{row['place']}: {row['name']}" if row["name"] else row["place"]),
            lambda row: plain(row["place"]),
        ),
        rank=2,
    ),
    Column(heading="text", forms=(lambda row: plain(" ".join(row["snippet"].split())),), rank=1, least=30),
)
"""The columns of `search`."""


ROLES = {
    HEADINGS["system"]: "magenta",
    HEADINGS["user"]: "green",
    HEADINGS["assistant"]: "blue",
    HEADINGS["tool"]: "yellow",
}
"""The colour of each speaker's heading."""


def _styled(part: Part) -> str:
    """A part of a transcript as it is printed."""
    match part.style:
        case "heading":
            return "\n" + click.style(f"── {part.text}", bold=True, fg=ROLES.get(part.text))
        case "aside":
            return click.style(printable(part.text), dim=True)
        case "facts":
            return click.style(plain(part.text), fg="cyan")
    return printable(part.text)


def _print_paged(texts: Iterable[str]) -> None:
    """Through a pager on a terminal; what fits on the screen is just printed."""
    if not sys.stdout.isatty():
        for text in texts:
            say(text)
        return
    os.environ.setdefault("LESS", "FRX")
    encoding = sys.stdout.encoding
    lines = (f"{text}\n".encode(encoding, "replace").decode(encoding) for text in texts)
    click.echo_via_pager(lines, color=not os.environ.get("NO_COLOR"))


@click.command()
@database_and("ID|SESSION")
@click.option("--full", is_flag=True, help="Fold no system prompt, reasoning, tool arguments or results.")
@click.option("--composition", is_flag=True, help="What fills the context, instead: tools, files, words; and its cost.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON: columns as stored, times UTC, null: unknown.")
@in_utc
def show(path: Path, reference: str, full: bool, composition: bool, as_json: bool) -> None:
    """A call and the conversation before it; or a session: its calls and sub-agents.

    What is meant: an id, `last`, a session, or the beginning of an id or session. What was said before a call is read
    from the body of its own request; where that is not stored, from the calls before it. As JSON: all there is of the
    call; the calls before it in `turns`; in `history` all that was said before its answer, in order; in `missing` what
    of that is not there. Of a session: its `calls`, oldest first.

    --composition divides the input that the provider has counted: texts by their size, pictures by its formula, and the
    cost by list price, cached tokens first. What was sent again and again is on top; `sent`: by how many calls of the
    session.
    """
    with reading(path) as db:
        ids, session = meant(db, path, reference)
        if composition:
            filled = context.of_calls(db, ids) if session else context.of_call(db, ids[0])
            context.print_context(filled, as_json=as_json)
            return
        told = [] if session else [turn_of_row(row) for row in queries.told(db, ids[0])]
        before = queries.conversation(db, ids[0]) if as_json and not session else []
        calls = queries.calls_by_id(db, ids) if session else []
    if as_json:
        print_json({"session_id": session, "calls": calls} if session else _call_as_json(before, told))
    elif session:
        _print_paged([rendered(_tree(session, calls)).rstrip("\n")])
    else:
        _print_paged(map(_styled, transcript(told, full=full, clock=clock)))


def _call_as_json(turns: list[Row], told: list[Turn]) -> Row:
    *before, call = turns
    missing = next((turn.missing for turn in told if turn.missing), None)
    return call | {"turns": before, "history": [_said_as_json(said) for said in said_before(told)], "missing": missing}


def clock(seconds: float) -> str:
    """A time as it is shown."""
    return moment(timestamp(seconds))


IN_TREE = (
    when("started_at", 2, "time", "%H:%M:%S"),
    identity(),
    OUTCOME,
    money(),
    number("input_tokens", 3, "in"),
    number("output_tokens", 4, "out"),
    SECONDS,
    MODEL,
    TOOLS,
    words("side_request", 8, "for"),
)
"""What is shown of each call of a session."""

DEPTH = 3
"""Levels of agents for which the tree of a session leaves room."""


def _tree(session: str, calls: list[Row]) -> Tree:
    """The calls below their agents, each agent below the one that started it, where it began."""
    places = fitted(IN_TREE, calls, width() - 4 * DEPTH)
    tree = Tree(Text(f"session {plain(session)}: {_in_all(calls)}", "bold"), guide_style="dim")
    agents: dict[str | None, Tree] = {}
    for call in calls:
        agent = call["agent_id"]
        if agent not in agents:
            above = agents.get(call["parent_agent_id"]) or agents.get(None) or tree
            own = [other for other in calls if other["agent_id"] == agent]
            agents[agent] = (tree if agent is None else above).add(
                Text(f"{plain(MAIN if agent is None else agent)}: {_in_all(own)}", "bold")
            )
        text = line(places, call)
        text.no_wrap, text.overflow = True, "ellipsis"
        agents[agent].add(text)
    return tree


def _in_all(calls: list[Row]) -> str:
    totals = summed(LIST, with_unknown_costs(calls))
    count = f"{len(calls)} call{'s' if len(calls) != 1 else ''}"
    figures = (f"{column.heading} {column.cell(totals, -1)}" for column in (LIST[4], LIST[6], LIST[7]))
    return f"{count}, {', '.join(figures)}"


def _said_as_json(said: Said) -> Row:
    """By the fields of `Said`; `answered` is the id of the call."""
    answered = said.answered.id if said.answered else None
    return asdict(replace(said, answered=None)) | {"answered": answered}


@click.command()
@database_and("WORDS", many=True)
@selecting
@limited(20, "texts")
@printing
def search(path: Path, words: tuple[str, ...], selection: Selection, limit: int, output: Output) -> None:
    """Find all texts with all of WORDS, best match first: prompts, answers, tools, and all that request bodies hold.

    `rank*` finds all words that begin so. Of selected calls each text is found that one of them sent or received.

    The first search adds an index to the database, later ones bring it up to date.
    """
    with reading(path) if is_flow_file(path) else writing(path) as db:
        for batch in tracked(unindexed_texts(db), "indexing"):
            index_texts(db, batch)
        try:
            rows = find_texts(db, " ".join(words), limit, selection)
        except ValueError as error:
            raise click.UsageError(str(error)) from error
    output.print(rows, FOUND, "nothing found")


@click.command()
@database_and("ID")
def body(path: Path, reference: str) -> None:
    """The request body of a call: the very bytes the client sent, content-decoded. ID as for `show`."""
    with reading(path) as db:
        request_id = one_call(db, path, reference)
        try:
            sent = bodies.load_body(db, request_id)
        except bodies.DamagedError as error:
            raise click.ClickException(str(error)) from error
    if sent is None:
        raise NotFound(f"no body of {request_id} is stored in {path}")
    click.echo(sent, nl=False)
