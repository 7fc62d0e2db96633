"""Faults that never cost a byte or a row, and are not to begin with it."""

import hashlib
import json
import random
import signal
import socket
import sqlite3
import stat
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing, suppress
from http.client import HTTPException
from pathlib import Path

import pytest

from gateway_addon.content import Content
from gateway_addon.store.writer import Writer
from tests.client import PATHS, Call, body_of, request_body
from tests.faults.upstream import RawUpstream, exchange, http, post
from tests.gateways import until
from tests.mitmdump import Mitmdump, rows
from tests.provider import Provider
from tests.store.calls import make_record

Start = Callable[..., Mitmdump]
KINDS = list(PATHS)
CLI = (sys.executable, "-m", "gateway_addon")


def ask(url: str, scenario: str = "text", kind: str = "messages") -> bytes:
    return Call(url, PATHS[kind], request_body(kind, f"fake/{scenario}")).read()


@pytest.mark.parametrize("times", [2, pytest.param(50, marks=pytest.mark.long)])
def test_a_proxy_killed_at_any_moment_leaves_a_whole_database(times: int, mitmdump: Start, tmp_path: Path):
    """Each finished call that was written stays, each unfinished one is marked by the next proxy."""
    db, chance = tmp_path / "gateway.db", random.Random(5)
    with ThreadPoolExecutor(4) as pool:
        for _ in range(times):
            proxy = mitmdump()
            calls = [pool.submit(try_to_ask, proxy.url) for _ in range(12)]
            calls[chance.randrange(12)].result()
            proxy.process.send_signal(signal.SIGKILL)
            for call in calls:
                call.result()
            proxy.kill()
    last = mitmdump()
    ask(last.url)
    assert last.stop() == 0
    with closing(sqlite3.connect(db)) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    assert rows(db, "SELECT id FROM requests WHERE outcome = 'in_flight'") == []
    assert subprocess.run([*CLI, "verify", db]).returncode == 0


@pytest.mark.parametrize("command", [("search", "winner"), ("prune", "--max-size", "150000")], ids=["search", "prune"])
@pytest.mark.parametrize("times", [2, pytest.param(20, marks=pytest.mark.long)])
def test_a_command_killed_at_any_moment_leaves_a_whole_database(command: tuple[str, ...], times: int, tmp_path: Path):
    """A prune that ended has taken out calls; each of the others can still be shown."""
    db, chance = tmp_path / "gateway.db", random.Random(5)
    writer = Writer(db, "1")
    for number in range(300):
        text = f"The winner of round {number}. " * 40
        body = json.dumps({"messages": [{"role": "user", "content": text}]}).encode()
        sha256 = hashlib.sha256(body).hexdigest()
        record = make_record(id=f"call-{number}", run_id=writer.run_id, request_sha256=sha256)
        writer.finish(record, Content(user_prompt=text, body=body), wait=True)
    writer.close()
    name, *arguments = command
    for _ in range(times):
        process = subprocess.Popen([*CLI, name, db, *arguments], stdout=subprocess.DEVNULL)
        # from before it opens the file to after its end
        with suppress(subprocess.TimeoutExpired):
            process.wait(chance.uniform(0.2, 1.2))
        process.kill()
        process.wait()
    with closing(sqlite3.connect(db)) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        assert connection.execute("PRAGMA foreign_key_check").fetchall() == []
    assert subprocess.run([*CLI, "verify", db]).returncode == 0
    assert b"winner" in subprocess.run([*CLI, "search", db, "winner"], stdout=subprocess.PIPE).stdout


def try_to_ask(url: str) -> None:
    """It may be killed meanwhile."""
    with suppress(OSError, HTTPException):
        ask(url)


def test_two_proxies_on_one_new_file(provider: Provider, confdir: Path, tmp_path: Path):
    db = tmp_path / "gateway.db"
    with ExitStack() as running, ThreadPoolExecutor(2) as pool:
        made = [Mitmdump(provider.url, confdir=confdir, options={"gateway_db": db}) for _ in range(2)]
        proxies = list(pool.map(running.enter_context, made))
        for proxy in proxies:
            ask(proxy.url)
        assert [proxy.stop() for proxy in proxies] == [0, 0]
    assert len(rows(db, "SELECT DISTINCT run_id FROM requests WHERE outcome = 'complete'")) == 2
    assert {stat.S_IMODE(file.stat().st_mode) for file in tmp_path.glob("gateway.db*")} == {0o600}


@pytest.mark.parametrize("streams", [20, pytest.param(2_000, marks=pytest.mark.long)])
def test_streams_open_at_once(streams: int, provider: Provider, mitmdump: Start, tmp_path: Path):
    proxy = mitmdump()
    calls = [Call(proxy.url, PATHS["messages"], request_body("messages", "fake/held")) for _ in range(streams)]
    assert all(call.response.status == 200 for call in calls)
    provider.gate.open()
    assert len({call.read() for call in calls}) >= 1
    assert proxy.stop() == 0
    assert len(rows(tmp_path / "gateway.db", "SELECT id FROM requests WHERE outcome = 'complete'")) == streams


@pytest.fixture(scope="module")
def pair(session_provider: Provider, confdir: Path, tmp_path_factory: pytest.TempPathFactory):
    """A proxy with the addon, and one without."""
    db = tmp_path_factory.mktemp("held") / "gateway.db"
    with (
        RawUpstream() as upstream,
        Mitmdump(upstream.url, confdir=confdir, options={"gateway_db": db, "connection_strategy": "lazy"}) as proxy,
        Mitmdump(upstream.url, confdir=confdir, addon=None, options={"connection_strategy": "lazy"}) as bare,
    ):
        yield upstream, proxy, bare, db


ODD_ANSWERS = [
    b"",
    b"\r\n",
    b"HTTP/1.1 200 OK\r\n\r\n",
    b"HTTP/1.1 204 No Content\r\n\r\n",
    b"HTTP/1.0 200 OK\r\n\r\ndata: {}\n\n",
    http("200 OK", b""),
    http("200 OK", b"{"),
    http("200 OK", b"[]"),
    http("200 OK", b'{"error":null}'),
    http("200 OK", b"\xff\xfe\x00"),
    http("200 OK", b"{}" * 50_000),
    http("200 OK", b"[" * 50_000),
    http("200 OK", b'{"usage":{"input_tokens":1e999,"output_tokens":-1}}'),
    http("999 What", b"{}"),
    http("200", b"{}"),
    http("200 OK", b"{}", "content-encoding: gzip"),
    http("200 OK", b"{}", "content-encoding: gzip, br, rot13"),
    http("200 OK", b"data: {}\n\ndata", label="text/event-stream"),
    http("200 OK", b"event: error\ndata: null\n\n" * 9, label="text/event-stream"),
    http("200 OK", b"data: [DONE]\n\n" * 9, label="text/event-stream"),
    http("200 OK", b"\0" * 999, label="text/event-stream"),
    http("200 OK", b'data: {"choices":7,"delta":[],"type":{},"usage":"x"}\n\n', label="text/event-stream"),
    http("200 OK", b"{}")[:-1],
    http("200 OK", b"x", "transfer-encoding: identity"),
]
ODD_REQUESTS = [
    b"",
    b"{",
    b"[]",
    b"null",
    b'"x"',
    b"\xff",
    b"{}",
    b'{"model":7}',
    b'{"messages":{}}',
    b'{"input":[[[]]]}',
    b"[" * 50_000,
    b'{"model":"m","messages":[null,7,{"role":[],"content":{}}],"tools":[7,{}],"stream":"x","max_tokens":1e400}',
    b'{"model":"\\ud800","messages":[{"role":"user","content":"\\ud800"}]}',
    b'{"model":"m","input":"%s"}' % (b"x" * 99_999),
]


@pytest.mark.parametrize("kind", KINDS)
def test_odd_answers_arrive_as_without_the_addon(kind: str, pair):
    upstream, proxy, bare, _ = pair
    request = post(PATHS[kind], b'{"model":"m","messages":[],"input":[],"stream":true}')
    for answer in ODD_ANSWERS:
        upstream.answer = lambda head, answer=answer: answer
        with_addon, without = exchange(proxy.url, request), exchange(bare.url, request)
        # a cut body is passed on, where mitmproxy alone would make an error page of it
        assert with_addon == without or b"502 Bad Gateway" in without, answer[:80]


@pytest.mark.parametrize("kind", KINDS)
def test_odd_requests_arrive_as_without_the_addon(kind: str, pair):
    upstream, proxy, bare, db = pair
    upstream.answer = lambda head: http("200 OK", b'{"heard":"you"}')
    for body in ODD_REQUESTS:
        upstream.heads.clear()
        request = post(PATHS[kind], body, f"x-session-id: odd-{kind}")
        assert exchange(proxy.url, request) == exchange(bare.url, request)
        assert upstream.heads[0] == upstream.heads[1]
    recorded = f"SELECT id FROM requests WHERE session_id = 'odd-{kind}'"
    until(lambda: len(rows(db, recorded)) == len(ODD_REQUESTS))


def test_a_client_that_leaves_at_any_offset_has_a_row(provider: Provider, mitmdump: Start, tmp_path: Path):
    proxy, db = mitmdump(), tmp_path / "gateway.db"
    whole = len(ask(proxy.url, "bytewise"))
    offsets = range(0, whole, max(1, whole // 12))
    for offset in offsets:
        call = Call(proxy.url, PATHS["messages"], request_body("messages", "fake/bytewise"))
        assert len(call.response.read(offset)) == offset
        call.leave()
    assert ask(proxy.url)
    until(lambda: len(rows(db, "SELECT id FROM requests WHERE outcome <> 'in_flight'")) == len(offsets) + 2)


@pytest.mark.parametrize("kind", KINDS)
def test_an_upstream_that_dribbles_is_passed_on_byte_by_byte(kind: str, provider: Provider, mitmdump: Start):
    """Nothing of an answer waits for the rest of it."""
    proxy = mitmdump()
    call = Call(proxy.url, PATHS[kind], request_body(kind, "fake/held"))
    first = call.response.read1()
    assert first
    # the upstream says no more until this has arrived
    provider.gate.open()
    assert first + call.read() == body_of(bytes(provider.requests[0].sent))


@pytest.mark.long
def test_a_client_that_reads_slowly_gets_every_byte(pair):
    upstream, proxy, _, _ = pair
    body = b"data: %b\n\n" % (b"x" * 999) * 2_000
    upstream.answer = lambda head: http("200 OK", body, label="text/event-stream")
    host, port = proxy.url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=20) as client:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        client.sendall(post(PATHS["messages"], b'{"model":"m","messages":[],"stream":true}'))
        received = bytearray()
        while piece := client.recv(4096):
            received += piece
    assert received.endswith(body)
