"""Who may read what mitmproxy saves: its owner, because the clients' keys are in it."""

import os
import stat
from collections.abc import Callable
from pathlib import Path

from tests.client import PATHS, Call, request_body
from tests.mitmdump import Mitmdump, http_flows

Start = Callable[..., Mitmdump]


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_captures_are_private_the_first_and_those_after_a_rotation(mitmdump: Start, tmp_path: Path):
    # %f is another name for each flow
    folder = tmp_path / "captures"
    proxy = mitmdump(args=["-w", str(folder / "%f.flow")])
    for _ in range(2):
        Call(proxy.url, PATHS["messages"], request_body("messages", "fake/text")).read()
    assert proxy.stop() == 0
    saved = list(folder.iterdir())
    assert sum(len(http_flows(path)) for path in saved) == 2
    assert [oct(mode(path)) for path in saved] == ["0o600"] * 3


def test_a_capture_that_is_continued_becomes_private(mitmdump: Start, tmp_path: Path):
    capture = tmp_path / "all.flow"
    capture.touch(0o644)
    capture.chmod(0o644)
    proxy = mitmdump(args=["-w", f"+{capture}"])
    assert proxy.stop() == 0
    assert mode(capture) == 0o600


def test_what_is_no_file_keeps_its_mode(mitmdump: Start, tmp_path: Path):
    """As root `-w /dev/null` would otherwise close it to everybody else."""
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe, 0o644)
    pipe.chmod(0o644)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    try:
        assert mitmdump(args=["-w", str(pipe)]).stop() == 0
        assert mode(pipe) == 0o644
    finally:
        os.close(reader)
