"""Which columns a width has room for, and in which form."""

import pytest
from rich.cells import cell_len

from gateway_addon.cli.tables import Column, Row, Totals, fitted, line, summed


def column(heading: str, rank: int, *keys: str, **more: object) -> Column:
    return Column(
        heading=heading,
        rank=rank,
        forms=tuple(lambda row, key=key: str(row[key]) for key in keys),  # type: ignore[misc]
        **more,  # type: ignore[arg-type]
    )


ROWS: list[Row] = [{"id": "abcdef", "cost": "$1.25", "name": "a long name", "short": "name", "note": "words " * 4}]
TABLE = (
    column("id", 0, "id"),
    column("name", 1, "name", "short"),
    column("note", 2, "note", least=8),
    column("cost", 0, "cost", right=True, summed=("cost",)),
)


@pytest.mark.parametrize(
    ("room", "printed"),
    [
        (200, "abcdef  a long name  words words words words   $1.25"),
        (50, "abcdef  a long name  words words words wor…  $1.25"),
        (36, "abcdef  a long name  words w…  $1.25"),
        # the more important column gets its long form first, and the less important one is cut as far as can be
        (35, "abcdef  name  words words w…  $1.25"),
        (29, "abcdef  name  words w…  $1.25"),
        # it is left out before the others suffer
        (28, "abcdef  a long name  $1.25"),
        (25, "abcdef  name  $1.25"),
        (18, "abcdef  $1.25"),
        # what is never left out is never cut
        (5, "abcdef  $1.25"),
    ],
)
def test_the_least_important_columns_suffer_first(room: int, printed: str):
    assert line(fitted(TABLE, ROWS, room), ROWS[0]).plain == printed


@pytest.mark.parametrize("text", ["漢字漢字漢字漢字漢字", "e\u0301" * 30, "x" * 10_000])
@pytest.mark.parametrize("room", [29, 31, 40])
def test_no_text_is_wider_than_its_place(room: int, text: str):
    rows = [ROWS[0] | {"note": text}]
    assert cell_len(line(fitted(TABLE, rows, room), rows[0]).plain) <= room


def test_a_total_is_the_sum_of_what_is_known_and_unknown_where_nothing_is():
    columns = [
        column("name", 0, "name"),
        column("in", 0, "in", summed=("in",)),
        column("out", 0, "out", summed=("out",)),
    ]
    rows: list[Row] = [{"in": 2, "out": None}, {"in": None, "out": None}, {"in": 40, "out": None}]
    totals = summed(columns, rows, "all of it")
    assert isinstance(totals, Totals)
    assert totals == {"in": 42, "out": None}
    assert [column.cell(totals, 0) for column in columns] == ["all of it", "42", "None"]
