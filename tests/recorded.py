"""Every scenario of the fake provider, recorded live: what several tests look at from different sides."""

from pathlib import Path

from tests.client import PATHS, Call, body_of, request_body
from tests.mitmdump import Mitmdump
from tests.provider import SCENARIOS, Provider

APART = {"silent", "head-only", "held", "huge-event"}
"""Scenarios that need a test of their own."""
ONE_KIND = {
    "queued": ["responses"],
    "empty-output": ["responses"],
    "usage-in-choice": ["chat_completions"],
    "one-index": ["chat_completions"],
    "response-done": ["responses"],
    "run-by-the-server": ["responses", "messages"],
}
"""Scenarios that are the same as another for the other kinds."""
CASES = [
    (kind, scenario, stream)
    for scenario in SCENARIOS
    if scenario not in APART
    for kind in ONE_KIND.get(scenario, PATHS)
    for stream in (True, False)
]


def record(folder: Path, provider: Provider, confdir: Path) -> None:
    """Make the calls of `CASES`, in order, through one mitmdump, and leave `gateway.db` and `all.flow` in a folder.

    The bytes of every answer are compared on the way. The header `x-case` says which case a request is.
    """
    provider.reset()
    arguments = ["-w", str(folder / "all.flow"), "--flow-detail", "0"]
    options = {"gateway_db": folder / "gateway.db"}
    with Mitmdump(provider.url, confdir=confdir, args=arguments, options=options) as proxy:
        for kind, scenario, stream in CASES:
            headers = {"x-case": f"{kind} {scenario} {stream}"}
            call = Call(proxy.url, PATHS[kind], request_body(kind, f"fake/{scenario}", stream=stream), headers)
            if scenario == "no-answer":
                assert call.response.status == 502
                continue
            received = call.read()
            call.leave()
            sent = provider.requests[-1]
            assert sent.headers["x-case"] == headers["x-case"]
            assert received == body_of(bytes(sent.sent)), headers
        assert proxy.stop() == 0
        assert "Traceback" not in proxy.stdout
        assert "failed" not in proxy.stdout
