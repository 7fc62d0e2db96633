"""What is no regular file is refused by every command that reads one, in one line and at once."""

import os
import subprocess
from pathlib import Path

import pytest

from tests.marks import quick
from tests.mitmdump import MITMDUMP

COMMAND = MITMDUMP.parent / "gateway-addon"
COMMANDS: dict[str, list[str]] = {
    "list": ["list", "X"],
    "report": ["report", "X"],
    "show": ["show", "X", "last"],
    "body": ["body", "X", "last"],
    "verify": ["verify", "X"],
    "review": ["review", "X"],
    "prune": ["prune", "X", "--max-size", "1000"],
    "redact": ["redact", "X", "out.flow"],
    "replay": ["replay", "X", "--port", "0"],
    "bundle": ["bundle", "X", "last", "out.zip"],
    "bundle --check": ["bundle", "--check", "X"],
    "export": ["export", "X", "last"],
    "tail": ["tail", "X"],
}
"""Search takes a word that is no file for one of its own: see below."""


@pytest.mark.parametrize("name", quick(["pipe.flow", "pipe", "pipe.db"]))
@pytest.mark.parametrize("command", COMMANDS.values(), ids=list(COMMANDS))
def test_a_pipe_is_refused(command: list[str], name: str, tmp_path: Path):
    os.mkfifo(tmp_path / name)
    words = [name if word == "X" else word for word in command]
    done = subprocess.run([COMMAND, *words], cwd=tmp_path, capture_output=True, text=True, timeout=20, check=False)
    assert (done.returncode, done.stdout) == (2, "")
    assert "regular file" in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_a_pipe_is_no_database_to_search(tmp_path: Path):
    os.mkfifo(tmp_path / "pipe")
    words = [str(COMMAND), "search", "pipe", "words"]
    done = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True, timeout=20, check=False)
    assert (done.returncode, done.stderr) == (2, "gateway-addon: gateway.db: no such file\n")
