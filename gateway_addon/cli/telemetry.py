"""`otlp`: finished calls to where a team already looks."""

import os
import signal
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path

import click

from gateway_addon.cli.options import Unreadable, database, selecting, stored, writing
from gateway_addon.cli.output import counting, plain, say
from gateway_addon.otlp.export import Export, UnavailableError
from gateway_addon.otlp.source import Stored, cleaner
from gateway_addon.store.selection import Selection

LAST_SECONDS = 15.0
"""For the last calls, once the proxy has ended."""


@click.command()
@database
@selecting
@click.option("--follow", is_flag=True, help="Go on with the calls that end from now on, until Ctrl-C.")
@click.option("--content", is_flag=True, help="Prompts, answers and tool results too, without the secrets in them.")
@click.option("--again", is_flag=True, help="All calls, not only those the endpoint has not been sent.")
@click.option("--beside", is_flag=True, hidden=True, help="End when stdin does.")
def otlp(path: Path, selection: Selection, follow: bool, content: bool, again: bool, beside: bool) -> None:
    """Send finished calls as OpenTelemetry spans over OTLP/HTTP.

    The standard variables OTEL_EXPORTER_OTLP_ENDPOINT, ..._HEADERS and OTEL_RESOURCE_ATTRIBUTES say where to and as
    whose. An endpoint is sent every call once, and again if it is changed; a selection is sent whole each time. Exit 1
    if the endpoint took only a part.
    """
    try:
        from gateway_addon.otlp import send
    except ModuleNotFoundError as error:
        raise Unreadable("otlp needs the extra `otlp`: pip install 'gateway-addon[otlp]'") from error
    try:
        url = send.endpoint(os.environ)
        sender = send.Sender(url)
    except ValueError as error:
        raise Unreadable(str(error)) from error
    shown = send.shown(url)
    ended = threading.Event()
    # SIGTERM ends it like Ctrl-C; what was not accepted yet is sent the next time
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    if beside:
        threading.Thread(target=_end_with_stdin, args=[ended], daemon=True).start()
    with stored(path) as file, writing(file) as db, suppress(KeyboardInterrupt):
        clean = cleaner(db, os.environ) if content else None
        source = Stored(db, shown, selection, again=again, clean=clean)
        with counting(0 if follow else source.count(), "sending") as advance:
            export = Export(
                source=source,
                send=sender,
                wait=ended.wait,
                say=lambda line: click.echo(f"gateway-addon: {plain(shown)}: {plain(line)}", err=True),
                advance=advance,
                follow=follow,
            )
            try:
                export.run()
            except UnavailableError as error:
                raise Unreadable(f"{shown}: {error}; {export.tally.calls} calls sent") from error
        if follow:
            return
        done = export.tally
        say(f"{done.calls} calls ({done.spans} spans) sent to {plain(shown)}")
        if done.rejected or done.left_out:
            sys.exit(1)


def _end_with_stdin(ended: threading.Event) -> None:
    """Say so when nobody holds the other end of stdin any more, however that process ended, and then not wait long."""
    sys.stdin.buffer.read()
    ended.set()
    time.sleep(LAST_SECONDS)
    os._exit(0)
