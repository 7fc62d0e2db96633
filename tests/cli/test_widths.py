"""What tables show at different widths: never without id, outcome and money, however long the names are."""

from pathlib import Path

import pytest
from rich.cells import cell_len

from gateway_addon.api.base import ToolCall
from gateway_addon.content import Content
from tests.commands import output, run, write
from tests.store.calls import make_content, make_record

WIDTHS = (80, 120, 170)

ESCAPES = "\x1b[31m\x9b2J\x07\r\x00\u202e[bold]"
NAMES = {
    "usual": "anthropic/claude-sonnet-4.6",
    "long": "a-model-of-a-very-long-name/" * 40,
    "wide": "漢字模型" * 30,
    "hostile": ESCAPES * 9,
}
BIG = {"input_tokens": 1_234_567, "cache_read_tokens": 1_200_000, "output_tokens": 98_765}


def fill(path: Path, name: str) -> None:
    of = {"session_id": name, "client": name, "request_model": name, "agent_id": name, "duration_ms": 123_456.7}
    tool = ToolCall("1", name, "tool_use", "client", "{}")
    seen = {"upstream_host": name, "http_status": 429, "error_type": name, "error_message": name}
    write(
        path,
        (make_record(id="aaaaaaaa-1", cost_microdollars=345_600, **of, **BIG), make_content(tool_calls=[tool])),
        (make_record(id="bbbbbbbb-1", outcome="http_error", cost_flags=("no_usage",), **of, **seen), Content()),
        (make_record(id="cccccccc-1", outcome="client_aborted", cost_microdollars=400, **of, **BIG), Content()),
    )


@pytest.mark.parametrize("name", NAMES.values(), ids=NAMES)
@pytest.mark.parametrize("width", WIDTHS)
class TestWidth:
    @pytest.mark.parametrize(
        ("command", "shown"),
        [
            (("list",), ("aaaaaaaa", "bbbbbbbb", "client_aborted", "http_error", "$0.3456", "$?", "$0.3460+?")),
            (("report",), ("$0.3460+?", "aaaaaaaa", "bbbbbbbb", "http_error")),
            (("report", "--by", "session,agent"), ("$0.3460+?",)),
            (("report", "--by", "day,client"), ("2026-11-22", "$0.3460+?")),
            (("report", "--by", "error"), ("http_error", "client_aborted", "bbbbbbbb", " 1")),
            (("report", "--by", "tool"), (" 1", "failed")),
            (("show", "{name}"), ("aaaaaaaa", "client_aborted", "$0.3456", "$?", "$0.3460+?")),
            (("search", "bold"), ()),
        ],
        ids=lambda value: " ".join(value[:3]) if value and isinstance(value, tuple) else "",
    )
    def test_what_matters_is_there_and_no_line_is_too_long(
        self,
        path: Path,
        monkeypatch: pytest.MonkeyPatch,
        width: int,
        name: str,
        command: tuple[str, ...],
        shown: tuple[str, ...],
    ):
        fill(path, name)
        monkeypatch.setenv("COLUMNS", str(width))
        if "\0" in name and "{name}" in command:
            command = ("show", "\x1b[31m")
        first, *rest = (part.format(name=name) for part in command)
        printed = output(first, path, *rest)
        # the heading of a session's tree is one text and may be broken
        assert max(cell_len(line) for line in printed.splitlines()) <= width or "show" in command
        assert [word for word in shown if word not in printed] == []
        assert not set(printed) & set("\x1b\x9b\x07\r\x00\u202e")


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("name", NAMES.values(), ids=NAMES)
def test_a_finding_has_its_severity_count_and_id(path: Path, monkeypatch: pytest.MonkeyPatch, name: str, width: int):
    fill(path, name)
    monkeypatch.setenv("COLUMNS", str(width))
    printed = run("review", path, "--fail-on", "high").stdout
    heading, *findings = printed.partition("looked at")[0].splitlines()
    assert heading.split()[:4] == ["severity", "rule", "times", "id"]
    assert [line.split()[:4] for line in findings] == [["low", "refused_body", "1", "bbbbbbbb"]]
    assert max(map(cell_len, printed.splitlines())) <= width


@pytest.mark.parametrize(
    ("width", "columns"),
    [
        (80, "time id model outcome in out cost"),
        (120, "time id model outcome in cached out cost seconds tools"),
        (170, "time id model outcome in cached out cost seconds tools client session kind"),
    ],
)
def test_a_wider_terminal_shows_more(path: Path, monkeypatch: pytest.MonkeyPatch, width: int, columns: str):
    fill(path, NAMES["usual"])
    monkeypatch.setenv("COLUMNS", str(width))
    heading, *_ = output("list", path).splitlines()
    assert heading.split()[: len(columns.split())] == columns.split()


@pytest.mark.parametrize(("width", "cost"), [(64, " $1,234.57"), (120, " $1234.5678")])
def test_money_is_the_shorter_the_less_room_there_is(
    path: Path, monkeypatch: pytest.MonkeyPatch, width: int, cost: str
):
    write(path, (make_record(request_model="m" * 40, cost_microdollars=1_234_567_800, **BIG), Content()))
    monkeypatch.setenv("COLUMNS", str(width))
    assert cost in output("list", path).splitlines()[1]


def test_numbers_are_aligned_to_the_right_and_money_below_money(path: Path):
    fill(path, NAMES["usual"])
    lines = output("list", path).splitlines()
    ends = {
        line.index(word) + len(word) for line, word in zip(lines, ("cost", "$0.0004", "$? (no usage)"), strict=False)
    }
    assert len(ends) == 1


@pytest.mark.parametrize("columns", ["0", "-5", "wide", "", "99999999999999999999"])
def test_a_width_that_is_none_is_no_harm(path: Path, monkeypatch: pytest.MonkeyPatch, columns: str):
    fill(path, NAMES["usual"])
    expected = output("list", path)
    monkeypatch.setenv("COLUMNS", columns)
    assert output("list", path).split() == expected.split()


class TestTimes:
    @pytest.fixture
    def in_india(self, monkeypatch: pytest.MonkeyPatch) -> None:
        import time

        monkeypatch.setenv("TZ", "IST-5:30")
        time.tzset()

    @pytest.mark.parametrize(
        ("options", "shown"), [((), "2026-11-23 01:30:00"), (("--utc",), "2026-11-22 20:00:00")], ids=["local", "UTC"]
    )
    @pytest.mark.parametrize("command", [("list",), ("show", "last"), ("search", "news")], ids=lambda value: value[0])
    def test_are_local_unless_utc_is_asked_for(
        self, path: Path, in_india: None, command: tuple[str, ...], options: tuple[str, ...], shown: str
    ):
        write(path, (make_record(started_at="2026-11-22T20:00:00.000Z"), make_content(user_prompt="any news?")))
        name, *rest = command
        assert shown in output(name, path, *rest, *options)

    @pytest.mark.parametrize(
        ("options", "day", "week"),
        [((), "2026-11-23", "2026-11-23"), (("--utc",), "2026-11-22", "2026-11-16"),
         (("--json",), "2026-11-22", "2026-11-16")],
        ids=["local", "UTC", "JSON"],
    )  # fmt: skip
    def test_so_are_days_and_weeks(self, path: Path, in_india: None, options: tuple[str, ...], day: str, week: str):
        write(path, (make_record(started_at="2026-11-22T20:00:00.000Z"), Content()))
        printed = output("report", path, "--by", "day,week", *options)
        assert all(date in printed for date in (day, week))
        assert {word.strip('",') for word in printed.split() if word.strip('"').startswith("2026-")} >= {day, week}

    def test_one_that_is_none_is_shown_as_it_is(self, path: Path):
        import sqlite3

        write(path, (make_record(), Content()))
        with sqlite3.connect(path) as db:
            db.execute("UPDATE requests SET started_at = '\x1b[31mnoon'")
        assert "\\x1b[31mnoon" in run("list", path).stdout
