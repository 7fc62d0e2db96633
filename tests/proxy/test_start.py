"""Clients that call while mitmdump starts, and ends of mitmdump that come without a word to its addons."""

import socket
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.mitmdump import PATIENCE, Mitmdump, free_port, rows, run_mitmdump
from tests.provider import Provider

CLIENTS = 4
BODY = b'{"model":"fake/text","messages":[{"role":"user","content":"hi"}]}'
REQUEST = b"POST /v1/messages HTTP/1.1\r\nhost: localhost\r\ncontent-length: %d\r\n\r\n%s" % (len(BODY), BODY)


@contextmanager
def hammering(port: int, tls: ssl.SSLContext | None) -> Iterator[threading.Semaphore]:
    """Clients that call and call, whether anything listens or not; the semaphore counts good answers."""
    answered, is_over = threading.Semaphore(0), threading.Event()

    def call() -> None:
        while not is_over.is_set():
            try:
                plain = socket.create_connection(("127.0.0.1", port), timeout=PATIENCE)
                with plain, tls.wrap_socket(plain) if tls else plain as connection:
                    connection.sendall(REQUEST)
                    if connection.recv(1 << 16).startswith(b"HTTP/1.1 200"):
                        answered.release()
            except OSError:
                # leaves the processor to the start that it is about
                is_over.wait(0.001)

    threads = [threading.Thread(target=call) for _ in range(CLIENTS)]
    for thread in threads:
        thread.start()
    try:
        yield answered
    finally:
        is_over.set()
        for thread in threads:
            thread.join()


@pytest.mark.parametrize(
    ("client", "starts"), [("plain", 1), *(pytest.param(name, 5, marks=pytest.mark.long) for name in ("plain", "tls"))]
)
def test_who_calls_before_everything_is_up_does_not_end_it(
    client: str, starts: int, secure: Provider, certificate: Path, tmp_path: Path
):
    """mitmproxy needs its certificates for the first request, and makes them after it has begun to listen."""
    upstream, port = secure.url.replace("127.0.0.1", "localhost"), free_port()
    options = {"gateway_db": tmp_path / "gateway.db", "ssl_verify_upstream_trusted_ca": certificate}
    tls = ssl._create_unverified_context() if client == "tls" else None
    for _ in range(starts):
        # a `confdir` that is named would have its certificates made at once
        proxy = Mitmdump(upstream, confdir=None, port=port, options=options, env={"HOME": str(tmp_path)})
        with hammering(port, tls) as answered, proxy:
            proxy.wait_for("messages fake/text")
            for _ in range(CLIENTS):
                assert answered.acquire(timeout=PATIENCE), proxy.stdout
            assert proxy.stop() == 0
            assert "Traceback" not in proxy.stdout
    assert rows(tmp_path / "gateway.db", "SELECT COUNT(*) AS n FROM runs") == [{"n": starts}]


ENDS_THE_START = """
import asyncio, logging
from mitmproxy import ctx
from mitmproxy.proxy.layers.http import HttpRequestHook
from mitmproxy.test.tflow import tflow
from mitmproxy.test.tutils import treq

def load(loader):
    asyncio.get_running_loop().call_soon(call_and_fail)

def call_and_fail():
    request = treq(method=b"POST", path=b"/v1/messages", content=b'{"model":"m","messages":[]}')
    addons = ctx.master.addons
    addons.invoke_addon_sync(addons.get("gateway-addon"), HttpRequestHook(tflow(req=request)))
    logging.error("a script of somebody else's has failed")
"""


def test_an_end_that_comes_without_a_word_leaves_the_rows_and_no_traceback(confdir: Path, tmp_path: Path):
    """mitmproxy exits over any error before it runs; then there is no `done`, and its event loop is gone."""
    other = tmp_path / "other.py"
    other.write_text(ENDS_THE_START)
    ended = run_mitmdump("-s", str(other), confdir=confdir, options={"gateway_db": tmp_path / "gateway.db"})
    assert ended.returncode == 1
    assert "messages m · interrupted" in ended.stdout
    assert "gateway-addon: 1 calls, 1 not complete" in ended.stdout
    assert "Traceback" not in ended.stdout
    assert rows(tmp_path / "gateway.db", "SELECT outcome FROM requests") == [{"outcome": "interrupted"}]
