"""The command line on databases the writer has written: how tests run it and read what it prints."""

import json
from pathlib import Path
from typing import Any

from click.testing import CliRunner, Result

from gateway_addon.cli import main
from gateway_addon.content import Content
from gateway_addon.record import Record
from gateway_addon.store.writer import Writer


def write(path: Path, *calls: tuple[Record, Content]) -> None:
    writer = Writer(path, "1.2.3")
    for record, content in calls:
        writer.finish(record, content)
    writer.close()


def run(*arguments: object) -> Result:
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


def output(*arguments: object) -> str:
    result = run(*arguments)
    assert (result.exit_code, result.stderr) == (0, "")
    return result.stdout


def as_json(*arguments: object) -> Any:
    return json.loads(output(*arguments, "--json"))


def table(*arguments: object) -> list[str]:
    """The lines of a table, with one space between cells."""
    return lines(output(*arguments))


def lines(table: str) -> list[str]:
    return [" ".join(line.split()) for line in table.splitlines()]
