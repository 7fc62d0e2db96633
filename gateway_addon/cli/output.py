"""How the command line prints: text that cannot steer a terminal, cells, progress, and what programs read."""

import csv
import functools
import io
import json
import re
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click
import msgspec
from rich.console import Console
from rich.progress import Progress, track

from gateway_addon.cli.tables import Column, Totals, print_table
from gateway_addon.sinks import console
from gateway_addon.store.queries import Row
from gateway_addon.wire import jsontext
from gateway_addon.wire.text import UNKNOWN, plain, printable

_UTC = "gateway_addon.utc"


def is_utc() -> bool:
    context = click.get_current_context(silent=True)
    return bool(context and context.meta.get(_UTC))


def moment(timestamp: object, form: str = "%Y-%m-%d %H:%M:%S") -> str:
    """A time as rows have it, as clocks here show it, or in UTC if that was asked for."""
    try:
        return datetime.fromisoformat(str(timestamp)).astimezone(UTC if is_utc() else None).strftime(form)
    except (ValueError, OverflowError, OSError):
        return plain(timestamp)


def usd(microdollars: int | None) -> str:
    return console.dollars(microdollars)


def megabytes(size: int) -> str:
    return f"{size / 1_000_000:.2f} MB"


def seconds(milliseconds: float | None) -> str:
    return UNKNOWN if milliseconds is None else f"{milliseconds / 1000:.2f}"


def tracked[T](items: Sequence[T], doing: str) -> Iterable[T]:
    """The items, with a bar on a terminal's stderr as they are taken."""
    console = Console(stderr=True)
    return track(items, doing, console=console, transient=True) if console.is_terminal else items


@contextmanager
def counting(total: int, doing: str) -> Iterator[Callable[[int], None]]:
    """A bar on a terminal's stderr, unless there is nothing to count; to be told how many more are done."""
    if not total or not (console := Console(stderr=True)).is_terminal:
        yield lambda count: None
        return
    with Progress(console=console, transient=True) as progress:
        task = progress.add_task(doing, total=total)
        yield lambda count: progress.advance(task, count)


def say(text: str, *, nl: bool = True) -> None:
    """Print to stdout in its own encoding, with `?` for what that lacks: click alone writes UTF-8 where it is ASCII."""
    click.echo(text, file=sys.stdout, nl=nl)


def print_json(value: object) -> None:
    say(_ascii(msgspec.json.format(jsontext.dumps(_decoded(value)), indent=2)))


def print_ndjson(rows: Iterable[Row]) -> None:
    for row in rows:
        say(_ascii(jsontext.dumps(_decoded(row))))


JSON_COLUMNS = frozenset({"betas", "usage", "cost_flags", "rewrites", "warnings"})
"""Columns whose text is JSON."""


def _decoded(value: Any) -> Any:
    match value:
        case dict():
            return {
                key: _parsed(item) if key in JSON_COLUMNS and isinstance(item, str) else _decoded(item)
                for key, item in value.items()
            }
        case list() | tuple():
            return [_decoded(item) for item in value]
    return value


def _parsed(text: str) -> object:
    value = jsontext.parse_any(text)
    return text if value is None else value


def _ascii(text: str) -> str:
    """JSON in which nothing can steer a terminal."""
    return re.sub(r"[^\n -~]", lambda found: json.dumps(found[0])[1:-1], text)


def print_csv(rows: Sequence[Row]) -> None:
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    writer.writerows([list(row) for row in rows[:1]] + [[_csv_value(value) for value in row.values()] for row in rows])
    say(file.getvalue(), nl=False)


def _csv_value(value: object) -> object:
    if isinstance(value, dict | list | tuple):
        return _ascii(jsontext.dumps(value))
    return printable(value) if isinstance(value, str) else value


@dataclass(slots=True, frozen=True)
class Output:
    """How rows are to be printed."""

    form: str | None
    """`json`, `ndjson`, `csv`; None: as a table, for people."""

    @property
    def is_table(self) -> bool:
        return self.form is None

    def print(
        self, rows: Sequence[Row], columns: Sequence[Column], none: str = "no calls", totals: Totals | None = None
    ) -> None:
        """The rows, or as a table those of their values that the columns show, with `totals` below."""
        match self.form:
            case "json":
                print_json(rows)
            case "ndjson":
                print_ndjson(rows)
            case "csv":
                print_csv(rows)
            case _ if rows:
                print_table(columns, rows, totals)
            case _:
                say(none)


def in_utc[R](command: Callable[..., R]) -> Callable[..., R]:
    def note(context: click.Context, option: click.Parameter, value: bool) -> None:
        context.meta[_UTC] = value

    show = click.option("--utc", is_flag=True, expose_value=False, callback=note, help="Show times in UTC, not local.")
    return show(command)


def printing[R](command: Callable[..., R]) -> Callable[..., R]:
    """Options for how rows are printed; the command gets them as `output`."""

    @in_utc
    @click.option("--json", "form", flag_value="json", help="Print JSON: columns as stored, times UTC, null: unknown.")
    @click.option("--ndjson", "form", flag_value="ndjson", help="Print JSON, a line for each row.")
    @click.option("--csv", "form", flag_value="csv", help="Print CSV with a line of headings.")
    @functools.wraps(command)
    def run(form: str | None, **options: Any) -> R:
        return command(**options, output=Output(form))

    return run


def print_heading(heading: str) -> None:
    say(click.style(f"\n── {heading}", bold=True))


@contextmanager
def progress_bar(path: Path, readings: int = 1) -> Iterator[Callable[[int], None]]:
    """A bar on a terminal's stderr while a file is read, once or more; to be told of the bytes."""
    if not sys.stderr.isatty():
        yield lambda size: None
        return
    size = path.stat().st_size if path.exists() else 0
    with click.progressbar(length=size * readings, label="reading", file=sys.stderr) as bar:
        yield bar.update
