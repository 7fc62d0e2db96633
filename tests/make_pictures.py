"""Draw `flows/pictures/`: what the README's command and `gateway-addon` really print for the demo.

`python -m tests.make_pictures` (some seconds; after `python -m tests.make_demo`).
"""

import re
import subprocess
import sys
import tempfile
from pathlib import Path

from rich._export_format import CONSOLE_SVG_FORMAT
from rich.console import Console
from rich.text import Text

from tests.make_demo import DEMO
from tests.mitmdump import rows, run_mitmdump

PICTURES = DEMO.parent / "pictures"
COLUMNS = 150
LONGEST = """SELECT id FROM requests WHERE api_kind = 'messages' AND outcome = 'complete'
             ORDER BY input_tokens DESC LIMIT 1"""
FORMAT = re.sub(r"@font-face \{\{.*?\}\}\n", "", CONSOLE_SVG_FORMAT, flags=re.DOTALL)
"""Rich's, without the fonts it would have the reader's browser fetch."""


def draw(name: str, title: str, lines: list[str]) -> None:
    """Write the lines of a terminal as `NAME.svg`."""
    with open("/dev/null", "w") as nowhere:
        console = Console(record=True, width=COLUMNS, file=nowhere, legacy_windows=False)
        for line in lines:
            console.print(Text.from_ansi(line), soft_wrap=False, overflow="ellipsis", no_wrap=True)
        svg = console.export_svg(title=title, code_format=FORMAT, unique_id=name)
    PICTURES.mkdir(exist_ok=True)
    (PICTURES / f"{name}.svg").write_text(svg)


def main() -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        db = folder / "gateway.db"
        options = {"gateway_db": db}
        read = run_mitmdump("-n", "-r", str(DEMO), "--flow-detail", "0", confdir=folder, options=options)
        assert read.returncode == 0, read.stdout
        printed = [line for line in read.stdout.splitlines() if " · " in line]
        draw("demo", "mitmdump -n -r flows/demo.flow -s addon.py --flow-detail 0", printed)
        (talk,) = rows(db, LONGEST)
        for first, more in {"report": [], "show": [talk["id"][:8]]}.items():
            shown = subprocess.run(
                [sys.executable, "-m", "gateway_addon", first, str(db), *more],
                stdout=subprocess.PIPE,
                text=True,
                check=True,
                env={"COLUMNS": str(COLUMNS), "PATH": ""},
            )
            draw(first, f"gateway-addon {first} gateway.db {' '.join(more)}", shown.stdout.splitlines())


if __name__ == "__main__":
    main()
