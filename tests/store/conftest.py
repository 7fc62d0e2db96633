"""A new database for each test."""

from pathlib import Path

import pytest

from gateway_addon.store.database import open_database


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "gateway.db"


@pytest.fixture
def db(path: Path):
    with open_database(path) as db:
        yield db
