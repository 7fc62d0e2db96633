"""Real mitmdump processes for tests: started, waited for by what they print, and always ended."""

import os
import re
import signal
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Self

from mitmproxy.flow import Flow
from mitmproxy.http import HTTPFlow
from mitmproxy.io import FlowReader

from gateway_addon.cli.mitmdump import free_ports

ADDON = Path(__file__).parents[1] / "addon.py"
MITMDUMP = Path(sys.executable).with_name("mitmdump")
PATIENCE = 30.0
"""Seconds until a process that does not do what a test waits for counts as broken."""


class Mitmdump:
    """A running mitmdump in front of `upstream`: `with Mitmdump(provider.url, confdir=tmp_path) as proxy:`.

    `confdir` None leaves it where mitmproxy has it, below `HOME`. `addon` None starts it without a script. `options`
    become `--set NAME=VALUE`, `args` follow as they are, `env` is added to an environment without API keys. `modes`
    replaces the reverse mode (`upstream` may be "" then). `port` is where the (first) mode listens, any free one if 0.

    Entering waits until every mode listens; it raises AssertionError with the output if the process ends before that.
    mitmdump listens before it gives up over an addon that failed to start: test such starts with `run_mitmdump`.
    """

    def __init__(
        self,
        upstream: str,
        *,
        confdir: Path | None,
        addon: Path | None = ADDON,
        modes: Sequence[str] = (),
        port: int = 0,
        options: Mapping[str, object] | None = None,
        args: Sequence[str] = (),
        env: Mapping[str, str] | None = None,
    ) -> None:
        self.urls: list[str] = []
        """Where each mode listens, in the order of `modes`."""
        self._modes = modes or [f"reverse:{upstream}"]
        self._output: list[str] = []
        self._news = threading.Condition()
        self._ended = False
        # mitmdump wants different ports for several modes, so that 0 will do for one only
        first, *later = free_ports(len(self._modes))
        self._later_ports = list(map(str, later))
        addresses = [f"127.0.0.1:{port}" for port in (port or (first if later else 0), *later)]
        modes_at = [f"--mode={mode}@{address}" for mode, address in zip(self._modes, addresses, strict=True)]
        self.process = subprocess.Popen(
            _command(confdir, addon, options, [*modes_at, *args]),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env=clean_environment(env),
        )
        self._reader = threading.Thread(target=self._read, name="mitmdump output", daemon=True)

    def __enter__(self) -> Self:
        self._reader.start()
        try:
            self._wait_until(lambda: len(self._ports()) == len(self._modes), "mitmdump did not start to listen")
        except AssertionError:
            self.kill()
            raise
        self.urls = [f"http://127.0.0.1:{port}" for port in self._ports()]
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()

    @property
    def url(self) -> str:
        """Where the (first) mode listens, without a trailing slash."""
        return self.urls[0]

    @property
    def stdout(self) -> str:
        """Everything printed so far, stderr included."""
        with self._news:
            return "".join(self._output)

    def wait_for(self, text: str) -> None:
        """Return once `text` has been printed, at any time since the start; AssertionError if that does not happen."""
        self._wait_until(lambda: text in "".join(self._output), f"mitmdump did not print {text!r}")

    def stop(self) -> int:
        """End it as `kill PID` does (SIGTERM) and return its exit code."""
        self.process.send_signal(signal.SIGTERM)
        return self._wait()

    def kill(self) -> None:
        """End it at once (SIGKILL), if it still runs."""
        self.process.kill()
        self._wait()

    def _wait(self) -> int:
        code = self.process.wait(PATIENCE)
        self._reader.join(PATIENCE)
        return code

    def _read(self) -> None:
        assert self.process.stdout
        with self.process.stdout as lines:
            for line in lines:
                with self._news:
                    self._output.append(line)
                    self._news.notify_all()
        with self._news:
            self._ended = True
            self._news.notify_all()

    def _ports(self) -> list[str]:
        """Of the modes that listen already; in the order of `modes` once all do, whatever order they are printed in."""
        found = re.findall(r"listening at (?:http://)?127\.0\.0\.1:(\d+)", "".join(self._output))
        return sorted(found, key=lambda port: self._later_ports.index(port) if port in self._later_ports else -1)

    def _wait_until(self, condition: Callable[[], bool], complaint: str) -> None:
        with self._news:
            self._news.wait_for(lambda: condition() or self._ended, PATIENCE)
            assert condition(), f"{complaint}; it printed:\n{''.join(self._output)}"


def run_mitmdump(
    *args: str,
    confdir: Path,
    addon: Path | None = ADDON,
    options: Mapping[str, object] | None = None,
    env: Mapping[str, str] | None = None,
) -> subprocess.CompletedProcess[str]:
    """Run a mitmdump that ends by itself (a file to read, a start that must fail) and return its code and output.

    subprocess.TimeoutExpired if it does not end; it is killed then.
    """
    return subprocess.run(
        _command(confdir, addon, options, args),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=clean_environment(env),
        timeout=PATIENCE,
        check=False,
    )


def run_on_file(flow_file: Path, db: Path, *args: str, confdir: Path) -> subprocess.CompletedProcess[str]:
    """Read a flow file with our addon into `db`, as a security review does."""
    return run_mitmdump("-n", "-r", str(flow_file), *args, confdir=confdir, options={"gateway_db": db})


def clean_environment(extra: Mapping[str, str] | None = None) -> dict[str, str]:
    """The environment without the developer's API keys and gateway tokens, and with `extra`."""
    secret = re.compile(r"_API_KEY$|_AUTH_TOKEN$|^GATEWAY_")
    kept = {name: value for name, value in os.environ.items() if not secret.search(name)}
    return kept | {"PYTHONUNBUFFERED": "1"} | dict(extra or {})


def read_flows(path: Path) -> list[Flow]:
    """All flows of a file."""
    with path.open("rb") as file:
        return list(FlowReader(file).stream())


def http_flows(path: Path) -> list[HTTPFlow]:
    """The HTTP flows of a file."""
    return [flow for flow in read_flows(path) if isinstance(flow, HTTPFlow)]


def rows(db: Path, sql: str) -> list[dict[str, Any]]:
    """The rows of a query, by column. The database is opened read-only."""
    connection = sqlite3.connect(f"{db.resolve().as_uri()}?mode=ro", uri=True)
    connection.row_factory = sqlite3.Row
    try:
        return [dict(row) for row in connection.execute(sql)]
    finally:
        connection.close()


def _command(
    confdir: Path | None, addon: Path | None, options: Mapping[str, object] | None, args: Sequence[str]
) -> list[str]:
    own = {"confdir": confdir} if confdir else {}
    settings = {**own, "listen_host": "127.0.0.1", "listen_port": 0, **(options or {})}
    script = ["-s", str(addon)] if addon else []
    return [str(MITMDUMP), *script, *(f"--set={name}={value}" for name, value in settings.items()), *args]


def free_port() -> int:
    """A port of 127.0.0.1 that nobody has at the moment."""
    (port,) = free_ports(1)
    return port
