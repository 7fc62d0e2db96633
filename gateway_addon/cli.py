"""The command line: `gateway-addon`, or `python -m gateway_addon`.

Exit 0: good; 1: found something, or no such id; 2: bad usage or unreadable file. Errors are one line on stderr.
"""

import json
import os
import re
import signal
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.progress import track
from rich.table import Table
from rich.text import Text
from sqlite_utils import Database

from gateway_addon.conversation import turn_of_row
from gateway_addon.review import review
from gateway_addon.review.findings import SEVERITIES
from gateway_addon.store import bodies, prune, queries
from gateway_addon.store.database import StoreError, open_database, open_readonly, reported
from gateway_addon.store.queries import Row
from gateway_addon.store.search import find_texts, index_texts, unindexed_texts
from gateway_addon.times import timestamp
from gateway_addon.transcript import transcript

UNKNOWN = "–"

PIPE_WIDTH = 1000
"""Characters; the width of a table that goes to no terminal, so that no cell is cut."""

_UNSAFE = {code: f"\\x{code:02x}" for code in (*range(0x20), *range(0x7F, 0xA0)) if chr(code) not in "\n\t"}
# these turn the direction of the text around them
_UNSAFE |= {code: f"\\u{code:04x}" for code in (*range(0x202A, 0x202F), *range(0x2066, 0x206A))}


def printable(text: str) -> str:
    """The text with everything spelled out by which it could steer a terminal: models write what they like."""
    return text.translate(_UNSAFE)


def plain(value: object) -> str:
    """A value on one line."""
    return UNKNOWN if value is None else printable(str(value)).replace("\n", "\\n")


def utc(timestamp: str) -> str:
    return plain(timestamp.replace("T", " ").removesuffix("Z"))


def usd(microdollars: int | None) -> str:
    return UNKNOWN if microdollars is None else f"${microdollars / 1_000_000:.6f}"


def megabytes(size: int) -> str:
    return f"{size / 1_000_000:.2f} MB"


def seconds(milliseconds: float | None) -> str:
    return UNKNOWN if milliseconds is None else f"{milliseconds / 1000:.2f}"


FORMATS: dict[str, Callable[[Any], str]] = {"cost_microdollars": usd, "charged_microdollars": usd}
"""How the values of a column are shown, if not as they are."""

LIST: dict[str, Callable[[Row], str]] = {
    "time (UTC)": lambda call: utc(call["started_at"]),
    "id": lambda call: plain(call["short_id"]),
    "kind": lambda call: plain(call["api_kind"]),
    "model": lambda call: plain(call["upstream_model"] or call["request_model"]),
    "outcome": lambda call: plain(call["outcome"]),
    "in": lambda call: plain(call["input_tokens"]),
    "cached": lambda call: plain(call["cache_read_tokens"]),
    "out": lambda call: plain(call["output_tokens"]),
    "cost": lambda call: usd(call["cost_microdollars"]),
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


class _Main(click.Group):
    """A group whose errors are one line each, where click prints three for bad usage."""

    def main(self, *args: Any, **extra: Any) -> Any:
        try:
            return super().main(*args, **extra | {"standalone_mode": False})
        except click.ClickException as error:
            click.echo(f"gateway-addon: {plain(error.format_message())}", err=True)
            sys.exit(error.exit_code)
        except click.Abort:
            sys.exit(1)
        except OSError as error:
            # a full disk under stdout, say; what could not be written must not be tried again at exit
            click.echo(f"gateway-addon: {plain(error.strerror or str(error))}", err=True)
            os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
            sys.exit(2)


class _NotFound(click.ClickException):
    exit_code = 1


class _Unreadable(click.ClickException):
    exit_code = 2


@click.group(cls=_Main, no_args_is_help=False)
@click.version_option(package_name="gateway-addon")
def main() -> None:
    """Look into the databases and flow files that the addon has written."""


_database = click.argument("path", metavar="DB", type=click.Path(path_type=Path))
_json = click.option("--json", "as_json", is_flag=True, help="Print JSON instead: columns as stored, null for unknown.")


@main.command("list")
@_database
@click.option("--limit", type=click.IntRange(min=1), default=20, show_default=True, help="How many calls.")
@_json
def list_calls(path: Path, limit: int, as_json: bool) -> None:
    """The latest calls, newest first."""
    with _reading(path) as db:
        rows = queries.calls(db, limit)
    if as_json:
        _print_json(rows)
    else:
        _print_rows(LIST, rows)


@main.command()
@_database
@click.option("--by", type=click.Choice([*queries.REPORTS, CACHE_BREAK]), default="model", show_default=True)
@_json
def report(path: Path, by: str, as_json: bool) -> None:
    """Calls, tokens and cost, summed up, and the dearest calls that missed a prompt cache; `cache-break`: all these."""
    with _reading(path) as db:
        rows = queries.cache_breaks(db) if by == CACHE_BREAK else queries.report(db, by)
        breaks = [] if as_json or by == CACHE_BREAK else queries.cache_breaks(db, DEAREST)
    if as_json:
        _print_json(rows)
    elif by == CACHE_BREAK:
        _print_rows(BREAKS, rows, "no cache breaks")
    else:
        headings = [_heading(column) for column in rows[0]] if rows else []
        _print_table(headings, [[_formatted(*cell) for cell in row.items()] for row in rows])
        if breaks:
            _print_heading("cache breaks")
            _print_rows(BREAKS, breaks)


@main.command()
@_database
@click.argument("reference", metavar="ID")
@click.option("--full", is_flag=True, help="Shorten no system prompt, reasoning, tool arguments or results.")
@_json
def show(path: Path, reference: str, full: bool, as_json: bool) -> None:
    """A call and the conversation before it. ID: `last`, an id, or the beginning of one.

    As JSON: all there is of the call, and the same of the turns before it in `turns`.
    """
    with _reading(path) as db:
        turns = queries.conversation(db, _found(db, path, reference))
    if as_json:
        *before, call = turns
        _print_json(call | {"turns": before})
        return
    for style, text in transcript([turn_of_row(turn) for turn in turns], full=full):
        STYLES[style](text)


@main.command()
@_database
@click.argument("words", nargs=-1, required=True)
@click.option("--limit", type=click.IntRange(min=1), default=20, show_default=True, help="How many texts.")
@_json
def search(path: Path, words: tuple[str, ...], limit: int, as_json: bool) -> None:
    """Find prompts, answers, tool arguments and results with all of WORDS, best match first.

    The first search adds an index to the file, later ones bring it up to date.
    """
    with _writing(path) as db:
        for batch in _tracked(unindexed_texts(db), "indexing"):
            index_texts(db, batch)
        try:
            rows = find_texts(db, " ".join(words), limit)
        except ValueError as error:
            raise click.UsageError(str(error)) from error
    if as_json:
        _print_json(rows)
    else:
        _print_rows(FOUND, rows, "nothing found")


@main.command()
@_database
@click.argument("reference", metavar="ID")
def body(path: Path, reference: str) -> None:
    """The request body of a call: the very bytes the client sent, content-decoded. ID as for `show`."""
    with _reading(path) as db:
        request_id = _found(db, path, reference)
        try:
            sent = bodies.load_body(db, request_id)
        except bodies.DamagedError as error:
            raise click.ClickException(str(error)) from error
    if sent is None:
        raise _NotFound(f"no body of {request_id} is stored in {path}")
    click.echo(sent, nl=False)


@main.command()
@_database
def verify(path: Path) -> None:
    """Rebuild every stored request body and compare it with the hash of what the client sent; exit 1 if one differs."""
    size = damaged = 0
    # in one transaction, so that nothing is pruned between two looks
    with _reading(path) as db, db.atomic():
        ids = bodies.stored_bodies(db)
        not_stored = db["requests"].count - len(ids)
        for request_id in _tracked(ids, "verifying"):
            try:
                size += len(bodies.load_body(db, request_id) or b"")
            except bodies.DamagedError as error:
                damaged += 1
                click.echo(plain(error))
    click.echo(
        f"{len(ids)} bodies of {megabytes(size)} in a file of {megabytes(path.stat().st_size)}: {damaged} damaged; "
        f"{not_stored} calls without a stored body"
    )
    if damaged:
        sys.exit(1)


def _bytes(size: str) -> int:
    found = re.fullmatch(r"(\d+(?:\.\d+)?)([kMG]?)B?", size, re.IGNORECASE)
    if not found:
        raise click.BadParameter(f"{size!r} is no size: give bytes, or a number with k, M or G")
    return int(float(found[1]) * {"": 1, "k": 1e3, "m": 1e6, "g": 1e9}[found[2].lower()])


@main.command("prune")
@_database
@click.option("--keep-days", metavar="N", type=click.IntRange(0, 36_500), help="Remove calls that began earlier.")
@click.option("--max-size", metavar="SIZE", type=_bytes, help="Remove the oldest calls; 500M, 2G, or bytes.")
def prune_calls(path: Path, keep_days: int | None, max_size: int | None) -> None:
    """Remove old calls with all that only they hold, and make the file smaller. A proxy may go on writing to it."""
    if keep_days is None and max_size is None:
        raise click.UsageError("say what to keep: --keep-days N or --max-size SIZE")
    before = path.stat().st_size if path.exists() else 0
    removed = 0
    with _writing(path) as db, Console(stderr=True).status("pruning"):
        if keep_days is not None:
            removed += prune.remove_before(db, timestamp(max(0.0, time.time() - keep_days * 86_400)))
        if max_size is not None:
            removed += prune.remove_until(db, max_size)
        prune.give_back(db)
    click.echo(f"{removed} calls removed: {megabytes(before)} before, {megabytes(path.stat().st_size)} now")


_flow_file = click.argument("source", metavar="FILE", type=click.Path(path_type=Path))


@main.command("review")
@_database
@click.option(
    "--fail-on", type=click.Choice(SEVERITIES[1:]), default="high", show_default=True, help="Exit 1 from here on."
)
@_json
def review_calls(path: Path, fail_on: str, as_json: bool) -> None:
    """Secrets that left the machine and where they came from, stray credentials, tool calls that reach out.

    Looks for values of the environment's secret variables, too. Exit 1 if anything found is as grave as --fail-on.
    """
    # in one transaction, so that nothing is pruned between two looks
    with _reading(path) as db, db.atomic():
        findings = review(db, os.environ)
        rows = [asdict(found) | {"short_id": queries.short_id(db, found.first_seen.request_id)} for found in findings]
    if as_json:
        _print_json(rows)
    else:
        _print_rows(FINDINGS, rows, "nothing found")
    if any(SEVERITIES.index(found.severity) >= SEVERITIES.index(fail_on) for found in findings):
        sys.exit(1)


@main.command()
@_flow_file
@click.argument("target", metavar="OUT", type=click.Path(path_type=Path))
@click.option("--rules", metavar="FILE", type=click.Path(path_type=Path), help="TOML: [[rules]] with name and regex.")
def redact(source: Path, target: Path, rules: Path | None) -> None:
    """Copy a flow file without the secrets in it, so that it can be shared."""
    # mitmproxy takes a second to import, which those commands should not cost that only read a database
    from gateway_addon.captures import flowfile

    try:
        own_rules = flowfile.load_rules(rules) if rules else []
        with _progress(source, readings=2) as progress:
            done = flowfile.redact_file(source, target, own_rules, progress)
    except flowfile.FlowFileError as error:
        raise _Unreadable(str(error)) from error
    click.echo(f"{plain(target)}: {done}")


@main.command()
@_flow_file
@click.option("--port", type=click.IntRange(0, 65535), required=True, help="On 127.0.0.1; 0: any free one.")
@click.option("--pace", is_flag=True, help="Send answers as fast as they were recorded, not at once.")
def replay(source: Path, port: int, pace: bool) -> None:
    """Answer model calls with the answers of a flow file, until Ctrl-C."""
    from gateway_addon.captures import flowfile, replay

    recorded: list[replay.Recording] = []
    try:
        with _progress(source) as progress:
            recorded.extend(replay.recordings(source, progress))
    except flowfile.FlowFileError as error:
        if not recorded:
            raise _Unreadable(str(error)) from error
        click.echo(f"gateway-addon: {plain(error)}", err=True)
    if not recorded:
        raise _Unreadable(f"{source}: no HTTP calls in it")
    try:
        server = replay.ReplayServer(source, recorded, port, paced=pace)
    except OSError as error:
        raise _Unreadable(f"port {port}: {error.strerror}") from error
    # SIGTERM ends it like Ctrl-C
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    with server, suppress(KeyboardInterrupt):
        click.echo(f"{len(recorded)} calls of {plain(source)} at {server.url}")
        server.serve_forever()


@contextmanager
def _progress(path: Path, readings: int = 1) -> Iterator[Callable[[int], None]]:
    """A bar on a terminal's stderr while a file is read, once or more; to be told of the bytes."""
    if not sys.stderr.isatty():
        yield lambda size: None
        return
    size = path.stat().st_size if path.exists() else 0
    with click.progressbar(length=size * readings, label="reading", file=sys.stderr) as bar:
        yield bar.update


def _found(db: Database, path: Path, reference: str) -> str:
    """The id of the one call that is meant."""
    ids = queries.find(db, reference)
    if not ids:
        raise _NotFound(f"no call {reference!r} in {path}")
    if len(ids) > 1:
        raise _NotFound(f"{reference!r} may be any of {len(ids)} calls: {', '.join(ids[:3])}, ...")
    return ids[0]


@contextmanager
def _reading(path: Path) -> Iterator[Database]:
    """The database at `path`; whatever is wrong with it ends the command."""
    try:
        with reported(path), closing(open_readonly(path)) as db:
            yield db
    except StoreError as error:
        raise _Unreadable(str(error)) from error


@contextmanager
def _writing(path: Path) -> Iterator[Database]:
    """The same to change it."""
    try:
        with reported(path):
            if not path.exists():
                raise StoreError(f"{path}: no such file")
            if path.stat().st_size == 0:
                # opening it to write would make a database of it
                raise StoreError(f"{path}: not a gateway database")
            with closing(open_database(path)) as db:
                yield db
    except StoreError as error:
        raise _Unreadable(str(error)) from error


def _tracked[T](items: Sequence[T], doing: str) -> Iterable[T]:
    """The items, with a bar on a terminal's stderr as they are taken."""
    console = Console(stderr=True)
    return track(items, doing, console=console, transient=True) if console.is_terminal else items


def _heading(column: str) -> str:
    # shown in dollars
    return column.removesuffix("_microdollars")


def _formatted(column: str, value: object) -> str:
    return FORMATS.get(column, plain)(value)


def _print_json(value: object) -> None:
    # ASCII, so that nothing in it can steer a terminal
    click.echo(json.dumps(value, indent=2))


def _print_rows(columns: Mapping[str, Callable[[Row], str]], rows: Sequence[Row], none: str = "no calls") -> None:
    _print_table(list(columns), [[show(row) for show in columns.values()] for row in rows], none)


def _print_table(headings: Sequence[str], rows: Sequence[Sequence[str]], none: str = "no calls") -> None:
    if not rows:
        click.echo(none)
        return
    table = Table(box=None, header_style="bold")
    for heading in headings:
        table.add_column(heading, no_wrap=True)
    for row in rows:
        # as Text, because rich reads a plain string as markup
        table.add_row(*map(Text, row))
    Console(highlight=False, width=None if sys.stdout.isatty() else PIPE_WIDTH).print(table)


def _print_heading(heading: str) -> None:
    click.secho(f"\n── {heading}", bold=True)


STYLES: dict[str, Callable[[str], None]] = {
    "heading": _print_heading,
    "text": lambda text: click.echo(printable(text)),
    "aside": lambda text: click.secho(printable(text), dim=True),
    "facts": lambda text: click.secho(plain(text), fg="cyan"),
}
"""How the parts of a transcript are printed."""
