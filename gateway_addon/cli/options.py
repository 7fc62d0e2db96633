"""What commands have in common: arguments, errors, and opening what they name."""

import functools
import os
import re
import signal
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager, suppress
from datetime import datetime
from pathlib import Path
from typing import Any, get_args

import click

from gateway_addon.api import KINDS
from gateway_addon.cli.output import plain, progress_bar
from gateway_addon.store import queries
from gateway_addon.store.database import Database, StoreError, open_database, open_readonly, open_to_change, reported
from gateway_addon.store.passages import Passages
from gateway_addon.store.selection import ANY, MAIN, NONE, Selection
from gateway_addon.terms import Outcome, SideRequest
from gateway_addon.times import timestamp


class NotFound(click.ClickException):
    exit_code = 1


class Unreadable(click.ClickException):
    exit_code = 2


DEFAULT = "gateway.db"
DATABASES = (".db", ".flow", ".sqlite", ".sqlite3")
"""How the names of what commands read from end."""

database = click.argument("path", metavar="[DB]", envvar="GATEWAY_DB", default=DEFAULT, type=click.Path(path_type=Path))
flow_file = click.argument("source", metavar="FILE", type=click.Path(path_type=Path))
force = click.option("--force", is_flag=True, help="Replace OUT if it is there.")


def database_and(
    metavar: str, *, many: bool = False, optional: bool = False
) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """The arguments `[DB] METAVAR`, of which the command gets `path`, and one word as `reference` or `many` as `words`.

    What could be either is a database if there are two words where one is wanted, or if it is one by name or content.
    """

    def with_arguments(command: Callable[..., None]) -> Callable[..., None]:
        @click.argument("arguments", metavar=f"[DB] {metavar}", nargs=-1)
        @functools.wraps(command)
        def run(arguments: tuple[str, ...], **options: Any) -> None:
            first, *rest = arguments or ("",)
            is_named = bool(arguments) and (is_database(Path(first)) if many or not rest else True)
            path = Path(first if is_named else os.environ.get("GATEWAY_DB") or DEFAULT)
            words = tuple(rest) if is_named else arguments
            if not words and not optional:
                raise click.UsageError(f"Missing argument '{metavar}'.")
            if len(words) > 1 and not many:
                raise click.UsageError(f"Got unexpected extra argument ({words[1]})")
            command(path=path, **{"words": words} if many else {"reference": next(iter(words), None)}, **options)

        return run

    return with_arguments


def is_database(path: Path) -> bool:
    """Whether a word on the command line names what commands read from."""
    return path.suffix in DATABASES or _beginning(path).startswith(b"SQLite format 3") or is_flow_file(path)


def is_flow_file(path: Path) -> bool:
    """Whether a file is one of flows: by how it begins, or if it is called so and begins as no database does."""
    beginning = _beginning(path)
    # a tnetstring: its length in digits, then a colon
    by_content = re.match(rb"[0-9]{1,12}:", beginning) is not None
    return by_content or (path.suffix == ".flow" and path.is_file() and not beginning.startswith(b"SQLite format 3"))


def _beginning(path: Path) -> bytes:
    try:
        if not path.is_file():
            # opening a pipe would wait for its other end; whoever reads the file refuses it
            return b""
        with path.open("rb") as file:
            return file.read(16)
    except OSError:
        return b""


def meant(db: Database, path: Path, reference: str) -> queries.Meant:
    """The one call or session that is meant."""
    try:
        return queries.meant(db, reference)
    except LookupError as error:
        raise NotFound(f"{error.args[0]} in {path}") from None


def one_call(db: Database, path: Path, reference: str) -> str:
    """The id of the one call that is meant."""
    ids, session = meant(db, path, reference)
    if session is not None:
        raise NotFound(f"{session!r} is a session of {len(ids)} calls: name one, such as {ids[-1]}")
    return ids[0]


@contextmanager
def reading(path: Path) -> Iterator[Database]:
    """The database at `path`, or one of the calls in a flow file; whatever is wrong with it ends the command."""
    try:
        if is_flow_file(path):
            with _of_flows(path) as temporary, closing(open_database(temporary)) as db:
                yield db
            return
        with reported(path), closing(open_readonly(path)) as db:
            yield db
    except StoreError as error:
        raise Unreadable(str(error)) from error


@contextmanager
def reading_all(path: Path) -> Iterator[tuple[Database, Passages]]:
    """`reading`, and what the flows of a flow file say beside its calls: of a database there is no more."""
    if not is_flow_file(path):
        with reading(path) as db, closing(Passages()) as passages:
            yield db, passages
        return
    with (
        tempfile.TemporaryDirectory(prefix="gateway-addon-") as folder,
        closing(Passages(Path(folder) / "passages.db")) as passages,
        _of_flows(path, passages) as temporary,
        closing(open_database(temporary)) as db,
    ):
        yield db, passages


@contextmanager
def _of_flows(path: Path, passages: Passages | None = None) -> Iterator[Path]:
    """A database of the calls in a flow file; it is gone when the command ends. `passages` takes what else is in it."""
    # mitmproxy takes a second to import, which those commands should not cost that read a database
    from gateway_addon.captures import flowfile
    from gateway_addon.proxy import offline

    # SIGTERM ends it like Ctrl-C, so that nothing is left behind
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    with ExitStack() as stack:
        stack.callback(signal.signal, signal.SIGTERM, before)
        folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="gateway-addon-"))
        target = Path(folder) / DEFAULT
        try:
            with progress_bar(path) as progress:
                offline.store_rows(path, target, progress, passages)
        except flowfile.FlowFileError as error:
            if not error.flows:
                raise Unreadable(str(error)) from error
            click.echo(f"gateway-addon: {plain(error)}", err=True)
            if passages:
                passages.note("the rest of the file")
        yield target


@contextmanager
def writing(path: Path) -> Iterator[Database]:
    """The database at `path`, to change it."""
    try:
        if is_flow_file(path):
            raise StoreError(f"{path}: a flow file, not a database")
        with reported(path):
            if not path.exists():
                raise StoreError(f"{path}: no such file")
            if path.is_file() and path.stat().st_size == 0:
                # opening it to write would make a database of it
                raise StoreError(f"{path}: not a gateway database")
            with closing(open_to_change(path)) as db:
                yield db
    except StoreError as error:
        raise Unreadable(str(error)) from error


SECONDS = {"m": 60, "h": 3600, "d": 86_400, "w": 604_800}


def _ago(given: str) -> str:
    """A time as rows have it, of how long ago it was."""
    if not (ago := re.fullmatch(r"(\d{1,9})([mhdw])", given)):
        raise click.BadParameter(f"{given!r} is no span of time: give 30m, 2h, 7d or 4w")
    return timestamp(max(0.0, time.time() - int(ago[1]) * SECONDS[ago[2]]))


def _moment(given: str) -> str:
    """The same of a date, a date with time (local, unless it says otherwise), or how long ago it was."""
    with suppress(click.BadParameter):
        return _ago(given)
    try:
        return timestamp(datetime.fromisoformat(given).timestamp())
    except (ValueError, OverflowError, OSError):
        raise click.BadParameter(f"{given!r} is no time: give 2026-11-22, 2026-11-22T10:00, or 30m, 2h, 7d") from None


_SELECTING = (
    click.option("--since", metavar="TIME", type=_moment, help="That began then or later; a date, or ago: 2h, 7d."),
    click.option("--until", metavar="TIME", type=_moment, help="That began before."),
    click.option("--last", metavar="SPAN", type=_ago, help="That began so long ago at most: 30m, 2h, 7d, 4w."),
    click.option("--model", metavar="NAME", help="As asked for, sent or answered; * stands for anything."),
    click.option("--session", metavar="ID", help="Or how it begins."),
    click.option("--client", metavar="NAME", help="The agent program, such as claude-code."),
    click.option("--agent", metavar="ID", help=f"Or how it begins; {MAIN!r}: no sub-agents."),
    click.option("--outcome", type=click.Choice(get_args(Outcome.__value__)), metavar="OUTCOME", help="complete, ..."),
    click.option("--kind", type=click.Choice([*KINDS]), help="The API."),
    click.option(
        "--side",
        type=click.Choice([ANY, NONE, *get_args(SideRequest.__value__)]),
        is_flag=False,
        flag_value=ANY,
        metavar="[WHAT]",
        help=f"Requests beside the conversation: title, compaction, ...; {NONE!r}: without them.",
    ),
)


def selecting[R](command: Callable[..., R]) -> Callable[..., R]:
    """Options by which calls are selected; the command gets them as `selection`."""

    @functools.wraps(command)
    def select(last: str | None, **given: Any) -> R:
        fields = {name: given.pop(name) for name in Selection.__slots__}
        if last and fields["since"]:
            raise click.UsageError("--since and --last say the same: give one of them")
        return command(**given, selection=Selection(**fields | {"since": fields["since"] or last}))

    return functools.reduce(lambda decorated, option: option(decorated), reversed(_SELECTING), select)


def limited(default: int | None, what: str) -> Callable[[Callable[..., None]], Callable[..., None]]:
    return click.option(
        "--limit", type=click.IntRange(min=1), default=default, show_default=True, metavar="N", help=f"How many {what}."
    )


@contextmanager
def stored(path: Path) -> Iterator[Path]:
    """The database at `path`, or one that holds what a flow file gives, for as long as it is used."""
    if is_flow_file(path):
        with _of_flows(path) as temporary:
            yield temporary
    else:
        yield path
