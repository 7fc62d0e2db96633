"""Flow files: `redact`, `bundle`, `replay`."""

import signal
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import click
from rich.console import Console

from gateway_addon.cli.options import NotFound, Unreadable, flow_file, force
from gateway_addon.cli.output import plain, print_rows, progress_bar
from gateway_addon.store.queries import Row

if TYPE_CHECKING:
    from gateway_addon.captures.bundle import Difference, Manifest

DIFFERENCES: dict[str, Callable[[Row], str]] = {
    "id": lambda row: plain(row["call"])[:40],
    "column": lambda row: plain(row["column"]),
    "must be": lambda row: plain(row["expected"])[:60],
    "is": lambda row: plain(row["found"])[:60],
}
"""The columns of `bundle --check`."""


@click.command()
@flow_file
@click.argument("target", metavar="OUT", type=click.Path(path_type=Path))
@click.option("--rules", metavar="FILE", type=click.Path(path_type=Path), help="TOML: [[rules]] with name and regex.")
@force
def redact(source: Path, target: Path, rules: Path | None, force: bool) -> None:
    """Copy a flow file without the secrets in it, so that it can be shared."""
    # mitmproxy takes a second to import, which those commands should not cost that only read a database
    from gateway_addon.captures import flowfile

    try:
        own_rules = flowfile.load_rules(rules) if rules else []
        with progress_bar(source, readings=2) as progress:
            done = flowfile.redact_file(source, target, own_rules, progress, force=force)
    except flowfile.FlowFileError as error:
        raise Unreadable(str(error)) from error
    click.echo(f"{plain(target)}: {done}")


@click.command()
@flow_file
@click.argument("reference", metavar="ID|SESSION", required=False)
@click.argument("target", metavar="OUT.zip", type=click.Path(path_type=Path), required=False)
@click.option("--check", is_flag=True, help="FILE is a bundle: do its flows still give the rows they must give?")
@force
def bundle(source: Path, reference: str | None, target: Path | None, check: bool, force: bool) -> None:
    """Pack a call or a session of a flow file, without its secrets, with the rows it must give; or check such a file.

    ID or SESSION: as it is or its beginning, `last`, or `all`. With --check: exit 1 if a row is another one than it was.
    """
    if check != (reference is None) or check != (target is None):
        raise click.UsageError("FILE.flow ID|SESSION OUT.zip are needed, or --check FILE.zip")
    from gateway_addon.captures import bundle
    from gateway_addon.captures.flowfile import FlowFileError

    try:
        if reference is None or target is None:
            with Console(stderr=True).status("reading"):
                _tell_check(source, *bundle.check(source))
            return
        with progress_bar(source, readings=2) as progress:
            manifest, changed = bundle.write(source, reference, target, force=force, progress=progress)
    except FlowFileError as error:
        raise Unreadable(str(error)) from error
    except LookupError as error:
        raise NotFound(f"{error.args[0]} in {source}") from error
    if changed:
        columns = sorted({one.column.removeprefix("requests.") for one in changed})
        click.echo(f"gateway-addon: redaction changed {', '.join(columns)}", err=True)
    click.echo(f"{plain(target)}: {_calls(manifest)}")


def _tell_check(path: Path, manifest: "Manifest", different: list["Difference"]) -> None:
    if not different:
        click.echo(f"{plain(path)}: {_calls(manifest)}, every row as it must be")
        return
    print_rows(DIFFERENCES, [one._asdict() for one in different])
    versions = ", ".join(f"{name} {number}" for name, number in manifest.made_with.items())
    click.echo(f"{plain(path)}: {_calls(manifest)}, rows differ from those of {plain(versions)}")
    sys.exit(1)


def _calls(manifest: "Manifest") -> str:
    count = len(manifest.rows.get("requests", []))
    agents = f" of {', '.join(manifest.agents)}" if manifest.agents else ""
    return plain(f"{count} call{'s' if count != 1 else ''}{agents}")


@click.command()
@flow_file
@click.option("--port", type=click.IntRange(0, 65535), required=True, help="On 127.0.0.1; 0: any free one.")
@click.option("--pace", is_flag=True, help="Send answers as fast as they were recorded, not at once.")
def replay(source: Path, port: int, pace: bool) -> None:
    """Answer model calls with the answers of a flow file, until Ctrl-C."""
    from gateway_addon.captures import flowfile, replay

    recorded: list[replay.Recording] = []
    try:
        with progress_bar(source) as progress:
            recorded.extend(replay.recordings(source, progress))
    except flowfile.FlowFileError as error:
        if not recorded:
            raise Unreadable(str(error)) from error
        click.echo(f"gateway-addon: {plain(error)}", err=True)
    if not recorded:
        raise Unreadable(f"{source}: no HTTP calls in it")
    try:
        server = replay.ReplayServer(source, recorded, port, paced=pace)
    except OSError as error:
        raise Unreadable(f"port {port}: {error.strerror}") from error
    # SIGTERM ends it like Ctrl-C
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    with server, suppress(KeyboardInterrupt):
        click.echo(f"{len(recorded)} calls of {plain(source)} at {server.url}")
        server.serve_forever()
