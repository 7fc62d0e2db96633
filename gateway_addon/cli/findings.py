"""`review`: what stands out in a database."""

import os
import sys
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

import click

from gateway_addon.cli.options import as_json, database, reading
from gateway_addon.cli.output import plain, print_json, print_rows, utc
from gateway_addon.review import review
from gateway_addon.review.findings import SEVERITIES
from gateway_addon.store import queries
from gateway_addon.store.queries import Row

FINDINGS: dict[str, Callable[[Row], str]] = {
    "severity": lambda row: plain(row["severity"]),
    "rule": lambda row: plain(row["rule"]),
    "times": lambda row: plain(row["count"]),
    "hosts": lambda row: plain(", ".join(f"{host} ×{times}" for host, times in row["hosts"].items())),
    "first seen (UTC)": lambda row: utc(row["first_seen"]["started_at"]),
    "id": lambda row: plain(row["short_id"]),
    "turn": lambda row: plain(row["first_seen"]["turn"]),
    "where": lambda row: plain(" ".join(filter(None, map(row["first_seen"].get, ("place", "tool", "call_id"))))),
    "what": lambda row: plain(row["what"]),
}
"""The columns of `review`."""


@click.command("review")
@database
@click.option(
    "--fail-on", type=click.Choice(SEVERITIES[1:]), default="high", show_default=True, help="Exit 1 from here on."
)
@as_json
def review_calls(path: Path, fail_on: str, as_json: bool) -> None:
    """Secrets that left the machine and where they came from, stray credentials, tool calls that reach out.

    Looks for values of the environment's secret variables, too. Exit 1 if anything found is as grave as --fail-on.
    """
    # in one transaction, so that nothing is pruned between two looks
    with reading(path) as db, db.atomic():
        findings = review(db, os.environ)
        rows = [asdict(found) | {"short_id": queries.short_id(db, found.first_seen.request_id)} for found in findings]
    if as_json:
        print_json(rows)
    else:
        print_rows(FINDINGS, rows, "nothing found")
    if any(SEVERITIES.index(found.severity) >= SEVERITIES.index(fail_on) for found in findings):
        sys.exit(1)
