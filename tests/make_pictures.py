"""Put into the README and the reference what commands really print for the demo: `python -m tests.make_pictures`
(some seconds; after `python -m tests.make_demo`).

A block of output stands below a comment that says which command it is of.
"""

import os
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from tests.make_demo import DEMO
from tests.mitmdump import run_mitmdump

README = DEMO.parents[1] / "README.md"
PAGES = (README, README.with_name("gateway_addon") / "REFERENCE.md")
COLUMNS = 100
BLOCK = re.compile(
    r"(?<=<!-- output of `)(?P<command>[^`]+)(?P<between>`(?: \(first (?P<lines>\d+) lines\))? -->\n+)```\n.*?```",
    re.DOTALL,
)


def with_output(page: str) -> str:
    """A page's text with every block of output made anew."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "flows").mkdir()
        shutil.copy(DEMO, folder / "flows")
        told = _read_demo(folder)
        return BLOCK.sub(lambda found: _block(folder, told, found), page)


def _block(folder: Path, told: str, found: re.Match[str]) -> str:
    output = told if found["command"] == "mitmdump" else _output(folder, shlex.split(found["command"]))
    lines = [line.rstrip() for line in output.strip("\n").splitlines()]
    if found["lines"]:
        lines = [*lines[: int(found["lines"])], "…"]
    return found["command"] + found["between"] + "\n".join(["```", *lines, "```"])


def _read_demo(folder: Path) -> str:
    """Makes `demo.db`; the lines that mitmdump prints of calls."""
    read = run_mitmdump(
        "-n", "-r", str(DEMO), "--flow-detail", "0", confdir=folder, options={"gateway_db": folder / "demo.db"}
    )
    assert read.returncode == 0, read.stdout
    # without the time of day before each line
    return "\n".join(line.partition("] ")[2] or line for line in read.stdout.splitlines() if " · " in line)


def _output(folder: Path, command: list[str]) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "gateway_addon", *command[1:]],
        stdout=subprocess.PIPE,
        text=True,
        check=False,
        cwd=folder,
        env={"COLUMNS": str(COLUMNS), "PATH": os.environ["PATH"], "TZ": "UTC", "PYTHONUTF8": "1"},
    )
    assert done.returncode in (0, 1), command  # 1: something was found
    return done.stdout


def main() -> None:
    for page in PAGES:
        page.write_text(with_output(page.read_text()))


if __name__ == "__main__":
    main()
