"""`review`: what stands out in a database, or in all that a flow file holds."""

import os
import sys
from collections.abc import Iterable, Iterator
from dataclasses import asdict
from pathlib import Path

import click
from rich.cells import cell_len, set_cell_size

from gateway_addon.cli.columns import identity, number, when, words
from gateway_addon.cli.options import NotFound, Unreadable, database, reading_all
from gateway_addon.cli.output import Output, plain, print_json, printing, say
from gateway_addon.cli.tables import Column, width
from gateway_addon.review import Review, baseline, coverage, graph, review, sarif
from gateway_addon.review.baseline import Baseline
from gateway_addon.review.coverage import Coverage
from gateway_addon.review.findings import SEVERITIES, Finding, Link
from gateway_addon.review.timeline import Session
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
@click.option("--graph", "drawn", metavar="FILE", type=click.Path(path_type=Path), help="Draw a session as HTML.")
@click.option(
    "--session", metavar="ID", help="Which --graph draws, or how it begins; else that of the gravest finding."
)
@click.option("--accept", is_flag=True, help="Add what is found to the baseline.")
@printing
def review_calls(
    path: Path,
    fail_on: str,
    log_format: str | None,
    accepted: Path | None,
    accept: bool,
    drawn: Path | None,
    session: str | None,
    output: Output,
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
        reviewed = review(db, os.environ, passages, known.key if known else None)
        found = reviewed.findings
        looked = coverage.of(db, passages)
        new = [one for one in found if known is None or one.fingerprint not in known.accepted]
        if log_format == "sarif":
            print_json(sarif.log(new, looked, path.name))
        else:
            _print(db, new, looked, output, len(found) - len(new))
        if drawn:
            _draw(drawn, reviewed, path, session)
    if accepted and known and accept:
        # the key of the fingerprints is in it
        _write_private(accepted, [baseline.written(known, found)])
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


def _draw(target: Path, reviewed: Review, path: Path, wanted: str | None) -> None:
    session = _session(reviewed, wanted)
    if session is None:
        raise NotFound(f"no session {wanted!r} in {path}" if wanted else f"no calls in {path}")
    _write_private(target, graph.page(session, reviewed.findings, reviewed.masked))


def _session(reviewed: Review, wanted: str | None) -> Session | None:
    """The one that is wanted, or that of the gravest finding, or the longest."""
    sessions = sorted(reviewed.timeline.sessions, key=lambda session: -len(session.calls))
    if wanted:
        return next((session for session in sessions if session.id and session.id.startswith(wanted)), None)
    by_call = {call["id"]: session for session in sessions for call in session.calls}
    # what has a chain can be drawn
    found = sorted(reviewed.findings, key=lambda one: (-SEVERITIES.index(one.severity), not one.chain))
    gravest = (by_call[one.first_seen.request_id] for one in found if one.first_seen.request_id in by_call)
    return next(gravest, next(iter(sessions), None))


def _read_baseline(path: Path, *, accept: bool) -> Baseline:
    if accept and not path.exists():
        return baseline.new()
    try:
        return baseline.read(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise Unreadable(f"{path}: {error.strerror}") from error
    except ValueError as error:
        raise Unreadable(f"{path}: no baseline of a review") from error


def _write_private(path: Path, pieces: Iterable[str]) -> None:
    """Write a file that is its owner's only, also if it was somebody's before."""
    try:
        with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w", encoding="utf-8") as file:
            os.fchmod(file.fileno(), 0o600)
            for piece in pieces:
                file.write(piece.encode("utf-8", "replace").decode())
    except OSError as error:
        raise Unreadable(f"{path}: {error.strerror}") from error
