"""The process beside the proxy that exports what the proxy has recorded. It shares nothing with it but the database."""

import logging
import subprocess
import sys
import threading
from importlib.util import find_spec
from pathlib import Path

logger = logging.getLogger(__name__)


def is_installed() -> bool:
    """Whether the extra is there that the process needs."""
    try:
        return find_spec("opentelemetry.exporter.otlp.proto.http") is not None
    except ModuleNotFoundError:
        return False


class Companion:
    """`gateway-addon otlp DB --follow`, which ends when this process does, in whatever way that ends.

    What it says, and that it has ended by itself, goes to the log; it is not started again. Raises OSError if it cannot
    be started.
    """

    def __init__(self, db: Path) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "gateway_addon", "otlp", str(db.absolute()), "--follow", "--beside"],
            # open as long as this process lives: how it learns that that is over
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            errors="replace",
            # a Ctrl-C is for the proxy, which has some last rows to write
            start_new_session=True,
        )
        self._is_closing = False
        threading.Thread(target=self._listen, name="gateway-addon-otlp", daemon=True).start()

    def close(self) -> None:
        """Let it send the last calls and end. Does not wait."""
        self._is_closing = True
        assert self._process.stdin
        self._process.stdin.close()

    def _listen(self) -> None:
        assert self._process.stderr
        for line in self._process.stderr:
            logger.warning(line.rstrip())
        code = self._process.wait()
        if not self._is_closing:
            logger.warning("gateway-addon: the export has ended (exit code %d); the next start goes on with it", code)
