"""Who may see the page: programs of the user who could read the database anyway, and nothing that came from elsewhere.

A port on this machine is open to each of its users, where the file has mode 0600. And a web page can make the browser
ask it, under a name of its own for this machine (DNS rebinding).
"""

import os
from collections.abc import Awaitable, Callable, MutableMapping
from pathlib import Path
from typing import Any

type Scope = MutableMapping[str, Any]
type Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
type Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
type App = Callable[[Scope, Receive, Send], Awaitable[None]]

# Vega makes functions of a chart's expressions
POLICY = (
    "default-src 'self'; script-src 'self' 'unsafe-inline' 'unsafe-eval'; style-src 'self' 'unsafe-inline';"
    " img-src 'self' data: blob:; object-src 'none'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
)
HEADERS = (
    (b"content-security-policy", POLICY.encode()),
    (b"referrer-policy", b"no-referrer"),
    (b"x-content-type-options", b"nosniff"),
    (b"cache-control", b"no-store"),
)
CONNECTIONS, READINGS = Path("/proc/net/tcp"), 3
"""Where Linux lists all connections, each with its owner, and how often it is read."""


def guarded(app: App, port: int) -> App:
    """The application, for requests to read something, by the name of this machine, from a program of this user."""
    hosts = {f"{name}:{port}".encode() for name in ("127.0.0.1", "localhost")}

    async def run(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await app(scope, receive, send)
            return
        if reason := _reason(scope, hosts):
            start = {"type": "http.response.start", "status": 403, "headers": [(b"content-type", b"text/plain")]}
            await send(start)
            await send({"type": "http.response.body", "body": reason.encode()})
            return

        async def answer(message: MutableMapping[str, Any]) -> None:
            if message["type"] == "http.response.start":
                own = {name for name, _ in HEADERS}
                kept = [(name, value) for name, value in message["headers"] if name.lower() not in own]
                message["headers"] = [*kept, *HEADERS]
            await send(message)

        await app(scope, receive, answer)

    return run


def _reason(scope: Scope, hosts: set[bytes]) -> str | None:
    """Why a request is refused; None: it is not."""
    if scope["method"] not in ("GET", "HEAD"):
        return "this page is for reading only"
    if [value for name, value in scope["headers"] if name == b"host"] not in [[host] for host in hosts]:
        return "this page goes by the name of this machine only"
    if not is_own(*scope["client"]):
        return "this page is for the user who has started it"
    return None


def is_own(address: str, port: int) -> bool:
    """Whether the other end of a connection on 127.0.0.1 is a program of this user, or root's, as far as the system
    tells: Linux does."""
    end = "{3:02X}{2:02X}{1:02X}{0:02X}:{4:04X}".format(*map(int, address.split(".")), port)
    # while others come and go, the list may lack one
    for _ in range(READINGS):
        try:
            lines = CONNECTIONS.read_text().splitlines()[1:]
        except OSError:
            return True
        if owners := [int(fields[7]) for line in lines if (fields := line.split())[1] == end]:
            return all(owner in (0, os.getuid()) for owner in owners)
    return False
