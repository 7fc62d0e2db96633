"""Who may spend a provider's key, and which credentials leave."""

import pytest

from gateway_addon.api import KINDS
from gateway_addon.call import Head
from gateway_addon.gateway import access
from gateway_addon.gateway.access import Caller
from gateway_addon.wire.headers import Headers
from tests.gateway.helpers import OPENROUTER, settings

REMOTE = "192.0.2.7"
LOCAL = "127.0.0.1"
PAGE = {"origin": "https://page.example"}
ENV = {"OPENROUTER_API_KEY": "provider-key", "GATEWAY_TOKEN": "client-token", "GATEWAY_ADMIN_TOKEN": "admin-token"}
MESSAGES = KINDS["messages"]


def status(
    headers: dict[str, str],
    peer_ip: str,
    config: str = "",
    env: dict[str, str] | None = None,
    *,
    method: str = "POST",
    host: str | None = "127.0.0.1:8080",
    is_own: bool = False,
) -> int:
    """What a caller is answered; 200 if it may pass."""
    caller = Caller(
        peer_ip=peer_ip,
        reverse_target=OPENROUTER,
        host=host,
        listener=("192.0.2.1", "gateway.lan", "0.0.0.0"),
        is_own=is_own,
    )
    head = Head(method=method, path="/", headers=Headers(headers))
    refusal = access.refuse(MESSAGES, head, caller, settings(config, **(ENV if env is None else env)))
    return refusal.status if refusal else 200


class TestWhoMaySpendAKey:
    @pytest.mark.parametrize(
        ("peer_ip", "expected"),
        [
            ("127.0.0.1", 200),
            ("127.8.9.1", 200),
            ("::1", 200),
            ("::ffff:127.0.0.1", 200),
            ("192.0.2.7", 401),
            ("10.0.0.1", 401),
            ("::ffff:192.0.2.7", 401),
            ("2001:db8::1", 401),
            ("0.0.0.0", 401),
            ("localhost", 401),
            ("", 401),
        ],
    )
    def test_a_peer_without_a_token_only_on_loopback(self, peer_ip, expected):
        assert status({}, peer_ip) == expected

    @pytest.mark.parametrize(
        ("headers", "expected"),
        [
            ({"authorization": "Bearer client-token"}, 200),
            ({"authorization": "bearer client-token"}, 200),
            ({"authorization": "BEARER  client-token "}, 200),
            ({"authorization": "client-token"}, 200),
            ({"x-api-key": "client-token"}, 200),
            ({"x-api-key": "Bearer client-token"}, 200),
            ({"authorization": "Bearer admin-token"}, 200),
            ({"authorization": "Bearer other", "x-api-key": "client-token"}, 200),
            ({"authorization": "Bearer client-token", "x-api-key": "other"}, 200),
            ({"authorization": "Bearer other, Bearer client-token"}, 200),
            ({"authorization": "Bearer client-toke"}, 401),
            ({"authorization": "Bearer client-token-and-more"}, 401),
            ({"authorization": "Basic client-token"}, 401),
            ({"authorization": "Bearer"}, 401),
            ({"authorization": ""}, 401),
            ({"authorization": "Bearer \udcff"}, 401),
            ({"x-gateway-user": "admin", "x-forwarded-for": "127.0.0.1"}, 401),
            ({}, 401),
        ],
    )
    def test_anybody_with_a_token(self, headers, expected):
        assert status(headers, REMOTE) == expected
        assert status(headers | PAGE, LOCAL) == expected

    @pytest.mark.parametrize("origin", ["https://page.example", "null", ""])
    def test_a_page_in_a_browser_needs_one_even_on_loopback(self, origin):
        assert status({"origin": origin}, LOCAL) == 401

    @pytest.mark.parametrize("site", ["cross-site", "same-site", "Cross-Site", "anything", "none, cross-site"])
    def test_or_whose_browser_says_so(self, site):
        assert status({"sec-fetch-site": site}, LOCAL) == 401
        assert status({"sec-fetch-site": site, "authorization": "Bearer client-token"}, LOCAL) == 200
        assert status({"sec-fetch-site": site}, LOCAL, env={}) == 401

    @pytest.mark.parametrize("site", ["none", "same-origin", " none "])
    def test_a_person_at_the_browser_does_not(self, site):
        assert status({"sec-fetch-site": site}, LOCAL) == 200

    @pytest.mark.parametrize(
        "host",
        [
            *("localhost", "localhost:8080", "LocalHost:1", "localhost.", "127.0.0.1", "127.1.2.3:80", "[::1]:8080"),
            *("[::1]", "[::ffff:127.0.0.1]:8080", "gateway.lan", "Gateway.LAN:8080", "192.0.2.1:8080"),
        ],
    )
    def test_a_program_here_calls_the_gateway_by_its_name(self, host):
        assert status({}, LOCAL, host=host) == 200

    @pytest.mark.parametrize(
        "host",
        [
            *(
                "page.example",
                "page.example:8080",
                "localhost.page.example",
                "127.0.0.1.page.example",
                "evil.localhost",
            ),
            *("evil.localhost", "0.0.0.0:8080", "[::]:8080", "0:8080", "", ":8080", "localhost@page.example"),
            *("page.example/localhost", "[::1", "::1", "localhost:80:80", "localhost:x", "192.0.2.2"),
            *(
                "[localhost]",
                "localhost, page.example",
                "127.0.0.1 ",
                "localhost\x00",
                "x" * 1_000_000,
                "[" * 1_000_000,
            ),
        ],
    )
    def test_another_name_was_given_its_address_by_a_page(self, host):
        assert status({}, LOCAL, host=host) == 401
        assert status({"x-api-key": "client-token"}, LOCAL, host=host) == 200

    @pytest.mark.parametrize(("method", "expected"), [("POST", 200), ("GET", 401), ("OPTIONS", 401)])
    def test_where_the_name_is_not_known_only_a_post_tells_a_page(self, method, expected):
        assert status({}, LOCAL, method=method, host=None) == expected
        assert status({"origin": "null"}, LOCAL, method=method, host=None) == 401

    def test_the_proxys_own_connections_are_strangers(self):
        assert status({}, LOCAL, is_own=True) == 401

    def test_a_file_that_names_a_token_admits_no_stranger_while_it_is_not_set(self):
        config = '[access]\nclient_token_env = "MY_TOKEN"'
        assert status({}, REMOTE, config, env={}) == 401
        assert status({"authorization": "Bearer x"}, REMOTE, config, env={"GATEWAY_TOKEN": "x"}) == 401
        assert status({"authorization": "Bearer x"}, REMOTE, config, env={"MY_TOKEN": "x"}) == 200
        assert status({}, LOCAL, config, env={}) == 200

    @pytest.mark.parametrize("shown", ["," * 1_000_000, "Bearer " + " " * 1_000_000, "Bearer x," * 100_000])
    def test_what_is_too_long_shows_nothing_and_does_not_leave(self, shown):
        headers = Headers({"authorization": shown + ", Bearer client-token"})
        assert status(dict(headers), REMOTE) == 401
        assert access.own_tokens(headers, settings(**ENV)) == ["authorization"]

    @pytest.mark.parametrize("shown", ["", "Bearer ", "Bearer None"])
    def test_a_token_variable_that_is_not_set_admits_nobody(self, shown):
        env = {"OPENROUTER_API_KEY": "provider-key", "GATEWAY_TOKEN": ""}
        assert status({"authorization": shown}, REMOTE, env=env) == 401

    def test_without_a_key_to_spend_strangers_may_pass_with_their_own_but_pages_may_not(self):
        own = {"authorization": "Bearer their-own"}
        assert status(own, REMOTE, env={}) == 200
        assert status(own | PAGE, REMOTE, env={}) == 401


class TestAdminOnlyKinds:
    CONFIG = '[access]\nadmin_only_kinds = ["messages"]'

    @pytest.mark.parametrize(
        ("headers", "peer_ip", "expected"),
        [
            ({"x-api-key": "admin-token"}, REMOTE, 200),
            ({"x-api-key": "admin-token"}, LOCAL, 200),
            ({"x-api-key": "client-token"}, REMOTE, 403),
            ({"x-user-role": "admin"}, LOCAL, 403),
            ({}, LOCAL, 403),
            ({}, REMOTE, 401),
        ],
    )
    def test_take_the_admin_token_even_from_loopback(self, headers, peer_ip, expected):
        assert status(headers, peer_ip, self.CONFIG) == expected

    @pytest.mark.parametrize("kind", [KINDS["responses"], None])
    def test_leave_other_kinds_alone(self, kind):
        caller = Caller(peer_ip=LOCAL, reverse_target=OPENROUTER, host="localhost")
        head = Head(method="POST", path="/", headers=Headers())
        assert access.refuse(kind, head, caller, settings(self.CONFIG, **ENV)) is None


BOTH = {"authorization": "Bearer mine", "x-api-key": "mine", "cookie": "c"}


class TestCredentials:
    def test_the_gateways_key_replaces_whatever_the_client_sent(self):
        config = settings(**ENV)
        provider = config.providers["openrouter"]
        assert access.withheld(Headers(BOTH), provider, config) == ["authorization", "x-api-key"]
        assert access.provider_credentials(provider, MESSAGES, config) == {"authorization": "Bearer provider-key"}

    def test_without_one_the_clients_pass_through(self):
        config = settings()
        provider = config.providers["openrouter"]
        assert access.withheld(Headers(BOTH), provider, config) == []
        assert access.provider_credentials(provider, MESSAGES, config) == {}

    @pytest.mark.parametrize(
        ("headers", "withheld"),
        [
            ({"authorization": "Bearer client-token", "x-api-key": "mine"}, ["authorization"]),
            ({"authorization": "Bearer mine", "x-api-key": "admin-token"}, ["x-api-key"]),
            ({"authorization": "bearer client-token", "x-api-key": "client-token"}, ["authorization", "x-api-key"]),
            ({"authorization": "Bearer mine, Bearer client-token"}, ["authorization"]),
            ({"authorization": "Bearer mine"}, []),
        ],
    )
    def test_but_never_the_gateways_own_tokens(self, headers, withheld):
        config = settings(GATEWAY_TOKEN="client-token", GATEWAY_ADMIN_TOKEN="admin-token")
        assert access.withheld(Headers(headers), config.providers["openrouter"], config) == withheld

    @pytest.mark.parametrize(
        ("dialect", "kind", "header"),
        [
            ('dialect = "anthropic"', "messages", "x-api-key"),
            ('dialect = "openai"', "chat_completions", "authorization"),
            ("", "messages", "x-api-key"),
            ("", "chat_completions", "authorization"),
            ("", None, "authorization"),
        ],
    )
    def test_the_dialect_names_the_header_or_else_the_kinds_vendor(self, dialect, kind, header):
        config = settings(
            f'[providers.own]\napi_url = "http://h/v1"\napi_kinds = ["messages"]\napi_key_env = "KEY"\n{dialect}',
            KEY="own-key",
        )
        headers = access.provider_credentials(config.providers["own"], KINDS.get(kind), config)
        assert "own-key" in headers[header]
