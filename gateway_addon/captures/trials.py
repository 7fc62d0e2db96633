"""Trying candidates of a capture with somebody's command: does it still exit as before?"""

import io
import os
import signal
import subprocess
import time
from collections.abc import Callable, Sequence
from hashlib import sha256
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Self

from mitmproxy.exceptions import FlowReadException

from gateway_addon.captures.flowfile import write_states
from gateway_addon.captures.minimize import State

PLACE = "{}"
"""Stands in a command for the file's path."""

PATIENCE = 5.0
"""Seconds, and times the first run's time, that a run may take; a candidate that hangs the command is none."""


class Spent(Exception):
    """No more runs, or no more time; the text says of what."""


class Trials:
    """Runs `command` for candidates: at most `runs` times and for `seconds`. To be used in a `with` block.

    `told` hears, after each run, how many there were and how many bytes the smallest file has that exits as before.
    """

    def __init__(self, command: Sequence[str], runs: int, seconds: float, told: Callable[[int, int], object]) -> None:
        self.runs = 0
        self.best: list[State] = []
        """The smallest that exits as before."""
        self.expected: int | None = None
        """The exit code to keep."""
        self._command = command
        self._max_runs = runs
        self._seconds = seconds
        self._until = time.monotonic() + seconds
        self._told = told
        self._patience = seconds
        self._smallest = 0
        self._known: dict[bytes, bool] = {}
        self._folder = TemporaryDirectory()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._folder.cleanup()

    def begin(self, flows: list[State]) -> None:
        """Run the command for the whole capture, twice, because chance cannot be made smaller.

        Raises ValueError, one line, if it does not exit alike, or cannot be run.
        """
        data = _saved(flows)
        started = time.monotonic()
        try:
            self.expected = self._exit_code(data)
        except OSError as error:
            raise ValueError(f"{self._command[0]}: {error.strerror}") from error
        self._patience = PATIENCE + PATIENCE * (time.monotonic() - started)
        again = self._exit_code(data)
        if self.expected is None:
            raise ValueError(f"the command took longer than {self._seconds:g} s")
        if again != self.expected:
            raise ValueError(f"the command exits with {self.expected}, and then with {again}")
        self._keep(flows, data)

    def same(self, flows: list[State]) -> bool:
        """Whether the command exits as before for these flows. Raises `Spent`."""
        try:
            data = _saved(flows)
        except (ValueError, TypeError, FlowReadException):
            # no valid flow
            return False
        digest = sha256(data).digest()
        if digest not in self._known:
            if self.runs >= self._max_runs:
                raise Spent(f"--runs {self._max_runs}")
            if time.monotonic() >= self._until:
                raise Spent(f"--seconds {self._seconds:g}")
            self._known[digest] = self._exit_code(data) == self.expected
        if self._known[digest]:
            self._keep(flows, data)
        self._told(self.runs, self._smallest)
        return self._known[digest]

    def _keep(self, flows: list[State], data: bytes) -> None:
        if not self.best or len(data) < self._smallest:
            # a copy, because its maker goes on
            self.best, self._smallest = list(flows), len(data)

    def _exit_code(self, data: bytes) -> int | None:
        """None: it had to be ended."""
        self.runs += 1
        path = Path(self._folder.name) / "candidate.flow"
        path.write_bytes(data)
        # a group of its own, to be ended whole; Ctrl-C in the terminal is for us
        process = subprocess.Popen(
            [argument.replace(PLACE, str(path)) for argument in self._command],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        try:
            return process.wait(max(0.1, min(self._patience, self._until - time.monotonic())))
        except subprocess.TimeoutExpired:
            return None
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()


def _saved(flows: list[State]) -> bytes:
    """The flows as a file holds them. Raises ValueError and others for what is no valid flow."""
    file = io.BytesIO()
    write_states(file, flows)
    return file.getvalue()
