"""Flow files, which is what mitmproxy saves with `-w`: read one flow at a time, and write a copy that can be shared."""

import io
import os
import secrets
import stat
import tempfile
import tomllib
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

from mitmproxy.exceptions import FlowReadException
from mitmproxy.flow import Flow
from mitmproxy.io import FlowReader, FlowWriter

from gateway_addon.captures.finder import Finder, read_rules
from gateway_addon.captures.redaction import Redactor, State
from gateway_addon.credentials import SecretRule, environment_secrets, kind_of

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


def redact_file(
    source: Path,
    target: Path,
    rules: Sequence[SecretRule] = (),
    progress: Progress = lambda size: None,
    *,
    force: bool = False,
) -> str:
    """Write a copy of a flow file without its secrets, readable for its owner only; return what was done: one line,
    and one each for what was replaced, by kind, and for what nobody could look into, if there is any.

    The file is read twice, so `progress` is told of twice its size. Raises `FlowFileError` if it cannot be read to its
    end, or the copy cannot be written (see `new_file`): there is a whole copy or none.
    """
    with new_file(target, source, force=force) as file:
        done = write_redacted(file, source, rules, progress)
    lines = [f"{done.flows} flows, {done.replaced.total()} different secrets replaced"]
    for what, counted in (("replaced", done.replaced), ("not looked into", done.unread)):
        named = [
            f"{count} {name}" for name, count in sorted(counted.items(), key=lambda item: (-item[1], item[0])) if count
        ]
        lines += [f"  {what}: {', '.join(named)}"] if named else []
    return "\n".join(lines)


class Redacted(NamedTuple):
    """What a redaction has done."""

    flows: int
    replaced: Counter[str]
    """Different secrets by the kind that their placeholders tell."""
    unread: Counter[str]
    """`Redactor.unread`."""


def write_redacted(
    file: BinaryIO,
    source: Path,
    rules: Sequence[SecretRule] = (),
    progress: Progress = lambda size: None,
    wanted: Callable[[Flow], bool] = lambda flow: True,
) -> Redacted:
    """Write the `wanted` flows of a file without the secrets that any of its flows shows to be some.

    Raises `FlowFileError`.
    """
    finder = new_finder(rules)
    redactor = Redactor(finder)
    for flow in read(source, progress):
        redactor.learn(flow.get_state())
    writer = FlowWriter(file)
    flows = 0
    for flow in read(source, progress):
        if wanted(flow):
            writer.add(Flow.from_state(redactor.redact(flow.get_state())))
            flows += 1
    return Redacted(flows, Counter(kind_of(secret, kind) for secret, kind in finder.kinds.items()), redactor.unread)


@contextmanager
def new_file(target: Path, source: Path | None = None, *, force: bool = False) -> Iterator[BinaryIO]:
    """A file to be written, which is at `target` once the block has ended without an error, whole, for its owner only.

    Raises `FlowFileError` where `target` is no regular file, is `source`, is there already without `force` or write-
    protected, or cannot be written. Whatever goes wrong, what was there before still is.
    """
    _check_target(target, source, force)
    try:
        handle, name = tempfile.mkstemp(prefix=f".{target.name}.", dir=target.parent)
    except OSError as error:
        raise FlowFileError(f"{target}: {error.strerror}") from error
    try:
        with os.fdopen(handle, "wb") as file:
            yield file
        Path(name).replace(target)
    except OSError as error:
        raise FlowFileError(f"{target}: {error.strerror}") from error
    finally:
        Path(name).unlink(missing_ok=True)


def _check_target(target: Path, source: Path | None, force: bool) -> None:
    try:
        there = target.lstat()
    except FileNotFoundError:
        return
    except OSError as error:
        raise FlowFileError(f"{target}: {error.strerror}") from error
    if source is not None and source.exists() and target.exists() and source.samefile(target):
        raise FlowFileError(f"{target}: is the file that is read")
    if stat.S_ISLNK(there.st_mode):
        # to whatever it leads: the file there is not the one that was named
        raise FlowFileError(f"{target}: is a link")
    if not stat.S_ISREG(there.st_mode):
        raise FlowFileError(f"{target}: is no regular file")
    if not force:
        raise FlowFileError(f"{target}: is there already; --force replaces it")
    if not there.st_mode & 0o200:
        raise FlowFileError(f"{target}: is write-protected")


def write_states(file: BinaryIO, states: Sequence[State]) -> None:
    """Write flows that are given as their states."""
    for state in states:
        # mitmproxy takes apart what it is given
        copied = {name: value.copy() if isinstance(value, dict) else value for name, value in state.items()}
        FlowWriter(file).add(Flow.from_state(copied))


def body_bytes(states: Sequence[State]) -> int:
    """How many bytes the bodies of flows have, as they are saved."""
    messages = [state.get(name) or {} for state in states for name in ("request", "response")]
    return sum(len(message.get("content") or b"") for message in messages)


def load_rules(path: Path) -> list[SecretRule]:
    """The rules of a TOML file (`finder.read_rules`). Raises `FlowFileError`."""
    try:
        return read_rules(tomllib.loads(path.read_text(encoding="utf-8")))
    except OSError as error:
        raise FlowFileError(f"{path}: {error.strerror}") from error
    except ValueError as error:
        raise FlowFileError(f"{path}: {error}") from error


def redact_flows(flows: Sequence[Flow], rules: Sequence[SecretRule] = ()) -> None:
    """Redact flows in place, with the same placeholders for all."""
    redactor = Redactor(new_finder(rules))
    for flow in flows:
        redactor.learn(flow.get_state())
    for flow in flows:
        flow.set_state(redactor.redact(flow.get_state()))


def new_finder(rules: Sequence[SecretRule] = ()) -> Finder:
    """A finder for this process: a key of its own, and the secrets of its environment."""
    return Finder(secrets.token_bytes(32), rules, environment_secrets(os.environ))


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
