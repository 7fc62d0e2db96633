"""What cannot be written now is written later; a file of which rows are missing ends with an error."""

import json
import subprocess
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from tests.client import PATHS, Call, request_body
from tests.mitmdump import Mitmdump, rows, run_mitmdump

WAITING = Path(__file__).with_name("waiting.py")
FLOW = Path(__file__).parents[2] / "flows" / "demo.flow"
CALLS = 13
"""In `demo.flow`."""

Start = Callable[..., Mitmdump]


def call(proxy: Mitmdump) -> None:
    body = request_body("messages", "fake/text")
    assert Call(proxy.url, PATHS["messages"], body).read()


def count(db: Path) -> int:
    (row,) = rows(db, "SELECT COUNT(*) AS calls FROM requests WHERE outcome = 'complete'")
    return int(row["calls"])


@pytest.mark.parametrize(
    ("seconds", "calls"), [(2, 5), pytest.param(30, 60, marks=pytest.mark.long)], ids=["2 s", "30 s"]
)
def test_a_lock_costs_no_row(seconds: int, calls: int, mitmdump: Start, tmp_path: Path):
    proxy = mitmdump(addon=WAITING, env={"LOCK_SECONDS": str(seconds)})
    for _ in range(calls):
        call(proxy)
    # the lock may outlast the calls, but not the end
    if seconds > 10:
        pause(seconds)
    assert proxy.stop() == 0
    assert count(tmp_path / "gateway.db") == calls


def pause(seconds: int) -> None:
    subprocess.run(["sleep", str(seconds)], check=True)


@pytest.mark.long
def test_the_end_waits_and_says_so(mitmdump: Start, tmp_path: Path):
    proxy = mitmdump(addon=WAITING, env={"WAIT_SECONDS": "1"})
    call(proxy)
    proxy.wait_for("calls wait to be recorded")
    assert proxy.stop() == 0
    assert "waiting for at most 1 s" in proxy.stdout
    assert "1 rows and 0 texts could not be stored" in proxy.stdout


class TestReadingAFile:
    def read(self, db: Path, confdir: Path, **env: str) -> subprocess.CompletedProcess[str]:
        options = {"gateway_db": db, "flow_detail": 0, "hardump": db.with_suffix(".har")}
        return run_mitmdump("-n", "-r", str(FLOW), addon=WAITING, confdir=confdir, options=options, env=env)

    @pytest.mark.long
    def test_waits_for_a_lock(self, confdir: Path, tmp_path: Path):
        done = self.read(tmp_path / "gateway.db", confdir, LOCK_SECONDS="7")
        assert done.returncode == 0, done.stdout
        assert len(rows(tmp_path / "gateway.db", "SELECT id FROM requests")) == CALLS

    def test_ends_with_an_error_when_rows_are_missing(self, confdir: Path, tmp_path: Path):
        done = self.read(tmp_path / "gateway.db", confdir, WAIT_SECONDS="1")
        assert done.returncode == 1
        assert f"{CALLS} rows and 0 texts could not be stored" in done.stdout
        assert "Traceback" not in done.stdout
        # what mitmproxy's own addons have to do at the end is done
        # (mitmproxy lists a flow with an answer and an error twice, as it does without us)
        assert len(json.loads((tmp_path / "gateway.har").read_text())["log"]["entries"]) == CALLS + 1


@contextmanager
def small_disk(folder: Path, size: str) -> Iterator[Path]:
    """A file system of its own. Skips the test where that is not allowed."""
    folder.mkdir()
    made = subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "none", str(folder)], capture_output=True)
    if made.returncode:
        pytest.skip("file systems cannot be mounted here")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


def fill(ballast: Path) -> None:
    """Write until the disk is full."""
    with suppress(OSError), ballast.open("wb", buffering=0) as file:
        while file.write(b"x" * 4096):
            pass


@pytest.mark.parametrize(
    ("seconds", "calls"), [(0, 10), pytest.param(25, 94, marks=pytest.mark.long)], ids=["short", "25 s"]
)
def test_a_full_disk_costs_no_row(seconds: int, calls: int, mitmdump: Start, tmp_path: Path):
    with small_disk(tmp_path / "disk", "4m") as disk:
        proxy = mitmdump(options={"gateway_db": disk / "gateway.db"})
        ballast = disk / "ballast"
        fill(ballast)
        body = request_body("messages", "fake/text", stream=False)
        body["messages"][0]["content"] = "word " * 2_000
        with ThreadPoolExecutor(4) as pool:
            list(pool.map(lambda n: Call(proxy.url, PATHS["messages"], body | {"n": n}).read(), range(calls)))
        proxy.wait_for("calls wait to be recorded")
        pause(seconds)
        ballast.unlink()
        assert proxy.stop() == 0, proxy.stdout
        assert "could not be stored" not in proxy.stdout
        assert count(disk / "gateway.db") == calls
        proxy.kill()
