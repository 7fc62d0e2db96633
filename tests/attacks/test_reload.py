"""A script that breaks, disappears or comes back while calls are under way: the addon stays, once, and fails closed."""

import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.attacks.conftest import exchange, request, status
from tests.client import Call, body_of, request_body
from tests.gateways import CLIENT, KEYS, TOKENS, until
from tests.mitmdump import ADDON, http_flows, rows
from tests.provider import Provider

PATH = "/api/gateway/v1/messages"
GOOD = f"import sys\nsys.path.insert(0, {str(ADDON.parent)!r})\n{ADDON.read_text()}"
BROKEN = {
    "a syntax error": "def (",
    "an import error": "import no_such_module_anywhere",
    "an error at its end": f"{GOOD}\nraise RuntimeError('half way')",
}
STAYS = "its script cannot be loaded any more"


class Script:
    """A script of mitmdump's, newer each time it is written: mitmproxy looks at the time."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._time = time.time()
        self.write(GOOD)

    def write(self, text: str) -> None:
        new = self.path.with_suffix(".new")
        new.write_text(text)
        self._time += 10
        os.utime(new, (self._time, self._time))
        new.replace(self.path)


@pytest.mark.long
def test_a_script_that_breaks_never_opens_the_gateway(
    provider: Provider, mitmdump: Callable, config: Path, tmp_path: Path
) -> None:
    script = Script(tmp_path / "addon.py")
    saved = tmp_path / "all.flow"
    proxy = mitmdump(addon=script.path, options={"gateway_config": config}, args=["-w", str(saved)], env=KEYS | TOKENS)
    proxy.wait_for("gateway-addon 0")
    calls = 0

    def check() -> None:
        """The gateway still sends calls with the key, refuses pages, and no token of a client's goes anywhere."""
        nonlocal calls
        body = request_body("messages", "fake/text")
        call = Call(proxy.url, PATH, body, {"x-api-key": CLIENT})
        assert call.response.status == 200
        assert call.read()
        assert status(exchange(proxy.url, request("GET", "/api/gateway/models", ["host: page.example"]))) == 401
        calls += 1

    def under_way() -> Call:
        nonlocal calls
        calls += 1
        call = Call(proxy.url, PATH, request_body("messages", "fake/held"), {"x-api-key": CLIENT})
        assert call.response.read1()
        return call

    def printed(text: str, times: int) -> None:
        until(lambda: proxy.stdout.count(text) == times)

    streams = [under_way()]
    check()
    for broken, text in enumerate(BROKEN.values(), 1):
        script.write(text)
        printed(STAYS, broken)
        check()
        streams.append(under_way())
        script.write(GOOD)
        printed("Loading script", 2 * broken + 1)
        check()
    script.path.unlink()
    printed(STAYS, len(BROKEN) + 1)
    check()
    script.write(GOOD)
    check()
    provider.gate.open()
    for call in streams:
        assert call.read()
    assert proxy.stop() == 0

    sent = [received for received in provider.requests if received.path.endswith("/messages")]
    assert len(sent) == calls
    assert {received.headers["authorization"] for received in sent} == {f"Bearer {KEYS['TOY_KEY']}"}
    assert not any(CLIENT in f"{received.headers}" for received in provider.requests)
    found = rows(tmp_path / "gateway.db", "SELECT outcome FROM requests")
    assert [row["outcome"] for row in found] == ["complete"] * calls
    assert len(rows(tmp_path / "gateway.db", "SELECT * FROM runs")) == 1
    secrets = [secret.encode() for secret in (*KEYS.values(), *TOKENS.values())]
    assert not any(secret in saved.read_bytes() for secret in secrets)
    assert len(http_flows(saved)) == len(provider.requests) + proxy.stdout.count("<< 401")
    assert proxy.stdout.count(" in ? out") + proxy.stdout.count("messages fake/") >= calls


def test_the_answer_of_a_call_under_way_is_whole(
    provider: Provider, mitmdump: Callable, config: Path, tmp_path: Path
) -> None:
    script = Script(tmp_path / "addon.py")
    proxy = mitmdump(addon=script.path, options={"gateway_config": config}, env=KEYS)
    proxy.wait_for("gateway-addon 0")
    call = Call(proxy.url, PATH, request_body("messages", "fake/held"))
    first = call.response.read1()
    script.write(BROKEN["a syntax error"])
    proxy.wait_for(STAYS)
    provider.gate.open()
    assert first + call.read() == body_of(bytes(provider.requests[0].sent))
    proxy.wait_for("messages fake/held")
    assert proxy.stop() == 0
    assert "1 calls, 0 not complete" in proxy.stdout
