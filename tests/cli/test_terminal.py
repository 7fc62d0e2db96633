"""How a real terminal is written to: pages, colours, and what its encoding cannot say."""

import hashlib
import os
import pty
import subprocess
import sys
from pathlib import Path

import pytest

from tests.commands import write
from tests.store.calls import make_content, make_record


@pytest.fixture
def calls(path: Path) -> Path:
    write(path, (make_record(cost_microdollars=1, outcome="http_error"), make_content(answer_text="größer → \u202e")))
    return path


def on_terminal(*arguments: object, **environment: str) -> str:
    """What is written to a terminal of 80 columns."""
    ours, theirs = pty.openpty()
    usual = {"TERM": "xterm", "COLUMNS": "80", "PATH": os.environ["PATH"], "PAGER": "cat", "PYTHONUTF8": "1"}
    with subprocess.Popen(
        [sys.executable, "-m", "gateway_addon", *map(str, arguments)],
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        env=usual | environment,
    ) as process:
        os.close(theirs)
        written = b""
        try:
            while part := os.read(ours, 65536):
                written += part
        except OSError:
            pass  # the other side is gone
        os.close(ours)
        assert process.wait(30) == 0
    return written.decode()


@pytest.mark.parametrize("command", [("list",), ("report",), ("show", "last")], ids=lambda value: value[0])
class TestColour:
    def test_is_for_terminals(self, calls: Path, command: tuple[str, ...]):
        name, *rest = command
        assert "\x1b[" in on_terminal(name, calls, *rest)

    def test_is_left_out_where_none_is_wanted(self, calls: Path, command: tuple[str, ...]):
        name, *rest = command
        written = on_terminal(name, calls, *rest, NO_COLOR="1")
        assert not [code for code in ("\x1b[3", "\x1b[9") if code in written]


def test_each_role_has_a_colour_of_its_own(calls: Path):
    written = on_terminal("show", calls, "last")
    codes = {line.partition("──")[0] for line in written.splitlines() if "── " in line}
    assert len(codes) == 3


def test_show_goes_through_the_pager(calls: Path, tmp_path: Path):
    pager = tmp_path / "pager"
    pager.write_text("#!/bin/sh\necho THE PAGER\nexec cat\n")
    pager.chmod(0o700)
    assert "THE PAGER" in on_terminal("show", calls, "last", PAGER=str(pager))
    assert "THE PAGER" not in on_terminal("list", calls, PAGER=str(pager))


@pytest.mark.parametrize(
    "command",
    [("list",), ("report",), ("show", "last"), ("show", "s"), ("search", "größer"), ("export", "s", "--format", "md")],
    ids=" ".join,
)
def test_what_an_encoding_cannot_say_is_a_question_mark(path: Path, command: tuple[str, ...]):
    write(path, (make_record(session_id="s", request_model="größer"), make_content(answer_text="größer →")))
    name, *rest = command
    done = subprocess.run(
        [sys.executable, "-m", "gateway_addon", name, path, *rest],
        capture_output=True,
        env=os.environ | {"PYTHONIOENCODING": "ascii", "PYTHONUTF8": "0"},
        check=True,
    )
    assert done.stderr == b""
    assert done.stdout.isascii()
    assert b"gr??er" in done.stdout.replace(b"\xc2", b"") or name == "report"


def test_verify_shows_how_far_it_is(path: Path):
    body = b'{"messages": []}'
    write(path, (make_record(request_sha256=hashlib.sha256(body).hexdigest()), make_content(body=body)))
    assert "verifying" in on_terminal("verify", path)


@pytest.mark.parametrize(("typed", "offered"), [("gateway-addon ta", "tail"), ("gateway-addon list --las", "--last")])
def test_words_are_completed(typed: str, offered: str):
    done = subprocess.run(
        [str(Path(sys.executable).with_name("gateway-addon"))],
        capture_output=True,
        text=True,
        env=os.environ
        | {
            "_GATEWAY_ADDON_COMPLETE": "bash_complete",
            "COMP_WORDS": typed,
            "COMP_CWORD": str(len(typed.split()) - 1),
        },
    )
    assert done.stdout.split() == [f"plain,{offered}"]
