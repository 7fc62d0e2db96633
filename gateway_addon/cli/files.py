"""Flow files: `redact`, `replay`."""

import signal
from contextlib import suppress
from pathlib import Path

import click

from gateway_addon.cli.options import Unreadable, flow_file, force
from gateway_addon.cli.output import plain, progress_bar, say


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
    first, *others = done.splitlines()
    say("\n".join([f"{plain(target)}: {plain(first)}", *map(plain, others)]))


@click.command()
@flow_file
@click.option("--port", type=click.IntRange(0, 65535), required=True, help="On 127.0.0.1; 0: any free one.")
@click.option("--pace", is_flag=True, help="Send answers as fast as they were recorded, not at once.")
@click.option("--lenient", is_flag=True, help="Where nothing fits: the call at the same place of its conversation.")
def replay(source: Path, port: int, pace: bool, lenient: bool) -> None:
    """Answer model calls with the answers of a flow file, until Ctrl-C; a line says what each request was given."""
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
        server = replay.ReplayServer(source, recorded, port, paced=pace, lenient=lenient, told=_tell)
    except OSError as error:
        raise Unreadable(f"port {port}: {error.strerror}") from error
    # SIGTERM ends it like Ctrl-C
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    with server, suppress(KeyboardInterrupt):
        say(f"{len(recorded)} calls of {plain(source)} at {server.url}")
        server.serve_forever()


def _tell(line: str) -> None:
    say(plain(line))
