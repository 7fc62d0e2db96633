"""The command line: `gateway-addon`, or `python -m gateway_addon`.

Exit 0: good; 1: found something, or no such id; 2: bad usage or unreadable file. Errors are one line on stderr.
"""

import io
import os
import sys
import traceback
from pathlib import Path
from typing import Any

import click

from gateway_addon import __version__
from gateway_addon.cli import (
    compare,
    doctor,
    export,
    files,
    findings,
    keep,
    live,
    look,
    package,
    run,
    serve,
    share,
    sums,
    telemetry,
)
from gateway_addon.cli.output import plain


class _Main(click.Group):
    """A group whose errors are one line each, where click prints three for bad usage."""

    def main(self, *args: Any, **extra: Any) -> Any:
        try:
            return super().main(*args, **extra | {"standalone_mode": False})
        except click.ClickException as error:
            click.echo(f"gateway-addon: {plain(error.format_message())}", err=True)
            sys.exit(error.exit_code)
        except click.Abort:
            sys.exit(1)
        except OSError as error:
            # a full disk under stdout, say; what could not be written must not be tried again at exit
            click.echo(f"gateway-addon: {plain(error.strerror or str(error))}", err=True)
            os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
            sys.exit(2)
        except Exception as error:
            # a file may come from anybody, and hold what nobody thought of; where, not what, as that may be a prompt
            place = traceback.extract_tb(error.__traceback__)[-1]
            where = f"{type(error).__name__} at {Path(place.filename).name}:{place.lineno}"
            click.echo(f"gateway-addon: the file holds what cannot be shown: {where}", err=True)
            sys.exit(2)


@click.group(cls=_Main, invoke_without_command=True)
@click.version_option(__version__)
@click.pass_context
def main(context: click.Context) -> None:
    """Look into the databases and flow files that the addon has written."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            # what an encoding has no character for is shown as ?
            stream.reconfigure(errors="replace")
    if os.environ.get("NO_COLOR"):
        context.color = False
    if context.invoked_subcommand is None:
        click.echo(context.get_help())


COMMANDS = (
    run.run,
    sums.list_calls,
    live.tail,
    sums.report,
    look.show,
    look.search,
    look.body,
    compare.diff,
    export.export,
    keep.verify,
    keep.prune_calls,
    findings.review_calls,
    files.redact,
    files.replay,
    share.bundle,
    share.minimize,
    serve.serve,
    telemetry.otlp,
    package.addon_path,
    doctor.doctor,
)
for command in COMMANDS:
    main.add_command(command)
