"""Flow files: read one flow at a time, and write a copy that can be shared. What mitmproxy saves with `-w`."""

import io
import os
import secrets
import tempfile
import tomllib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from mitmproxy.exceptions import FlowReadException
from mitmproxy.flow import Flow
from mitmproxy.io import FlowReader, FlowWriter

from gateway_addon.captures.redaction import Redactor, read_rules
from gateway_addon.credentials import Rule, environment_secrets

Progress = Callable[[int], Any]
"""Told how many more bytes of a file have been read."""


class FlowFileError(Exception):
    """A file cannot be read, or not to its end, or cannot be written; the text is one line that names it."""

    def __init__(self, text: str, flows: int = 0) -> None:
        super().__init__(text)
        self.flows = flows
        """How many whole flows were read."""


def read(path: Path, progress: Progress = lambda size: None) -> Iterator[Flow]:
    """The flows of a file, one at a time in memory; those of older formats are converted.

    Raises `FlowFileError`, after the last whole flow, for a file that is not there, no flow file, cut off, damaged, or
    of a newer mitmproxy.
    """
    for _, flow in read_with_offsets(path, progress):
        yield flow


def read_with_offsets(path: Path, progress: Progress = lambda size: None) -> Iterator[tuple[int, Flow]]:
    """`read`, with the position in the file where each flow begins (see `read_at`)."""
    with _opened(path) as file:
        count = offset = 0
        try:
            for flow in FlowReader(file).stream():
                yield offset, flow
                count += 1
                progress(file.tell() - offset)
                offset = file.tell()
        except Exception as error:
            # mitmproxy lets through what its parsers stumble over: KeyError, AssertionError, ...
            raise FlowFileError(f"{path}: {_trouble(error, count, file)}", count) from error


def read_at(path: Path, offset: int) -> Flow:
    """The flow that begins at a position. Raises `FlowFileError` if the file has changed since."""
    with _opened(path) as file:
        file.seek(offset)
        try:
            return next(iter(FlowReader(file).stream()))
        except Exception as error:
            raise FlowFileError(f"{path}: the file has changed while it was in use") from error


def redact_file(source: Path, target: Path, rules: Sequence[Rule] = (), progress: Progress = lambda size: None) -> str:
    """Write a copy of a flow file without its secrets, readable for its owner only; return what was done, one line.

    The file is read twice, so `progress` is told of twice its size. Raises `FlowFileError` if it cannot be read to its
    end, or the copy cannot be written: there is a whole copy or none.
    """
    redactor = new_redactor(rules)
    flows = 0
    for flow in read(source, progress):
        redactor.learn(flow.get_state())
    try:
        handle, name = tempfile.mkstemp(prefix=f".{target.name}.", dir=target.parent)
    except OSError as error:
        raise FlowFileError(f"{target}: {error.strerror}") from error
    try:
        with os.fdopen(handle, "wb") as file:
            writer = FlowWriter(file)
            for flow in read(source, progress):
                writer.add(Flow.from_state(redactor.redact(flow.get_state())))
                flows += 1
        Path(name).replace(target)
    except OSError as error:
        raise FlowFileError(f"{target}: {error.strerror}") from error
    finally:
        Path(name).unlink(missing_ok=True)
    return f"{flows} flows, {redactor.found} different secrets replaced"


def load_rules(path: Path) -> list[Rule]:
    """The rules of a TOML file (`redaction.read_rules`). Raises `FlowFileError`."""
    try:
        return read_rules(tomllib.loads(path.read_text(encoding="utf-8")))
    except OSError as error:
        raise FlowFileError(f"{path}: {error.strerror}") from error
    except ValueError as error:
        raise FlowFileError(f"{path}: {error}") from error


def redact_flows(flows: Sequence[Flow], rules: Sequence[Rule] = ()) -> None:
    """Redact flows in place, with the same placeholders for all."""
    redactor = new_redactor(rules)
    for flow in flows:
        redactor.learn(flow.get_state())
    for flow in flows:
        flow.set_state(redactor.redact(flow.get_state()))


def new_redactor(rules: Sequence[Rule] = ()) -> Redactor:
    """A redactor for this process: a key of its own, and the secrets of its environment."""
    return Redactor(secrets.token_bytes(32), rules, environment_secrets(os.environ))


def _opened(path: Path) -> io.BufferedReader:
    if path.exists() and not path.is_file():
        raise FlowFileError(f"{path}: is no regular file")
    try:
        return path.open("rb")
    except OSError as error:
        raise FlowFileError(f"{path}: {error.strerror}") from error


def _trouble(error: Exception, count: int, file: io.BufferedReader) -> str:
    if isinstance(error, OSError):
        return error.strerror or "cannot be read"
    if isinstance(error, FlowReadException) and "please update" in str(error):
        return "written by a newer mitmproxy, please update"
    if count == 0:
        return "is no flow file, or is cut off in its first flow"
    how = "damaged" if file.peek(1) else "cut off"
    return f"{how} after {count} whole flow{'s' if count > 1 else ''}"
