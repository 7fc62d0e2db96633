"""Looking into a database: `list`, `report`, `show`, `search`, `body`."""

from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path

import click

from gateway_addon.cli.options import NotFound, as_json, database, database_and, found, is_flow_file, reading, writing
from gateway_addon.cli.output import (
    FORMATS,
    cost,
    plain,
    print_heading,
    print_json,
    print_rows,
    print_table,
    printable,
    seconds,
    tracked,
    usd,
    utc,
)
from gateway_addon.conversation import Said, said_before, turn_of_row
from gateway_addon.store import bodies, queries
from gateway_addon.store.queries import Row
from gateway_addon.store.search import find_texts, index_texts, unindexed_texts
from gateway_addon.transcript import transcript

LIST: dict[str, Callable[[Row], str]] = {
    "time (UTC)": lambda call: utc(call["started_at"]),
    "id": lambda call: plain(call["short_id"]),
    "kind": lambda call: plain(call["api_kind"]),
    "model": lambda call: plain(call["upstream_model"] or call["request_model"]),
    "outcome": lambda call: plain(call["outcome"]),
    "in": lambda call: plain(call["input_tokens"]),
    "cached": lambda call: plain(call["cache_read_tokens"]),
    "out": lambda call: plain(call["output_tokens"]),
    "cost": cost,
    "tools": lambda call: plain(call["tools_called"]),
    "seconds": lambda call: seconds(call["duration_ms"]),
}
"""The columns of `list`."""


CACHE_BREAK = "cache-break"

BREAKS: dict[str, Callable[[Row], str]] = {
    "time (UTC)": lambda row: utc(row["started_at"]),
    "id": lambda row: plain(row["short_id"]),
    "model": lambda row: plain(row["model"]),
    "tokens": lambda row: plain(row["rewritten_tokens"]),
    "cost": lambda row: usd(row["cost_microdollars"]),
    "cause": lambda row: plain(row["cause"]),
    "idle s": lambda row: plain(round(row["idle_seconds"])),
    "differs in": lambda row: plain(row["segment"]),
    "where": lambda row: plain(row["where"]),
}
"""The columns of cache breaks: tokens that were processed again, and why."""

DEAREST = 5
"""How many cache breaks end every report."""


FOUND: dict[str, Callable[[Row], str]] = {
    "time (UTC)": lambda row: utc(row["started_at"]),
    "id": lambda row: plain(row["short_id"]),
    "calls": lambda row: plain(row["calls"]),
    "where": lambda row: plain(f"{row['place']}: {row['name']}" if row["name"] else row["place"]),
    "text": lambda row: plain(" ".join(row["snippet"].split())),
}
"""The columns of `search`."""


def _heading(column: str) -> str:
    # shown in dollars
    return column.removesuffix("_microdollars")


def _formatted(column: str, value: object) -> str:
    return FORMATS.get(column, plain)(value)


STYLES: dict[str, Callable[[str], None]] = {
    "heading": print_heading,
    "text": lambda text: click.echo(printable(text)),
    "aside": lambda text: click.secho(printable(text), dim=True),
    "facts": lambda text: click.secho(plain(text), fg="cyan"),
}
"""How the parts of a transcript are printed."""


@click.command("list")
@database
@click.option("--limit", type=click.IntRange(min=1), default=20, show_default=True, help="How many calls.")
@as_json
def list_calls(path: Path, limit: int, as_json: bool) -> None:
    """The latest calls, newest first."""
    with reading(path) as db:
        rows = queries.calls(db, limit)
    if as_json:
        print_json(rows)
    else:
        print_rows(LIST, rows)


@click.command()
@database
@click.option("--by", type=click.Choice([*queries.REPORTS, CACHE_BREAK]), default="model", show_default=True)
@as_json
def report(path: Path, by: str, as_json: bool) -> None:
    """Calls, tokens and cost, summed up, and the dearest calls that missed a prompt cache; `cache-break`: all these."""
    with reading(path) as db:
        rows = queries.cache_breaks(db) if by == CACHE_BREAK else queries.report(db, by)
        breaks = [] if as_json or by == CACHE_BREAK else queries.cache_breaks(db, DEAREST)
    if as_json:
        print_json(rows)
    elif by == CACHE_BREAK:
        print_rows(BREAKS, rows, "no cache breaks")
    else:
        headings = [_heading(column) for column in rows[0]] if rows else []
        print_table(headings, [[_formatted(*cell) for cell in row.items()] for row in rows])
        if breaks:
            print_heading("cache breaks")
            print_rows(BREAKS, breaks)


@click.command()
@database_and("ID")
@click.option("--full", is_flag=True, help="Shorten no system prompt, reasoning, tool arguments or results.")
@as_json
def show(path: Path, reference: str, full: bool, as_json: bool) -> None:
    """A call and the conversation before it. ID: `last`, an id, or the beginning of one.

    What was said before is read from the body of the call's own request; where that is not stored, from the calls
    before it. As JSON: all there is of the call; the calls before it in `turns`; in `history` all that was said before
    its answer, in order; in `missing` what of that is not there.
    """
    with reading(path) as db:
        request_id = found(db, path, reference)
        told = [turn_of_row(row) for row in queries.told(db, request_id)]
        turns = queries.conversation(db, request_id) if as_json else []
    if as_json:
        *before, call = turns
        missing = next((turn.missing for turn in told if turn.missing), None)
        history = [_said_as_json(said) for said in said_before(told)]
        print_json(call | {"turns": before, "history": history, "missing": missing})
        return
    for style, text in transcript(told, full=full):
        STYLES[style](text)


def _said_as_json(said: Said) -> Row:
    """By the fields of `Said`; `answered` is the id of the call."""
    answered = said.answered.id if said.answered else None
    return asdict(replace(said, answered=None)) | {"answered": answered}


@click.command()
@database_and("WORDS", many=True)
@click.option("--limit", type=click.IntRange(min=1), default=20, show_default=True, help="How many texts.")
@as_json
def search(path: Path, words: tuple[str, ...], limit: int, as_json: bool) -> None:
    """Find all texts with all of WORDS, best match first: prompts, answers, tools, and all that request bodies hold.

    The first search adds an index to the database, later ones bring it up to date.
    """
    with reading(path) if is_flow_file(path) else writing(path) as db:
        for batch in tracked(unindexed_texts(db), "indexing"):
            index_texts(db, batch)
        try:
            rows = find_texts(db, " ".join(words), limit)
        except ValueError as error:
            raise click.UsageError(str(error)) from error
    if as_json:
        print_json(rows)
    else:
        print_rows(FOUND, rows, "nothing found")


@click.command()
@database_and("ID")
def body(path: Path, reference: str) -> None:
    """The request body of a call: the very bytes the client sent, content-decoded. ID as for `show`."""
    with reading(path) as db:
        request_id = found(db, path, reference)
        try:
            sent = bodies.load_body(db, request_id)
        except bodies.DamagedError as error:
            raise click.ClickException(str(error)) from error
    if sent is None:
        raise NotFound(f"no body of {request_id} is stored in {path}")
    click.echo(sent, nl=False)
