"""Put into the README what its commands really print for the demo: `python -m tests.make_pictures` (some seconds; after
`python -m tests.make_demo`).

A block of output in the README stands below a comment that says which command it is of.
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
COLUMNS = 100
BLOCK = re.compile(
    r"(?<=<!-- output of `)(?P<command>[^`]+)(?P<between>`(?: \(first (?P<lines>\d+) lines\))? -->\n+)```\n.*?```",
    re.DOTALL,
)


def with_output(readme: str) -> str:
    """The README's text with every block of output made anew."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "flows").mkdir()
        shutil.copy(DEMO, folder / "flows")
        return BLOCK.sub(lambda found: _block(folder, found), readme)


def _block(folder: Path, found: re.Match[str]) -> str:
    lines = [line.rstrip() for line in _output(folder, shlex.split(found["command"])).strip("\n").splitlines()]
    if found["lines"]:
        lines = [*lines[: int(found["lines"])], "…"]
    return found["command"] + found["between"] + "\n".join(["```", *lines, "```"])


def _output(folder: Path, command: list[str]) -> str:
    program, *arguments = command
    if program == "mitmdump":
        read = run_mitmdump(
            "-n", "-r", str(DEMO), "--flow-detail", "0", confdir=folder, options={"gateway_db": folder / "demo.db"}
        )
        assert read.returncode == 0, read.stdout
        # without the time of day before each line
        printed = (line.partition("] ")[2] or line for line in read.stdout.splitlines() if " · " in line)
        return "\n".join(printed)
    done = subprocess.run(
        [sys.executable, "-m", "gateway_addon", *arguments],
        stdout=subprocess.PIPE,
        text=True,
        check=False,
        cwd=folder,
        env={"COLUMNS": str(COLUMNS), "PATH": os.environ["PATH"], "TZ": "UTC", "PYTHONUTF8": "1"},
    )
    assert done.returncode in (0, 1), command  # 1: something was found
    return done.stdout


def main() -> None:
    README.write_text(with_output(README.read_text()))


if __name__ == "__main__":
    main()
