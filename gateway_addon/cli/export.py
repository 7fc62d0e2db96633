"""`export`: calls for other programs, conversations for other people."""

from collections.abc import Iterator
from itertools import batched
from pathlib import Path

import click

from gateway_addon.cli.look import clock
from gateway_addon.cli.options import database_and, limited, meant, reading, selecting
from gateway_addon.cli.output import in_utc, print_ndjson, say
from gateway_addon.conversation import turn_of_row
from gateway_addon.pages import FORMS, Chapter
from gateway_addon.store import queries
from gateway_addon.store.database import Database
from gateway_addon.store.queries import Row
from gateway_addon.store.selection import MAIN, Selection
from gateway_addon.transcript import transcript

AT_ONCE = 100
"""Calls in memory."""


@click.command()
@database_and("[ID|SESSION]", optional=True)
@click.option(
    "--format", "form", type=click.Choice(["jsonl", *FORMS]), default="jsonl", show_default=True,
    help="JSON, a line for each call; or a call or session as Markdown, or as one HTML file.",
)  # fmt: skip
@selecting
@limited(None, "of the latest of these calls; without it: all")
@in_utc
def export(path: Path, reference: str | None, form: str, selection: Selection, limit: int | None) -> None:
    """Print calls with all their texts, oldest first: the selected ones, a single one, or those of a session.

    As `md` or `html`: what was said in each conversation. What is printed holds prompts and answers as they were, with
    any secret in them.
    """
    if form in FORMS and reference is None:
        raise click.UsageError(f"say which call or session is to be written as {form}")
    if form in FORMS:
        with reading(path) as db:
            pages = "".join(FORMS[form](str(reference), _chapters(db, _chosen(db, path, reference, selection, limit))))
        say(pages, nl=False)
        return
    for calls in _calls(path, reference, selection, limit):
        print_ndjson(calls)


def _chosen(db: Database, path: Path, reference: str | None, selection: Selection, limit: int | None) -> list[str]:
    ids = queries.selected_ids(db, selection)
    if reference is not None:
        wanted = set(meant(db, path, reference).ids)
        ids = [request_id for request_id in ids if request_id in wanted]
    return ids[-limit:] if limit else ids


def _calls(path: Path, reference: str | None, selection: Selection, limit: int | None) -> Iterator[list[Row]]:
    """Some at a time, as there may be more than the memory holds."""
    with reading(path) as db:
        for some in batched(_chosen(db, path, reference, selection, limit), AT_ONCE, strict=False):
            yield queries.turns(db, some)


def _chapters(db: Database, ids: list[str]) -> Iterator[Chapter]:
    """A chapter for each conversation, which its latest call tells, and for each request beside these."""
    latest: dict[tuple[object, ...], Row] = {}
    for call in queries.calls_by_id(db, ids):
        names = ("agent_id", "conversation_id", "api_kind")
        latest[(call["id"],) if call["side_request"] else tuple(call[name] for name in names)] = call
    for call in latest.values():
        who = MAIN if call["agent_id"] is None else call["agent_id"]
        turns = [turn_of_row(row) for row in queries.told(db, call["id"])]
        heading = f"{who}: {call['side_request'] or 'conversation'}"
        yield Chapter(heading, list(transcript(turns, full=True, clock=clock)))
