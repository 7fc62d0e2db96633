"""A page in a browser on this machine, which anybody may have written, spends no key; a program here does."""

import json
import socket
import ssl

import h2.config
import h2.connection
import h2.events
import pytest

from tests.attacks.conftest import Gateway, exchange, request, status
from tests.client import request_body
from tests.gateways import CLIENT, KEYS, tls_address
from tests.mitmdump import Mitmdump
from tests.provider import Provider

BODY = json.dumps(request_body("messages", "fake/text", stream=False)).encode()
CALLS = {"GET": ("/api/gateway/models", b""), "POST": ("/api/gateway/v1/messages", BODY)}

PROGRAMS: dict[str, list[str]] = {
    "a program": ["host: 127.0.0.1:8080"],
    "by name": ["host: localhost"],
    "by another port, through a tunnel": ["host: LocalHost:9999"],
    "IPv6": ["host: [::1]:8080"],
    "typed into a browser": ["host: localhost:8080", "sec-fetch-site: none"],
}
PAGES: dict[str, list[str]] = {
    "a form or fetch": ["host: 127.0.0.1", "origin: https://page.example"],
    "a sandboxed frame": ["host: 127.0.0.1", "origin: null"],
    "a page's own origin": ["host: 127.0.0.1:8080", "origin: http://127.0.0.1:8080"],
    "an image": ["host: 127.0.0.1", "sec-fetch-site: cross-site", "sec-fetch-mode: no-cors"],
    "another port": ["host: localhost", "sec-fetch-site: same-site"],
    "two sites": ["host: localhost", "sec-fetch-site: none", "sec-fetch-site: cross-site"],
    "rebinding": ["host: page.example:8080"],
    "rebinding, in disguise": ["host: localhost.page.example"],
    "rebinding, two hosts in one": ["host: localhost, page.example"],
    "any address": ["host: 0.0.0.0:8080"],
    "no name": ["host:"],
    "claims": ["host: page.example", "x-forwarded-host: localhost", "forwarded: host=localhost", "x-real-ip: ::1"],
}


@pytest.mark.parametrize("method", CALLS)
@pytest.mark.parametrize("headers", PROGRAMS.values(), ids=list(PROGRAMS))
def test_a_program_here_spends_the_key(method: str, headers: list[str], gateway: Gateway) -> None:
    path, body = CALLS[method]
    assert status(exchange(gateway.url, request(method, path, headers, body))) == 200
    (received,) = gateway.provider.requests
    assert received.headers["authorization"] == f"Bearer {KEYS['TOY_KEY']}"
    assert received.headers["host"] == gateway.provider.url.removeprefix("http://")


@pytest.mark.parametrize("method", CALLS)
@pytest.mark.parametrize("headers", PAGES.values(), ids=list(PAGES))
def test_a_page_does_not_unless_it_shows_the_token(method: str, headers: list[str], gateway: Gateway) -> None:
    path, body = CALLS[method]
    refused = exchange(gateway.url, request(method, path, headers, body))
    assert status(refused) == 401
    assert b"x-should-retry: false" in refused
    assert gateway.provider.requests == []
    shown = [*headers, f"authorization: Bearer {CLIENT}"]
    assert status(exchange(gateway.url, request(method, path, shown, body))) == 200


def test_two_host_headers_reach_nobody(gateway: Gateway) -> None:
    sent = request("GET", "/api/gateway/models", ["host: localhost", "host: page.example"])
    assert status(exchange(gateway.url, sent)) in (400, 401)
    assert gateway.provider.requests == []


def http2(url: str, server_name: str, head: list[tuple[str, str]]) -> int:
    """The status of a GET over TLS, from a client that calls the listener by a name; 0 if there is no answer."""
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    context.set_alpn_protocols(["h2"])
    raw = socket.create_connection(("127.0.0.1", int(url.split(":")[-1])), timeout=20)
    with context.wrap_socket(raw, server_hostname=server_name) as connection:
        client = h2.connection.H2Connection(h2.config.H2Configuration(validate_outbound_headers=False))
        client.initiate_connection()
        client.send_headers(1, [(":method", "GET"), (":scheme", "https"), *head], end_stream=True)
        while True:
            try:
                connection.sendall(client.data_to_send())
                data = connection.recv(65536)
            except ConnectionResetError:
                data = b""
            if not data:
                return 0
            for event in client.receive_data(data):
                if isinstance(event, h2.events.ResponseReceived):
                    fields = {bytes(name): bytes(value) for name, value in event.headers or []}
                    return int(fields[b":status"])


@pytest.mark.parametrize(("authority", "expected"), [("localhost:8080", 200), ("page.example", 401)])
def test_the_same_over_http_2(authority: str, expected: int, gateway: Gateway) -> None:
    head = [(":authority", authority), (":path", "/api/gateway/models")]
    assert http2(gateway.url, "localhost", head) == expected
    assert len(gateway.spent()) == (expected == 200)


def test_a_second_host_over_http_2_hides_nothing(gateway: Gateway) -> None:
    head = [(":authority", "page.example"), (":path", "/api/gateway/models"), ("host", "localhost")]
    assert http2(gateway.url, "localhost", head) in (0, 400, 401)
    assert gateway.spent() == []


class TestTheListenersOwnTarget:
    """Native calls reach it as they would without the addon, which keeps `Host` for itself only."""

    @pytest.mark.parametrize("name", ["page.example", "localhost", "127.0.0.1:8080"])
    def test_is_called_by_its_own_name(self, name: str, gateway: Gateway) -> None:
        answer = exchange(gateway.native, request("GET", "/v1/models", [f"host: {name}"]))
        assert status(answer) == 200
        assert [received.headers["host"] for received in gateway.secure.requests] == [tls_address(gateway.secure)]

    def test_is_asked_for_its_own_certificate(self, gateway: Gateway) -> None:
        """The client's own word for the listener is in its TLS greeting, too."""
        assert http2(gateway.native, "page.example", [(":authority", "page.example"), (":path", "/v1/models")]) == 200
        assert [received.headers["host"] for received in gateway.secure.requests] == [tls_address(gateway.secure)]

    def test_sees_the_same_as_without_the_addon(self, gateway: Gateway, confdir, certificate) -> None:
        sent = request("POST", "/v1/messages?beta=true", ["Host: my-name", "X-Odd:  two  words", "x-odd: b"], BODY)
        upstream = f"https://{tls_address(gateway.secure)}"
        options = {"ssl_verify_upstream_trusted_ca": certificate, "connection_strategy": "lazy"}
        with Mitmdump(upstream, confdir=confdir, addon=None, options=options) as bare:
            answers = [exchange(url, sent) for url in (gateway.native, bare.url)]
        with_addon, without = gateway.secure.requests
        assert (with_addon.path, list(with_addon.headers.items()), with_addon.body) == (
            without.path,
            list(without.headers.items()),
            without.body,
        )
        # but for the ids that the provider counts up
        assert [len(answer) for answer in answers] == [len(answers[0])] * 2


@pytest.mark.parametrize("keep", ["true", "false"])
def test_an_option_that_the_user_has_set_stays(keep: str, provider: Provider, mitmdump, config) -> None:
    """Where the name cannot be known, a GET vouches for nobody."""
    options = {"keep_host_header": keep, "gateway_config": config}
    proxy = mitmdump(options=options, env=KEYS)
    proxy.wait_for("gateway-addon 0")
    exchange(proxy.url, request("GET", "/v1/models", ["host: my-name"]))
    sent_host = "my-name" if keep == "true" else provider.url.removeprefix("http://")
    assert provider.requests[0].headers["host"] == sent_host
    gets, posts = (
        [
            status(exchange(proxy.url, request(method, path, [f"host: {host}"], body)))
            for host in ("localhost", "page.example")
        ]
        for method, (path, body) in CALLS.items()
    )
    assert gets == ([200, 401] if keep == "true" else [401, 401])
    assert posts == ([200, 401] if keep == "true" else [200, 200])
