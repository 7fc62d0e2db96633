"""Short ways to say what a test is about."""

import functools
import tempfile
from pathlib import Path

from gateway_addon.api.base import Refusal
from gateway_addon.call import Request, read_request
from gateway_addon.config import ReverseTarget, Settings, load
from gateway_addon.gateway.access import Caller
from gateway_addon.gateway.plan import Plan, admit, plan
from gateway_addon.wire import jsontext
from gateway_addon.wire.elements import Memory
from gateway_addon.wire.headers import Headers

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
    memory: Memory | None = None,
) -> Request:
    """A request as a client sends it; a body that is not bytes is written as JSON."""
    raw = body if isinstance(body, bytes) else jsontext.dumps(body).encode()
    return read_request(method, path, Headers(headers or {}), raw, memory)


def planned(
    asked: Request,
    settings: Settings,
    *,
    peer_ip: str = "127.0.0.1",
    reverse_target: ReverseTarget = OPENROUTER,
) -> Plan | Refusal:
    """What becomes of a request from a program on this machine."""
    caller = Caller(peer_ip=peer_ip, reverse_target=reverse_target, host="127.0.0.1:8080")
    admitted = admit(asked, caller, settings)
    return admitted if isinstance(admitted, Refusal) else plan(asked, admitted, reverse_target, settings)
