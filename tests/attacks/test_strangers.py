"""Whoever can reach a listener: no key, no place on the disk, and nobody else made to wait."""

import gzip
import io
import json
import os
import re
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

import pytest
from mitmproxy.http import HTTPFlow
from mitmproxy.io import FlowWriter

from gateway_addon.captures import notes
from tests.attacks.conftest import Gateway, exchange, request, status
from tests.client import PATHS, Call, request_body
from tests.gateways import CLIENT, KEYS, TOKENS, until
from tests.marks import quick
from tests.mitmdump import Mitmdump, http_flows, rows
from tests.test_gateway import Http2

PAGE = ["host: page.example"]
"""What makes a client on this machine a stranger."""
PATH = "/api/gateway/v1/messages"
BODY = json.dumps(request_body("messages", "fake/text", stream=False)).encode()

HEADS: dict[str, list[str]] = {
    "20,000 names": [*PAGE, *(f"x-{i}: {i}" for i in range(20_000))],
    "20,000 times one name": [*PAGE, *(f"x-a: {i}" for i in range(20_000))],
    "a megabyte of commas": [*PAGE, "authorization: " + "," * 1_000_000],
    "a megabyte of schemes": [*PAGE, "authorization: " + "Bearer " * 150_000],
    "a megabyte of spaces": [*PAGE, "x-api-key: Bearer" + " " * 1_000_000 + "x"],
    "a megabyte of host": ["host: " + "[" * 1_000_000],
    "a megabyte of site": [*PAGE, "sec-fetch-site: " + "none, " * 170_000],
    "a megabyte of encodings": [*PAGE, "content-encoding: " + "gzip, " * 170_000],
    "no UTF-8": [*PAGE, "authorization: Bearer \xff\xfe", "x-\xff: \xff"],
}


@pytest.mark.parametrize("head", HEADS.values(), ids=list(HEADS))
def test_an_odd_head_is_refused_while_others_are_served(head: list[str], gateway: Gateway) -> None:
    answer = exchange(gateway.url, request("POST", PATH, head, BODY))
    assert status(answer) in (0, 400, 401), answer[:200]
    assert gateway.provider.requests == []
    assert Call(gateway.url, PATHS["messages"], BODY).response.status == 200


@pytest.mark.parametrize("head", HEADS.values(), ids=list(HEADS))
def test_the_same_head_on_a_native_call_passes(head: list[str], gateway: Gateway) -> None:
    """With the client's own credentials, whatever they are; what mitmproxy refuses apart."""
    gateway.provider.default = "text"
    answer = exchange(gateway.url, request("POST", PATHS["messages"], head, BODY))
    assert status(answer) in (0, 200, 400, 502), answer[:200]
    assert gateway.spent() == []
    assert Call(gateway.url, PATHS["messages"], BODY).response.status == 200


PATHS_TRIED: dict[str, int] = {
    # refused, however it is written
    "/api/gateway/../gateway/v1/messages": 400,
    "/api/gateway/v1/../v1/messages": 400,
    "/api/gateway/%2e%2e/v1/messages": 400,
    "/api/gateway//v1/messages": 400,
    "/api/gateway/v1//messages": 400,
    "/api/gateway/v1/messages/..;/": 400,
    "/api/gateway/v1/messages;a=b": 400,
    "/api/gateway/v1/messages%00": 400,
    "/api/gateway/v1/messages%2f": 400,
    "/api/gateway/v1/%6dessages": 400,
    "/api/gateway/v1/MESSAGES": 400,
    "/api/gateway/v1/models/..%2f..%2fkeys": 400,
    "/api/gateway/v1/responses/..": 400,
    "/api/gateway\\v1\\messages": 400,
    # no gateway paths: they go to the listener's target as they came, without a key
    "//api/gateway/v1/messages": 200,
    "/./api/gateway/v1/messages": 200,
    "/API/GATEWAY/v1/messages": 200,
    "/%61pi/gateway/v1/messages": 200,
    "/api/gatewayx/v1/messages": 200,
    "/x/api/gateway/v1/messages": 200,
}


@pytest.mark.parametrize("path", PATHS_TRIED)
def test_no_way_of_writing_a_path_spends_a_key(path: str, gateway: Gateway) -> None:
    """Even for a program that may spend it."""
    answer = exchange(gateway.url, request("POST", path, ["host: localhost"], BODY))
    assert status(answer) in (PATHS_TRIED[path], 400, 404), answer[:200]
    assert gateway.spent() == []
    assert [received.path for received in gateway.provider.requests if received.path != path] == []


SMUGGLED = f"POST {PATH} HTTP/1.1\r\nhost: localhost\r\ncontent-length: {len(BODY)}\r\n\r\n".encode() + BODY
CHUNKED = b"0\r\n\r\n" + SMUGGLED
LENGTHS: dict[str, bytes] = {
    "length and chunks": b"content-length: %d\r\ntransfer-encoding: chunked\r\n" % len(CHUNKED),
    "two lengths": b"content-length: 0\r\ncontent-length: %d\r\n" % len(CHUNKED),
    "a list of lengths": b"content-length: 0, %d\r\n" % len(CHUNKED),
    "a signed length": b"content-length: +%d\r\n" % len(CHUNKED),
    "chunks, twice": b"transfer-encoding: chunked\r\ntransfer-encoding: identity\r\n",
    "chunks, in disguise": b"transfer-encoding: xchunked\r\ncontent-length: %d\r\n" % len(CHUNKED),
    "a space before the colon": b"content-length : 0\r\ncontent-length: %d\r\n" % len(CHUNKED),
    "a folded line": b"x: y\r\n content-length: 0\r\ncontent-length: %d\r\n" % len(CHUNKED),
    "a bare line feed": b"x: y\ncontent-length: 0\r\ncontent-length: %d\r\n" % len(CHUNKED),
}


@pytest.mark.parametrize("lengths", LENGTHS.values(), ids=list(LENGTHS))
def test_a_request_inside_a_strangers_is_no_request(lengths: bytes, gateway: Gateway) -> None:
    """Where it is one to mitmproxy, it is the client's own next request, judged like any other; never one of the
    upstream's."""
    sent = b"POST " + PATH.encode() + b" HTTP/1.1\r\nhost: page.example\r\nconnection: close\r\n" + lengths + b"\r\n"
    answer = exchange(gateway.url, sent + CHUNKED)
    assert b" 200 " not in answer.split(b"\r\n")[0]
    assert gateway.spent() == []


def test_a_body_that_http_2_frames_is_no_request_to_an_upstream_of_http_1(gateway: Gateway) -> None:
    headers, _ = Http2(gateway.url).post(PATH, request_body("messages", "fake/text", stream=False))
    assert headers[":status"] == "200"
    (received,) = gateway.provider.requests
    assert received.body == BODY


def test_an_absolute_url_names_no_other_target(gateway: Gateway) -> None:
    for url in (f"http://page.example{PATH}", f"https://page.example:1{PATH}", f"http://localhost{PATH}"):
        exchange(gateway.url, request("POST", url, ["host: page.example"], BODY))
    assert gateway.spent() == []


def test_the_proxys_own_connections_are_strangers(gateway: Gateway) -> None:
    """A client of the forward proxy has it call the gateway: the peer is this machine, and nobody knows for whom.

    mitmproxy itself refuses this for the names that it knows, as they are commonly written.
    """
    host = f"LocalHost:{gateway.url.split(':')[-1]}"
    for method, path, body in (("POST", PATH, BODY), ("GET", "/api/gateway/models", b"")):
        through = f"http://{host}{path}"
        refused = exchange(gateway.forward, request(method, through, [f"host: {host}"], body))
        assert status(refused) == 401
        assert gateway.provider.requests == []
        shown = [f"host: {host}", f"authorization: Bearer {CLIENT}"]
        assert status(exchange(gateway.forward, request(method, through, shown, body))) == 200
        gateway.provider.reset()
    # and a tunnel through it
    tunnel = f"CONNECT {host} HTTP/1.1\r\nhost: {host}\r\n\r\n".encode()
    assert b"401" in exchange(gateway.forward, tunnel + request("POST", PATH, [f"host: {host}"], BODY))
    assert gateway.provider.requests == []


BIG = 2_000_000
FLOOD = 30


@pytest.fixture(scope="module")
def flooded(
    session_provider, config: Path, confdir: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Path, str]]:
    """The folder and output of a gateway that strangers have sent large and compressed bodies."""
    folder = tmp_path_factory.mktemp("flooded")
    options = {"gateway_db": folder / "gateway.db", "gateway_config": config}
    with Mitmdump(
        session_provider.url, confdir=confdir, options=options, args=["-w", str(folder / "all.flow")], env=KEYS | TOKENS
    ) as proxy:
        proxy.wait_for("gateway-addon 0")
        marked = b"MARK" * (BIG // 4)
        for _ in range(3):
            assert status(exchange(proxy.url, request("POST", PATH, PAGE, marked))) == 401
        bomb = gzip.compress(bytes(30_000_000))
        for i in range(FLOOD - 3):
            head = [*PAGE, "content-encoding: gzip", f"x-api-key: wrong-{i}"]
            assert status(exchange(proxy.url, request("POST", PATH, head, bomb))) == 401
        assert proxy.stop() == 0
        yield folder, proxy.stdout


def test_a_strangers_body_is_stored_nowhere(flooded: tuple[Path, str]) -> None:
    folder, _ = flooded
    assert sum(path.stat().st_size for path in folder.iterdir()) < BIG
    assert not any(b"MARKMARK" in path.read_bytes() for path in folder.iterdir())
    assert {flow.request.raw_content for flow in http_flows(folder / "all.flow")} == {None}


def test_strangers_get_five_rows_a_second_and_the_rest_are_counted(flooded: tuple[Path, str]) -> None:
    folder, printed = flooded
    found = rows(folder / "gateway.db", "SELECT started_at, outcome, http_status FROM requests ORDER BY started_at")
    assert {(row["outcome"], row["http_status"]) for row in found} == {("rejected", 401)}
    times = [datetime.fromisoformat(row["started_at"]) for row in found]
    # by when they ended; when they began is a little off
    assert all((later - sooner).total_seconds() > 0.5 for sooner, later in zip(times, times[5:], strict=False))
    more = re.search(r"(\d+) more refused without a row", printed)
    assert len(found) + (int(more[1]) if more else 0) == FLOOD
    assert len([line for line in printed.splitlines() if "rejected 401" in line]) <= len(found)


NAMESPACE = f"strangers{os.getpid()}"
INSIDE = """
import socket, sys
address, port, sent = sys.argv[1], int(sys.argv[2]), sys.stdin.buffer.read()
with socket.create_connection((address, port), timeout=20) as connection:
    connection.sendall(sent)
    while data := connection.recv(65536):
        sys.stdout.buffer.write(data)
"""


@pytest.fixture
def elsewhere() -> Iterator[tuple[str, list[str]]]:
    """An address of this machine in a network that it shares with another "machine", and how a command runs there."""
    if os.geteuid() or not shutil.which("ip"):
        pytest.skip("only root can make a network of its own")
    near, far = f"v{os.getpid() % 10_000}a", f"v{os.getpid() % 10_000}b"
    commands = [
        f"netns add {NAMESPACE}",
        f"link add {near} type veth peer name {far} netns {NAMESPACE}",
        f"addr add 198.51.100.1/24 dev {near}",
        f"link set {near} up",
        f"-n {NAMESPACE} addr add 198.51.100.2/24 dev {far}",
        f"-n {NAMESPACE} link set {far} up",
    ]
    try:
        for command in commands:
            if subprocess.run(["ip", *command.split()], capture_output=True, check=False).returncode:
                pytest.skip("this machine lets nobody make a network of its own")
        yield "198.51.100.1", ["ip", "netns", "exec", NAMESPACE, sys.executable, "-c", INSIDE]
    finally:
        subprocess.run(["ip", "link", "del", near], capture_output=True, check=False)
        subprocess.run(["ip", "netns", "del", NAMESPACE], capture_output=True, check=False)


@pytest.mark.long
def test_another_machine_spends_no_key_whatever_it_says(
    elsewhere: tuple[str, list[str]], provider, config: Path, confdir: Path, tmp_path: Path
) -> None:
    address, run = elsewhere
    options = {"gateway_db": tmp_path / "gateway.db", "gateway_config": config}
    listen = [f"--mode=reverse:{provider.url}@{address}:0"]
    # the first mode of these tests' mitmdump listens on loopback
    with Mitmdump(provider.url, confdir=confdir, options=options, args=listen, env=KEYS | TOKENS) as proxy:
        proxy.wait_for(f"listening at {address}:")
        port = re.search(rf"listening at {re.escape(address)}:(\d+)", proxy.stdout)
        assert port

        def ask(headers: list[str]) -> int:
            sent = request("POST", PATH, headers, BODY)
            there = subprocess.run([*run, address, port[1]], input=sent, capture_output=True, timeout=30, check=True)
            return status(there.stdout)

        claims = ["x-forwarded-for: 127.0.0.1", "forwarded: for=127.0.0.1", "x-real-ip: ::1", "via: localhost"]
        for host in (address, "localhost", "127.0.0.1"):
            assert ask([f"host: {host}", *claims]) == 401
        assert provider.requests == []
        assert ask([f"host: {address}", f"x-api-key: {CLIENT}"]) == 200
        until(lambda: len(rows(tmp_path / "gateway.db", "SELECT id FROM requests WHERE outcome = 'complete'")) == 1)


LARGE = "a" * 50_000
LARGE_HEADS: dict[str, list[str]] = {
    "headers": [*PAGE, *(f"{name}: {LARGE}" for name in ("traceparent", "user-agent", "x-session-id", "x-api-key"))],
    "many headers": [*PAGE, *(f"x-{i}: {i}" for i in range(2000))],
    "a header many times": [*PAGE, *["authorization: Bearer wrong"] * 2000],
    "connection": [*PAGE, *[f"connection: {LARGE}"] * 5],
    "host": [f"host: {LARGE}"],
    "nothing else": PAGE,
}
LARGEST_FLOW = 4000


@pytest.mark.parametrize("head", LARGE_HEADS.values(), ids=list(LARGE_HEADS))
@pytest.mark.parametrize("method", quick(["POST", "HEAD", "A" * 5000]))
def test_a_refused_stranger_writes_little_whatever_the_head(head: list[str], method: str, gateway: Gateway) -> None:
    """Each is answered as ever; mitmproxy saves every flow, and some have a row."""
    before = len(http_flows(gateway.flows))
    for path in (PATH, f"{PATH}?{LARGE}", f"/api/gateway/{LARGE}"):
        for _ in range(4):
            answer = exchange(gateway.url, request(method, path, head, BODY))
            assert status(answer) == (401 if path.startswith(PATH) and method == "POST" else 400)
            body = answer.split(b"\r\n\r\n", 1)[1]
            assert body == b"" if method == "HEAD" else json.loads(body)["error"]
    until(lambda: len(http_flows(gateway.flows)) == before + 12)
    sizes = [size_of(flow) for flow in http_flows(gateway.flows)[before:]]
    assert max(sizes) < LARGEST_FLOW
    assert gateway.spent() == []


def test_what_was_cut_is_marked_and_the_rest_stays(gateway: Gateway) -> None:
    before = len(http_flows(gateway.flows))
    for path, head in ((PATH, [*PAGE, "x-b: 1"]), (f"{PATH}?{LARGE}", [*PAGE, f"x-a: {LARGE}"])):
        assert status(exchange(gateway.url, request("POST", path, head, BODY))) == 401
    until(lambda: len(http_flows(gateway.flows)) == before + 2)
    whole, cut = http_flows(gateway.flows)[before:]
    assert notes.CUT not in whole.metadata
    assert (whole.request.path, whole.request.headers["x-b"]) == (PATH, "1")
    assert cut.metadata[notes.CUT] == ["path", "headers"]
    assert cut.request.path == f"{PATH}?{LARGE}"[: notes.MAX_PATH]
    assert "x-a" not in cut.request.headers


def test_a_stranger_who_leaves_before_the_body_is_complete_writes_little_too(gateway: Gateway) -> None:
    before = len(http_flows(gateway.flows))
    sent = request("POST", f"{PATH}?{LARGE}", [*PAGE, f"x-a: {LARGE}"], BODY).replace(
        b"content-length: %d" % len(BODY), b"content-length: 100000"
    )
    with socket.create_connection(("127.0.0.1", int(gateway.url.split(":")[-1])), timeout=20) as connection:
        connection.sendall(sent)
        connection.shutdown(socket.SHUT_WR)
        while connection.recv(65536):
            pass
    until(lambda: len(http_flows(gateway.flows)) == before + 1)
    (flow,) = http_flows(gateway.flows)[before:]
    assert size_of(flow) < LARGEST_FLOW


def test_a_connection_goes_on_behind_a_refusal(gateway: Gateway) -> None:
    """What is cut from the head is not what tells whether it does."""
    sent = request("POST", f"{PATH}?{LARGE}", [*PAGE, f"x-a: {LARGE}"], BODY).replace(b"connection: close\r\n", b"")
    answer = exchange(gateway.url, sent + sent + request("POST", PATH, PAGE, BODY))
    assert answer.count(b"HTTP/1.1 401 ") == 3


def size_of(flow: HTTPFlow) -> int:
    file = io.BytesIO()
    FlowWriter(file).add(flow)
    return len(file.getvalue())
