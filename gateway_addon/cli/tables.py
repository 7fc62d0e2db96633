"""Tables: which columns a width has room for, and in which form.

A command describes its table once, as columns; whoever prints it decides nothing else. On a narrow terminal each column
takes its shortest form, and the least important ones are left out. What room there is then goes to the most important
ones first.
"""

import os
import shutil
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from rich.cells import cell_len
from rich.console import Console, RenderableType
from rich.text import Text

Row = dict[str, Any]

FULL = 240
"""Characters to a line where no terminal says how many; enough for all columns of any table."""

WIDEST = 1_000
"""Characters to a line that anybody may ask for."""

GAP = 2

ALWAYS = 0
"""The rank of a column that is never left out."""


class Totals(Row):
    """A row with the sums of others."""

    def __init__(self, sums: Row, **label: str) -> None:
        super().__init__(sums)
        self.label = label
        """By heading, what stands in a column that is not summed."""


@dataclass(slots=True, frozen=True, kw_only=True)
class Column:
    heading: str
    forms: tuple[Callable[[Row], str], ...]
    """How a row's cell is written, the longest form first."""
    rank: int
    """The greater, the sooner it is left out."""
    least: int | None = None
    """To how many characters a cell may be cut; None: never."""
    right: bool = False
    summed: tuple[str, ...] = ()
    """The values of rows that the totals add up, which are then written in the same forms."""
    style: Callable[[Row], str] | None = None

    def cell(self, row: Row, form: int) -> str:
        if isinstance(row, Totals) and not self.summed:
            return row.label.get(self.heading, "")
        return self.forms[form](row)

    def style_of(self, row: Row) -> str:
        if isinstance(row, Totals):
            return "bold"
        return self.style(row) if self.style else ""


class Place(NamedTuple):
    """A column as it is printed."""

    column: Column
    form: int
    width: int


def width() -> int:
    """Characters to a line: as COLUMNS says, else as wide as the terminal."""
    given = shutil.get_terminal_size((FULL, 24)).columns if sys.stdout.isatty() else FULL
    if (asked := os.environ.get("COLUMNS", "")).isdecimal():
        given = int(asked) or given
    return min(given, WIDEST)


def fitted(columns: Sequence[Column], rows: Sequence[Row], room: int) -> list[Place]:
    """The columns of a table of these rows that have a place in `room` characters. Those of rank `ALWAYS` have, even
    where there is no room for them."""
    natural = {id(column): _widths(column, rows) for column in columns}
    shortest = {
        id(column): min(natural[id(column)][-1], max(column.least or WIDEST, cell_len(column.heading)))
        for column in columns
    }
    kept = list(columns)
    for column in sorted(columns, key=lambda column: -column.rank):
        if column.rank == ALWAYS or _spare(kept, shortest, room) >= 0:
            break
        kept.remove(column)
    spare = max(0, _spare(kept, shortest, room))
    places = {}
    for column in sorted(kept, key=lambda column: column.rank):
        least, widths = shortest[id(column)], natural[id(column)]
        form, size = next(
            ((form, size) for form, size in enumerate(widths) if size - least <= spare),
            (len(widths) - 1, min(widths[-1], least + spare)),
        )
        spare -= max(0, size - least)
        places[id(column)] = Place(column, form, size)
    return [places[id(column)] for column in kept]


def _widths(column: Column, rows: Sequence[Row]) -> list[int]:
    """Of each form."""
    heading = cell_len(column.heading)
    return [max((heading, *(cell_len(column.cell(row, form)) for row in rows))) for form in range(len(column.forms))]


def _spare(columns: Iterable[Column], widths: dict[int, int], room: int) -> int:
    return room + GAP - sum(widths[id(column)] + GAP for column in columns)


def summed(columns: Sequence[Column], rows: Sequence[Row], label: str = "total") -> Totals:
    """The sums of all that columns want to be summed: unknown only where no row knows it."""
    names = {name for column in columns for name in column.summed}
    known = {name: [value for row in rows if (value := row.get(name)) is not None] for name in names}
    sums = {name: sum(values) if values else None for name, values in known.items()}
    return Totals(sums, **{columns[0].heading: label})


def print_table(columns: Sequence[Column], rows: Sequence[Row], totals: Totals | None = None) -> None:
    shown = [*rows] if totals is None else [*rows, totals]
    print_lines(fitted(columns, shown, width()), shown)


def print_lines(places: Sequence[Place], rows: Sequence[Row], *, heading: bool = True) -> None:
    """Print rows of a table that may go on."""
    console = Console(highlight=False, width=width())
    for text in [headings(places)] * heading + [line(places, row) for row in rows]:
        console.print(text, soft_wrap=True)


def headings(places: Sequence[Place]) -> Text:
    return _joined((place, place.column.heading, "bold") for place in places)


def line(places: Sequence[Place], row: Row) -> Text:
    """A row; never more than one line, and no wider than its places."""
    return _joined((place, place.column.cell(row, place.form), place.column.style_of(row)) for place in places)


def _joined(cells: Iterable[tuple[Place, str, str]]) -> Text:
    joined = Text(" " * GAP).join(_aligned(*cell) for cell in cells)
    joined.rstrip()
    return joined


def _aligned(place: Place, cell: str, style: str) -> Text:
    text = Text(cell, style, overflow="ellipsis")
    is_cut = place.column.least is not None
    text.align("right" if place.column.right else "left", place.width if is_cut else max(place.width, cell_len(cell)))
    return text


def rendered(renderable: RenderableType) -> str:
    """As text for the terminal, or whatever stdout is."""
    console = Console(highlight=False, width=width())
    with console.capture() as capture:
        console.print(renderable)
    return capture.get()
