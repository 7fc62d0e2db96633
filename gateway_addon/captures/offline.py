"""The rows that a flow file gives, read as `mitmdump -n -r FILE -s addon.py` does: by the very same code, no network."""

import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

from gateway_addon.captures.flowfile import FlowFileError

_MITMDUMP = "from mitmproxy.tools.main import mitmdump; mitmdump()"
_SCRIPT = "from gateway_addon.proxy.hooks import ADDON\n\naddons = [ADDON]\n"


def read_into(db: Path, flows: Path) -> None:
    """Read a flow file into a new database. Raises `FlowFileError` if it cannot be read to its end."""
    with TemporaryDirectory() as folder:
        script = Path(folder) / "addon.py"
        script.write_text(_SCRIPT)
        # a folder of its own: no configuration of this user's, whose options would change what is read
        options = [f"--set=confdir={folder}", f"--set=gateway_db={db}", "--flow-detail=0"]
        done = subprocess.run(
            [sys.executable, "-c", _MITMDUMP, "-n", "-r", str(flows), "-s", str(script), *options],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            check=False,
        )
    if done.returncode or not db.exists():
        raise FlowFileError(f"{flows}: {(done.stdout.strip().splitlines() or ['cannot be read'])[-1]}")
