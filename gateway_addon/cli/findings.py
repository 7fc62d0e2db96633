"""`review`: what stands out in a database, or in all that a flow file holds."""

import os
import sys
from collections.abc import Iterable, Iterator
from dataclasses import asdict
from pathlib import Path

import click
from rich.cells import cell_len, set_cell_size

from gateway_addon.cli.columns import identity, number, when, words
from gateway_addon.cli.options import Unreadable, database, reading_all
from gateway_addon.cli.output import Output, plain, print_json, printing, say
from gateway_addon.cli.tables import Column, width
from gateway_addon.review import baseline, coverage, review, sarif
from gateway_addon.review.baseline import Baseline
from gateway_addon.review.coverage import Coverage
from gateway_addon.review.findings import SEVERITIES, Finding, Link
from gateway_addon.store import queries
from gateway_addon.store.database import Database
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
@click.option("--format", "log_format", type=click.Choice(["sarif"]), help="Print SARIF 2.1.0.")
@click.option(
    "--baseline", "accepted", metavar="FILE", type=click.Path(path_type=Path), help="Leave out what it lists."
)
@click.option("--accept", is_flag=True, help="Add what is found to the baseline.")
@printing
def review_calls(
    path: Path, fail_on: str, log_format: str | None, accepted: Path | None, accept: bool, output: Output
) -> None:
    """Secrets that left the machine and where they came from, stray credentials, tool calls that reach out.

    Looks for values of the environment's secret variables, too. Of a flow file all flows are looked at. The last line
    says what was not looked at. Exit 1 if anything found is as grave as --fail-on.
    """
    if accept and not accepted:
        raise click.UsageError("--accept needs --baseline FILE")
    known = _read_baseline(accepted, accept=accept) if accepted else None
    # in one transaction, so that nothing is pruned between two looks
    with reading_all(path) as (db, passages), db.atomic():
        found = review(db, os.environ, passages, known.key if known else None)
        looked = coverage.of(db, passages)
        new = [one for one in found if known is None or one.fingerprint not in known.accepted]
        if log_format == "sarif":
            print_json(sarif.log(new, looked, path.name))
        else:
            _print(db, new, looked, output, len(found) - len(new))
    if accepted and known and accept:
        _write_baseline(accepted, baseline.written(known, found))
        return
    if any(SEVERITIES.index(one.severity) >= SEVERITIES.index(fail_on) for one in new):
        sys.exit(1)


def _print(db: Database, found: list[Finding], looked: Coverage, output: Output, accepted: int) -> None:
    rows = [asdict(one) | {"short_id": queries.short_id(db, one.first_seen.request_id)} for one in found]
    # what only the table shows
    shown = [
        row
        | {
            "hosts_seen": ", ".join(f"{host} ×{times}" for host, times in row["hosts"].items()),
            "first_seen_at": row["first_seen"]["started_at"],
        }
        for row in rows
    ]
    output.print(shown if output.is_table else rows, FINDINGS, "nothing found" if not accepted else "nothing new found")
    last = looked.line + (f"; {accepted} accepted by the baseline" if accepted else "")
    if not output.is_table:
        click.echo(f"gateway-addon: {plain(last)}", err=True)
        return
    for one in found:
        if one.severity != "info" and (one.chain or one.context):
            for line in _chain(db, one):
                say(line)
    for line in _wrapped(last):
        say(line)


def _chain(db: Database, found: Finding) -> Iterator[str]:
    """Where something came from and where it went, a line for each step."""
    what = f"{found.rule} {found.what}"
    what += f" ({found.name})" if found.name else ""
    what += f", opens {found.opens}" if found.opens else ""
    yield ""
    yield from _wrapped(f"{found.severity}: {what}")
    if found.context:
        yield _cut(f"  {'as':9}{plain(found.context)}")
    for link in found.chain:
        yield _cut(f"  {link.step:9}{_link(db, link)}")


def _link(db: Database, link: Link) -> str:
    place = link.place
    call = queries.short_id(db, place.request_id)
    turn = f"turn {place.turn}" if place.turn is not None else None
    agent = f"agent {place.agent}" if place.agent else None
    hosts = ", ".join(f"{host} ×{times}" if times > 1 else host for host, times in link.hosts.items())
    if link.step == "sent":
        times = f"by {link.count} calls from here on" if link.count > 1 else "once"
        parts: Iterable[str | None] = (call, turn, agent, times, f"to {hosts}" if hosts else None)
    else:
        where = " ".join(filter(None, (place.place, place.tool)))
        parts = (call, turn, agent, where, f"→ {hosts}" if hosts else None, link.what)
    return plain("  ".join(filter(None, parts)))


def _cut(line: str) -> str:
    room = width()
    return line if cell_len(line) <= room else f"{set_cell_size(line, room - 1).rstrip()}…"


def _wrapped(line: str) -> Iterator[str]:
    room, words_left = width(), plain(line).split(" ")
    while words_left:
        said = words_left.pop(0)
        while words_left and cell_len(said) + 1 + cell_len(words_left[0]) <= room:
            said += f" {words_left.pop(0)}"
        yield _cut(said)


def _read_baseline(path: Path, *, accept: bool) -> Baseline:
    if accept and not path.exists():
        return baseline.new()
    try:
        return baseline.read(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise Unreadable(f"{path}: {error.strerror}") from error
    except ValueError as error:
        raise Unreadable(f"{path}: no baseline of a review") from error


def _write_baseline(path: Path, text: str) -> None:
    """Readable for its owner only: it has the key of the fingerprints."""
    try:
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(text)
    except OSError as error:
        raise Unreadable(f"{path}: {error.strerror}") from error
