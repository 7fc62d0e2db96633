"""`review`: what stands out in a database."""

import os
import sys
from dataclasses import asdict
from pathlib import Path

import click

from gateway_addon.cli.columns import identity, number, when, words
from gateway_addon.cli.options import database, reading
from gateway_addon.cli.output import Output, plain, printing
from gateway_addon.cli.tables import Column
from gateway_addon.review import review
from gateway_addon.review.findings import SEVERITIES
from gateway_addon.store import queries
from gateway_addon.store.queries import Row

_SEVERITIES = {"high": "red", "medium": "yellow"}


def _where(row: Row) -> str:
    return plain(" ".join(filter(None, map(row["first_seen"].get, ("place", "tool", "call_id")))))


FINDINGS = (
    Column(
        heading="severity",
        forms=(lambda row: plain(row["severity"]),),
        rank=0,
        style=lambda row: _SEVERITIES.get(row["severity"], ""),
    ),
    words("rule", 0, "rule", 14),
    number("count", 0, "times", is_summed=False),
    identity(),
    words("what", 1, "what", 12),
    words("hosts_seen", 2, "hosts", 11),
    Column(heading="where", forms=(_where,), rank=3, least=10),
    Column(heading="turn", forms=(lambda row: plain(row["first_seen"]["turn"]),), rank=5, right=True),
    when("first_seen_at", 4, "first seen"),
)
"""The columns of `review`."""


@click.command("review")
@database
@click.option(
    "--fail-on", type=click.Choice(SEVERITIES[1:]), default="high", show_default=True, help="Exit 1 from here on."
)
@printing
def review_calls(path: Path, fail_on: str, output: Output) -> None:
    """Secrets that left the machine and where they came from, stray credentials, tool calls that reach out.

    Looks for values of the environment's secret variables, too. Exit 1 if anything found is as grave as --fail-on.
    """
    # in one transaction, so that nothing is pruned between two looks
    with reading(path) as db, db.atomic():
        findings = review(db, os.environ)
        rows = [asdict(found) | {"short_id": queries.short_id(db, found.first_seen.request_id)} for found in findings]
    # what only the table shows
    shown = [
        row
        | {
            "hosts_seen": ", ".join(f"{host} ×{times}" for host, times in row["hosts"].items()),
            "first_seen_at": row["first_seen"]["started_at"],
        }
        for row in rows
    ]
    output.print(shown if output.is_table else rows, FINDINGS, "nothing found")
    if any(SEVERITIES.index(found.severity) >= SEVERITIES.index(fail_on) for found in findings):
        sys.exit(1)
