"""The gateway's plan on a mitmproxy flow: nothing else leaves, and no secret stays."""

from hypothesis import example, given
from hypothesis import strategies as st
from mitmproxy import http
from mitmproxy.proxy.mode_specs import ProxyMode
from mitmproxy.test import tflow

from gateway_addon.gateway.access import Caller
from gateway_addon.proxy.forward import Forwarder
from gateway_addon.proxy.keys import Keys
from tests.gateway.helpers import settings

KEY, TOKEN = "key-of-the-provider", "token-of-the-client"
SETTINGS = settings(OPENROUTER_API_KEY=KEY, GATEWAY_TOKEN=TOKEN)
BODY = b'{"model": "anthropic/claude-x", "messages": [{"role": "user", "content": "hi"}]}'


def call(path: bytes, headers: list[tuple[bytes, bytes]], body: bytes = BODY) -> http.HTTPFlow:
    """A live flow on a reverse-mode listener."""
    flow = tflow.tflow()
    flow.live = True
    flow.request.headers = http.Headers(headers)
    flow.request.data.method, flow.request.data.path = b"POST", b"/api/gateway/" + path
    flow.request.raw_content = body
    flow.client_conn.proxy_mode = ProxyMode.parse("reverse:https://openrouter.ai")
    return flow


NAMES = st.sampled_from(
    [
        *(b"authorization", b"x-api-key", b"anthropic-beta", b"content-encoding", b"host", b"session_id"),
        *(b"api-key", b"cookie", b"proxy-authorization", b"user-agent", b"anthropic-version"),
    ]
)
VALUES = st.binary(max_size=20) | st.sampled_from([f"Bearer {TOKEN}".encode(), TOKEN.encode(), b"gzip", b"zstd"])


@given(
    st.sampled_from([b"messages", b"v1/chat/completions", b"responses/x", b"models", b""]),
    st.binary(max_size=20),
    st.lists(st.tuples(NAMES, VALUES), max_size=5),
    st.binary(max_size=60) | st.just(BODY),
)
@example(b"messages", b"?" + TOKEN.encode(), [], BODY)
@example(b"messages", b"? HTTP/1.1\r\nx: ", [], BODY)
@example(b"chat/completions", b"", [(b"authorization", b"x"), (b"authorization", f"Bearer {TOKEN}".encode())], BODY)
def test_whatever_comes_is_planned_sent_and_cleaned_up(
    path: bytes, behind: bytes, headers: list[tuple[bytes, bytes]], body: bytes
) -> None:
    flow = call(path + behind, headers, body)
    keys = Keys()
    forwarder = Forwarder(keys, lambda: None)
    caller = Caller(peer_ip="127.0.0.1", reverse_target=("https", "openrouter.ai", 443), host="localhost:8080")
    forwarder.admit(flow, caller, SETTINGS)
    forwarder.forward(flow, lambda: caller, SETTINGS)
    if flow.response is None:
        assert flow.request.url.startswith("https://openrouter.ai/api/v1/")
        assert "authorization" not in flow.request.headers
        keys.arm(flow)
        assert flow.request.headers["authorization"] == f"Bearer {KEY}"
        assert flow.request.data.path.isascii()
        assert not set(flow.request.data.path) & set(b" \t\r\n")
        assert keys.conceal(flow)
    state = repr(flow.get_state())
    assert KEY not in state
    # not in the body, where somebody may have typed it
    assert TOKEN not in repr([flow.request.path, flow.request.headers])
    if flow.response is None:
        flow.revert()
        assert TOKEN not in repr(flow.request.headers)
