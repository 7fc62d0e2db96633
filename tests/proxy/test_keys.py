"""A request that is sent again is given a key only if it goes to that key's provider, whatever it says of itself."""

import pytest
from mitmproxy import http
from mitmproxy.test import tflow

from gateway_addon.proxy.keys import hide_own_tokens, todays_key
from tests.gateway.helpers import settings

KEY = "key-of-the-provider"
SETTINGS = settings(OPENROUTER_API_KEY=KEY)
URL = "https://openrouter.ai/api/v1/messages"


@pytest.mark.parametrize(
    ("url", "host", "held", "expected"),
    [
        pytest.param(URL, "openrouter.ai", "{gateway:openrouter}", True, id="the provider"),
        pytest.param(URL, "stranger.example", "{gateway:openrouter}", False, id="another host header"),
        pytest.param(URL, "openrouter.ai, stranger.example", "{gateway:openrouter}", False, id="two host headers"),
        pytest.param(
            "https://stranger.example/api/v1/messages", None, "{gateway:openrouter}", False, id="another host"
        ),
        pytest.param("https://openrouter.ai:8443/api/v1/messages", None, "{gateway:openrouter}", False, id="port"),
        pytest.param("http://openrouter.ai:443/api/v1/messages", None, "{gateway:openrouter}", False, id="no TLS"),
        pytest.param("https://openrouter.ai/api/v10/messages", None, "{gateway:openrouter}", False, id="another path"),
        pytest.param(URL, None, "{gateway:openai}", False, id="another provider's"),
        pytest.param(URL, None, "{gateway:nobody}", False, id="nobody's"),
        pytest.param(URL, None, "Bearer of-the-client", False, id="the client's own"),
    ],
)
def test_todays_key_is_given_to_its_provider_only(url: str, host: str | None, held: str, expected: bool) -> None:
    flow = tflow.tflow(req=http.Request.make("POST", url, b"", http.Headers(authorization=held)))
    if host is not None:
        flow.request.headers["host"] = host
    found = todays_key(flow, SETTINGS)
    assert (found and found.keys) == ({"authorization": f"Bearer {KEY}"} if expected else None)
    assert flow.request.headers.get("authorization") == (None if expected else held)


def test_todays_key_finds_a_provider_however_its_address_is_written() -> None:
    odd = settings('[providers.openrouter]\napi_url = "https://OpenRouter.ai:443/api/v1/"', OPENROUTER_API_KEY=KEY)
    flow = tflow.tflow(req=http.Request.make("POST", URL, b"", http.Headers(authorization="{gateway:openrouter}")))
    assert todays_key(flow, odd)


TOKENS = settings(GATEWAY_TOKEN="token-of-the-client", GATEWAY_ADMIN_TOKEN="token-of-the-admin")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("Authorization", "Bearer token-of-the-client"),
        ("x-api-key", "token-of-the-admin"),
        ("Api-Key", "token-of-the-client"),
        ("x-goog-api-key", "token-of-the-admin"),
        ("proxy-authorization", "Basic OnRva2VuLW9mLXRoZS1jbGllbnQ="),
        ("cookie", "a=1; t=token-of-the-client"),
        ("referer", "http://x/?k=token%2Dof%2dthe-client"),
        ("user-agent", "token-of-the-client"),
        ("token-of-the-client", "x"),
    ],
)
def test_no_header_of_a_flow_keeps_a_token_of_ours(name: str, value: str) -> None:
    headers = http.Headers([(name.encode(), value.encode()), (b"x-other", b"stays"), (b"content-length", b"0")])
    flow = tflow.tflow(req=http.Request.make("POST", URL, b"", headers))
    flow.request.headers.add("cookie", "second=1")
    hide_own_tokens(flow, TOKENS)
    assert flow.request.headers.get_all(name) == ([] if "token" in name else ["{gateway:token}"])
    assert (flow.request.headers["x-other"], flow.request.headers["content-length"]) == ("stays", "0")


@pytest.mark.parametrize("written", ["token-of-the-client", "token%2Dof%2dthe-client", "%74oken-of-the%252dclient"])
def test_no_url_of_a_flow_keeps_one(written: str) -> None:
    flow = tflow.tflow(req=http.Request.make("POST", f"{URL}?a=1&k={written}&b=%2d"))
    hide_own_tokens(flow, TOKENS)
    assert flow.request.path == "/api/v1/messages?a=1&k={gateway:token}&b=%2d"
