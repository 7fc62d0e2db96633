"""`diff`: in what two calls, sessions or versions of an agent differ."""

import os.path
import sys
from collections.abc import Iterable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import NamedTuple

import click
from rich.text import Text

from gateway_addon.cli.options import NotFound, database_and, meant, reading
from gateway_addon.cli.output import in_utc, moment, plain, print_heading, print_json, say
from gateway_addon.cli.tables import width
from gateway_addon.comparison import Asked, Change, Comparison, Names, compare
from gateway_addon.store import asked
from gateway_addon.store.asked import Sent
from gateway_addon.store.database import Database
from gateway_addon.store.queries import Row
from gateway_addon.times import timestamp
from gateway_addon.wire import jsontext

MAX_LINES = 40
"""Of a changed prompt or tool; --full shows all."""

BEFORE = 12
"""Characters in front of the first difference of two long values."""

COLOURS = {"+": "green", "-": "red", "@": "cyan"}
"""By the first character of a line."""


class _Line(NamedTuple):
    sign: str
    """`+`, `-`, `~` for what has changed, or nothing."""
    text: str
    indent: int = 2


@click.command()
@database_and("A B", many=True)
@click.option("--full", is_flag=True, help="Shorten nothing.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON: times UTC, null: unknown, or not there.")
@in_utc
def diff(path: Path, words: tuple[str, ...], full: bool, as_json: bool) -> None:
    """What B sends that A did not, and the other way round, apart from what was said: exit 1 if anything.

    A and B are calls or sessions as for `show`, or versions of an agent: `claude-code@2.0.14`. For a session or a
    version stands its latest call whose request is stored: a turn of the main agent, if there is one. Compared are
    system prompt, tools, cache markers, betas and parameters, but not what names a person or a conversation.
    """
    if len(words) != 2:
        raise click.UsageError(f"two are compared: A and B, not {len(words)}")
    with reading(path) as db:
        before, after = (_sent(db, path, reference) for reference in words)
    compared = compare(_asked(before), _asked(after))
    if as_json:
        print_json(_as_json(before, after, compared))
    else:
        for name, call in (("A", before), ("B", after)):
            say(_fitted(f"{name}  {_told(call)}"))
        if compared.betas is None:
            say("betas: unknown of A or B")
        for heading, lines in _sections(compared):
            print_heading(heading)
            _print(lines, full)
        if compared.is_empty:
            say("no differences")
    if not compared.is_empty:
        sys.exit(1)


def _sent(db: Database, path: Path, reference: str) -> Sent:
    """The call that is compared."""
    ids = _version(db, reference) or meant(db, path, reference).ids
    request_id = asked.representative(db, ids)
    (found,) = asked.sent(db, [request_id]) if request_id else (None,)
    if found is None or found.body is None:
        raise NotFound(f"no request of {reference!r} that can be read is stored in {path}")
    return found


def _version(db: Database, reference: str) -> list[str]:
    client, _, version = reference.rpartition("@")
    return asked.of_version(db, client, version) if client else []


def _asked(call: Sent) -> Asked:
    assert call.body is not None
    betas = call.record.betas
    return Asked(api_kind=call.record.api_kind, body=call.body, betas=None if betas is None else frozenset(betas))


def _told(call: Sent) -> str:
    record = call.record
    client = f"{record.client}@{record.client_version}" if record.client_version else record.client
    words = (record.id[:8], moment(timestamp(record.started_at)), client, record.api_kind, record.request_model)
    return plain("  ".join(filter(None, words)))


def _as_json(before: Sent, after: Sent, compared: Comparison) -> Row:
    return {
        "a": _identity(before),
        "b": _identity(after),
        "differs": not compared.is_empty,
        **asdict(compared),
    }


def _identity(call: Sent) -> Row:
    record = call.record
    names = ("id", "session_id", "client", "client_version", "api_kind", "request_model")
    return {name: getattr(record, name) for name in names} | {"started_at": timestamp(record.started_at)}


def _sections(compared: Comparison) -> Iterator[tuple[str, list[_Line]]]:
    """What differs, with a heading each."""
    if changes := [*compared.api_kind, *compared.parameters]:
        yield "parameters", [line for change in changes for line in _changed(change)]
    if compared.betas and (lines := _named(compared.betas)):
        yield "betas", lines
    if lines := _named(compared.cache_markers):
        yield "cache markers", lines
    if (lines := _named(compared.tools)) or compared.changed_tools:
        for tool in compared.changed_tools:
            lines.append(_Line("~", tool.name))
            lines += [line._replace(indent=line.indent + 2) for each in tool.changes for line in _changed(each)]
        counts = (len(compared.tools.added), len(compared.tools.removed), len(compared.changed_tools))
        yield "tools: {} added, {} removed, {} changed".format(*counts), lines
    if compared.system_prompt:
        plus, minus = (sum(line.startswith(sign) for line in compared.system_prompt) for sign in "+-")
        yield (
            f"system prompt: +{plus} -{minus} lines",
            [
                _Line(line[:1].strip(), line[1:] if line[0] != "@" else line, indent=0)
                for line in compared.system_prompt
            ],
        )


def _named(names: Names) -> list[_Line]:
    return [_Line("+", name) for name in names.added] + [_Line("-", name) for name in names.removed]


def _changed(change: Change) -> Iterable[_Line]:
    """A value on one line if there is room for both, else on a line each, from where they begin to differ."""
    before, after = map(_value, (change.before, change.after))
    together = _Line("", f"{change.name}: {before} → {after}")
    if len(together.text) <= width() - 8:
        return [together]
    start = len(os.path.commonprefix([before, after])) - BEFORE  # noqa: RUF071 (no path)
    if change.before is not None and change.after is not None and start > 0:
        before, after = f"…{before[start:]}", f"…{after[start:]}"
    sides = (("-", before, change.before), ("+", after, change.after))
    return [_Line("", f"{change.name}:"), *(_Line(sign, text, 4) for sign, text, value in sides if value is not None)]


def _value(value: object) -> str:
    return "–" if value is None else jsontext.dumps(value)


def _print(lines: list[_Line], full: bool) -> None:
    shown = lines if full else lines[:MAX_LINES]
    for line in shown:
        text = plain(f"{' ' * line.indent}{line.sign or ' '} {line.text}" if line.sign != "@" else line.text)
        say(click.style(text if full else _fitted(text), fg=COLOURS.get(line.sign)))
    if left := len(lines) - len(shown):
        say(f"… {left} more lines (--full)")


def _fitted(line: str) -> str:
    """A line, cut to the width of the terminal."""
    text = Text(line)
    text.truncate(width(), overflow="ellipsis")
    return text.plain
