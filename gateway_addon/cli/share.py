"""Captures that others are to look at: `bundle`, `minimize`."""

import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import click
from rich.console import Console

from gateway_addon.cli.columns import words
from gateway_addon.cli.options import NotFound, Unreadable, flow_file, force
from gateway_addon.cli.output import plain, progress_bar, say
from gateway_addon.cli.tables import print_table

if TYPE_CHECKING:
    from gateway_addon.captures.bundle import Difference, Manifest

DIFFERENCES = (
    words("call", 0, "id", 12),
    words("column", 0, "column", 30),
    words("expected", 0, "must be", 12),
    words("found", 0, "is", 12),
)
"""The columns of `bundle --check`."""


@click.command()
@flow_file
@click.argument("reference", metavar="ID|SESSION", required=False)
@click.argument("target", metavar="OUT.zip", type=click.Path(path_type=Path), required=False)
@click.option("--check", is_flag=True, help="FILE is a bundle: do its flows still give the rows they must give?")
@force
def bundle(source: Path, reference: str | None, target: Path | None, check: bool, force: bool) -> None:
    """Pack a call or a session of a flow file, without its secrets, with the rows it must give; or check such a file.

    ID or SESSION: as it is or its beginning, `last`, or `all`. With --check: exit 1 if a row is not what it was.
    """
    if check != (reference is None) or check != (target is None):
        raise click.UsageError("FILE.flow ID|SESSION OUT.zip are needed, or --check FILE.zip")
    from gateway_addon.captures import bundle
    from gateway_addon.captures.flowfile import FlowFileError
    from gateway_addon.proxy.offline import store_rows

    try:
        if reference is None or target is None:
            with Console(stderr=True).status("reading"):
                _tell_check(source, *bundle.check(source, store_rows))
            return
        with progress_bar(source, readings=2) as progress:
            manifest, changed = bundle.write(source, reference, target, store_rows, force=force, progress=progress)
    except FlowFileError as error:
        raise Unreadable(str(error)) from error
    except LookupError as error:
        raise NotFound(f"{error.args[0]} in {source}") from error
    if changed:
        columns = sorted({one.column.removeprefix("requests.") for one in changed})
        click.echo(f"gateway-addon: redaction changed {', '.join(columns)}", err=True)
    say(f"{plain(target)}: {_calls(manifest)}")


def _tell_check(path: Path, manifest: "Manifest", different: list["Difference"]) -> None:
    if not different:
        say(f"{plain(path)}: {_calls(manifest)}, every row as it must be")
        return
    print_table(DIFFERENCES, [one._asdict() for one in different])
    versions = ", ".join(f"{name} {number}" for name, number in manifest.made_with.items())
    say(f"{plain(path)}: {_calls(manifest)}, rows differ from those of {plain(versions)}")
    sys.exit(1)


def _calls(manifest: "Manifest") -> str:
    count = len(manifest.rows.get("requests", []))
    agents = f" of {', '.join(manifest.agents)}" if manifest.agents else ""
    return plain(f"{_count(count, 'call')}{agents}")


@click.command()
@flow_file
@click.argument("command", metavar="-- CMD...", nargs=-1, type=click.UNPROCESSED, required=True)
@click.option("--out", "target", metavar="OUT", type=click.Path(path_type=Path), help="Default: FILE's name.min.flow")
@click.option("--runs", type=click.IntRange(min=1), default=1000, show_default=True, help="Run CMD so often at most.")
@click.option("--seconds", type=click.FloatRange(min=1), default=600, show_default=True, help="Take so long at most.")
@force
def minimize(
    source: Path, command: tuple[str, ...], target: Path | None, runs: int, seconds: float, force: bool
) -> None:
    """Find the smallest capture for which CMD still exits as it does for FILE; {} in CMD is the file.

    Ctrl-C ends the search; what was found so far is written.
    """
    from gateway_addon.captures import flowfile, trials
    from gateway_addon.captures.minimize import smaller_capture

    target = target or source.with_name(f"{source.stem}.min.flow")
    if not any(trials.PLACE in argument for argument in command):
        raise click.UsageError("CMD must say where the file goes: {}")
    # SIGTERM ends it like Ctrl-C
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    ended_by = ""
    try:
        with flowfile.new_file(target, source, force=force) as file:
            flows = [flow.get_state() for flow in flowfile.read(source)]
            before = flowfile.body_bytes(flows)
            with _progress(runs) as told, trials.Trials(command, runs, seconds, told) as trial:
                try:
                    trial.begin(flows)
                    smaller_capture(flows, trial.same)
                except trials.Spent as spent:
                    ended_by = f", ended by {spent}"
                except KeyboardInterrupt:
                    if not trial.best:
                        raise click.Abort from None
                    ended_by = ", ended by Ctrl-C"
            flowfile.write_states(file, trial.best)
    except (flowfile.FlowFileError, ValueError) as error:
        raise Unreadable(str(error)) from error
    say(
        f"{plain(target)}: {_count(len(trial.best), 'flow')} with {flowfile.body_bytes(trial.best):,} bytes of bodies, "
        f"of {_count(len(flows), 'flow')} with {before:,}; exit code {trial.expected}, {trial.runs} runs{ended_by}"
    )


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'s' if number != 1 else ''}"


@contextmanager
def _progress(runs: int) -> Iterator[Callable[[int, int], None]]:
    """A line on a terminal's stderr; to be told of runs and the size of the smallest file."""
    console = Console(stderr=True)
    if not console.is_terminal:
        yield lambda run, size: None
        return
    with console.status("minimizing") as status:
        yield lambda run, size: status.update(f"minimizing: run {run} of at most {runs}, {size:,} bytes")
