"""One mitmdump for all attacks of a module: a gateway with keys to spend, and what strangers can reach of it."""

import socket
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.gateways import KEYS, TOKENS, tls_address
from tests.mitmdump import Mitmdump
from tests.provider import Provider
from tests.provider.server import Received


@dataclass
class Gateway:
    """A gateway under attack. `url` is its listener; the target of `native` speaks TLS; `forward`: a forward proxy."""

    proxy: Mitmdump
    provider: Provider
    secure: Provider
    db: Path
    flows: Path

    @property
    def url(self) -> str:
        return self.proxy.urls[0]

    @property
    def native(self) -> str:
        return self.proxy.urls[1]

    @property
    def forward(self) -> str:
        return self.proxy.urls[2]

    def spent(self) -> list[Received]:
        """The requests that reached a provider with a key or a token of the gateway's."""
        secrets = [*KEYS.values(), *TOKENS.values()]
        return [
            received
            for received in (*self.provider.requests, *self.secure.requests)
            if any(secret in f"{received.path} {received.headers}" for secret in secrets)
        ]


@pytest.fixture(scope="module")
def running(
    session_provider: Provider,
    tls_provider: Provider,
    config: Path,
    certificate: Path,
    confdir: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Gateway]:
    folder = tmp_path_factory.mktemp("attacked")
    db, flows = folder / "gateway.db", folder / "all.flow"
    with Mitmdump(
        "",
        modes=[f"reverse:{session_provider.url}", f"reverse:https://{tls_address(tls_provider)}", "regular"],
        confdir=confdir,
        options={"gateway_db": db, "gateway_config": config, "ssl_verify_upstream_trusted_ca": certificate},
        args=["-w", str(flows)],
        env=KEYS | TOKENS,
    ) as proxy:
        proxy.wait_for("gateway-addon 0")
        yield Gateway(proxy, session_provider, tls_provider, db, flows)


@pytest.fixture
def gateway(running: Gateway, provider: Provider, secure: Provider) -> Gateway:
    """The running gateway, in front of providers that have seen nothing yet."""
    return running


def exchange(url: str, sent: bytes, host: str = "127.0.0.1") -> bytes:
    """What these bytes are answered until the connection ends, which must be soon."""
    with socket.create_connection((host, int(url.split(":")[-1])), timeout=20) as connection:
        connection.sendall(sent)
        try:
            return b"".join(iter(lambda: connection.recv(65536), b""))
        except ConnectionResetError:
            return b""


def request(method: str, path: str, headers: list[str], body: bytes = b"", version: str = "1.1") -> bytes:
    """A request as it stands on the wire, after which the connection ends; `headers` are its lines."""
    lines = [f"{method} {path} HTTP/{version}", *headers, f"content-length: {len(body)}", "connection: close"]
    return "\r\n".join(lines).encode("latin-1") + b"\r\n\r\n" + body


def status(answer: bytes) -> int:
    """The status of an answer; 0 if there is none."""
    words = answer.split(b" ", 2)
    return int(words[1]) if answer.startswith(b"HTTP/1.1 ") else 0
