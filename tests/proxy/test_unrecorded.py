"""Which flows without a row are counted, and what is said of them."""

import logging

import pytest
from mitmproxy import http
from mitmproxy.proxy.mode_specs import ProxyMode
from mitmproxy.test import tflow

from gateway_addon.proxy.flows import may_be_unread_call
from gateway_addon.proxy.unrecorded import MAX_PLACES, Unrecorded
from tests.gateway.helpers import settings

SETTINGS = settings('[providers.toy]\napi_url = "http://toy.example:8000/v1"\napi_kinds = ["messages"]')


def asked(url: str, method: str = "POST", mode: str = "regular", **headers: str) -> http.HTTPFlow:
    flow = tflow.tflow(
        req=http.Request.make(
            method, url, b"{}", http.Headers([(name.encode(), value.encode()) for name, value in headers.items()])
        )
    )
    flow.client_conn.proxy_mode = ProxyMode.parse(mode)
    return flow


@pytest.mark.parametrize(
    ("flow", "counts"),
    [
        pytest.param(asked("https://api.x.ai/v1/images/generations"), True, id="a well-known host"),
        pytest.param(asked("https://API.X.AI/v1/images/generations"), True, id="in capitals"),
        pytest.param(asked("http://toy.example:8000/v1/rerank"), True, id="a configured provider"),
        pytest.param(asked("http://toy.example/v1/rerank"), False, id="another port there"),
        pytest.param(asked("http://llm.example/v1/rerank", mode="reverse:http://llm.example"), True, id="the target"),
        pytest.param(asked("http://llm.example/v1/rerank"), False, id="a host that nobody named"),
        pytest.param(asked("https://api.x.ai/v1/images", "GET"), False, id="no POST"),
        pytest.param(asked("https://api.openai.com/v1/realtime", "GET", upgrade="websocket"), True, id="a WebSocket"),
        pytest.param(asked("wss://api.openai.com/v1/responses", "GET", upgrade="websocket"), False, id="a call's own"),
        pytest.param(asked("https://api.openai.com/v1/files"), False, id="no inference"),
    ],
)
def test_where_it_went_and_what_for(flow: http.HTTPFlow, counts: bool):
    assert may_be_unread_call(flow, SETTINGS) is counts
    flow.live = False
    assert may_be_unread_call(flow, SETTINGS) is counts


def test_what_another_addon_or_the_gateway_has_answered_went_nowhere():
    flow = asked("https://api.x.ai/v1/images")
    flow.response = http.Response.make(400)
    assert not may_be_unread_call(flow, SETTINGS)
    flow.live = False
    assert may_be_unread_call(flow, SETTINGS)
    flow.metadata["gateway"] = {"outcome": "rejected"}
    assert not may_be_unread_call(flow, SETTINGS)


def test_a_line_for_each_host(caplog: pytest.LogCaptureFixture):
    unrecorded = Unrecorded()
    for host, path in (("a.example", "/1"), ("b.example", "/1"), ("a.example", "/2\x1b[2J"), ("a.example", "/1")):
        unrecorded.add(host, path)
    with caplog.at_level(logging.INFO):
        unrecorded.report()
    assert caplog.messages == [
        "gateway-addon: 3 calls to a.example were not recorded: /1, /2?[2J",
        "gateway-addon: 1 call to b.example was not recorded: /1",
    ]


def test_names_are_kept_within_bounds(caplog: pytest.LogCaptureFixture):
    unrecorded = Unrecorded()
    with caplog.at_level(logging.INFO):
        for number in range(2 * MAX_PLACES):
            unrecorded.add(f"{number}.example", "/v1/" + "x" * 10_000)
        assert len(caplog.messages) == MAX_PLACES
        unrecorded.report()
    assert caplog.messages[-1] == f"gateway-addon: {MAX_PLACES} calls to other hosts were not recorded: …"
    assert max(map(len, caplog.messages)) < 300
