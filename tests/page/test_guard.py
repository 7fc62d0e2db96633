"""Who may see the page."""

import asyncio
import os
import socket
from collections.abc import MutableMapping
from pathlib import Path
from typing import Any

import pytest

from gateway_addon.page import guard
from gateway_addon.page.guard import guarded, is_own


async def _app(scope: Any, receive: Any, send: Any) -> None:
    headers = [(b"content-type", b"text/html"), (b"Referrer-Policy", b"unsafe-url")]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": b"prompts"})


def ask(method: str = "GET", headers: Any = ((b"host", b"127.0.0.1:80"),)) -> tuple[int, dict[bytes, bytes], bytes]:
    sent: list[MutableMapping[str, Any]] = []

    async def send(message: MutableMapping[str, Any]) -> None:
        sent.append(message)

    async def receive() -> MutableMapping[str, Any]:
        return {}

    scope = {"type": "http", "method": method, "headers": [*headers], "client": ("127.0.0.1", 9)}

    async def answered() -> None:
        await guarded(_app, 80)(scope, receive, send)

    asyncio.run(answered())
    return sent[0]["status"], dict(sent[0]["headers"]), sent[1]["body"]


@pytest.fixture(autouse=True)
def _own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(guard, "is_own", lambda address, port: True)


def test_it_is_shown_with_headers_by_which_a_browser_asks_nobody_else():
    status, headers, body = ask()
    assert (status, body) == (200, b"prompts")
    assert b"default-src 'self'" in headers[b"content-security-policy"]
    assert headers[b"referrer-policy"] == b"no-referrer"
    assert headers[b"content-type"] == b"text/html"
    assert b"Referrer-Policy" not in headers


@pytest.mark.parametrize(
    ("method", "headers"),
    [
        ("POST", [(b"host", b"127.0.0.1:80")]),
        ("GET", [(b"host", b"evil.example:80")]),
        ("GET", [(b"host", b"127.0.0.1:81")]),
        ("GET", [(b"host", b"127.0.0.1")]),
        ("GET", [(b"host", b"127.0.0.1:80"), (b"host", b"evil.example")]),
        ("GET", []),
    ],
)
def test_what_comes_from_elsewhere_is_refused(method: str, headers: Any):
    status, _, body = ask(method, headers)
    assert status == 403
    assert b"prompts" not in body


def test_other_users_are_refused(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(guard, "is_own", lambda address, port: False)
    assert ask()[0] == 403


@pytest.mark.skipif(not guard.CONNECTIONS.exists(), reason="the system does not say whose a connection is")
def test_a_connection_has_an_owner(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    with socket.create_server(("127.0.0.1", 0)) as server, socket.create_connection(server.getsockname()) as client:
        end = client.getsockname()
        assert is_own(*end)
        header, *lines = guard.CONNECTIONS.read_text().splitlines()
        # an earlier connection from the same port, to another one, may still be listed
        ports = f"{end[1]:04X}", f"{server.getsockname()[1]:04X}"
        (line,) = [line for line in lines if tuple(at[-4:] for at in line.split()[1:3]) == ports]
        fields = line.split()
        assert fields[7] == str(os.getuid())
        another = tmp_path / "tcp"
        another.write_text("\n".join([header, " ".join([*fields[:7], "12345", *fields[8:]])]))
        monkeypatch.setattr(guard, "CONNECTIONS", another)
        assert not is_own(*end)
        another.write_text("\n".join([header, line.replace(fields[1], "0100007F:0000")]))
        assert not is_own(*end)


def test_where_the_system_does_not_tell_the_address_has_to_do(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    monkeypatch.setattr(guard, "CONNECTIONS", tmp_path / "none")
    assert is_own("127.0.0.1", 1)
