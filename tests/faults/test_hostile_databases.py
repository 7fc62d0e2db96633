"""A database may come from anybody. Whatever is in it, every command ends, soon and with one line at most on stderr."""

import json
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest
import zstandard

from gateway_addon.content import Content
from gateway_addon.store.writer import Writer
from tests.store.calls import make_content, make_record

ENDLESS = "WITH RECURSIVE n (x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n)"
BODY = b'{"model":"m","messages":[{"role":"user","content":"%s"}]}' % (b"a long text, " * 50)

COMMANDS = (
    ("list", "DB"),
    ("report", "DB"),
    ("report", "DB", "--by", "cache-break"),
    ("report", "DB", "--by", "week,agent"),
    ("report", "DB", "--by", "tool"),
    ("report", "DB", "--by", "error"),
    ("list", "DB", "--session", "s", "--csv"),
    ("export", "DB"),
    ("export", "DB", "s", "--format", "md"),
    ("export", "DB", "s", "--format", "html"),
    ("show", "DB", "s"),
    ("show", "DB", "last"),
    ("show", "DB", "last", "--json"),
    ("search", "DB", "long"),
    ("body", "DB", "last"),
    ("verify", "DB"),
    ("review", "DB"),
    ("prune", "DB", "--keep-days", "3"),
)


def a_gigabyte() -> bytes:
    packer = zstandard.ZstdCompressor().compressobj(size=1 << 30)
    return b"".join([*(packer.compress(bytes(1 << 24)) for _ in range(64)), packer.flush()])


HOSTILE: dict[str, str | Callable[[sqlite3.Connection], object]] = {
    "an endless view": f"DROP VIEW prompts; CREATE VIEW prompts AS {ENDLESS} SELECT x AS request_id FROM n",
    "an endless table": f"ALTER TABLE requests RENAME TO r; CREATE VIEW requests AS {ENDLESS} SELECT r.* FROM r, n",
    "endless migrations": f"ALTER TABLE _sqlite_migrations RENAME TO m;"
    f"CREATE VIEW _sqlite_migrations AS {ENDLESS} SELECT m.* FROM m, n",
    "an endless index": f"CREATE VIEW search_index_docsize AS {ENDLESS} SELECT x AS id FROM n",
    "a trigger": "CREATE TRIGGER t AFTER DELETE ON requests BEGIN INSERT INTO contents VALUES (99, x'00', 'x'); END",
    "a cycle": "PRAGMA foreign_keys = OFF; UPDATE nodes SET parent_id = (SELECT MAX(id) FROM nodes)",
    "wrong types": "UPDATE requests SET started_at = x'ff', cost_microdollars = x'00', warnings = '{'",
    "numbers for times": "UPDATE requests SET started_at = 5, session_id = 7, usage = 5, cost_flags = '5'",
    "no text": "UPDATE contents SET text = x'ff00'",
    "a gigabyte": lambda db: (
        db.execute("INSERT INTO whole_bodies (hash, zstd) VALUES (x'01', ?)", [a_gigabyte()]),
        db.execute("UPDATE requests SET envelope_id = NULL, whole_body_id = (SELECT MAX(id) FROM whole_bodies)"),
    ),
    "a body of one text, many times": lambda db: (
        db.execute("UPDATE contents SET text = text || printf('%.*c', 8000000, 'x')"),
        db.executemany(
            "INSERT INTO nodes (parent_id, element_id) SELECT MAX(id), (SELECT MIN(id) FROM elements) FROM nodes",
            [()] * 12,
        ),
        db.execute("UPDATE requests SET conversation_tip_id = (SELECT MAX(id) FROM nodes)"),
    ),
}
"""What somebody may have done to a database, as SQL or a function."""

RUN = """
import json, resource, sys
from click.testing import CliRunner
from gateway_addon.cli import main
resource.setrlimit(resource.RLIMIT_AS, (3 << 30, 3 << 30))
for command in json.loads(sys.argv[1]):
    result = CliRunner().invoke(main, command)
    print(json.dumps([command, result.exit_code, result.stderr, repr(result.exception)]), flush=True)
"""
"""Runs commands, and prints how each ended."""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "gateway.db"
    writer = Writer(path, "1")
    for name in "ab":
        content = make_content(body=BODY, user_prompt="a long text")
        writer.finish(make_record(id=name, session_id="s", input_tokens=1, request_sha256="0"), content)
    writer.finish(make_record(id="c"), Content())
    writer.close()
    return path


LONG = ("a body of one text, many times",)


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=pytest.mark.long if name in LONG else ()) for name in HOSTILE]
)
def test_every_command_ends_in_one_line(name: str, path: Path):
    with closing(sqlite3.connect(path)) as db:
        change = HOSTILE[name]
        if isinstance(change, str):
            db.executescript(change)
        else:
            change(db)
        db.commit()
    commands = [[str(path) if part == "DB" else part for part in command] for command in COMMANDS]
    done = subprocess.run(
        [sys.executable, "-c", RUN, json.dumps(commands)], capture_output=True, text=True, timeout=120, check=True
    )
    ends = [json.loads(line) for line in done.stdout.splitlines()]
    assert len(ends) == len(COMMANDS)
    for command, code, stderr, exception in ends:
        assert code in (0, 1, 2), command
        assert exception == "None" or exception.startswith("SystemExit"), command
        assert stderr.count("\n") <= 1, (command, stderr)
