"""Short ways to say what a test is about."""

import functools
import tempfile
from pathlib import Path

from gateway_addon.config import Settings, load
from gateway_addon.gateway import GatewayRequest
from gateway_addon.wire import jsontext

OPENROUTER = ("https", "openrouter.ai", 443)


@functools.cache
def settings(text: str = "", **env: str) -> Settings:
    """The settings of a `gateway.toml` given as text, with these variables set."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "gateway.toml")
        path.write_text(text, "utf-8")
        return load(path, env)


def request(
    path: str = "/api/gateway/chat/completions",
    body: object = None,
    *,
    method: str = "POST",
    headers: dict[str, str] | None = None,
    peer_ip: str = "127.0.0.1",
    reverse_target: tuple[str, str, int] = OPENROUTER,
) -> GatewayRequest:
    """A request as a local client sends it; a body that is not bytes is written as JSON."""
    return GatewayRequest(
        method=method,
        path=path,
        headers=headers or {},
        body=body if isinstance(body, bytes) else jsontext.dumps(body).encode(),
        peer_ip=peer_ip,
        reverse_target=reverse_target,
    )
