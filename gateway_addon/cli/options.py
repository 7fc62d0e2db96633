"""What commands have in common: arguments, errors, and opening what they name."""

from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import click
from sqlite_utils import Database

from gateway_addon.store import queries
from gateway_addon.store.database import StoreError, open_database, open_readonly, reported


class NotFound(click.ClickException):
    exit_code = 1


class Unreadable(click.ClickException):
    exit_code = 2


database = click.argument("path", metavar="DB", type=click.Path(path_type=Path))
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
    with reading(path):
        # whoever wrote it, it can be read
        pass
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
