"""`gateway-addon serve` as a process, asked over HTTP."""

import subprocess
import sys
import urllib.error
import urllib.parse
import urllib.request
from pathlib import Path
from typing import Any, NamedTuple, Self

from tests.mitmdump import PATIENCE, clean_environment


class Reply(NamedTuple):
    status: int
    text: str
    headers: Any


class Page:
    """A running `serve`: `with Page(db) as page:`. Entering waits until it tells its address."""

    def __init__(self, db: Path, *arguments: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "gateway_addon", "serve", str(db), "--port", "0", *arguments],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env=clean_environment(),
        )
        assert self.process.stdout
        self.told = self.process.stdout.readline()
        assert " at http://127.0.0.1:" in self.told, self.told + self.process.stdout.read()
        self.url = self.told.partition(" at ")[2].partition("/ ")[0]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.process.terminate()
        code = self.process.wait(PATIENCE)
        assert self.process.stdout
        rest = self.process.stdout.read()
        self.process.stdout.close()
        # Datasette says which SQL it could not run
        assert code == 0, rest
        assert "Traceback" not in rest, rest

    def get(self, path: str, method: str = "GET", headers: dict[str, str] | None = None, **query: str) -> Reply:
        asked = f"{self.url}{path}" + (f"?{urllib.parse.urlencode(query)}" if query else "")
        request = urllib.request.Request(asked, headers=headers or {}, method=method)
        try:
            with urllib.request.urlopen(request) as answer:
                return Reply(answer.status, answer.read().decode(), answer.headers)
        except urllib.error.HTTPError as error:
            return Reply(error.code, error.read().decode(), error.headers)
