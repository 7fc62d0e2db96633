"""`tail`: a line as a call begins and one as it ends, with what all have cost so far."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, get_args

import pytest

from gateway_addon.cli import live
from gateway_addon.content import Content
from gateway_addon.store.writer import Writer
from gateway_addon.terms import Outcome
from tests.commands import lines, run, write
from tests.gateways import until
from tests.store.calls import make_content, make_record, stored

Step = Callable[[Writer], Any]


@pytest.fixture
def tail(path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., list[str]]:
    """What is printed while these things happen, one between two looks at the file; then Ctrl-C."""

    def follow(*steps: Step, options: tuple[str, ...] = ()) -> list[str]:
        waiting = list(steps)

        def sleep(seconds: float) -> None:
            if not waiting:
                raise KeyboardInterrupt
            # a writer of its own each time, which has written when it is closed
            writer = Writer(path, "1.2.3")
            waiting.pop(0)(writer)
            writer.close()

        monkeypatch.setattr(live, "sleep", sleep)
        result = run("tail", path, *options)
        assert (result.exit_code, result.stderr) == (0, "")
        return lines(result.stdout)

    return follow


def ends(name: str, **columns: Any) -> Step:
    return lambda writer: writer.finish(make_record(id=name, **columns), make_content())


def test_a_call_is_told_as_it_begins_and_as_it_ends(path: Path, tail: Callable[..., list[str]]):
    write(path)
    # of a run that goes on
    proxy = Writer(path, "1.2.3")

    def begins(writer: Writer) -> None:
        proxy.begin(make_record(id="a", outcome="in_flight", run_id=proxy.run_id))
        until(lambda: bool(stored(path, "SELECT id FROM requests")))

    def ends(writer: Writer) -> None:
        proxy.finish(make_record(id="a", cost_microdollars=2_000), Content())
        proxy.close()

    told = tail(begins, ends)
    assert [line.split()[1:5] for line in told[1:3]] == [
        ["a", "in_flight", "$?", "$0.0000"],
        ["a", "complete", "$0.0020", "$0.0020"],
    ]


def test_the_total_moves_on_and_says_when_it_is_not_all(path: Path, tail: Callable[..., list[str]]):
    write(path)
    heading, *told = tail(
        ends("a", cost_microdollars=2_000),
        ends("b"),
        ends("c", cost_microdollars=40_000),
        ends("d", outcome="rejected"),
    )
    assert heading.split()[:6] == ["began", "id", "outcome", "cost", "so", "far"]
    assert [line.split()[4] for line in told] == ["$0.0020", "$0.0020+?", "$0.0420+?", "$0.0420+?"]


def test_money_is_never_cut(path: Path, tail: Callable[..., list[str]], monkeypatch: pytest.MonkeyPatch):
    write(path)
    monkeypatch.setenv("COLUMNS", "60")
    (_, told) = tail(ends("a", cost_microdollars=123_456_789_012_345_678))
    assert "complete $123456789012.3457 $123456789012.3457" in told


@pytest.mark.parametrize("cost", [None, 800, 12_345])
@pytest.mark.parametrize("outcome", get_args(Outcome.__value__))
def test_no_line_is_wider_than_the_terminal(
    path: Path, outcome: str, cost: int | None, monkeypatch: pytest.MonkeyPatch
):
    columns = {"input_tokens": 123_456, "cost_microdollars": cost, "request_model": "claude-sonnet-4.6"}
    writer = Writer(path, "1.2.3")
    writer.finish(make_record(id="dd5d2f83-a", cost_microdollars=1_234_567), make_content())
    writer.finish(make_record(id="4cf17c7b-b", outcome=outcome, **columns), make_content())
    writer.close()
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setattr(live, "sleep", _interrupted)
    told = run("tail", path).stdout.splitlines()
    assert len(told) == 3
    assert max(map(len, told)) <= 80


def _interrupted(seconds: float) -> None:
    raise KeyboardInterrupt


def test_the_latest_calls_come_first(path: Path, tail: Callable[..., list[str]]):
    write(path, *((make_record(id=f"call-{number}"), Content()) for number in range(9)))
    assert [line.split()[1] for line in tail()[1:]] == ["call-4", "call-5", "call-6", "call-7", "call-8"]
    assert [line.split()[1] for line in tail(options=("--limit", "1"))[1:]] == ["call-8"]


def test_a_call_that_is_read_again_is_counted_once(path: Path, tail: Callable[..., list[str]]):
    write(path)
    again = ends("a", cost_microdollars=2_000)
    assert [line.split()[4] for line in tail(again, again)[1:]] == ["$0.0020", "$0.0020"]


def test_only_the_selected_ones(path: Path, tail: Callable[..., list[str]]):
    write(path)
    told = tail(ends("a", client="codex"), ends("b", client="aider"), options=("--client", "aider"))
    assert [line.split()[1] for line in told[1:]] == ["b"]


def test_for_programs(path: Path, tail: Callable[..., list[str]]):
    write(path)
    (row,) = (json.loads(line) for line in tail(ends("a", usage={"n": 1}), options=("--ndjson",)))
    assert (row["id"], row["usage"], row["so_far"]) == ("a", {"n": 1}, 0)


def test_hostile_names_stay_on_their_line(path: Path, tail: Callable[..., list[str]]):
    write(path)
    told = tail(ends("a", request_model="\x1b[2J\n" * 50, session_id="\u202e" * 90, agent_id="\r"))
    assert len(told) == 2
    assert not set("".join(told)) & set("\x1b\r\u202e")


@pytest.mark.parametrize("name", ["missing.db", "some.flow"])
def test_a_file_that_does_not_grow_is_told_in_one_line(tmp_path: Path, name: str):
    path = tmp_path / name
    if name.endswith("flow"):
        path.write_bytes(b"9:")
    result = run("tail", path)
    assert (result.exit_code, result.stdout, result.stderr.count("\n")) == (2, "", 1)


@pytest.mark.parametrize("end", [signal.SIGINT, signal.SIGTERM])
def test_ends_without_a_word(path: Path, end: signal.Signals):
    write(path, (make_record(), Content()))
    with subprocess.Popen(
        [sys.executable, "-u", "-m", "gateway_addon", "tail", path],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=os.environ | {"COLUMNS": "80"},
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert process.stdout.readline().startswith(b"began")
        assert b"call-1" in process.stdout.readline()
        process.send_signal(end)
        assert (process.stderr.read(), process.wait(30)) == (b"", 0)
