"""Keeping a database in order: `verify`, `prune`."""

import re
import sys
import time
from pathlib import Path

import click
from rich.console import Console

from gateway_addon.cli.options import database, reading, writing
from gateway_addon.cli.output import megabytes, plain, say, tracked
from gateway_addon.store import bodies, prune
from gateway_addon.times import timestamp


@click.command()
@database
def verify(path: Path) -> None:
    """Rebuild every stored request body and compare it with the hash of what the client sent; exit 1 if one differs."""
    size = damaged = 0
    # in one transaction, so that nothing is pruned between two looks
    with reading(path) as db, db.atomic():
        ids = bodies.stored_bodies(db)
        not_stored = db["requests"].count - len(ids)
        for request_id in tracked(ids, "verifying"):
            try:
                size += len(bodies.load_body(db, request_id) or b"")
            except bodies.DamagedError as error:
                damaged += 1
                say(plain(error))
    say(
        f"{len(ids)} bodies of {megabytes(size)} in a file of {megabytes(path.stat().st_size)}: {damaged} damaged; "
        f"{not_stored} calls without a stored body"
    )
    if damaged:
        sys.exit(1)


def _bytes(size: str) -> int:
    found = re.fullmatch(r"(\d+(?:\.\d+)?)([kMG]?)B?", size, re.IGNORECASE)
    if not found:
        raise click.BadParameter(f"{size!r} is no size: give bytes, or a number with k, M or G")
    return int(float(found[1]) * {"": 1, "k": 1e3, "m": 1e6, "g": 1e9}[found[2].lower()])


@click.command("prune")
@database
@click.option("--keep-days", metavar="N", type=click.IntRange(0, 36_500), help="Remove calls that began earlier.")
@click.option("--max-size", metavar="SIZE", type=_bytes, help="Remove the oldest calls; 500M, 2G, or bytes.")
def prune_calls(path: Path, keep_days: int | None, max_size: int | None) -> None:
    """Remove old calls with all that only they hold, and make the file smaller. A proxy may go on writing to it."""
    if keep_days is None and max_size is None:
        raise click.UsageError("say what to keep: --keep-days N or --max-size SIZE")
    before = _on_disk(path)
    removed = 0
    with writing(path) as db, Console(stderr=True).status("pruning"):
        if keep_days is not None:
            removed += prune.remove_before(db, timestamp(max(0.0, time.time() - keep_days * 86_400)))
        if max_size is not None:
            removed += prune.remove_until(db, max_size)
        prune.give_back(db)
    say(f"{removed} calls removed: {megabytes(before)} before, {megabytes(_on_disk(path))} now")


def _on_disk(path: Path) -> int:
    """Bytes of a database, with what waits beside it to go into it."""
    return sum(file.stat().st_size for file in (path, path.with_name(f"{path.name}-wal")) if file.exists())
