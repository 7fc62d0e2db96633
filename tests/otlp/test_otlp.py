"""`gateway-addon otlp` in front of a backend on a real socket: its ledger is the database, whatever happens between."""

import os
import select
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing
from email.utils import formatdate
from pathlib import Path
from time import time
from typing import Any

import pytest
from sqlite_utils import Database

from gateway_addon import cli
from gateway_addon.api.base import ToolCall, ToolResult
from gateway_addon.content import Content
from gateway_addon.otlp import export, send
from gateway_addon.otlp.export import Export, Tally, UnavailableError
from gateway_addon.otlp.source import Stored, cleaner
from gateway_addon.store.database import open_database, transaction
from gateway_addon.store.rows import replace_finished
from tests.client import Call, request_body
from tests.make_flows import FINDINGS, FLOWS
from tests.marks import quick
from tests.mitmdump import Mitmdump, clean_environment, rows, run_on_file
from tests.otlp.receiver import Receiver, Reply, is_call, receiver
from tests.store.calls import make_record

DEMO = FLOWS / "demo.flow"
SECRET = "ghp_" + "a1B2c3D4" * 4 + "e5F6"

USAGE = {
    "gen_ai.usage.input_tokens": "input_tokens",
    "gen_ai.usage.output_tokens": "output_tokens",
    "gen_ai.usage.cache_read.input_tokens": "cache_read_tokens",
    "gen_ai.usage.cache_write.input_tokens": "cache_write_tokens",
    "gateway_addon.cost_microdollars": "cost_microdollars",
    "gateway_addon.outcome": "outcome",
    "gen_ai.conversation.id": "session_id",
    "gateway_addon.request_id": "id",
}


@pytest.fixture
def backend() -> Iterator[Receiver]:
    with receiver() as backend:
        yield backend


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "gateway.db"


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory, confdir: Path) -> Path:
    db = tmp_path_factory.mktemp("demo") / "demo.db"
    assert run_on_file(DEMO, db, "--flow-detail", "0", confdir=confdir).returncode == 0
    return db


@pytest.fixture(scope="module")
def catalogue(tmp_path_factory: pytest.TempPathFactory, confdir: Path) -> Path:
    folder = tmp_path_factory.mktemp("catalogue")
    together = folder / "together.flow"
    together.write_bytes(b"".join((FLOWS / f"{name}.flow").read_bytes() for name in FINDINGS))
    assert run_on_file(together, folder / "all.db", "--flow-detail", "0", confdir=confdir).returncode == 0
    return folder / "all.db"


def fill(path: Path, count: int, calls_per_session: int = 100) -> None:
    """Sessions of tool loops: every tenth call is the last of its turn."""
    with closing(open_database(path)) as db:
        for start in range(0, count, 500):
            with transaction(db):
                for number in range(start, min(start + 500, count)):
                    session, turn = divmod(number, calls_per_session)
                    is_last, is_first = turn % 10 == 9, turn % 10 == 0
                    content = Content(
                        user_prompt=f"prompt {session} {turn // 10}",
                        tool_calls=[] if is_last else [ToolCall(f"c{number}", "bash", "tool_use", "client", "{}")],
                        tool_results=[] if is_first else [ToolResult(f"c{number - 1}", "bash", "ok", None)],
                    )
                    columns = {"session_id": f"s{session}", "started_at": 1.8e9 + number, "duration_ms": 500.0}
                    replace_finished(db, make_record(id=f"call-{number:06}", **columns), content)


def tell(path: Path, backend: Receiver, **options: Any) -> tuple[Tally, list[float]]:
    """One export in this process; what became of it, and how long it waited."""
    waits: list[float] = []

    def wait(seconds: float) -> bool:
        waits.append(seconds)
        return False

    with closing(open_database(path)) as db:
        source = Stored(db, backend.url, **options)
        sender = send.Sender(f"{backend.url}/v1/traces")
        export = Export(source=source, send=sender, wait=wait, say=lambda line: None)
        export.run()
    return export.tally, waits


def run_otlp(path: Path, url: str, *arguments: str, **env: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "gateway_addon", "otlp", str(path), *arguments],
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
        env=clean_environment({"OTEL_EXPORTER_OTLP_ENDPOINT": url, **env}),
    )


def expected(path: Path) -> dict[str, dict[str, Any]]:
    """The rows as the spans of their calls have them, by id."""
    columns = ", ".join(f'{column} AS "{name}"' for name, column in USAGE.items())
    found = rows(path, f"SELECT {columns} FROM requests WHERE outcome <> 'in_flight'")
    return {row["gateway_addon.request_id"]: row for row in found}


def assert_ledger(backend: Receiver, path: Path) -> None:
    """Every call and every tool that was answered once, with its numbers, and nothing else."""
    calls = [span for span in backend.ledger.values() if is_call(span)]
    told = {
        span.attributes["gateway_addon.request_id"]: {name: span.attributes.get(name) for name in USAGE}
        for span in calls
    }
    assert told == expected(path)
    assert len(calls) == len(told)
    # no span has been given a second place
    assert len({span_id for _, span_id in backend.ledger}) == len(backend.ledger)
    (answered,) = rows(
        path,
        """SELECT COUNT(*) AS count FROM answered_tool_calls JOIN stored_tool_calls USING (request_id, position)
        WHERE executor = 'client'""",
    )
    assert len(backend.ledger) - len(calls) == answered["count"]


@pytest.mark.parametrize("which", quick(["demo", "catalogue"]))
def test_a_database_that_is_exported_twice_is_there_once(which: str, backend: Receiver, request: pytest.FixtureRequest):
    path = request.getfixturevalue(which)
    first, _ = tell(path, backend)
    assert first.calls == len(expected(path))
    assert_ledger(backend, path)
    assert set(backend.calls().values()) == {1}
    # nothing is new
    assert tell(path, backend)[0] == Tally()
    assert tell(path, backend, again=True)[0] == first
    assert_ledger(backend, path)
    assert set(backend.calls().values()) == {2}


def test_the_demo_is_sessions_of_turns_of_calls(demo: Path, backend: Receiver):
    tell(demo, backend)
    spans = list(backend.ledger.values())
    assert {span.attributes["gen_ai.conversation.id"] for span in spans} == {"demo-bug-hunt"}
    ids = {span.span_id for span in spans}
    roots = [span for span in spans if not span.parent_id]
    assert len(roots) == len({span.trace_id for span in spans}) == 4
    assert all(span.parent_id in ids for span in spans if span.parent_id)
    assert [len(span.links) for span in roots] == [0, 1, 0, 1]
    assert [span.name for span in spans if span.status == 2] == ["chat claude-sonnet-4-6"]
    tools = [span for span in spans if not is_call(span)]
    assert len(tools) == 12
    assert all(span.start < span.end for span in tools)


def test_a_call_that_changes_is_sent_again_in_its_place(path: Path, backend: Receiver):
    fill(path, 20)
    tell(path, backend)
    with closing(open_database(path)) as db, transaction(db):
        changed = make_record(id="call-000009", session_id="s0", started_at=1.8e9 + 9, input_tokens=7)
        results = [ToolResult("c8", "bash", "ok", None)]
        replace_finished(db, changed, Content(user_prompt="prompt 0 0", tool_results=results))
    assert tell(path, backend)[0].calls == 1
    assert_ledger(backend, path)


class TestTrouble:
    def test_a_backend_that_is_down_for_a_while_gets_all(self, path: Path, backend: Receiver):
        fill(path, 50)
        backend.script(Reply(503), Reply(429, {"retry-after": "30"}), Reply(502, hang_up=True), Reply(504))
        _, waits = tell(path, backend)
        assert waits == [1, 30, 4, 8]
        assert_ledger(backend, path)

    def test_retry_after_may_be_a_date(self, path: Path, backend: Receiver):
        fill(path, 1)
        backend.script(Reply(503, {"retry-after": formatdate(time() + 3000, usegmt=True)}))
        _, waits = tell(path, backend)
        assert 2000 < waits[0] <= 3000

    @pytest.mark.parametrize("status", [301, 401, 403, 404, 500])
    def test_what_is_no_success_is_none_and_nothing_is_lost(self, path: Path, backend: Receiver, status: int):
        fill(path, 5)
        backend.script(Reply(status))
        with pytest.raises(UnavailableError, match=f"HTTP {status}"):
            tell(path, backend)
        assert len(backend.sizes) == 1
        tell(path, backend)
        assert_ledger(backend, path)

    def test_spans_that_are_dropped_are_counted_and_not_sent_again(self, path: Path, backend: Receiver):
        fill(path, 5)
        backend.script(Reply(rejected=3, message="too old"))
        tally, _ = tell(path, backend)
        assert (tally.calls, tally.spans, tally.rejected) == (5, 6, 3)
        assert tell(path, backend)[0] == Tally()

    @pytest.mark.parametrize("status", [400, 413])
    def test_a_call_that_is_refused_does_not_hold_up_the_others(self, path: Path, backend: Receiver, status: int):
        fill(path, 20)

        def reply(request: Any) -> Reply | None:
            return Reply(status) if b"call-000009" in request.SerializeToString() else None

        backend.reply = reply
        tally, _ = tell(path, backend)
        assert tally.left_out == ["call-000009"]
        backend.reply = lambda request: None
        tell(path, backend, again=True)
        assert_ledger(backend, path)

    @pytest.mark.long
    def test_an_export_that_is_killed_in_the_middle_goes_on(self, path: Path, backend: Receiver):
        fill(path, 1500)
        command = [sys.executable, "-m", "gateway_addon", "otlp", str(path)]
        env = clean_environment({"OTEL_EXPORTER_OTLP_ENDPOINT": backend.url})
        process = subprocess.Popen(command, env=env, stderr=subprocess.DEVNULL)

        def kill(request: Any) -> Reply | None:
            if len(backend.sizes) == 3:
                # it has been taken, and nobody will know
                process.kill()
                process.wait()
                return Reply(hang_up=True)
            return None

        backend.reply = kill
        assert process.wait(60) == -signal.SIGKILL
        told = backend.calls()
        assert len(told) < 1500
        backend.reply = lambda request: None
        assert run_otlp(path, backend.url).returncode == 0
        assert_ledger(backend, path)
        again = [name for name, times in backend.calls().items() if times > 1]
        assert 0 < len(again) <= export.MAX_SPANS


class TestCommand:
    def test_says_what_it_did(self, path: Path, backend: Receiver):
        fill(path, 3)
        done = run_otlp(path, backend.url)
        assert (done.returncode, done.stderr) == (0, "")
        assert done.stdout == f"3 calls (5 spans) sent to {backend.url}/v1/traces\n"

    def test_exits_with_1_where_a_part_was_taken(self, path: Path, backend: Receiver):
        fill(path, 3)
        backend.script(Reply(rejected=1, message="\x1b[2Jno"))
        done = run_otlp(path, backend.url)
        assert done.returncode == 1
        assert done.stderr == f"gateway-addon: {backend.url}/v1/traces: 1 spans rejected: \\x1b[2Jno\n"

    def test_a_trouble_is_one_line_without_credentials(self, path: Path, backend: Receiver):
        fill(path, 3)
        backend.script(Reply(403))
        url = backend.url.replace("://", "://user:pass-word@")
        done = run_otlp(path, "", OTEL_EXPORTER_OTLP_TRACES_ENDPOINT=f"{url}/v1/traces?token=pass-word")
        assert done.returncode == 2
        assert done.stderr == f"gateway-addon: {backend.url}/v1/traces: HTTP 403; 0 calls sent\n"
        assert "pass-word" not in path.read_bytes().decode("latin-1")

    def test_the_standard_variables_are_obeyed(self, path: Path, backend: Receiver):
        fill(path, 1)
        run_otlp(
            path,
            "http://127.0.0.1:9",
            OTEL_EXPORTER_OTLP_TRACES_ENDPOINT=f"{backend.url}/v1/traces",
            OTEL_EXPORTER_OTLP_HEADERS="authorization=Basic%20abc",
            OTEL_EXPORTER_OTLP_COMPRESSION="gzip",
            OTEL_RESOURCE_ATTRIBUTES="host.name=desk,team=blue",
        )
        (span,) = backend.spans
        assert {"host.name": "desk", "team": "blue", "service.name": "gateway-addon"}.items() <= span.resource.items()
        (headers,) = backend.headers
        assert (headers["authorization"], headers["content-encoding"]) == ("Basic abc", "gzip")

    def test_a_flow_file_does_as_well(self, demo: Path, backend: Receiver):
        assert run_otlp(DEMO, backend.url).returncode == 0
        # the same calls, so the same spans
        before = set(backend.ledger)
        tell(demo, backend, again=True)
        assert set(backend.ledger) == before

    def test_a_selection_is_sent_whole_each_time(self, path: Path, backend: Receiver):
        fill(path, 20, calls_per_session=10)
        for _ in range(2):
            assert "10 calls" in run_otlp(path, backend.url, "--session", "s1").stdout
        assert {span.attributes["gen_ai.conversation.id"] for span in backend.spans} == {"s1"}
        assert "20 calls" in run_otlp(path, backend.url).stdout

    @pytest.mark.parametrize(
        ("arguments", "env", "message"),
        [
            ([], {"OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"}, "OTEL_EXPORTER_OTLP_PROTOCOL=grpc: only http/protobuf"),
            (["--since", "yesterday"], {}, "'yesterday' is no time"),
        ],
    )
    def test_bad_usage_is_one_line(self, path: Path, arguments: list[str], env: dict[str, str], message: str):
        fill(path, 1)
        done = run_otlp(path, "http://127.0.0.1:9", *arguments, **env)
        assert done.returncode == 2
        assert message in done.stderr
        assert done.stderr.count("\n") == 1

    def test_a_file_that_is_neither_is_named(self, tmp_path: Path):
        other = tmp_path / "notes.txt"
        other.write_text("not a capture")
        done = run_otlp(other, "http://127.0.0.1:9")
        assert (done.returncode, done.stderr.count("\n")) == (2, 1)
        assert "notes.txt" in done.stderr

    def test_without_the_extra_it_says_what_to_install(
        self, path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ):
        fill(path, 1)
        monkeypatch.delitem(sys.modules, "gateway_addon.otlp.send", raising=False)
        monkeypatch.delattr("gateway_addon.otlp.send", raising=False)
        monkeypatch.setitem(sys.modules, "opentelemetry.exporter.otlp.proto.http.trace_exporter", None)
        with pytest.raises(SystemExit) as ended:
            cli.main(["otlp", str(path)])
        assert ended.value.code == 2
        assert capsys.readouterr().err == (
            "gateway-addon: otlp needs the extra `otlp`: pip install 'gateway-addon[otlp]'\n"
        )


class TestContent:
    @pytest.fixture
    def db(self, path: Path) -> Iterator[Database]:
        with closing(open_database(path)) as db:
            yield db

    def put(self, db: Database, request_id: str, body: bytes | None, **content: Any) -> None:
        with transaction(db):
            record = make_record(id=request_id, outcome="http_error", error_message=f"bad key {SECRET}")
            replace_finished(db, record, Content(body=body, **content))

    def test_no_text_leaves_unasked(self, path: Path, db: Database, backend: Receiver):
        self.put(db, "a", b'{"messages":[]}', user_prompt="private", answer_text="private")
        tell(path, backend)
        assert "private" not in str(backend.spans)
        assert SECRET not in str(backend.spans)

    def test_secrets_stay_behind_also_those_that_another_call_gives_away(
        self, path: Path, db: Database, backend: Receiver
    ):
        word = "correct-horse-Battery-9"
        self.put(db, "a", b'{"messages":[]}', user_prompt=f"say {word}, and {SECRET}", answer_text=f"{word}!")
        self.put(db, "b", b'{"messages":["x"]}', user_prompt=f'{{"api_key": "{word}"}}')
        tell(path, backend, clean=cleaner(db, {}))
        told = str(backend.spans)
        assert "say [redacted:" in told
        assert word not in told
        assert SECRET not in told
        first = backend.ledger
        tell(path, backend, clean=cleaner(db, {}), again=True)
        # with the same placeholders
        assert backend.ledger == first

    def test_calls_recorded_without_their_texts_have_none(self, path: Path, db: Database, backend: Receiver):
        self.put(db, "a", None, system_prompt="private", user_prompt="private")
        tell(path, backend, clean=cleaner(db, {}))
        assert "private" not in str(backend.spans)


@pytest.mark.long
def test_ten_thousand_calls_twice_in_groups_of_bounded_size(path: Path, backend: Receiver):
    fill(path, 10_000)
    for times in (1, 2):
        assert tell(path, backend, again=True)[0].calls == 10_000
        assert_ledger(backend, path)
        assert set(backend.calls().values()) == {times}
    assert max(backend.sizes) <= export.MAX_SPANS


class TestBesideTheProxy:
    """`gateway_otlp=true`, with a real mitmdump."""

    def start(self, mitmdump: Callable[..., Mitmdump], url: str, **options: Any) -> Mitmdump:
        return mitmdump(options={"gateway_otlp": "true", **options}, env={"OTEL_EXPORTER_OTLP_ENDPOINT": url})

    def test_calls_are_told_as_they_end_after_an_outage_and_at_the_end(
        self, mitmdump: Callable[..., Mitmdump], backend: Receiver, path: Path
    ):
        backend.script(Reply(503))
        proxy = self.start(mitmdump, backend.url)
        Call(proxy.url, "/v1/messages", request_body("messages", "fake/text", stream=True)).read()
        proxy.wait_for("going on")
        assert proxy.stdout.count("HTTP 503, trying again") == 1
        assert len(backend.spans) == 1
        headers = {"traceparent": f"00-{'ab' * 16}-{'cd' * 8}-01"}
        Call(proxy.url, "/v1/messages", request_body("messages", "fake/text", stream=True), headers).read()
        assert proxy.stop() == 0
        backend.wait_for(lambda: len(backend.spans) == 2)
        assert_ledger(backend, path)
        assert (backend.spans[1].trace_id, backend.spans[1].parent_id) == ("ab" * 16, "cd" * 8)

    def test_it_ends_even_with_a_proxy_that_is_killed(self, mitmdump: Callable[..., Mitmdump], backend: Receiver):
        proxy = self.start(mitmdump, backend.url)
        Call(proxy.url, "/v1/messages", request_body("messages", "fake/text", stream=True)).read()
        backend.wait_for(lambda: len(backend.spans) == 1)
        (child,) = children(proxy.process.pid)
        # a Ctrl-C in the terminal is for the proxy alone
        assert os.getsid(child) != os.getsid(proxy.process.pid)
        proxy.kill()
        wait_for_end(child)

    def test_an_end_of_its_own_is_told_once_and_harms_nothing(
        self, mitmdump: Callable[..., Mitmdump], backend: Receiver
    ):
        proxy = self.start(mitmdump, backend.url)
        proxy.wait_for("gateway-addon")
        Call(proxy.url, "/v1/messages", request_body("messages", "fake/text", stream=True)).read()
        backend.wait_for(lambda: len(backend.spans) == 1)
        (child,) = children(proxy.process.pid)
        os.kill(child, signal.SIGKILL)
        proxy.wait_for("the export has ended (exit code -9)")
        assert Call(proxy.url, "/v1/messages", request_body("messages", "fake/text", stream=True)).read()
        assert proxy.stop() == 0
        assert proxy.stdout.count("the export has ended") == 1


def children(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def wait_for_end(pid: int) -> None:
    handle = os.pidfd_open(pid)
    assert select.select([handle], [], [], 30)[0]
    os.close(handle)
