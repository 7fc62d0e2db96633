"""Design 2.2: what the gateway takes, and where it goes."""

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from gateway_addon.api import kind_of_path
from gateway_addon.api.base import Refusal
from gateway_addon.gateway.routing import Target, route

CALLS = ["/chat/completions", "/responses", "/messages"]

EXTRAS = [
    ("GET", "/models", None, False, None),
    ("GET", "/models/anthropic/claude-sonnet-4.6:free", None, False, None),
    ("GET", "/models/anthropic%2Fclaude-sonnet-4.6", None, False, None),
    ("GET", "/models/anthropic/claude-sonnet-4.6/endpoints", None, False, None),
    ("POST", "/messages/count_tokens", "messages", False, None),
    ("POST", "/responses/input_tokens", "responses", False, None),
    ("GET", "/responses/resp_123", "responses", False, None),
    ("POST", "/responses/resp_123", "responses", False, None),
    ("POST", "/responses/resp_123/cancel", "responses", False, None),
    ("GET", "/responses/resp_123/cancel", "responses", False, None),
    ("POST", "/responses/compact", "responses", True, "compaction"),
]


def found(method: str, path: str) -> Target:
    target = route(method, path)
    assert isinstance(target, Target)
    return target


class TestModelCalls:
    @pytest.mark.parametrize("suffix", CALLS)
    @pytest.mark.parametrize("version", ["", "/v1", "/v1/v1", "/v1/v1/v1"])
    @pytest.mark.parametrize("prefix", ["/api/gateway", "/api/openrouter"])
    def test_go_to_the_suffix_of_their_kind(self, prefix, version, suffix):
        target = found("POST", prefix + version + suffix)
        assert target.path == suffix
        assert target.route.kind is kind_of_path(suffix)
        assert target.route.rewritten
        assert target.route.logged
        assert target.route.side_request is None

    @pytest.mark.parametrize(
        ("path", "query"),
        [
            ("/api/gateway/v1/messages?beta=true", "?beta=true"),
            ("/api/gateway/messages?a=/../x&b=%2F", "?a=/../x&b=%2F"),
            ("/api/gateway/messages?", "?"),
            ("/api/gateway/messages", ""),
        ],
    )
    def test_the_query_is_kept_as_it_came(self, path, query):
        target = found("POST", path)
        assert (target.path, target.query) == ("/messages", query)

    def test_a_trailing_slash_is_tolerated(self):
        assert found("POST", "/api/gateway/messages/").path == "/messages"


class TestExtras:
    @pytest.mark.parametrize(("method", "path", "kind", "logged", "side_request"), EXTRAS)
    def test_are_forwarded_as_they_are(self, method, path, kind, logged, side_request):
        target = found(method, "/api/gateway/v1" + path)
        assert target.path == path
        assert (target.route.kind and target.route.kind.NAME) == kind
        assert not target.route.rewritten
        assert (target.route.logged, target.route.side_request) == (logged, side_request)


class TestNoGatewayPath:
    @pytest.mark.parametrize(
        "path",
        [
            "/",
            "",
            "*",
            "/v1/messages",
            "/api/gatewayfoo",
            "/api/gatewayfoo/messages",
            "/api/openrouter2/messages",
            "/api/v1/chat/completions",
            "/api/Gateway/messages",
            "/x/api/gateway/messages",
            "//api/gateway/messages",
            "/api/%67ateway/messages",
            "/api/./gateway/messages",
            "/?/api/gateway/messages",
        ],
    )
    def test_is_none_of_our_business(self, path):
        assert route("POST", path) is None


class TestUnknown:
    @pytest.mark.parametrize(
        ("method", "path"),
        [
            ("GET", "/api/gateway"),
            ("GET", "/api/gateway/"),
            ("GET", "/api/gateway/v1"),
            ("GET", "/api/gateway/messages"),
            ("OPTIONS", "/api/gateway/messages"),
            ("POST", "/api/gateway/models"),
            ("DELETE", "/api/gateway/responses/resp_1"),
            ("GET", "/api/gateway/keys"),
            ("POST", "/api/gateway/embeddings"),
            ("POST", "/api/gateway/messages/batches"),
            ("POST", "/api/gateway/v1x/messages"),
            ("POST", "/api/gateway/v2/messages"),
            ("POST", "/api/gateway//messages"),
            ("POST", "/api/gateway/messages//"),
            ("POST", "/api/gateway/./messages"),
            ("POST", "/api/gateway/../gateway/messages"),
            ("POST", "/api/gateway/v1/../messages"),
            ("POST", "/api/gateway/chat%2Fcompletions"),
            ("POST", "/api/gateway/messages%3F"),
            ("POST", "/api/gateway/messages\n"),
            ("GET", "/api/gateway/models/.."),
            ("GET", "/api/gateway/models/../keys"),
            ("GET", "/api/gateway/models/a/../../keys"),
            ("GET", "/api/gateway/models/%2e%2e/keys"),
            ("GET", "/api/gateway/models/a%2F..%2F..%2Fkeys"),
            ("GET", "/api/gateway/models/%252e%252e%252fkeys"),
            ("GET", "/api/gateway/models/a//b"),
            ("GET", "/api/gateway/models/a\\..\\b"),
            ("GET", "/api/gateway/models/a%5C..%5Cb"),
            ("GET", "/api/gateway/models/a%00"),
            ("GET", "/api/gateway/models/a;b"),
            ("GET", "/api/gateway/responses/.."),
            ("GET", "/api/gateway/responses/../cancel"),
            ("GET", "/api/gateway/responses/%2e%2e"),
            ("GET", "/api/gateway/responses/a%2Fb"),
            ("GET", "/api/gateway/responses/resp_1/input_items"),
            ("GET", "/api/gateway/responses/resp_1/cancel/x"),
        ],
    )
    def test_is_refused(self, method, path):
        refusal = route(method, path)
        assert isinstance(refusal, Refusal)
        assert (refusal.status, refusal.code) == (400, "unknown_path")

    @pytest.mark.parametrize("query", [" HTTP/1.1\r\nx-smuggled: 1", "a b", "a\tb", "a\0b", "é", "\udce9"])
    def test_a_query_that_no_url_has_is_refused(self, query):
        refusal = route("POST", f"/api/gateway/messages?{query}")
        assert isinstance(refusal, Refusal)
        assert (refusal.status, refusal.code) == (400, "unknown_path")

    def test_the_refusal_does_not_repeat_the_query(self):
        refusal = route("GET", "/api/gateway/nothing?key=hidden")
        assert isinstance(refusal, Refusal)
        assert "hidden" not in refusal.message


@given(st.text(alphabet="./%2feE\\?modlsrpncahutiv1;:\n", max_size=30))
@example("/models/%2E%2E%2F")
def test_no_target_can_climb(rest):
    target = route("GET", "/api/gateway/" + rest)
    if isinstance(target, Target):
        segments = target.path.lower().replace("%2e", ".").replace("%2f", "/").replace("%5c", "/").split("/")[1:]
        assert not {"", ".", ".."} & set(segments)
        assert target.path.startswith(("/models", "/responses/"))


class TestWebSockets:
    def test_responses_are_spoken_on_one(self):
        target = route("GET", "/api/gateway/v1/responses?a=b", is_upgrade=True)
        assert isinstance(target, Target)
        assert (target.path, target.query, target.route.is_socket) == ("/responses", "?a=b", True)
        assert target.route.kind is kind_of_path("/responses")

    @pytest.mark.parametrize("suffix", ["/messages", "/chat/completions", "/responses/compact", "/realtime"])
    def test_nothing_else_is(self, suffix: str):
        target = route("GET", f"/api/gateway{suffix}", is_upgrade=True)
        assert not isinstance(target, Target) or not target.route.is_socket

    def test_without_an_upgrade_there_is_no_such_path(self):
        assert isinstance(route("GET", "/api/gateway/responses"), Refusal)
