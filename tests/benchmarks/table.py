"""The one shape of all figures, and the table they are printed in."""

from collections.abc import Iterable
from typing import NamedTuple


class Figure(NamedTuple):
    """What was measured of one thing; None where there is nothing to measure."""

    name: str
    unit: str
    bare: float | None
    """mitmdump with a script that only sets `stream = True`."""
    ours: float | None
    null: float | None = None
    """The same as `bare`, measured once more in the same rounds: how far two equal things lie apart here and now."""
    goal: str = ""

    @property
    def ratio(self) -> float | None:
        return self.ours / self.bare if self.ours is not None and self.bare else None


def lines(figures: Iterable[Figure]) -> list[str]:
    """The table, as text."""
    header = f"{'what':<46} {'unit':<8} {'bare':>9} {'ours':>9} {'ratio':>6} {'null':>6}  goal"
    return [header, *map(_line, figures)]


def _line(one: Figure) -> str:
    null = one.null / one.bare if one.null is not None and one.bare else None
    values = f"{_number(one.bare):>9} {_number(one.ours):>9} {_number(one.ratio):>6} {_number(null):>6}"
    return f"{one.name:<46} {one.unit:<8} {values}  {one.goal}"


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.0f}" if value >= 1000 else f"{value:.2f}"
