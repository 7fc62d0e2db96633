"""Fixtures of the command line's tests."""

import time
from collections.abc import Iterator
from pathlib import Path

import pytest


@pytest.fixture(autouse=True)
def _in_london(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Where clocks show UTC, in a terminal of no known width."""
    monkeypatch.setenv("TZ", "UTC")
    for name in ("COLUMNS", "GATEWAY_DB"):
        monkeypatch.delenv(name, raising=False)
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "gateway.db"
