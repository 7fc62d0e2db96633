"""`diff`: two requests, as people and programs read it."""

import json
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
from rich.cells import cell_len

from gateway_addon.content import Content
from gateway_addon.record import Record
from tests.commands import run, write
from tests.store.calls import make_content, make_record

ESCAPES = "\x1b[31m\x9b2J\x07\r\x00\u202e[bold]"
TOOL: dict[str, Any] = {"name": "Bash", "description": "Run a command.", "input_schema": {"timeout": {}}}
OLD: dict[str, Any] = {
    "model": "claude-sonnet-4-6",
    "max_tokens": 1024,
    "system": "You are an agent.\nBe brief.",
    "tools": [TOOL, {"name": "Old", "input_schema": {}}],
    "messages": [{"role": "user", "content": "hello"}],
}
NEW = OLD | {
    "max_tokens": 2048,
    "system": [{"type": "text", "text": "You are an agent.\nBe kind.", "cache_control": {"type": "ephemeral"}}],
    "tools": [TOOL | {"description": "Run one command."}, {"name": "New", "input_schema": {}}],
}


def call(number: int, body: dict[str, Any] | None, **columns: Any) -> tuple[Record, Content]:
    sent = None if body is None else json.dumps(body).encode()
    names = {"id": f"{number:08}-call", "client": "claude-code", "request_model": "claude-sonnet-4-6"}
    names["request_sha256"] = sha256(sent or b"").hexdigest()
    return make_record(**names | {"started_at": f"2026-11-22T10:00:{number:02}.000Z"} | columns), make_content(
        body=sent
    )


@pytest.fixture
def versions(path: Path) -> Path:
    write(
        path,
        call(1, OLD, client_version="1.0", session_id="s-old"),
        call(2, {"model": "helper", "messages": []}, client_version="1.0", session_id="s-old", agent_id="helper"),
        call(3, {"model": "titles", "messages": []}, client_version="1.0", session_id="s-old", side_request="title"),
        call(4, NEW, client_version="2.0", session_id="s-new"),
        call(5, None, client_version="2.0", session_id="s-new"),
        call(6, None, client_version="3.0", session_id="s-none"),
    )
    return path


SHOWN = """\
A  00000001  2026-11-22 10:00:01  claude-code@1.0  messages  claude-sonnet-4-6
B  00000004  2026-11-22 10:00:04  claude-code@2.0  messages  claude-sonnet-4-6
betas: unknown of A or B

── parameters
    max_tokens: 1024 → 2048

── cache markers
  + system[0]

── tools: 1 added, 1 removed, 1 changed
  + New
  - Old
  ~ Bash
      description: "Run a command." → "Run one command."

── system prompt: +1 -1 lines
@@ -1,2 +1,2 @@
  You are an agent.
- Be brief.
+ Be kind.
"""


@pytest.mark.parametrize(
    ("before", "after"),
    [("claude-code@1.0", "claude-code@2.0"), ("s-old", "s-new"), ("00000001", "00000004")],
    ids=["versions", "sessions", "calls"],
)
def test_what_changed(versions: Path, before: str, after: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("COLUMNS", "80")
    shown = run("diff", versions, before, after)
    assert (shown.exit_code, shown.stdout) == (1, SHOWN)


def test_nothing_changed(versions: Path):
    shown = run("diff", versions, "s-old", "claude-code@1.0")
    assert (shown.exit_code, shown.stdout.splitlines()[-1]) == (0, "no differences")


def test_for_programs(versions: Path):
    shown = run("diff", versions, "s-old", "s-new", "--json")
    compared = json.loads(shown.stdout)
    assert shown.exit_code == 1
    assert compared["differs"]
    assert (compared["a"]["id"], compared["b"]["client_version"]) == ("00000001-call", "2.0")
    assert compared["parameters"] == [{"name": "max_tokens", "before": 1024, "after": 2048}]
    assert compared["tools"] == {"added": ["New"], "removed": ["Old"]}
    assert compared["betas"] is None
    assert not json.loads(run("diff", versions, "s-old", "s-old", "--json").stdout)["differs"]


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (["s-old"], 2, "two are compared"),
        (["s-old", "s-new", "s-new"], 2, "two are compared"),
        (["s-old", "claude-code@9"], 1, "no call or session 'claude-code@9'"),
        (["s-old", "s-none"], 1, "no request of 's-none' that can be read is stored"),
    ],
)
def test_what_cannot_be_compared(versions: Path, words: list[str], code: int, message: str):
    shown = run("diff", versions, *words)
    assert shown.exit_code == code
    assert message in shown.stderr
    assert shown.stderr.count("\n") == 1


@pytest.mark.parametrize("full", [[], ["--full"]], ids=["short", "full"])
def test_hostile_and_long_texts(path: Path, full: list[str], monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("COLUMNS", "80")
    hostile = {
        ESCAPES: ESCAPES * 50,
        "system": ESCAPES * 20 + f"\n{ESCAPES}",
        "tools": [{"name": ESCAPES, "input_schema": {ESCAPES: 1}}, TOOL | {"description": ESCAPES * 30}],
        "messages": [{"role": "user", "content": [{"type": "text", "text": "x", "cache_control": {"ttl": ESCAPES}}]}],
    }
    write(path, call(1, OLD, client_version=ESCAPES), call(2, OLD | hostile, client=ESCAPES, request_model=ESCAPES))
    for form in ([], ["--json"]):
        shown = run("diff", path, "00000001", "00000002", *full, *form)
        assert shown.exit_code == 1
        assert not set(ESCAPES) - set("[31m2Jbold]") & set(shown.stdout)
        assert full or form or max(map(cell_len, shown.stdout.splitlines())) <= 80


def test_two_long_values_are_shown_from_where_they_differ(path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("COLUMNS", "80")
    for number, word in ((1, "old"), (2, "new")):
        write(path, call(number, OLD | {"tools": [TOOL | {"description": "x" * 500 + f" the {word} way"}]}))
    shown = run("diff", path, "00000001", "00000002").stdout.splitlines()
    assert shown[-2:] == ['      - …xxxxxxx the old way"', '      + …xxxxxxx the new way"']


def test_what_is_many_lines_is_cut(path: Path):
    write(path, call(1, OLD), call(2, OLD | {"system": "\n".join(map(str, range(100)))}))
    assert run("diff", path, "00000001", "00000002").stdout.splitlines()[-1] == "… 63 more lines (--full)"
    assert run("diff", path, "00000001", "00000002", "--full").stdout.splitlines()[-1] == "+ 99"


def test_betas_of_the_headers(path: Path):
    write(path, call(1, OLD, betas=("a-2025",)), call(2, OLD, betas=("a-2025", "b-2026")), call(3, OLD))
    shown = run("diff", path, "00000001", "00000002")
    assert (shown.exit_code, shown.stdout.splitlines()[-2:]) == (1, ["── betas", "  + b-2026"])
    # of which nobody knows
    assert run("diff", path, "00000001", "00000003").exit_code == 0
