"""How the command line prints: text that cannot steer a terminal, tables, progress, JSON."""

import json
import sys
import unicodedata
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.progress import Progress, track
from rich.table import Table
from rich.text import Text

from gateway_addon import terms
from gateway_addon.store.queries import Row

UNKNOWN = "–"

PIPE_WIDTH = 1000
"""Characters; the width of a table that goes to no terminal, so that no cell is cut."""


class _Shown(dict[int, str]):
    """By code, how a character is shown: as it is, or spelled out if it is not seen, or moves or turns the others."""

    def __missing__(self, code: int) -> str:
        character = chr(code)
        is_seen = character.isprintable() or unicodedata.category(character) == "Zs"
        if character in "\n\t" or (is_seen and code not in BLANK):
            shown = character
        elif code < 0x100:
            shown = f"\\x{code:02x}"
        else:
            shown = f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"
        self[code] = shown
        return shown


BLANK = frozenset({0x034F, 0x115F, 0x1160, 0x17B4, 0x17B5, *range(0x180B, 0x1810), 0x2800, 0x3164, 0xFFA0})
"""Characters that Unicode counts among the printable ones, although nothing is seen of them."""

_SHOWN = _Shown()


def printable(text: str) -> str:
    """The text with everything spelled out by which it could steer a terminal, or that nobody would see: models write
    what they like."""
    return text.translate(_SHOWN)


def plain(value: object) -> str:
    """A value on one line."""
    return UNKNOWN if value is None else printable(str(value)).replace("\n", "\\n")


def utc(timestamp: str) -> str:
    return plain(timestamp.replace("T", " ").removesuffix("Z"))


def usd(microdollars: int | None) -> str:
    return UNKNOWN if microdollars is None else f"${microdollars / 1_000_000:.6f}"


def cost(call: Row) -> str:
    """What a call cost; where that is unknown, why."""
    why = terms.why_unknown(json.loads(call["cost_flags"])) if call["cost_microdollars"] is None else None
    return plain(f"$? ({why})") if why else usd(call["cost_microdollars"])


def megabytes(size: int) -> str:
    return f"{size / 1_000_000:.2f} MB"


def seconds(milliseconds: float | None) -> str:
    return UNKNOWN if milliseconds is None else f"{milliseconds / 1000:.2f}"


FORMATS: dict[str, Callable[[Any], str]] = {"cost_microdollars": usd, "charged_microdollars": usd}
"""How the values of a column are shown, if not as they are."""


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


def print_json(value: object) -> None:
    # ASCII, so that nothing in it can steer a terminal
    click.echo(json.dumps(value, indent=2))


def print_rows(columns: Mapping[str, Callable[[Row], str]], rows: Sequence[Row], none: str = "no calls") -> None:
    print_table(list(columns), [[show(row) for show in columns.values()] for row in rows], none)


def print_table(headings: Sequence[str], rows: Sequence[Sequence[str]], none: str = "no calls") -> None:
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


def print_heading(heading: str) -> None:
    click.secho(f"\n── {heading}", bold=True)


@contextmanager
def progress_bar(path: Path, readings: int = 1) -> Iterator[Callable[[int], None]]:
    """A bar on a terminal's stderr while a file is read, once or more; to be told of the bytes."""
    if not sys.stderr.isatty():
        yield lambda size: None
        return
    size = path.stat().st_size if path.exists() else 0
    with click.progressbar(length=size * readings, label="reading", file=sys.stderr) as bar:
        yield bar.update
