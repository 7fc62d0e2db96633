"""The benchmark's promises, on sessions small enough for every test run: see `storage.py`."""

from pathlib import Path

import pytest

from gateway_addon.api import KINDS
from tests.benchmarks.storage import MB, measure


@pytest.mark.parametrize("kind", KINDS)
def test_a_database_grows_with_what_is_new(kind: str, tmp_path: Path):
    scale = 0.1
    growth = [measure(tmp_path / f"{turns}.db", kind, turns, scale=scale) for turns in (0, 30, 60)]
    empty, half, whole = growth
    assert [each.wrong for each in growth] == [0, 0, 0]
    # what a turn brings, and nothing of what it repeats; some pages are only begun
    assert whole.stored - half.stored <= 1.1 * (half.stored - empty.stored)
    assert whole.stored - empty.stored <= whole.sent / 10


@pytest.mark.parametrize("kind", KINDS)
def test_a_session_of_60_turns_and_16_mb_takes_three_quarters_of_a_mb(kind: str, tmp_path: Path):
    growth = measure(tmp_path / "gateway.db", kind, 60)
    assert growth.sent > 16 * MB
    assert growth.stored <= 0.75 * MB
    assert growth.wrong == 0
