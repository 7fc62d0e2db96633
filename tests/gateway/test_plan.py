"""The whole plan of a gateway call: order of the checks, what is sent, what is on record, how a refusal reads."""

import hashlib
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway_addon.api import KINDS, members
from gateway_addon.api.base import Operation, Refusal
from gateway_addon.gateway import patch
from gateway_addon.gateway.plan import UPGRADE_REQUIRED, Plan, plan_turn
from gateway_addon.gateway.replies import reply
from gateway_addon.gateway.routing import Target, route
from gateway_addon.wire import encodings, jsontext
from gateway_addon.wire.elements import Memory
from tests.gateway import helpers
from tests.gateway.helpers import request, settings

CONFIG = """
custom_prefixes = ["acme/"]

[models."acme/free-coder"]
model = "mistralai/devstral-small"
free = true

[models."acme/chat-only"]
provider = "openrouter"
api_kinds = ["chat_completions"]

[access]
admin_only_kinds = ["responses"]
"""
KEYS = {"OPENROUTER_API_KEY": "provider-key", "OPENAI_API_KEY": "other-key", "GATEWAY_TOKEN": "client-token"}
REMOTE = "192.0.2.7"
OPENAI = ("https", "api.openai.com", 443)
CHAT = {"model": "vendor/x", "messages": []}
SHAPES: dict[str, dict[str, Any]] = {
    "/chat/completions": {"model": "vendor/x", "messages": []},
    "/messages": {"model": "vendor/x", "messages": [], "max_tokens": 5},
    "/responses": {"model": "vendor/x", "input": "hi"},
}


def decided(*args: Any, config: str, env: dict[str, str], **kwargs: Any) -> Plan | Refusal:
    caller = {name: kwargs.pop(name) for name in ("peer_ip", "reverse_target") if name in kwargs}
    return helpers.planned(request(*args, **kwargs), settings(config, **env), **caller)


def planned(*args: Any, config: str = CONFIG, env: dict[str, str] = KEYS, **kwargs: Any) -> Plan:
    found = decided(*args, config=config, env=env, **kwargs)
    assert isinstance(found, Plan), found
    return found


def refused(*args: Any, config: str = CONFIG, env: dict[str, str] = KEYS, **kwargs: Any) -> tuple[int, str]:
    found = decided(*args, config=config, env=env, **kwargs)
    assert isinstance(found, Refusal)
    return found.status, found.code


class TestRefusals:
    """Each request is wrong in all the ways of the rows below it too: the first check that fails answers."""

    @pytest.mark.parametrize(
        ("path", "body", "peer_ip", "expected"),
        [
            ("/api/gateway/nothing", b"{", REMOTE, (400, "unknown_path")),
            ("/api/gateway/responses", b"{", REMOTE, (401, "invalid_api_key")),
            ("/api/gateway/responses", b"{", "::1", (403, "admin_only")),
            ("/api/gateway/messages", b"{", "::1", (400, "invalid_body")),
            ("/api/gateway/messages", {"model": "acme/unknown", "messages": 5}, "::1", (400, "invalid_body")),
            ("/api/gateway/messages", {"messages": []}, "::1", (404, "model_not_found")),
            ("/api/gateway/messages", {"model": "acme/unknown", "messages": []}, "::1", (404, "model_not_found")),
            ("/api/gateway/messages", {"model": "acme/chat-only", "messages": []}, "::1", (404, "kind_not_served")),
        ],
    )
    def test_the_order_of_the_checks(self, path, body, peer_ip, expected):
        assert refused(path, body, peer_ip=peer_ip) == expected

    @pytest.mark.parametrize("path", list(SHAPES))
    @pytest.mark.parametrize("body", [b"", b"{", b"\xff", b"[]", b"null", b'"x"', b"{}x", b"[" * 100_000], ids=repr)
    def test_an_unreadable_body_of_any_kind(self, path, body):
        assert refused("/api/gateway" + path, body, config="") == (400, "invalid_body")

    @pytest.mark.parametrize(
        "body",
        [
            '{"model": "vendor/x", "messages": [], "model": "vendor/y"}',
            '\ufeff{"model": "vendor/x", "messages": [], "mod\\u0065l": "vendor/x"}',
            '{"model": "vendor/x", "messages": [1, 2], "tools": [3], "system": {"a": 4}, "model": "vendor/x"}',
        ],
    )
    @pytest.mark.parametrize("memory", [None, Memory(members)], ids=["read alone", "with a memory"])
    def test_a_body_that_names_two_models(self, body, memory):
        assert refused(body=body.encode(), memory=memory) == (400, "invalid_body")

    @pytest.mark.parametrize("memory", [None, Memory(members)], ids=["read alone", "with a memory"])
    def test_what_is_said_may_name_others(self, memory):
        body = '{"model": "vendor/x", "messages": [{"model": "y", "content": "\\u00fc"}, {"model": "z"}]}'
        assert planned(body=body.encode(), memory=memory).upstream_model == "vendor/x"

    @pytest.mark.parametrize("path", list(SHAPES))
    @pytest.mark.parametrize("model", ["", " ", None])
    def test_no_model_of_any_kind(self, path, model):
        body = {key: value for key, value in (SHAPES[path] | {"model": model}).items() if value is not None}
        assert refused("/api/gateway" + path, body, config="") == (404, "model_not_found")

    @pytest.mark.parametrize("path", ["/api/gateway/messages", "/api/gateway/messages/count_tokens"])
    def test_a_provider_without_the_kind_is_not_tried(self, path):
        assert refused(path, SHAPES["/messages"], reverse_target=OPENAI) == (404, "kind_not_served")

    @pytest.mark.parametrize(("method", "path"), [("POST", "/api/gateway/messages"), ("GET", "/api/gateway/models")])
    def test_no_key_goes_to_a_host_that_nobody_named(self, method, path):
        target = ("https", "elsewhere.example", 443)
        assert refused(path, SHAPES["/messages"], method=method, reverse_target=target) == (404, "no_provider")

    @pytest.mark.parametrize("peer_ip", ["::1", REMOTE])
    def test_a_token_in_the_url_goes_nowhere(self, peer_ip):
        path = "/api/gateway/chat/completions?key=client-token"
        assert refused(path, CHAT, peer_ip=peer_ip) == (401, "invalid_api_key")

    def test_a_path_outside_the_gateway_is_not_planned(self):
        assert refused("/v1/messages") == (400, "unknown_path")

    def test_a_bug_is_a_refusal_too(self, monkeypatch, caplog):
        def fail(*args: object) -> None:
            raise LookupError("text of a prompt")

        monkeypatch.setattr("gateway_addon.gateway.rewrites.operations", fail)
        assert refused(body=CHAT) == (500, "internal_error")
        assert "LookupError at test_plan.py" in caplog.text
        assert "prompt" not in caplog.text


class TestTarget:
    @pytest.mark.parametrize(
        ("path", "url"),
        [
            ("/api/gateway/chat/completions", "https://openrouter.ai/api/v1/chat/completions"),
            ("/api/openrouter/v1/chat/completions/", "https://openrouter.ai/api/v1/chat/completions"),
            ("/api/gateway/v1/messages?beta=true", "https://openrouter.ai/api/v1/messages?beta=true"),
        ],
    )
    def test_is_the_providers_url_with_the_query_of_the_client(self, path, url):
        assert planned(path, CHAT).url == url

    def test_one_listener_serves_many_providers(self):
        config = '[models."gpt-x"]\nprovider = "openai"'
        found = planned(body=CHAT | {"model": "gpt-x"}, config=config)
        assert found.url == "https://api.openai.com/v1/chat/completions"
        assert found.secret_headers == {"authorization": "Bearer other-key"}


class TestCredentials:
    def test_the_gateways_key_replaces_the_clients(self):
        found = planned(body=CHAT, headers={"authorization": "Bearer mine", "x-api-key": "mine"})
        assert found.remove_headers == ["x-api-key"]
        assert found.secret_headers == {"authorization": "Bearer provider-key"}
        assert found.set_headers == {}

    @pytest.mark.parametrize(
        ("sent", "set_headers"), [({}, {"anthropic-version": "2023-06-01"}), ({"anthropic-version": "2099-01-01"}, {})]
    )
    def test_anthropics_version_is_added_where_the_client_names_none(self, sent, set_headers):
        target = ("https", "api.anthropic.com", 443)
        found = planned(
            "/api/gateway/messages", CHAT, headers=sent, reverse_target=target, env={"ANTHROPIC_API_KEY": "k"}
        )
        assert found.secret_headers == {"x-api-key": "k"}
        assert found.set_headers == set_headers

    def test_without_a_key_the_clients_pass_but_not_the_gateways_token(self):
        headers = {"authorization": "Bearer client-token", "x-api-key": "mine"}
        found = planned(body=CHAT, headers=headers, env={"GATEWAY_TOKEN": "client-token"})
        assert found.remove_headers == ["authorization"]
        assert found.secret_headers == {}

    PLACES = (
        ("api-key", "client-token"),
        ("x-goog-api-key", "client-token"),
        ("proxy-authorization", "Bearer client-token"),
        ("proxy-authorization", "Basic dTpjbGllbnQtdG9rZW4="),
        ("cookie", "a=1; t=client-token; b=2"),
        ("referer", "http://x/?key=client%2dtoken"),
        ("referer", "http://x/?key=%63lient%252Dtoken"),
        ("user-agent", "agent/1 (client-token)"),
        ("x-session-id", "client-token"),
        ("anthropic-beta", "client-token"),
        ("x-api-key", "x:client-token"),
        ("client-token", "1"),
        ("x-admin", "the-admins-token"),
    )

    @pytest.mark.parametrize(("name", "value"), PLACES)
    @pytest.mark.parametrize("path", list(SHAPES))
    @pytest.mark.parametrize("key", [{}, {"OPENROUTER_API_KEY": "provider-key"}], ids=["keyless", "key"])
    def test_no_header_that_holds_a_token_of_the_gateways_leaves(self, key, path, name, value):
        env = {"GATEWAY_TOKEN": "client-token", "GATEWAY_ADMIN_TOKEN": "the-admins-token"} | key
        headers = {name: value, "x-other": "client token", "content-length": "12"}
        body = SHAPES[path] | {"model": "anthropic/claude-x", "stream": True}
        found = planned("/api/gateway" + path, body, headers=headers, env=env, config="")
        assert name in [*found.remove_headers, *found.set_headers]
        assert not {"x-other", "content-length"} & {*found.remove_headers}
        assert "token" not in str(found.set_headers)

    @pytest.mark.parametrize(
        "query",
        ["key=client-token", "key=client%2dtoken", "a=%63lient-token&b", "client%252Dtoken", "x=1&Client-Token"],
    )
    @pytest.mark.parametrize("path", ["/models", *SHAPES])
    def test_no_query_that_holds_one_leaves(self, path, query):
        method = "GET" if path == "/models" else "POST"
        found = refused(f"/api/gateway{path}?{query}", SHAPES.get(path), method=method, config="")
        assert found == (401, "invalid_api_key")

    def test_a_short_token_is_one_as_a_word_only(self):
        headers = {"x-a": "abc", "x-b": "k=abc;", "x-c": "xabcx"}
        assert planned(body=CHAT, headers=headers, env={"GATEWAY_TOKEN": "abc"}).remove_headers == ["x-a", "x-b"]

    def test_no_secret_shows(self):
        found = planned(body=CHAT, headers={"authorization": "Bearer client-token"})
        assert "provider-key" not in repr(found)
        assert patch.placeholder(found.provider) == "{gateway:openrouter}"


class TestBody:
    @pytest.mark.parametrize("path", list(SHAPES))
    def test_one_that_needs_no_change_leaves_byte_for_byte(self, path):
        text = b' {"temperature": 1.50, "seed": 9007199254740993,' + jsontext.dumps(SHAPES[path]).encode()[1:] + b"\n"
        found = planned("/api/gateway" + path, text, config="")
        assert found.body == text
        assert found.operations == []

    def test_a_change_leaves_everything_else_as_it_was(self):
        text = b'{"temperature": 1.50, "model" : "acme/free-coder", "messages":[{"x":"\\u00e9"}] }'
        found = planned(body=text)
        assert found.body == text.replace(b'"acme/free-coder"', b'"mistralai/devstral-small"')
        assert found.upstream_model == "mistralai/devstral-small"

    @pytest.mark.parametrize(("model", "removed"), [("acme/free-coder", ["content-encoding"]), ("vendor/x", [])])
    def test_a_change_leaves_without_the_clients_content_encoding(self, model, removed):
        body = encodings.encode(jsontext.dumps(CHAT | {"model": model}).encode(), "zstd")
        found = planned(body=body, headers={"content-encoding": "zstd"})
        assert found.remove_headers == removed

    @given(
        st.dictionaries(
            st.sampled_from(["messages", "model", "tools", "stream"]), st.none() | st.text() | st.lists(st.text())
        )
    )
    def test_none_makes_planning_fail(self, body):
        found = helpers.planned(request(body=body), settings(CONFIG, **KEYS))
        assert isinstance(found, Plan) or found.code in ("invalid_body", "model_not_found")


class TestAnswer:
    def test_passes_as_it_comes_unless_something_must_change(self):
        found = planned(body=CHAT | {"stream": True})
        assert found.answers == ()
        assert "accept-encoding" not in found.set_headers

    @pytest.mark.parametrize("path", list(SHAPES))
    def test_of_a_free_model_is_asked_for_in_the_clear_and_rewritten(self, path):
        found = planned(
            "/api/gateway" + path, SHAPES[path] | {"model": "acme/free-coder"}, config=CONFIG.split("[access]")[0]
        )
        (change,) = found.answers
        assert change.public_model == "acme/free-coder"
        assert found.set_headers["accept-encoding"] == "identity"

    @pytest.mark.parametrize(
        ("options", "hidden"), [({}, True), ({"include_usage": False}, True), ({"include_usage": True}, False)]
    )
    def test_usage_is_hidden_from_a_client_that_did_not_ask(self, options, hidden):
        found = planned(body=CHAT | {"stream": True, "stream_options": options}, reverse_target=OPENAI)
        assert [change.hide_usage for change in found.answers] == ([True] if hidden else [])

    def test_removing_stream_options_is_not_asking_for_usage(self):
        body = SHAPES["/messages"] | {"stream_options": {}}
        target = ("https", "api.anthropic.com", 443)
        assert planned("/api/gateway/messages", body, reverse_target=target).answers == ()


class TestExtras:
    def test_change_in_path_and_credentials_only(self):
        text = b'{"temperature": 1.50, "model": "vendor/x", "stream_options": 5, "effort":1.0}\n'
        found = planned("/api/gateway/v1/messages/count_tokens?beta=true", text, headers={"x-api-key": "mine"})
        assert found.url == "https://openrouter.ai/api/v1/messages/count_tokens?beta=true"
        assert found.body == text
        assert found.remove_headers == ["x-api-key"]
        assert (found.answers, found.logged) == ((), False)

    def test_lists_of_models_have_no_kind(self):
        found = planned("/api/gateway/models", b"", method="GET")
        assert found.kind is None
        assert found.secret_headers == {"authorization": "Bearer provider-key"}

    @pytest.mark.parametrize(
        ("text", "model"), [(b'{"model":"m","input":[]}', "m"), (b'{"previous_response_id":"r"}', None)]
    )
    def test_compaction_is_logged(self, text, model):
        found = planned("/api/gateway/responses/compact", text, config="")
        assert found.logged
        assert found.side_request == "compaction"
        assert found.upstream_model == model
        assert found.body == text


SIDES = {
    "/messages/count_tokens": SHAPES["/messages"],
    "/responses/input_tokens": SHAPES["/responses"],
    "/responses/compact": SHAPES["/responses"],
}


@pytest.mark.parametrize("path", list(SIDES))
class TestSidePaths:
    """Counting and compacting: the model is chosen as for a call, and nothing else of the body changes."""

    CONFIG = """
    custom_prefixes = ["acme/"]
    [providers.own]
    api_url = "https://own.example/v1"
    api_kinds = ["messages", "responses", "chat_completions"]
    api_key_env = "OWN_KEY"
    [models]
    "acme/free" = { provider = "own", model = "internal/secret-7b", free = true }
    "acme/pay" = { provider = "own", model = "paid/model" }
    "acme/chat-only" = { provider = "own", api_kinds = ["chat_completions"] }
    [auto_models."acme/auto"]
    default = { model = "acme/pay" }
    modes.plan = { model = "acme/free", effort = "high" }
    """
    KEYS = KEYS | {"OWN_KEY": "own-key"}

    @pytest.mark.parametrize(
        ("model", "mode", "upstream", "is_free"),
        [
            ("acme/free", "", "internal/secret-7b", True),
            (" ACME/Pay ", "", "paid/model", False),
            ("acme/auto", "", "paid/model", False),
            ("acme/auto", "plan", "internal/secret-7b", True),
        ],
    )
    def test_a_model_goes_to_its_own_provider_under_its_own_name(self, path, model, mode, upstream, is_free):
        text = jsontext.dumps({"model": model, "n": 1} | SIDES[path] | {"model": model, "user": "u"}).encode()
        found = planned(
            "/api/gateway" + path, text, headers={"x-kilocode-mode": mode}, config=self.CONFIG, env=self.KEYS
        )
        assert found.url == "https://own.example/v1" + path
        assert "own-key" in "".join(found.secret_headers.values())
        assert found.body == text.replace(jsontext.dumps(model).encode(), jsontext.dumps(upstream).encode())
        assert found.upstream_model == upstream
        assert [change.public_model for change in found.answers] == ([model] if is_free else [])

    @pytest.mark.parametrize(
        ("model", "expected"),
        [
            ("acme/unknown", (404, "model_not_found")),
            (" ", (404, "model_not_found")),
            (5, (400, "invalid_body")),
            ("acme/chat-only", (404, "kind_not_served")),
        ],
    )
    def test_what_is_refused_of_a_call_is_refused_here(self, path, model, expected):
        body = SIDES[path] | {"model": model}
        assert refused("/api/gateway" + path, body, config=self.CONFIG, env=self.KEYS) == expected

    @pytest.mark.parametrize(
        "text",
        [b"", b"nonsense", b"[]", b'{"model":"vendor/x","model":"acme/free"}', b'{"model":"acme/free","model":null}'],
    )
    def test_a_body_that_others_may_read_differently_is_refused(self, path, text):
        assert refused("/api/gateway" + path, text, config=self.CONFIG, env=self.KEYS) == (400, "invalid_body")

    @pytest.mark.parametrize("more", [{}, {"model": None}])
    def test_without_a_model_it_goes_to_the_default_provider_as_it_came(self, path, more):
        text = jsontext.dumps({"previous_response_id": "r"} | more).encode()
        found = planned("/api/gateway" + path, text, config=self.CONFIG, env=self.KEYS)
        assert (found.url, found.body) == ("https://openrouter.ai/api/v1" + path, text)
        text = jsontext.dumps({"models": ["acme/unknown"]} | more).encode()
        assert refused("/api/gateway" + path, text, config=self.CONFIG, env=self.KEYS)[0] in (400, 404)

    def test_no_list_of_others_goes_round_the_model(self, path):
        body = {"models": ["acme/unknown"]} | SIDES[path]
        found = planned("/api/gateway" + path, body, config=self.CONFIG, env=self.KEYS)
        assert found.operations == [{"op": "remove", "path": "/models"}]

    def test_an_admin_only_kind_stays_one(self, path):
        config = self.CONFIG + '[access]\nadmin_only_kinds = ["messages", "responses"]'
        assert refused("/api/gateway" + path, SIDES[path], config=config, env=self.KEYS) == (403, "admin_only")


class TestReply:
    REFUSAL = Refusal(404, "there is no model 'x'", "model_not_found")

    @pytest.mark.parametrize("kind", ["chat_completions", "responses"])
    def test_in_the_shape_of_openai(self, kind):
        status, body = reply(self.REFUSAL, KINDS[kind], {})
        error = jsontext.parse(body)["error"]
        assert (status, error["type"], error["code"]) == (404, "invalid_request_error", "model_not_found")
        assert error["message"] == self.REFUSAL.message

    def test_in_the_shape_of_anthropic(self):
        status, body = reply(self.REFUSAL, KINDS["messages"], {})
        assert status == 404
        assert jsontext.parse(body) == {
            "type": "error",
            "error": {"type": "not_found_error", "message": self.REFUSAL.message},
        }

    @pytest.mark.parametrize(("headers", "is_anthropic"), [({}, False), ({"anthropic-version": "2023-06-01"}, True)])
    def test_without_a_kind_the_client_says_whose(self, headers, is_anthropic):
        _, body = reply(self.REFUSAL, None, headers)
        assert (jsontext.parse(body).get("type") == "error") == is_anthropic

    @pytest.mark.parametrize("kind", [*KINDS.values(), None])
    @pytest.mark.parametrize("status", [400, 401, 403, 404, 500])
    def test_for_every_status(self, kind, status):
        assert reply(Refusal(status, "m", "c"), kind, {})[0] == status


class TestRewritesOnRecord:
    def test_is_a_patch_from_the_clients_request_to_what_was_sent(self):
        sent = request(body=CHAT | {"models": ["a"]}, headers={"x-api-key": "mine", "authorization": "Bearer mine"})
        found = helpers.planned(sent, settings(CONFIG, **KEYS))
        assert isinstance(found, Plan)
        assert list(patch.on_record(found, sent.headers)) == [
            {"op": "replace", "path": "/url", "value": "https://openrouter.ai/api/v1/chat/completions"},
            {"op": "remove", "path": "/headers/x-api-key"},
            {"op": "replace", "path": "/headers/authorization", "value": "<secret>"},
            {"op": "remove", "path": "/body/models"},
        ]

    def record(self) -> tuple[Operation, ...]:
        words = "w" * 250
        sent = request(body={"model": "anthropic/claude-x", "messages": [{"role": "user", "content": words}]})
        found = helpers.planned(sent, settings("", **KEYS))
        assert isinstance(found, Plan)
        return patch.on_record(found, sent.headers)

    def test_long_values_are_hashes(self):
        part = '[{"type":"text","text":"%s","cache_control":{"type":"ephemeral"}}]' % ("w" * 250)
        assert self.record()[-1] == {
            "op": "replace",
            "path": "/body/messages/0/content",
            "value": {"sha256": hashlib.sha256(part.encode()).hexdigest(), "bytes": len(part)},
        }

    def test_every_change_is_on_it(self):
        assert [operation["path"] for operation in self.record()] == [
            "/url",
            "/headers/anthropic-beta",
            "/headers/x-anthropic-beta",
            "/headers/authorization",
            "/body/messages/0/content",
        ]

    def test_no_secret_is_on_it(self):
        assert "provider-key" not in repr(self.record())


SOCKETS = """
[providers.openai]
websocket = {openai}

[providers.own]
api_url = "http://own.example/v1"
api_kinds = ["responses"]

[models."acme/own"]
provider = "own"

[rewrite]
tracking_salt_env = "SALT"
"""
UPGRADE = {"upgrade": "WebSocket", "connection": "Upgrade", "session-id": "s-1"}


class TestWebSockets:
    def upgraded(self, openai: str = "true", **more: Any) -> Plan | Refusal:
        arguments = {"method": "GET", "headers": UPGRADE, "reverse_target": OPENAI} | more
        config = SOCKETS.format(openai=openai)
        return decided("/api/gateway/responses", b"", config=config, env=KEYS | {"SALT": "salt"}, **arguments)

    def turn(self, body: Any, **env: str) -> Plan | Refusal:
        upgrade = self.upgraded()
        target = route("GET", "/api/gateway/responses", is_upgrade=True)
        assert isinstance(upgrade, Plan)
        assert isinstance(target, Target)
        chosen = settings(SOCKETS.format(openai="true"), **KEYS)
        return plan_turn(request("/api/gateway/responses", body), target, upgrade.provider, OPENAI, chosen)

    def test_an_upgrade_goes_to_the_provider_with_its_key_and_no_session(self):
        plan = self.upgraded()
        assert isinstance(plan, Plan)
        assert plan.url == "https://api.openai.com/v1/responses"
        assert plan.secret_headers == {"authorization": "Bearer other-key"}
        assert plan.set_headers.keys() == {"session-id"}
        assert plan.set_headers["session-id"] != "s-1"

    def test_a_provider_that_takes_none_sends_to_http(self):
        found = self.upgraded(openai="false")
        assert isinstance(found, Refusal)
        assert (found.status, found.code) == (UPGRADE_REQUIRED, "no_websocket")

    @pytest.mark.parametrize("openai", ["true", "false"])
    def test_access_comes_first(self, openai: str):
        found = self.upgraded(openai=openai, peer_ip=REMOTE)
        assert isinstance(found, Refusal)
        assert found.status == 401

    def test_a_turn_is_planned_as_a_call(self):
        plan = self.turn({"type": "response.create", "model": "gpt-5", "input": "hi", "models": ["x"]})
        assert isinstance(plan, Plan)
        assert plan.operations == [{"op": "remove", "path": "/models"}]
        assert plan.body == b'{"type":"response.create","model":"gpt-5","input":"hi"}'

    @pytest.mark.parametrize(
        ("body", "expected"),
        [
            ({"type": "response.create", "model": "acme/own", "input": "hi"}, (404, "model_not_found")),
            ({"type": "response.create", "input": "hi"}, (404, "model_not_found")),
            ({"type": "response.create", "model": "gpt-5", "input": 7}, (400, "invalid_body")),
            ({"type": "response.other", "model": "gpt-5"}, (400, "invalid_body")),
            (b'{"type":"response.other","type":"response.create","model":"gpt-5"}', (400, "invalid_body")),
            (b"[]", (400, "invalid_body")),
            (b"{", (400, "invalid_body")),
        ],
    )
    def test_a_turn_is_refused(self, body: Any, expected: tuple[int, str]):
        found = self.turn(body)
        assert isinstance(found, Refusal)
        assert (found.status, found.code) == expected
