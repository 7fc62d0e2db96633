"""Recordings that look as if the real hosts had answered: the proxy dials the fake provider instead, so nothing leaves
the machine, and a reader of the file needs no configuration to know which provider a call went to."""

import ssl
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from mitmproxy.certs import CertStore

from tests.mitmdump import ADDON, Mitmdump
from tests.provider import Provider

SCRIPT = """
def server_connect(data):
    data.server.address = ("127.0.0.1", {port})
"""
"""Sends every connection to the fake provider, whatever its name. mitmproxy then knows them by the new address, finds
none of them again, and opens at most five for a client's connection."""


@contextmanager
def recording(
    hosts: Sequence[str],
    flow_file: Path,
    *,
    addon: Path = ADDON,
    options: Mapping[str, object] | None = None,
    env: Mapping[str, str] | None = None,
) -> Iterator[tuple[Provider, list[str]]]:
    """Yield the fake provider, and for each host the URL of a reverse proxy with our addon that stands for it.

    Leaving the block ends the proxy, as `kill` does; `flow_file` then holds what passed. `options` and `env` as of
    `Mitmdump`. AssertionError with the proxy's output if it did not end well.
    """
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        with Provider(tls=_certificate(folder)) as provider:
            script = folder / "detour.py"
            script.write_text(SCRIPT.format(port=provider.url.rpartition(":")[2]))
            own = {"gateway_db": folder / "gateway.db", "ssl_insecure": "true", "connection_strategy": "lazy"}
            with Mitmdump(
                "",
                confdir=folder,
                addon=addon,
                modes=[f"reverse:https://{host}" for host in hosts],
                options={**own, **(options or {})},
                args=["-s", str(script), "-w", str(flow_file)],
                env=env,
            ) as proxy:
                yield provider, proxy.urls
                assert proxy.stop() == 0, proxy.stdout


def _certificate(folder: Path) -> ssl.SSLContext:
    """A certificate for the fake provider, from the authority that mitmproxy makes for itself."""
    CertStore.from_store(folder, "mitmproxy", 2048)
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(folder / "mitmproxy-ca.pem")
    return context
