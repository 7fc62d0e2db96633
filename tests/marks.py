"""Which cases of a table the README's test command runs, where each starts a process and one or a few tell enough."""

from collections.abc import Iterable
from typing import Any

import pytest


def quick(values: Iterable[Any], *chosen: object) -> list[Any]:
    """The cases for `parametrize`: those chosen always, the others with the long ones. None chosen: the first."""
    cases = list(values)
    always = chosen or cases[:1]
    return [pytest.param(case, id=str(case)[:20], marks=() if case in always else pytest.mark.long) for case in cases]
