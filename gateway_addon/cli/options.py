"""What commands have in common: arguments, errors, and opening what they name."""

import functools
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any, get_args

import click
from sqlite_utils import Database

from gateway_addon.api import KINDS
from gateway_addon.store import queries
from gateway_addon.store.database import StoreError, open_database, open_readonly, reported
from gateway_addon.store.selection import Selection
from gateway_addon.terms import Outcome
from gateway_addon.times import timestamp


class NotFound(click.ClickException):
    exit_code = 1


class Unreadable(click.ClickException):
    exit_code = 2


database = click.argument("path", metavar="DB", type=click.Path(path_type=Path))
database_or_flows = click.argument("path", metavar="DB|FILE.flow", type=click.Path(path_type=Path))
as_json = click.option(
    "--json", "as_json", is_flag=True, help="Print JSON instead: columns as stored, null for unknown."
)


flow_file = click.argument("source", metavar="FILE", type=click.Path(path_type=Path))


def found(db: Database, path: Path, reference: str) -> str:
    """The id of the one call that is meant."""
    ids = queries.find(db, reference)
    if not ids:
        raise NotFound(f"no call {reference!r} in {path}")
    if len(ids) > 1:
        raise NotFound(f"{reference!r} may be any of {len(ids)} calls: {', '.join(ids[:3])}, ...")
    return ids[0]


@contextmanager
def reading(path: Path) -> Iterator[Database]:
    """The database at `path`; whatever is wrong with it ends the command."""
    try:
        with reported(path), closing(open_readonly(path)) as db:
            yield db
    except StoreError as error:
        raise Unreadable(str(error)) from error


@contextmanager
def writing(path: Path) -> Iterator[Database]:
    """The same to change it."""
    try:
        with reported(path):
            if not path.exists():
                raise StoreError(f"{path}: no such file")
            if path.stat().st_size == 0:
                # opening it to write would make a database of it
                raise StoreError(f"{path}: not a gateway database")
            with closing(open_database(path)) as db:
                yield db
    except StoreError as error:
        raise Unreadable(str(error)) from error


SQLITE = b"SQLite format 3\0"
"""How a database begins."""

SECONDS = {"m": 60, "h": 3600, "d": 86_400, "w": 604_800}


def _moment(given: str) -> str:
    """A time as rows have it, of a date, a date with time (local, unless it says otherwise), or how long ago: `2h`."""
    if ago := re.fullmatch(r"(\d{1,9})([mhdw])", given):
        return timestamp(max(0.0, time.time() - int(ago[1]) * SECONDS[ago[2]]))
    try:
        return timestamp(datetime.fromisoformat(given).timestamp())
    except (ValueError, OverflowError, OSError):
        raise click.BadParameter(f"{given!r} is no time: give 2026-11-22, 2026-11-22T10:00, or 30m, 2h, 7d") from None


def selecting[R](command: Callable[..., R]) -> Callable[..., R]:
    """Options by which calls are selected; the command gets them as `selection`."""

    @click.option(
        "--since", metavar="TIME", type=_moment, help="That began then or later; a time, or how long ago: 2h, 7d."
    )
    @click.option("--until", metavar="TIME", type=_moment, help="That began before.")
    @click.option("--session", metavar="ID")
    @click.option("--model", metavar="NAME", help="As asked for, as sent or as answered.")
    @click.option("--kind", type=click.Choice([*KINDS]))
    @click.option("--outcome", type=click.Choice(get_args(Outcome.__value__)))
    @functools.wraps(command)
    def select(**given: Any) -> R:
        fields = {name: given.pop(name) for name in Selection.__slots__}
        return command(**given, selection=Selection(**fields))

    return select


@contextmanager
def stored(path: Path) -> Iterator[Path]:
    """The database at `path`, or one that holds what a flow file gives, for as long as it is used."""
    try:
        with path.open("rb") as file:
            is_flows = not SQLITE.startswith(file.read(len(SQLITE)))
    except OSError as error:
        raise Unreadable(f"{path}: {error.strerror}") from error
    if not is_flows:
        yield path
        return
    with tempfile.TemporaryDirectory(prefix="gateway-addon-") as folder:
        db = Path(folder) / "gateway.db"
        _read_flows(path, db)
        yield db


def _read_flows(source: Path, db: Path) -> None:
    """Read a flow file into a new database, as `mitmdump -r` does."""
    script = db.with_name("addon.py")
    script.write_text("from gateway_addon.proxy.hooks import ADDON\n\naddons = [ADDON]\n")
    mitmdump = "import sys; from mitmproxy.tools.main import mitmdump; sys.exit(mitmdump())"
    options = ["-n", "-r", str(source), "-s", str(script), "--flow-detail", "0", "--set", f"gateway_db={db}"]
    done = subprocess.run(
        [sys.executable, "-c", mitmdump, *options], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, check=False
    )
    if done.returncode or not db.exists():
        raise Unreadable(f"{source}: is no database, and no flow file that can be read to its end")
