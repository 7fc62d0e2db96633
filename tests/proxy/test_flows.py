"""Who ended a call, and where it failed: in a real mitmdump, from what the sockets did."""

import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import h2.config
import h2.connection
import h2.events
import pytest

from tests.client import PATHS, Call, request_body
from tests.gateways import tls_address
from tests.mitmdump import http_flows, rows, run_mitmdump
from tests.provider import Provider

Start = Callable[..., Any]
BODY = request_body("messages", "fake/text")


def one(folder: Path, source: str = "%") -> dict[str, Any]:
    (row,) = rows(folder / "gateway.db", f"SELECT * FROM requests WHERE source LIKE '{source}'")
    return row


@contextmanager
def server(answer: Callable[[socket.socket], None]) -> Iterator[str]:
    """The URL of an upstream that does this to each connection, once a request has come."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            while True:
                try:
                    connection, _ = listener.accept()
                except OSError:
                    return
                with connection:
                    connection.recv(65536)
                    answer(connection)

        threading.Thread(target=serve, daemon=True).start()
        try:
            yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        finally:
            # wakes the thread up, which closing does not
            listener.shutdown(socket.SHUT_RDWR)


def drop(connection: socket.socket) -> None:
    """Close without a word."""


def reset(connection: socket.socket) -> None:
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\0\0\0\0\0\0\0")


def cut(connection: socket.socket) -> None:
    head = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
    connection.sendall(head + b"c\r\n: a comment\r\n")


@pytest.fixture
def saved(provider: Provider, mitmdump: Start, tmp_path: Path) -> Path:
    """A flow file with one good call."""
    path = tmp_path / "one.flow"
    proxy = mitmdump(args=["-w", str(path)], options={"gateway_db": tmp_path / "first.db"})
    Call(proxy.url, PATHS["messages"], BODY).read()
    proxy.stop()
    return path


@pytest.mark.parametrize("what", ["refused", drop, reset, cut], ids=["refused", "dropped", "reset", "cut"])
def test_a_call_that_is_sent_again_has_no_client_to_leave(
    what: Any, saved: Path, confdir: Path, tmp_path: Path
) -> None:
    flows = http_flows(saved)
    with server(drop if what == "refused" else what) as url:
        port = 9 if what == "refused" else int(url.split(":")[-1])
        readdress(flows[0], port, tmp_path / "there.flow")
        options = {"gateway_db": tmp_path / "gateway.db"}
        done = run_mitmdump("-n", "-C", str(tmp_path / "there.flow"), confdir=confdir, options=options)
    row = one(tmp_path)
    assert (row["outcome"], row["source"]) == ("upstream_cut", "replay"), done.stdout
    assert row["error_message"]
    assert row["error_type"] == ("connect" if what == "refused" else None)


def readdress(flow: Any, port: int, path: Path) -> None:
    from mitmproxy.io import FlowWriter

    flow.request.port = port
    with path.open("wb") as file:
        FlowWriter(file).add(flow)


class Http2:
    """A client of HTTP/2 over TLS with one call, whose answer it can stop, or hang up on."""

    def __init__(self, url: str, body: bytes) -> None:
        context = ssl.create_default_context()
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        context.set_alpn_protocols(["h2"])
        raw = socket.create_connection(("127.0.0.1", int(url.split(":")[-1])), timeout=20)
        self._socket = context.wrap_socket(raw)
        self._connection = h2.connection.H2Connection(h2.config.H2Configuration(validate_outbound_headers=False))
        self._connection.initiate_connection()
        head = [(":method", "POST"), (":scheme", "https"), (":authority", "localhost"), (":path", PATHS["messages"])]
        # mitmproxy frames no body for an upstream of HTTP/1 by itself
        self._connection.send_headers(1, [*head, ("content-length", str(len(body)))])
        self._connection.send_data(1, body, end_stream=True)
        self._socket.sendall(self._connection.data_to_send())

    def read_some(self) -> None:
        while True:
            events = self._connection.receive_data(self._socket.recv(65536))
            self._socket.sendall(self._connection.data_to_send())
            if any(isinstance(event, h2.events.DataReceived) for event in events):
                return

    def cancel(self) -> None:
        self._connection.reset_stream(1, 8)
        self._socket.sendall(self._connection.data_to_send())

    def hang_up(self) -> None:
        self._socket.close()


@pytest.mark.parametrize("leave", [Http2.cancel, Http2.hang_up])
@pytest.mark.parametrize("when", ["before a byte", "amid the answer"])
def test_a_client_of_http_2_that_leaves_an_upstream_of_http_1(
    when: str, leave: Callable[[Http2], None], provider: Provider, mitmdump: Start, tmp_path: Path
) -> None:
    proxy = mitmdump()
    scenario = "silent" if when == "before a byte" else "held"
    client = Http2(proxy.url, b'{"model": "fake/%b", "stream": true, "messages": []}' % scenario.encode())
    provider.wait_for_request()
    if scenario == "held":
        client.read_some()
    leave(client)
    proxy.wait_for("client_aborted")
    assert proxy.stop() == 0
    row = one(tmp_path)
    assert (row["outcome"], row["error_type"]) == ("client_aborted", None)
    assert row["error_message"]
    client.hang_up()


@pytest.mark.parametrize("scenario", ["cut-chunked", "no-answer"])
def test_an_upstream_of_http_1_that_leaves_a_client_of_http_2(scenario: str, mitmdump: Start, tmp_path: Path) -> None:
    proxy = mitmdump()
    client = Http2(proxy.url, b'{"model": "fake/%b", "stream": true, "messages": []}' % scenario.encode())
    proxy.wait_for("upstream_cut")
    client.hang_up()
    assert proxy.stop() == 0
    assert one(tmp_path)["outcome"] == "upstream_cut"


@pytest.mark.parametrize("hook", ["request", "responseheaders"])
def test_a_call_that_a_script_kills_is_interrupted(hook: str, mitmdump: Start, tmp_path: Path) -> None:
    script = tmp_path / "kill.py"
    script.write_text(f"def {hook}(flow):\n    flow.kill()\n")
    saved = tmp_path / "killed.flow"
    proxy = mitmdump(args=["-s", str(script), "-w", str(saved)])
    client = Call(proxy.url, PATHS["messages"], BODY)
    proxy.wait_for("interrupted killed")
    client.leave()
    assert proxy.stop() == 0
    live = one(tmp_path)
    assert (live["outcome"], live["error_type"], live["source"]) == ("interrupted", "killed", "live")
    assert live["duration_ms"] is not None


class TestWhereItFailed:
    def test_at_the_name(self, mitmdump: Start, tmp_path: Path) -> None:
        self.fails("http://no-such-host.invalid", "dns", mitmdump, tmp_path)

    def test_at_the_connection(self, mitmdump: Start, tmp_path: Path) -> None:
        self.fails("http://127.0.0.1:9", "connect", mitmdump, tmp_path)

    def test_at_the_certificate(self, secure: Provider, mitmdump: Start, tmp_path: Path) -> None:
        self.fails(f"https://{tls_address(secure)}", "tls", mitmdump, tmp_path)

    def test_at_a_server_that_speaks_no_tls(self, mitmdump: Start, tmp_path: Path) -> None:
        with server(lambda connection: connection.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")) as url:
            self.fails(url.replace("http:", "https:"), "tls", mitmdump, tmp_path)

    def test_at_the_greeting(self, mitmdump: Start, tmp_path: Path) -> None:
        with server(drop) as url:
            self.fails(url.replace("http:", "https:"), "tls", mitmdump, tmp_path)

    def test_later_is_none_of_these(self, mitmdump: Start, tmp_path: Path) -> None:
        with server(drop) as url:
            self.fails(url, None, mitmdump, tmp_path)

    def fails(self, upstream: str, where: str | None, mitmdump: Start, tmp_path: Path) -> None:
        proxy = mitmdump(upstream)
        assert Call(proxy.url, PATHS["messages"], BODY).response.status == 502
        assert proxy.stop() == 0
        row = one(tmp_path)
        assert (row["outcome"], row["http_status"], row["error_type"]) == ("upstream_cut", None, where)
        assert row["error_message"]
