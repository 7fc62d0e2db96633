"""`serve`: the database in a browser."""

import os
import signal
from contextlib import suppress
from pathlib import Path

import click

from gateway_addon.cli.options import Unreadable, database, reading, stored, writing
from gateway_addon.cli.output import plain, say, tracked
from gateway_addon.store import search


@click.command()
@database
@click.option("--port", type=click.IntRange(0, 65535), default=8001, show_default=True, help="On 127.0.0.1; 0: any.")
def serve(path: Path, port: int) -> None:
    """Show the database in a browser: a dashboard, calls, conversations, costs, errors, and search.

    It only reads, also while a proxy writes, and only programs of your user on this machine can see it. At the start
    the index for searching is brought up to date, as `search` does; what comes later is found without it.
    """
    try:
        from gateway_addon.page import app
    except ModuleNotFoundError as error:
        raise Unreadable("serve needs the extra `page`: pip install gateway-addon[page]") from error
    with stored(path) as file:
        is_writable = os.access(file, os.W_OK)
        with writing(file) if is_writable else reading(file) as db:
            for batch in tracked(search.unindexed_texts(db), "indexing") if is_writable else ():
                search.index_texts(db, batch)
            found = search.page_query(db)
        # SIGTERM ends it like Ctrl-C
        signal.signal(signal.SIGTERM, signal.default_int_handler)
        try:
            with suppress(KeyboardInterrupt):
                app.serve(file, found, port, lambda url: say(f"{plain(path)} at {url}/ (Ctrl-C ends it)"))
        except OSError as error:
            raise Unreadable(f"port {port}: {os.strerror(error.errno or 0)}") from error
