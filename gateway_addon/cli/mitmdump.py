"""A mitmdump beside an agent: started, waited for by what it logs, and ended."""

import os
import re
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Sequence
from contextlib import ExitStack
from importlib.resources import files
from pathlib import Path

import click

from gateway_addon import __version__

SCRIPT = files("gateway_addon") / "script" / "addon.py"

PATIENCE = 60.0
"""Seconds for a start: a new machine compiles mitmproxy, and makes keys."""
LAST_SECONDS = 20.0
"""For the end: the addon itself takes no more than half of it."""

# `-P`, as a folder that an agent works in may hold a module of any name
COMMAND = (sys.executable, "-P", "-c", "from mitmproxy.tools.main import mitmdump; mitmdump()")

LISTENING = re.compile(r" listening at (?:http://)?127\.0\.0\.1:\d+")
RUNNING = f"gateway-addon {__version__}: "
"""How the line begins that the addon logs last of all at the start."""
USUAL = re.compile(r"Loading script |Error logged during startup|HTTP/2 and HTTP/3|.*listening at ")
PREFIX = re.compile(r"\[[\d:.]+\] |-c: |gateway-addon: ")


class NotStarted(click.ClickException):
    exit_code = 2


class Mitmdump:
    """A running mitmdump with our addon. Its output is added to the file `log`, which is for the owner's eyes only.

    `modes` are without addresses: each gets a port of `ports`. Entering waits until all listen; `NotStarted` says in
    one line why they do not.
    """

    def __init__(self, modes: Sequence[str], ports: Sequence[int], arguments: Sequence[str], log: Path) -> None:
        self._awaited = len(modes)
        self._lines: list[str] = []
        """Of the start."""
        self._news = threading.Condition()
        self._is_silent = False
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW
        try:
            self._log = os.fdopen(os.open(log, flags, 0o600), "wb", buffering=0)
        except OSError as error:
            raise NotStarted(f"{log}: {error.strerror}") from error
        os.fchmod(self._log.fileno(), 0o600)
        at = [f"--mode={mode}@127.0.0.1:{port}" for mode, port in zip(modes, ports, strict=True)]
        self._process = subprocess.Popen(
            [*COMMAND, "-s", str(SCRIPT), *at, *arguments],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env=os.environ | {"PYTHONUNBUFFERED": "1"},
            # a Ctrl-C is for the agent
            start_new_session=True,
        )
        self._reader = threading.Thread(target=self._read, name="mitmdump log", daemon=True)
        self._reader.start()

    @property
    def pid(self) -> int:
        return self._process.pid

    def wait_until_it_listens(self) -> None:
        with self._news:
            self._news.wait_for(lambda: self._listens() or self._is_silent, PATIENCE)
            if self._listens():
                return
            has_ended = self._is_silent
            lines = [line for line in self._lines if not USUAL.match(PREFIX.sub("", line, count=1))]
        self.end()
        reason = PREFIX.sub("", PREFIX.sub("", lines[0], count=1), count=1) if lines else "it said nothing"
        raise NotStarted(f"mitmdump {'ended' if has_ended else 'does not listen'}: {reason}")

    def end(self) -> int | None:
        """End it in good order. Returns its exit code if it had ended before."""
        before = self._process.poll()
        if before is None:
            self._process.send_signal(signal.SIGTERM)
        try:
            code = self._process.wait(LAST_SECONDS)
            if code < 0 and code != -signal.SIGTERM:
                # it was on its way already: a process with threads ends by and by
                before = code
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._reader.join(LAST_SECONDS)
        self._log.close()
        return before

    def _listens(self) -> bool:
        return sum(LISTENING.search(line) is not None for line in self._lines) >= self._awaited and any(
            RUNNING in line for line in self._lines
        )

    def _read(self) -> None:
        # one that this thread takes would not wake the main thread, which alone acts on it
        signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
        assert self._process.stdout
        with self._process.stdout as output:
            for line in output:
                # a full disk must not hold up the proxy
                try:
                    self._log.write(line)
                except (OSError, ValueError):
                    continue
                finally:
                    self._note(line.decode(errors="replace").strip())
        with self._news:
            self._is_silent = True
            self._news.notify_all()

    def _note(self, line: str) -> None:
        with self._news:
            if not self._listens():
                self._lines.append(line)
                self._news.notify_all()


def free_ports(count: int) -> list[int]:
    """Ports of the loopback that nobody listens at."""
    with ExitStack() as stack:
        servers = [stack.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(count)]
        return [int(server.getsockname()[1]) for server in servers]
