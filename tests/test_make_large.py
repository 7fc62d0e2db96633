"""The database of many calls: every call of its own, every body whole, its sessions one after another."""

from contextlib import closing
from pathlib import Path

import pytest

from gateway_addon.store import bodies
from gateway_addon.store.database import open_readonly
from tests.make_large import CALLS_OF_A_SESSION, make

pytestmark = pytest.mark.long


def test_has_as_many_calls_as_asked_for_and_reads_like_any_other(tmp_path: Path):
    path = tmp_path / "large.db"
    make(path, 2 * CALLS_OF_A_SESSION)
    with closing(open_readonly(path)) as db:
        sessions = db.execute(
            "SELECT session_id, COUNT(*) FROM requests GROUP BY 1 ORDER BY MIN(started_at)"
        ).fetchall()
        assert sessions == [("session-00000", CALLS_OF_A_SESSION), ("session-00001", CALLS_OF_A_SESSION)]
        assert all(bodies.load_body(db, name) is not None for name in bodies.stored_bodies(db)[-50:])
        ((broken,),) = db.execute("SELECT COUNT(*) FROM cache_breaks").fetchall()
        assert broken > 0
