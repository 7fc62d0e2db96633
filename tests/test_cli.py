"""The command line, on databases the writer has written."""

import hashlib
import json
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from gateway_addon.api.base import ToolCall, ToolResult
from gateway_addon.cli.output import megabytes as printed_size
from gateway_addon.cli.output import printable
from gateway_addon.content import Content
from gateway_addon.record import COLUMNS, Record
from tests.commands import as_json, lines, output, run, table, write
from tests.histories import SAME
from tests.store.calls import make_content, make_record, stored

DEMO = Path(__file__).parents[1] / "flows" / "demo.flow"

ESCAPES = "\x1b[31m\x9b2J\x07\r\x00\u202e[bold]"


@pytest.fixture(autouse=True)
def _in_london(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Where clocks show UTC, in a terminal of no known width."""
    monkeypatch.setenv("TZ", "UTC")
    monkeypatch.delenv("COLUMNS", raising=False)
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "gateway.db"


class TestList:
    def test_a_line_per_call_newest_first(self, path: Path):
        call = ToolCall("1", "bash", "tool_use", "client", "{}")
        usage = {"input_tokens": 40003, "cache_read_tokens": 40000, "output_tokens": 12, "cost_microdollars": 12300}
        write(
            path,
            (make_record(id="older-000001", outcome="http_error"), Content()),
            (
                make_record(id="newer-000001", started_at="2026-11-22T11:00:00.000Z", duration_ms=2345.6, **usage),
                make_content(tool_calls=[call, call]),
            ),
        )
        heading, newer, older, total = table("list", path)
        assert heading == "time id model outcome in cached out cost seconds tools client session kind"
        assert newer == (
            "2026-11-22 11:00:00 newer-00 acme/model complete 40,003 40,000 12 $0.0123 2.35 bash – – messages"
        )
        assert older == "2026-11-22 10:00:00 older-00 acme/model http_error – – – $? – – – – messages"
        assert total == "2 calls 40,003 40,000 12 $0.0123+?"

    def test_an_unknown_cost_says_why(self, path: Path):
        write(path, (make_record(cost_flags=("unpriced:web_searches",)), Content()))
        _, call, _ = table("list", path)
        assert "$? (unpriced web searches)" in call

    def test_limit(self, path: Path):
        write(path, *((make_record(id=str(number)), Content()) for number in range(30)))
        assert [len(as_json("list", path)), len(as_json("list", path, "--limit", 3))] == [20, 3]

    def test_json_has_every_column_and_null(self, path: Path):
        write(path, (make_record(cost_microdollars=0), Content()))
        (row,) = as_json("list", path)
        assert set(COLUMNS) <= set(row)
        assert (row["cost_microdollars"], row["charged_microdollars"]) == (0, None)

    def test_a_turn_on_a_websocket_goes_by_the_beginning_of_its_connections_id(self):
        socket = DEMO.with_name("turns-on-one-websocket.flow")
        for row in as_json("list", socket):
            flow, _, turn = row["id"].partition("/")
            assert row["short_id"] == f"{flow[:8]}/{turn}"
            assert run("body", socket, row["short_id"]).stdout == run("body", socket, row["id"]).stdout != ""

    def test_a_short_id_is_long_enough_to_be_one(self, path: Path):
        ids = ["abcdefgh-1", "abcdefgh-2", "abcdefgh-2/1", "other-00001"]
        write(path, *((make_record(id=name), Content()) for name in ids))
        short = {row["id"]: row["short_id"] for row in as_json("list", path)}
        assert short == {
            "abcdefgh-1": "abcdefgh-1",
            "abcdefgh-2": "abcdefgh-2",
            "abcdefgh-2/1": "abcdefgh-2/1",
            "other-00001": "other-00",
        }
        assert [as_json("show", path, prefix)["id"] for prefix in short.values()] == list(short)

    def test_an_empty_database(self, path: Path):
        write(path)
        assert output("list", path) == "no calls\n"
        assert as_json("list", path) == []


class TestReport:
    @pytest.mark.parametrize(
        ("by", "key"),
        [
            ("model", {"model": "acme/model"}),
            ("day", {"day": "2026-11-22"}),
            ("session", {"session_id": "s-1"}),
            ("client", {"client": None}),
        ],
    )
    def test_sums(self, path: Path, by: str, key: dict[str, str | None]):
        calls = [
            make_record(id=name, session_id="s-1", cost_microdollars=cost) for name, cost in (("a", 5), ("b", None))
        ]
        write(path, *((call, Content()) for call in calls))
        (row,) = as_json("report", path, "--by", by)
        assert key.items() <= row.items()
        assert (row["calls"], row["calls_without_cost"], row["cost_microdollars"]) == (2, 1, 5)
        assert row["input_tokens"] is None

    def test_by_model_unless_said_otherwise_and_dearest_first(self, path: Path):
        costs = {"cheap": 400, "free": 0, "dear": 2_500_000, "unknown": None}
        calls = [make_record(id=name, request_model=name, cost_microdollars=cost) for name, cost in costs.items()]
        write(path, *((call, Content()) for call in calls))
        heading, *rows = table("report", path)[:6]
        assert heading == "model calls errors in cached out reasoning cache writes cost charged"
        assert rows == [
            "dear 1 0 – – – – – $2.5000 –",
            "cheap 1 0 – – – – – $0.0004 –",
            "free 1 0 – – – – – $0.0000 –",
            "unknown 1 0 – – – – – $? –",
            "total 4 0 – – – – – $2.5004+? –",
        ]

    def test_tools(self, path: Path):
        write(path, (make_record(), make_content(tool_calls=[ToolCall("1", "bash", "tool_use", "client", "{}")])))
        assert table("report", path, "--by", "tool") == [
            "tool calls requests failed rate",
            "bash 1 1 – –",
            "total 1 – –",
        ]

    def test_agents(self, path: Path):
        calls = [make_record(id=name, session_id="s", agent_id=agent) for name, agent in (("a", None), ("b", "x"))]
        write(path, *((call, Content()) for call in calls))
        rows = as_json("report", path, "--by", "agent")
        assert [(row["session_id"], row["agent_id"], row["calls"]) for row in rows] == [("s", None, 1), ("s", "x", 1)]


def missing(request_id: str, second: int, model: str = "acme/model", **usage: int) -> Record:
    """A turn that reads nothing of 1,000 tokens that are there."""
    usage = {"input_tokens": 2000, "cache_read_tokens": 0, "cache_write_tokens": 1000} | usage
    started_at = f"2026-11-22T10:00:{second:02}.000Z"
    return make_record(id=request_id, started_at=started_at, session_id="s", request_model=model, **usage)


class TestCacheBreaks:
    def test_end_every_report_in_one_line(self, path: Path):
        write(path, (missing("a", 0), Content()), (missing("b", 9, cache_miss_microdollars=600), Content()))
        assert table("report", path)[-2:] == [
            "",
            "1 cache break: 1.0k tokens processed again for $0.0003 (--by cache-break)",
        ]

    def test_are_told_one_by_one_if_asked_for_the_dearest_first(self, path: Path):
        turns = [missing(f"turn-{n}", n, cache_miss_microdollars=1000 * n) for n in range(9)]
        write(path, *((turn, Content()) for turn in turns))
        heading, *rows, total, rest = table("report", path, "--by", "cache-break", "--limit", 2)
        assert heading == "time id model tokens cost cause idle s differs in where"
        assert rows == [
            "2026-11-22 10:00:08 turn-8 acme/model 1,000 $0.0040 – 1 – –",
            "2026-11-22 10:00:07 turn-7 acme/model 1,000 $0.0035 – 1 – –",
        ]
        assert (total, rest) == ("total 8,000 $0.0180", "… and 6 more (--limit)")
        assert len(as_json("report", path, "--by", "cache-break")) == 8

    def test_none(self, path: Path):
        write(path, (missing("a", 0), Content()))
        assert "cache breaks" not in output("report", path)
        assert output("report", path, "--by", "cache-break") == "no cache breaks\n"


class TestSearch:
    def test_a_line_per_text_best_match_first(self, path: Path):
        call = ToolCall("1", "bash", "tool_use", "client", '{"cmd": "count the apples in the orchard"}')
        write(path, (make_record(), make_content(answer_text="Seven\napples.", tool_calls=[call])))
        assert table("search", path, "apples") == [
            "time id calls where text",
            "2026-11-22 10:00:00 call-1 1 answer Seven «apples».",
            '2026-11-22 10:00:00 call-1 1 tool arguments: bash {"cmd": "count the «apples» in the orchard"}',
        ]

    def test_json(self, path: Path):
        write(path, (make_record(), make_content(answer_text="Seven apples.")))
        assert as_json("search", path, "seven", "apples") == [
            {
                "started_at": "2026-11-22T10:00:00.000Z",
                "request_id": "call-1",
                "short_id": "call-1",
                "place": "answer",
                "name": None,
                "calls": 1,
                "snippet": "«Seven» «apples».",
            }
        ]

    def test_nothing_is_no_error(self, path: Path):
        write(path, (make_record(), make_content()))
        assert output("search", path, "zebra") == "nothing found\n"


def asked(kind: str, body: Any, answer_text: str = "", **columns: Any) -> tuple[Record, Content]:
    """A call with a body, and nothing else known of what it asks."""
    sent = json.dumps(body).encode()
    columns = {"api_kind": kind, "request_sha256": hashlib.sha256(sent).hexdigest()} | columns
    return make_record(**columns), Content(answer_text=answer_text or None, body=sent)


class TestShow:
    def test_the_conversation_up_to_the_call(self, path: Path):
        call = ToolCall("1", "bash", "tool_use", "client", '{"cmd": "ls"}')
        done = ToolResult("1", "bash", "a.txt", False)
        of = {"session_id": "s"}
        write(
            path,
            (make_record(id="later", started_at="2026-11-22T12:00:00.000Z", **of), Content()),
            (make_record(cost_microdollars=1200, **of), make_content(tool_calls=[call])),
            (
                make_record(id="call-2", started_at="2026-11-22T11:00:00.000Z", **of),
                make_content(answer_text="One file.", tool_results=[done]),
            ),
        )
        assert output("show", path, "call-2").strip() == (
            "… the body is not stored (gateway_content=prompts)\n"
            "\n"
            "── system prompt\n"
            "be brief\n"
            "\n"
            "── user\n"
            "what is new?\n"
            "\n"
            "── assistant\n"
            "not much\n"
            "▸ bash cmd: ls\n"
            "  │ a.txt\n"
            "[call-1 2026-11-22 10:00:00] messages acme/model · $0.0012 · bash\n"
            "\n"
            "── assistant\n"
            "One file.\n"
            "[call-2 2026-11-22 11:00:00] messages acme/model · $?"
        )

    @pytest.mark.parametrize("kind", SAME)
    def test_a_history_that_nobody_has_seen_answered(self, path: Path, kind: str):
        write(path, asked(kind, SAME[kind], answer_text="A wall."))
        shown = output("show", path, "last")
        assert shown.startswith(
            "\n── system prompt\nBe brief.\n"
            "\n── user\nWhy?\n"
            "\n── assistant\n(thinking) Hm.\nLet me look.\n▸ bash cmd: ls\n  │ a.txt\nOne file.\n"
            "\n── user\nAnd this?\n"
        )
        picture, rest = shown.split("And this?\n")[1].split("\n", 1)
        assert "image/png, 8 bytes" in picture
        assert rest == "\n── assistant\nA wall.\n[call-1 2026-11-22 10:00:00] " + (f"{kind} acme/model · $?\n")

    @pytest.mark.parametrize("kind", SAME)
    def test_the_calls_that_gave_the_answers_are_named_where_these_end(self, path: Path, kind: str):
        member = "input" if kind == "responses" else "messages"
        history = SAME[kind][member]
        before = {**SAME[kind], member: history[:-2]}
        of = {"session_id": "s", "conversation_id": "c"}
        write(path, asked(kind, before, id="failed", http_status=529, outcome="http_error", **of))
        write(path, asked(kind, before, id="first", started_at="2026-11-22T10:00:01.000Z", **of))
        write(path, asked(kind, SAME[kind], id="second", started_at="2026-11-22T10:00:02.000Z", **of))
        facts = [line.split()[0] for line in output("show", path, "second").splitlines() if line.startswith("[")]
        assert [fact for fact in facts if "call" not in fact and "image" not in fact] == [
            "[failed",
            "[first",
            "[second",
        ]
        shown = output("show", path, "second")
        assert shown.index("One file.") < shown.index("[failed") < shown.index("[first") < shown.index("And this?")

    def test_json_has_all_that_was_said_before(self, path: Path):
        write(path, asked("messages", SAME["messages"]))
        shown = as_json("show", path, "last")
        assert (shown["turns"], shown["missing"]) == ([], None)
        assert [(said["role"], said["text"]) for said in shown["history"]] == [
            ("system", "Be brief."), ("user", "Why?"), ("assistant", None), ("assistant", "Let me look."),
            ("assistant", None), ("assistant", "One file."), ("user", "And this?"), ("user", None),
        ]  # fmt: skip
        use = shown["history"][4]["tool_use"]
        assert (use["name"], use["arguments"], use["result"]) == ("bash", '{"cmd":"ls"}', "a.txt")
        assert shown["history"][-1]["note"] == "image, image/png, 8 bytes"

    def test_the_turns_whose_history_the_server_keeps_come_first(self, path: Path):
        of = {"session_id": "s"}
        first = {"instructions": "Be brief.", "input": "Why?"}
        second = {"instructions": "Be brief.", "input": "And now?", "previous_response_id": "r-1"}
        third = {"instructions": "Be brief.", "input": "Sure?", "previous_response_id": "r-2"}
        write(
            path,
            asked("responses", first, answer_text="So.", id="a", response_id="r-1", **of),
            asked("responses", second, answer_text="Now.", id="b", response_id="r-2", previous_id="r-1",
                  started_at="2026-11-22T10:00:01.000Z", **of),
            asked("responses", third, answer_text="Sure.", id="c", previous_id="r-2",
                  started_at="2026-11-22T10:00:02.000Z", **of),
        )  # fmt: skip
        words = [line for line in output("show", path, "c").splitlines() if line and not line.startswith(("[", "─"))]
        assert words == ["Be brief.", "Why?", "So.", "And now?", "Now.", "Sure?", "Sure."]
        said = [(said["text"], said["answered"]) for said in as_json("show", path, "c")["history"]]
        assert [(text, answered) for text, answered in said if text != "Be brief."] == [
            ("Why?", None), ("So.", None), (None, "a"), ("And now?", None), ("Now.", None), (None, "b"), ("Sure?", None)
        ]  # fmt: skip

    def test_a_history_that_is_kept_elsewhere_is_said_to_be_missing(self, path: Path):
        body = {"input": "And now?", "previous_response_id": "r-1"}
        write(path, asked("responses", body, previous_id="r-1"))
        missing = "what was said before is not in this request: it continues r-1"
        assert output("show", path, "last").startswith(f"… {missing}\n\n── user\nAnd now?\n")
        assert as_json("show", path, "last")["missing"] == missing

    @pytest.mark.parametrize(
        ("kept", "line"),
        [
            ([0, 1, 2, 3, 4, 5], ""),
            ([0, 4, 5], "… 3 earlier messages are not in this request\n"),
            ([2, 3, 4, 5], "… 2 earlier messages are not in this request\n"),
            ([0, 1, 2], "… 2 earlier messages are not in this request\n"),
        ],
        ids=["grown", "middle cut out", "beginning cut off", "taken back"],
    )
    def test_a_history_that_was_cut_short(self, path: Path, kept: list[int], line: str):
        messages = [{"role": ("user", "assistant")[number % 2], "content": f"number {number}"} for number in range(6)]
        of = {"session_id": "s", "api_kind": "chat_completions"}
        write(path, asked("chat_completions", {"messages": messages[:5]}, **of))
        now = {"messages": [messages[number] for number in kept]}
        write(path, asked("chat_completions", now, id="now", started_at="2026-11-22T10:00:01.000Z", **of))
        shown = output("show", path, "now")
        assert shown.partition("\n── user")[0] == line

    @pytest.mark.parametrize(
        ("call", "why"),
        [
            ((make_record(warnings=("content_dropped",)), Content()),
             "the body is not stored (content_dropped: the disk was too slow)"),
            ((make_record(outcome="in_flight"), Content()), "the body is not stored (it has not ended)"),
            ((make_record(), Content()), "the body is not stored (gateway_content=none)"),
            ((make_record(request_sha256="00"), make_content(body=b'{"messages": []}')), "the stored body is damaged"),
            ((make_record(request_sha256=hashlib.sha256(b"[]").hexdigest()), make_content(body=b"[]")),
             "the body is no JSON object"),
        ],
        ids=["dropped", "in flight", "none", "damaged", "no object"],
    )  # fmt: skip
    def test_why_there_is_no_more(self, path: Path, call: tuple[Record, Content], why: str):
        write(path, call)
        assert output("show", path, "last").startswith(f"… {why}\n")
        assert as_json("show", path, "last")["missing"] == why

    def test_a_long_system_prompt_is_shortened_unless_asked_for_in_full(self, path: Path):
        rules = "\n".join(f"Rule {number}" for number in range(100))
        write(path, (make_record(), make_content(system_prompt=rules)))
        assert "Rule 99" not in output("show", path, "last")
        assert "Rule 99" in output("show", path, "last", "--full")

    def test_json_has_the_turns_before_it(self, path: Path):
        ids = [f"call-{number}" for number in range(3)]
        write(path, *((make_record(id=name, session_id="s"), make_content()) for name in ids))
        shown = as_json("show", path, "call-2")
        assert [turn["id"] for turn in (*shown["turns"], shown)] == ids

    def test_json(self, path: Path):
        call = ToolCall("1", "bash", "tool_use", "client", '{"cmd')
        write(path, (make_record(), make_content(tools=["bash"], tool_calls=[call])))
        shown = as_json("show", path, "call-1")
        assert set(COLUMNS) <= set(shown)
        assert (shown["user_prompt"], shown["reasoning_text"], shown["tools"]) == ("what is new?", None, ["bash"])
        assert [(made["arguments"], made["arguments_valid"]) for made in shown["tool_calls"]] == [('{"cmd', 0)]

    @pytest.mark.parametrize(
        ("reference", "found"),
        [("last", "flow-2"), ("flow-1", "flow-1"), ("flow-1/", "flow-1/1"), ("o", "other"), ("other", "other")],
    )
    def test_ids_may_be_shortened(self, path: Path, reference: str, found: str):
        write(path, *((make_record(id=name), Content()) for name in ("other", "flow-1", "flow-1/1")))
        write(path, (make_record(id="flow-2", started_at="2026-11-22T10:00:00.001Z"), Content()))
        assert as_json("show", path, reference)["id"] == found

    @pytest.mark.parametrize("reference", ["nothing", "flow", "%", "f_ow-1", "last one"])
    def test_no_or_no_single_such_call(self, path: Path, reference: str):
        write(path, *((make_record(id=name), Content()) for name in ("flow-1", "flow-2")))
        result = run("show", path, reference)
        assert (result.exit_code, result.stdout) == (1, "")
        assert reference in result.stderr
        assert result.stderr.count("\n") == 1

    def test_the_last_of_none(self, path: Path):
        write(path)
        assert run("show", path, "last").exit_code == 1


class TestHostileText:
    """What a model says must not reach the terminal as a command to it."""

    @pytest.mark.parametrize(
        "command",
        [
            ("list",),
            ("report",),
            ("report", "--by", "tool"),
            ("report", "--by", "cache-break"),
            ("show", "call-1"),
            ("search", "bold"),
        ],
    )
    @pytest.mark.parametrize("options", [(), ("--json",)])
    def test_is_spelled_out(self, path: Path, command: tuple[str, ...], options: tuple[str, ...]):
        of = {"session_id": "s", "input_tokens": 100, "cache_write_tokens": 100}
        before = make_record(id="before", request_model="acme/model", cache_read_tokens=0, **of)
        record = make_record(request_model=ESCAPES, error_message=ESCAPES, cache_read_tokens=0, **of)
        record.started_at += 1
        call = ToolCall(ESCAPES, ESCAPES, "tool_use", "client", f"{ESCAPES} too")
        content = make_content(answer_text=ESCAPES, tools=[ESCAPES], tool_calls=[call])
        write(path, (before, Content()), (record, content))
        name, *rest = command
        printed = output(name, path, *rest, *options)
        assert not set(printed) & set("\x1b\x9b\x07\r\x00\u202e")
        assert "[bold]" in printed

    def test_line_ends_stay_in_texts_and_nowhere_else(self, path: Path):
        write(path, (make_record(request_model="a\nb", error_message="c\nd"), make_content(answer_text="e\n\tf")))
        assert len(table("list", path)) == 3
        assert "c\\nd" in output("show", path, "last")
        assert "e\n\tf" in output("show", path, "last")


def call_with_body(body: bytes, **columns: Any) -> tuple[Record, Content]:
    return make_record(request_sha256=hashlib.sha256(body).hexdigest(), **columns), make_content(body=body)


BODY = '{"model": "m", "messages": [{"role": "user", "content": "ü\\ud800\\n"}]} '.encode()


class TestBody:
    @pytest.mark.parametrize("body", [BODY, b"", b"\xff\r\n\x00"])
    @pytest.mark.parametrize("reference", ["last", "call-1", "cal"])
    def test_is_printed_as_it_was_sent(self, path: Path, body: bytes, reference: str):
        write(path, call_with_body(body))
        result = run("body", path, reference)
        assert (result.exit_code, result.stdout_bytes, result.stderr) == (0, body, "")

    def test_one_that_is_not_stored(self, path: Path):
        write(path, (make_record(), make_content()))
        result = run("body", path, "call-1")
        assert (result.exit_code, result.stdout) == (1, "")
        assert result.stderr == f"gateway-addon: no body of call-1 is stored in {path}\n"

    def test_one_that_is_damaged_is_not_printed(self, path: Path):
        write(path, call_with_body(BODY))
        damage(path, "UPDATE elements SET template = '{}'")
        result = run("body", path, "call-1")
        assert (result.exit_code, result.stdout) == (1, "")
        assert result.stderr.startswith("gateway-addon: the body of call-1 is damaged: ")


class TestVerify:
    def test_counts_what_is_exact(self, path: Path):
        write(path, call_with_body(BODY, id="a"), call_with_body(b"no JSON", id="b"), (make_record(id="c"), Content()))
        size = printed_size(path.stat().st_size)
        assert output("verify", path) == (
            f"2 bodies of 0.00 MB in a file of {size}: 0 damaged; 1 calls without a stored body\n"
        )

    def test_names_what_is_not(self, path: Path):
        write(path, call_with_body(BODY, id="a"), call_with_body(b"no JSON", id="b"))
        damage(path, "UPDATE elements SET template = '{}'")
        result = run("verify", path)
        first, last = result.stdout.splitlines()
        assert (result.exit_code, result.stderr) == (1, "")
        assert first.startswith("the body of a is damaged: ")
        assert ": 1 damaged; " in last


def damage(path: Path, sql: str) -> None:
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute(sql)


class TestPrune:
    @pytest.fixture
    def calls(self, path: Path) -> list[str]:
        """Calls of a day each, 30 of them until today."""
        today = datetime.now(UTC)
        days = {f"call-{age}": today - timedelta(days=age, minutes=1) for age in range(30)}
        write(
            path,
            *(
                (
                    make_record(id=name, started_at=day.timestamp()),
                    make_content(answer_text=name * 9_000),
                )
                for name, day in days.items()
            ),
        )
        return list(days)

    def test_keeps_the_last_days(self, path: Path, calls: list[str]):
        before = path.stat().st_size
        assert output("prune", path, "--keep-days", 10).startswith("20 calls removed: ")
        assert {row["id"] for row in as_json("list", path)} == set(calls[:10])
        assert path.stat().st_size < before / 2

    @pytest.mark.parametrize("size", ["1M", "1m", "1MB", "1000k", "1000000"])
    def test_keeps_what_fits(self, path: Path, calls: list[str], size: str):
        assert path.stat().st_size > 1_500_000
        output("prune", path, "--max-size", size)
        assert 500_000 < path.stat().st_size <= 1_000_000
        kept = [row["id"] for row in as_json("list", path)]
        assert kept == calls[: len(kept)]

    def test_both(self, path: Path, calls: list[str]):
        output("prune", path, "--keep-days", 10, "--max-size", 0)
        assert as_json("list", path) == []

    def test_removes_nothing_that_need_not_go(self, path: Path, calls: list[str]):
        size = printed_size(path.stat().st_size)
        assert output("prune", path, "--keep-days", 30, "--max-size", "1G") == (
            f"0 calls removed: {size} before, {size} now\n"
        )

    def test_a_missing_file_is_not_made(self, path: Path):
        result = run("prune", path, "--keep-days", 1)
        assert (result.exit_code, result.stderr) == (2, f"gateway-addon: {path}: no such file\n")
        assert not path.exists()


class TestReview:
    KEY = "sk-" + "ant-" + "kiwi-custard-0042"

    def plant(self, path: Path) -> None:
        """A key of high severity, and a refusal of low."""
        body = json.dumps({"model": "m", "messages": [{"role": "user", "content": self.KEY}]}).encode()
        columns = {"upstream_host": "api.example", "outcome": "http_error", "http_status": 403, "session_id": "s-1"}
        write(path, call_with_body(body, request_bytes=len(body), **columns))

    def test_a_line_per_finding(self, path: Path):
        self.plant(path)
        result = run("review", path)
        heading, key, refusal, *chain, looked = filter(None, lines(result.stdout))
        assert heading == "severity rule times id what hosts where turn first seen"
        seen = "2026-11-22 10:00:00"
        assert key == f"high anthropic_key 1 call-1 sk-a…42 api.example ×1 user prompt 1 {seen}"
        assert refusal == f"low refused_body 1 call-1 85 bytes answered with 403 api.example ×1 request 1 {seen}"
        assert chain == [
            "high: anthropic_key sk-a…42, opens a model provider's account",
            'as {"role": "user", "content": "sk-a…42"}',
            "brought call-1 turn 1 user prompt",
            "sent call-1 turn 1 once to api.example",
        ]
        assert looked.startswith("looked at the bodies and answers of 1 call; not looked at: heads, queries")
        assert self.KEY not in result.output

    def test_json(self, path: Path):
        self.plant(path)
        key, _ = json.loads(run("review", path, "--json").stdout)
        assert (key["rule"], key["count"], key["hosts"]) == ("anthropic_key", 1, {"api.example": 1})
        assert key["first_seen"] == {
            "request_id": "call-1",
            "started_at": "2026-11-22T10:00:00.000Z",
            "turn": 1,
            "place": "user prompt",
            "tool": None,
            "call_id": None,
            "agent": None,
        }
        assert len(key["fingerprint"]) == 16

    @pytest.mark.parametrize(
        ("host", "arguments", "exit_code"),
        [
            ("api.example", (), 1),
            ("api.example", ("--fail-on", "low", "--json"), 1),
            # nothing left the machine
            (None, ("--fail-on", "low"), 0),
        ],
    )
    def test_the_exit_code_tells_whether_anything_is_as_grave(
        self, path: Path, host: str | None, arguments: tuple[str, ...], exit_code: int
    ):
        body = json.dumps({"model": "m", "messages": [{"role": "user", "content": self.KEY}]}).encode()
        write(path, call_with_body(body, upstream_host=host))
        assert run("review", path, *arguments).exit_code == exit_code

    @pytest.mark.parametrize(("fail_on", "exit_code"), [("low", 1), ("medium", 0), ("high", 0)])
    def test_from_where_on_is_for_the_caller_to_say(self, path: Path, fail_on: str, exit_code: int):
        write(path, (make_record(upstream_host="api.example", outcome="http_error", http_status=403), Content()))
        assert run("review", path, "--fail-on", fail_on).exit_code == exit_code

    def test_the_environments_secrets_are_looked_for(self, path: Path, monkeypatch: pytest.MonkeyPatch):
        monkeypatch.setenv("GARDEN_PASSWORD", "three ripe pears")
        write(path, call_with_body(b'{"messages": [{"content": "three ripe pears"}]}', upstream_host="api.example"))
        line = lines(run("review", path).stdout)[1]
        assert line.startswith("high environment 1 call-1 ")

    def test_nothing_found(self, path: Path):
        write(path, (make_record(), make_content()))
        assert lines(output("review", path))[0] == "nothing found"
        result = run("review", path, "--json")
        assert (result.exit_code, json.loads(result.stdout)) == (0, [])
        assert result.stderr.startswith("gateway-addon: looked at the bodies and answers of 1 call; not looked at: ")


class TestFlowFiles:
    """Every command that reads a database reads a flow file as well."""

    @pytest.fixture
    def folder(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
        """Where temporary files go."""
        folder = tmp_path / "tmp"
        folder.mkdir()
        monkeypatch.setattr("tempfile.tempdir", str(folder))
        return folder

    @pytest.mark.parametrize(
        ("command", "said"),
        [
            (("list",), "claude-sonnet-4-6"),
            (("report", "--by", "tool"), "run_tests"),
            (("show", "last"), "── user\nIn one sentence: should the rank after a tie be skipped?"),
            (("search", "tie", "rank"), "tool result: read_file"),
            (("body", "last"), '"stream"'),
            (("verify",), ": 0 damaged; "),
            (("review",), "nothing found"),
        ],
        ids=lambda value: value[0],
    )
    def test_is_read_like_a_database_and_leaves_none(self, folder: Path, command: tuple[str, ...], said: str):
        name, *rest = command
        assert said in output(name, DEMO, *rest)
        assert list(folder.iterdir()) == []

    def test_is_known_by_how_it_begins(self, folder: Path, tmp_path: Path):
        capture = tmp_path / "capture"
        capture.write_bytes(DEMO.read_bytes())
        assert output("list", capture) == output("list", DEMO)
        assert output("search", capture, "tie") == output("search", DEMO, "tie")

    def test_a_database_may_be_called_like_one(self, tmp_path: Path):
        path = tmp_path / "odd.flow"
        write(path, (make_record(), make_content()))
        assert len(as_json("list", path)) == 1

    def test_of_a_damaged_one_the_whole_flows_are_read(self, folder: Path, tmp_path: Path):
        cut = tmp_path / "cut.flow"
        cut.write_bytes(DEMO.read_bytes()[:-500])
        result = run("list", cut)
        assert (result.exit_code, result.stderr.count("\n")) == (0, 1)
        assert result.stderr.startswith(f"gateway-addon: {cut}: cut off after ")
        assert len(lines(result.stdout)) == len(table("list", DEMO)) - 1
        assert list(folder.iterdir()) == []

    @pytest.mark.parametrize("content", [b"no flow", b"12:no flow", b"SQLite format 3"])
    def test_of_anything_else_nothing(self, folder: Path, tmp_path: Path, content: bytes):
        other = tmp_path / "other.flow"
        other.write_bytes(content)
        result = run("list", other)
        assert (result.exit_code, result.stdout, result.stderr.count("\n")) == (2, "", 1)
        assert list(folder.iterdir()) == []

    def test_nobody_else_can_read_what_is_made_of_it(self, folder: Path, monkeypatch: pytest.MonkeyPatch):
        modes: set[int] = set()

        def look(db: Any, *selected: Any) -> list[Any]:
            modes.update((file.stat().st_mode & 0o777) for file in folder.rglob("*"))
            return []

        monkeypatch.setattr("gateway_addon.store.queries.calls", look)
        run("list", DEMO)
        # the folder, and the files in it
        assert modes == {0o700, 0o600}

    def test_cannot_be_pruned(self):
        result = run("prune", DEMO, "--keep-days", 1)
        assert (result.exit_code, result.stderr) == (2, f"gateway-addon: {DEMO}: a flow file, not a database\n")


class TestNoDatabase:
    """Where none is named it is the environment's, else the one in this folder."""

    COMMANDS = (
        ("list",),
        ("report",),
        ("show", "last"),
        ("search", "news"),
        ("body", "last"),
        ("verify",),
        ("review",),
    )

    @pytest.fixture
    def path(self, tmp_path: Path) -> Path:
        path = tmp_path / "gateway.db"
        write(path, call_with_body(BODY))
        return path

    @pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
    def test_this_folders(self, path: Path, monkeypatch: pytest.MonkeyPatch, command: tuple[str, ...]):
        monkeypatch.delenv("GATEWAY_DB", raising=False)
        monkeypatch.chdir(path.parent)
        name, *rest = command
        assert output(*command) == output(name, path, *rest)

    @pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
    def test_the_environments(
        self, path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: tuple[str, ...]
    ):
        name, *rest = command
        expected = output(name, path, *rest)
        path.rename(tmp_path / "calls")
        monkeypatch.setenv("GATEWAY_DB", str(tmp_path / "calls"))
        assert output(*command) == expected

    @pytest.mark.parametrize("words", [("news",), ("what", "news"), ("README.md", "news")])
    def test_words_to_search_for_are_no_database(
        self, path: Path, monkeypatch: pytest.MonkeyPatch, words: tuple[str, ...]
    ):
        path.with_name("README.md").write_text("a file that is none either")
        monkeypatch.chdir(path.parent)
        assert output("search", *words) == output("search", path, *words)


class TestErrors:
    @pytest.mark.parametrize(
        "arguments",
        [
            ("frobnicate",),
            ("list",),
            ("list", "{db}", "--limit", "0"),
            ("report", "{db}", "--by", "phase of the moon"),
            ("show", "{db}"),
            ("list", "{db}", "--frobnicate"),
            ("list", "{db}.missing"),
            ("report", "{folder}"),
            ("show", "{garbage}", "last"),
            ("body", "{db}.missing", "last"),
            ("verify", "{garbage}"),
            ("review", "{garbage}"),
            ("review", "{db}", "--fail-on", "info"),
            ("prune", "{db}"),
            ("prune", "{db}", "--keep-days", "soon"),
            ("prune", "{db}", "--keep-days", "800000"),
            ("prune", "{empty}", "--keep-days", "1"),
            ("search", "{empty}", "word"),
            ("prune", "{db}", "--max-size", "-1"),
            ("prune", "{db}", "--max-size", "1T"),
            ("prune", "{garbage}", "--keep-days", "1"),
            ("search", "{db}"),
            ("search", "{db}", "?!"),
            ("search", "{db}.missing", "word"),
        ],
        ids=" ".join,
    )
    def test_are_one_line_and_exit_2(self, path: Path, arguments: tuple[str, ...]):
        write(path)
        garbage = path.with_name("garbage")
        garbage.write_bytes(b"no database")
        empty = path.with_name("empty")
        empty.touch()
        names = {"db": path, "folder": path.parent, "garbage": garbage, "empty": empty}
        result = run(*(argument.format(**names) for argument in arguments))
        assert empty.stat().st_size == 0
        assert (result.exit_code, result.stdout) == (2, "")
        assert result.stderr.startswith("gateway-addon: ")
        assert result.stderr.count("\n") == 1

    def test_a_broken_page_is_no_traceback(self, path: Path):
        write(path, (make_record(), make_content()))
        (page,) = stored(
            path, "SELECT rootpage, page_size FROM sqlite_master, pragma_page_size WHERE name = 'requests'"
        )
        with path.open("r+b") as file:
            file.seek((page["rootpage"] - 1) * page["page_size"])
            file.write(b"\xff" * page["page_size"])
        result = run("list", path)
        assert (result.exit_code, result.stderr) == (2, f"gateway-addon: {path}: database disk image is malformed\n")


class TestProcess:
    def test_runs_as_a_module(self, path: Path):
        write(path)
        done = subprocess.run(
            [sys.executable, "-m", "gateway_addon", "list", path], capture_output=True, text=True, check=True
        )
        assert (done.stdout, done.stderr) == ("no calls\n", "")

    @pytest.mark.parametrize(
        "command",
        [("list",), ("report",), ("show", "last"), ("list", "--json"), ("export",), ("body", "last"), ("tail",),
         ("export", "last", "--format", "html")],
        ids=" ".join,
    )  # fmt: skip
    def test_a_reader_that_leaves_early_is_no_error_to_tell(self, path: Path, command: tuple[str, ...]):
        write(path, (make_record(request_model="x" * 500_000), make_content(answer_text="y" * 500_000)))
        write(path, call_with_body(b"x" * 500_000, started_at="2027-01-01T00:00:00.000Z"))
        name, *rest = command
        with subprocess.Popen(
            [sys.executable, "-m", "gateway_addon", name, path, *rest], stdout=subprocess.PIPE, stderr=subprocess.PIPE
        ) as process:
            assert process.stdout is not None
            assert process.stderr is not None
            process.stdout.close()
            assert process.stderr.read() == b""


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("a\u2028b\u200fc\u202ed", "a\\u2028b\\u200fc\\u202ed"),
        ("\u200b\u2060\ufeff\u00ad", "\\u200b\\u2060\\ufeff\\xad"),
        ("\u3164\u115f\U000e0041", "\\u3164\\u115f\\U000e0041"),
        ("\x1b[2J\x9b\x7f\x00", "\\x1b[2J\\x9b\\x7f\\x00"),
        ("naïve → 漢字\u3000🚀\tx\n", "naïve → 漢字\u3000🚀\tx\n"),
    ],
)
def test_what_nobody_sees_is_spelled_out(text: str, shown: str):
    assert printable(text) == shown
