"""A server that answers with the bytes it is told, for what no honest provider sends."""

import socket
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Self


class RawUpstream:
    """`with RawUpstream() as upstream:` answers each request on `upstream.url` by `upstream.answer(head)`, bytes as
    they are, and closes the connection. `heads` are the requests' heads so far."""

    def __init__(self) -> None:
        self.answer: Callable[[bytes], bytes] = lambda head: b""
        self.heads: list[bytes] = []
        self._server = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._server.getsockname()[1]}"

    def __enter__(self) -> Self:
        threading.Thread(target=self._serve, name="raw upstream", daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.close()

    def _serve(self) -> None:
        with suppress(OSError):
            while True:
                connection, _ = self._server.accept()
                threading.Thread(target=self._answer, args=[connection], daemon=True).start()

    def _answer(self, connection: socket.socket) -> None:
        with connection, suppress(OSError):
            connection.settimeout(20)
            received = b""
            while b"\r\n\r\n" not in received:
                received += connection.recv(65536)
            head, _, body = received.partition(b"\r\n\r\n")
            fields = dict(line.lower().split(b": ", 1) for line in head.split(b"\r\n")[1:] if b": " in line)
            while len(body) < int(fields.get(b"content-length", b"0")):
                body += connection.recv(65536)
            self.heads.append(head)
            connection.sendall(self.answer(head))
            connection.shutdown(socket.SHUT_WR)
            # until the proxy has taken it
            connection.recv(1)


def http(status: str, body: bytes, *headers: str, label: str = "application/json", end: bytes = b"") -> bytes:
    """An answer whose body ends with its length."""
    lines = [f"HTTP/1.1 {status}", f"content-type: {label}", f"content-length: {len(body)}", *headers]
    return "\r\n".join([*lines, "", ""]).encode() + body + end


def exchange(url: str, request: bytes) -> bytes:
    """Send a request as it is and return all that comes back until the connection ends."""
    host, port = url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=20) as client:
        client.sendall(request)
        received = b""
        with suppress(ConnectionError):
            while piece := client.recv(65536):
                received += piece
    return received


def post(path: str, body: bytes, *headers: str) -> bytes:
    """The bytes of a request after which the connection closes."""
    lines = [f"POST {path} HTTP/1.1", "host: test", f"content-length: {len(body)}", "connection: close", *headers]
    return "\r\n".join([*lines, "", ""]).encode() + body


def get(path: str, *headers: str) -> bytes:
    return "\r\n".join([f"GET {path} HTTP/1.1", "host: test", "connection: close", *headers, "", ""]).encode()
