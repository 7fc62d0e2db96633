"""The addon as `mitmdump -s` loads it, but with short waits (`WAIT_SECONDS`), and with a lock on its database that
another program takes as soon as it is open, for `LOCK_SECONDS` (none: for good)."""

import os
import sqlite3
import threading
from pathlib import Path
from typing import Any

from mitmproxy import ctx

from gateway_addon.proxy.hooks import ADDON
from gateway_addon.store import writer

if seconds := os.environ.get("WAIT_SECONDS"):
    writer.CLOSE_SECONDS = writer.FILE_SECONDS = float(seconds)


class Lock:
    """Holds the write lock of the database."""

    name = "lock"

    def configure(self, updated: set[str]) -> None:
        if "gateway_db" in updated:
            self._connection = sqlite3.connect(
                Path(ctx.options.gateway_db), isolation_level=None, check_same_thread=False
            )
            self._connection.execute("BEGIN IMMEDIATE")
            if held := os.environ.get("LOCK_SECONDS"):
                threading.Timer(float(held), self._connection.execute, ["ROLLBACK"]).start()


addons: list[Any] = [ADDON, Lock()]
