"""The request rewrites: per rule, the body before and after for each kind."""

import hashlib
import hmac
from typing import Any

import hypothesis
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import SecretStr

from gateway_addon.api import KINDS
from gateway_addon.dialects import DIALECTS
from gateway_addon.gateway import rewrites
from gateway_addon.gateway.models import Choice
from gateway_addon.wire import jsontext
from gateway_addon.wire.headers import Headers
from tests.gateway.helpers import settings

OPTIONS = "strip_models", "anthropic_cache_breakpoints", "normalize_tool_call_ids"
EPHEMERAL = {"type": "ephemeral"}
CLAUDE = "anthropic/claude-sonnet-4.6"


def rewritten(
    kind: str,
    body: dict[str, Any],
    *,
    dialect: str = "openrouter",
    model: str | None = None,
    effort: str | None = None,
    headers: dict[str, str] | None = None,
    on: tuple[str, ...] = OPTIONS,
    salt: str = "",
) -> tuple[dict[str, Any], dict[str, str]]:
    """The body that is sent, and the headers that are set; `model` is the upstream's, `on` the options switched on."""
    switches = "".join(f"{option} = {str(option in on).lower()}\n" for option in OPTIONS)
    config = settings(
        f'[rewrite]\n{switches}tracking_salt_env = "SALT"\n'
        f'[providers.p]\napi_url = "http://h/v1"\napi_kinds = []\ndialect = "{dialect}"',
        SALT=salt,
    )
    body = {"model": "m", **body}
    choice = Choice(config.providers["p"], model or body["model"], effort)
    call = rewrites.RuleContext(
        kind=KINDS[kind], body=body, headers=Headers(headers or {}), choice=choice, settings=config
    )
    text = jsontext.dumps(body).encode()
    found = rewrites.operations(call)
    in_body = [op | {"path": op["path"][5:]} for op in found if op["path"].startswith("/body/")]
    sent = jsontext.parse(jsontext.apply(text, in_body))
    assert sent == patched(body, in_body), "step by step, as a patch tool does it, the same comes out"
    return sent, {op["path"][9:]: op["value"] for op in found if op["path"].startswith("/headers/")}


def patched(document: Any, operations: list[dict[str, Any]]) -> Any:
    """RFC 6902, one operation after the other, in the simplest way."""
    document = jsontext.parse(jsontext.dumps(document))
    for operation in operations:
        *path, last = [part.replace("~1", "/").replace("~0", "~") for part in operation["path"].split("/")[1:]]
        place = document
        for part in path:
            place = place[int(part)] if isinstance(place, list) else place[part]
        key = int(last) if isinstance(place, list) else last
        if operation["op"] == "remove":
            del place[key]
        else:
            place[key] = operation["value"]
    return document


EVERY_KIND = pytest.mark.parametrize("kind", list(KINDS))


class TestModelName:
    @EVERY_KIND
    def test_is_the_providers(self, kind):
        assert rewritten(kind, {"model": "public", "x": 1}, model="internal") == ({"model": "internal", "x": 1}, {})

    @EVERY_KIND
    @pytest.mark.parametrize("dialect", list(DIALECTS))
    def test_a_request_that_needs_no_change_gets_none(self, kind, dialect):
        body = {"model": "m", "messages": [], "max_tokens": 5, "stream": False}
        assert rewritten(kind, body, dialect=dialect) == (body, {})


class TestEffort:
    @pytest.mark.parametrize(
        ("kind", "before", "after"),
        [
            ("chat_completions", {}, {"reasoning": {"effort": "high"}}),
            ("chat_completions", {"reasoning_effort": "low"}, {"reasoning_effort": "low"}),
            ("responses", {}, {"reasoning": {"effort": "high"}}),
            (
                "responses",
                {"reasoning": {"summary": "auto"}},
                {"reasoning": {"summary": "auto", "effort": "high"}},
            ),
            ("responses", {"reasoning": {"effort": "low"}}, {"reasoning": {"effort": "low"}}),
            ("messages", {}, {"thinking": {"type": "adaptive"}, "output_config": {"effort": "high"}}),
            ("messages", {"thinking": {"type": "disabled"}}, {"thinking": {"type": "disabled"}}),
        ],
    )
    def test_goes_into_the_kinds_own_field_but_never_over_a_wish(self, kind, before, after):
        assert rewritten(kind, before, effort="high")[0] == {"model": "m", **after}


class TestStripModels:
    @EVERY_KIND
    def test_of_every_kind(self, kind):
        assert rewritten(kind, {"models": ["a", "b"]})[0] == {"model": "m"}

    @EVERY_KIND
    def test_unless_switched_off(self, kind):
        assert rewritten(kind, {"models": ["a"]}, on=())[0] == {"model": "m", "models": ["a"]}

    def test_the_keep_list_of_anthropic_has_no_switch(self):
        assert rewritten("messages", {"models": ["a"]}, dialect="anthropic", on=())[0] == {"model": "m"}


class TestIncludeUsage:
    @pytest.mark.parametrize("dialect", ["openai", "vercel", "anthropic"])
    @pytest.mark.parametrize(
        ("before", "after"),
        [
            ({"stream": True}, {"include_usage": True}),
            ({"stream": True, "stream_options": None}, {"include_usage": True}),
            ({"stream": True, "stream_options": {}}, {"include_usage": True}),
            ({"stream": True, "stream_options": {"include_usage": False}}, {"include_usage": True}),
            (
                {"stream": True, "stream_options": {"include_obfuscation": False}},
                {"include_obfuscation": False, "include_usage": True},
            ),
            ({"stream": True, "stream_options": {"include_usage": True}}, {"include_usage": True}),
            ({"stream": True, "stream_options": "all"}, "all"),
        ],
    )
    def test_is_merged_into_a_streaming_chat(self, dialect, before, after):
        sent, _ = rewritten("chat_completions", before, dialect=dialect)
        assert sent["stream_options"] == after

    @pytest.mark.parametrize(
        ("kind", "dialect", "body"),
        [
            ("chat_completions", "openrouter", {"stream": True}),
            ("chat_completions", "openai", {"stream": False}),
            ("chat_completions", "openai", {"stream": "yes"}),
            ("chat_completions", "openai", {}),
            ("responses", "openai", {"stream": True}),
            ("messages", "anthropic", {"stream": True}),
        ],
    )
    def test_is_not_asked_for_elsewhere(self, kind, dialect, body):
        assert rewritten(kind, body, dialect=dialect)[0] == {"model": "m", **body}


class TestKeepMessagesFields:
    def test_openrouter_and_openai_fields_never_reach_the_anthropic_dialect(self):
        kept = {"messages": [], "max_tokens": 9, "system": "s", "output_config": {}, "cache_control": EPHEMERAL}
        foreign = {"provider": {}, "reasoning": {}, "session_id": "s", "stream_options": {}, "a/b~c": 1, "new_key": 1}
        assert rewritten("messages", kept | foreign, dialect="anthropic")[0] == {"model": "m", **kept}

    @pytest.mark.parametrize("dialect", ["openrouter", "vercel", "openai"])
    def test_other_dialects_get_what_the_client_sent(self, dialect):
        body = {"model": "m", "provider": {}, "betas": ["b"], "metadata": {"trace": "x"}}
        assert rewritten("messages", body, dialect=dialect) == (body, {})

    @pytest.mark.parametrize(
        ("before", "after"),
        [
            ({"user_id": "u", "trace": "t", "a": 1}, {"user_id": "u"}),
            ({"trace": "t"}, {}),
            ({"user_id": "u"}, {"user_id": "u"}),
            ("text", "text"),
        ],
    )
    def test_of_metadata_only_the_user(self, before, after):
        sent, _ = rewritten("messages", {"metadata": before}, dialect="anthropic")
        assert sent["metadata"] == after

    def test_openrouters_own_tools_go(self):
        own = {"name": "ls", "input_schema": {}}
        tools = [{"type": "openrouter:web"}, own, {"type": "openrouter:x"}, {"type": "custom"}, 5, {"type": 7}]
        sent, _ = rewritten("messages", {"tools": tools}, dialect="anthropic")
        assert sent["tools"] == [own, {"type": "custom"}, 5, {"type": 7}]

    @pytest.mark.parametrize(
        ("key", "beta"),
        [
            ("context_management", "context-management-2025-06-27"),
            ("context_management", "compact-2026-01-12"),
            ("compaction", "compact-2026-09-04"),
            ("mcp_servers", "mcp-client-2025-11-20"),
            ("fallbacks", "server-side-fallback-2026-07-01"),
            ("fallback_credit_token", "fallback-credit-2026-07-01"),
            ("thread", "message-threads-2026-08-12"),
            ("billing_policy", "user-profiles-billing-2026-10-01"),
            ("output_format", "structured-outputs-2025-11-13"),
        ],
    )
    def test_beta_fields_stay_with_their_beta(self, key, beta):
        body = {"model": "m", key: "x"}
        assert rewritten("messages", body, dialect="anthropic")[0] == {"model": "m"}
        assert rewritten("messages", body, dialect="anthropic", headers={"anthropic-beta": "other-1"})[0] == {
            "model": "m"
        }
        assert (
            rewritten("messages", body, dialect="anthropic", headers={"anthropic-beta": f"other-1,{beta}"})[0] == body
        )
        assert rewritten("messages", body | {"betas": [beta]}, dialect="anthropic")[0] == body


class TestBetasHeader:
    @pytest.mark.parametrize(
        ("betas", "header", "expected"),
        [
            (["a-1", "b-1"], None, {"anthropic-beta": "a-1, b-1"}),
            (["a-1", "b-1", "a-1"], "c-1,a-1", {"anthropic-beta": "c-1, a-1, b-1"}),
            (["a-1"], "a-1", {}),
            ([], "a-1", {}),
            ([None, 5, "", {}], None, {}),
            (["a-1\r\nx-injected: 1", "é", "b-1"], None, {"anthropic-beta": "b-1"}),
            ("a-1", None, {}),
            (None, None, {}),
        ],
    )
    def test_betas_of_the_body_join_the_header(self, betas, header, expected):
        headers = {} if header is None else {"anthropic-beta": header}
        assert rewritten("messages", {"betas": betas}, dialect="anthropic", headers=headers) == (
            {"model": "m"},
            expected,
        )


class TestFineGrainedStreaming:
    FLAG = "fine-grained-tool-streaming-2025-05-14"

    @pytest.mark.parametrize("model", [CLAUDE, "claude-opus-5", "~anthropic/Claude-x", "us.anthropic.claude-x-v1:0"])
    def test_is_asked_for_from_claude(self, model):
        _, headers = rewritten("chat_completions", {"messages": []}, model=model, dialect="openai")
        assert headers == {"anthropic-beta": self.FLAG}

    def test_under_openrouters_own_name_too(self):
        headers = {"anthropic-beta": "a-1", "x-anthropic-beta": self.FLAG}
        _, headers = rewritten("chat_completions", {"messages": []}, model=CLAUDE, headers=headers)
        assert headers == {"anthropic-beta": f"a-1, {self.FLAG}"}

    @pytest.mark.parametrize("model", ["openai/gpt-x", "vendor/not-claude", "vendor/declaude"])
    def test_not_from_other_models(self, model):
        assert rewritten("chat_completions", {"messages": []}, model=model)[1] == {}

    @pytest.mark.parametrize("kind", ["responses", "messages"])
    def test_not_for_other_kinds(self, kind):
        assert rewritten(kind, {"messages": []}, model=CLAUDE)[1] == {}


def chat(*messages: Any, **more: Any) -> dict[str, Any]:
    return {"model": CLAUDE, "messages": list(messages), **more}


def said(role: str, content: Any) -> dict[str, Any]:
    return {"role": role, "content": content}


def cached(words: str) -> list[dict[str, Any]]:
    return [{"type": "text", "text": words, "cache_control": EPHEMERAL}]


class TestCacheBreakpoints:
    @pytest.mark.parametrize(
        ("before", "after"),
        [
            (
                [said("system", "rules"), said("user", "one"), said("assistant", "two"), said("user", "three")],
                [
                    said("system", cached("rules")),
                    said("user", cached("one")),
                    said("assistant", "two"),
                    said("user", cached("three")),
                ],
            ),
            (
                [said("developer", "rules"), said("user", "a"), said("tool", "b"), said("tool", "c")],
                [
                    said("developer", cached("rules")),
                    said("user", "a"),
                    said("tool", cached("b")),
                    said("tool", cached("c")),
                ],
            ),
            (
                [said("user", [{"type": "text", "text": "look"}, {"type": "image_url", "image_url": {}}])],
                [
                    said(
                        "user",
                        [
                            {"type": "text", "text": "look", "cache_control": EPHEMERAL},
                            {"type": "image_url", "image_url": {}},
                        ],
                    )
                ],
            ),
            ([said("user", "")], [said("user", "")]),
            ([said("user", " \n")], [said("user", " \n")]),
            ([said("user", None), said("user", 5)], [said("user", None), said("user", 5)]),
            ([said("user", [{"type": "image_url"}, 5])], [said("user", [{"type": "image_url"}, 5])]),
            ([5, None, "text", []], [5, None, "text", []]),
            ([], []),
        ],
    )
    def test_are_set_on_the_system_prompt_and_the_last_two_inputs(self, before, after):
        assert rewritten("chat_completions", chat(*before))[0] == chat(*after)

    @pytest.mark.parametrize(
        "body",
        [
            chat(said("user", cached("one")), said("user", "two")),
            chat(said("user", "one"), tools=[{"type": "function", "cache_control": EPHEMERAL}]),
            chat(said("user", "one"), cache_control=EPHEMERAL),
        ],
    )
    def test_are_the_clients_business_once_it_sets_any(self, body):
        assert rewritten("chat_completions", body)[0] == body

    def test_unless_switched_off(self):
        body = chat(said("user", "one"))
        assert rewritten("chat_completions", body, on=())[0] == body

    def test_not_for_other_models(self):
        body = chat(said("user", "one")) | {"model": "openai/gpt-x"}
        assert rewritten("chat_completions", body)[0] == body

    @pytest.mark.parametrize("kind", ["responses", "messages"])
    def test_not_for_other_kinds(self, kind):
        body = chat(said("user", "one"), input=[said("user", "one")])
        assert rewritten(kind, body)[0] == body


def tool_round(*ids: Any) -> list[dict[str, Any]]:
    """An assistant's calls with these ids, and their results."""
    calls = [{"id": id, "type": "function", "function": {"name": "ls", "arguments": "{}"}} for id in ids]
    results = [{"role": "tool", "tool_call_id": id, "content": ""} for id in ids]
    return [{"role": "assistant", "content": None, "tool_calls": calls}, *results]


class TestToolCallIds:
    def ids(self, *ids: Any) -> list[str]:
        """The ids as sent, after a check that calls and results still fit."""
        sent, _ = rewritten("chat_completions", chat(*tool_round(*ids)))
        assistant, *results = sent["messages"]
        found = [call["id"] for call in assistant["tool_calls"]]
        assert [result["tool_call_id"] for result in results] == found
        return found

    def test_refused_characters_are_replaced_in_calls_and_results_alike(self):
        (name,) = self.ids("functions.ls:0")
        assert name.startswith("functions_ls_0_")
        assert rewrites.REFUSED_IN_ID.search(name) is None

    def test_good_ids_stay(self):
        assert self.ids("call_1", "toolu-A") == ["call_1", "toolu-A"]

    def test_a_name_depends_on_nothing_but_the_id_so_that_the_cache_still_fits(self):
        assert self.ids("a.b") == self.ids("a.b", "a:b", "c")[:1]

    @given(st.lists(st.text(alphabet="a_.:é\udc80", min_size=1, max_size=4), max_size=8, unique=True))
    def test_no_two_ids_become_one(self, ids):
        names = rewrites._safe_ids(ids)
        taken_on_purpose = [*names.values()]
        assert len(set(taken_on_purpose)) == len(ids)
        again = rewrites._safe_ids([*ids, *taken_on_purpose])
        assert len(set(again.values())) == len(again)

    @pytest.mark.parametrize("id", ["", None, 5, {}])
    def test_what_is_no_id_is_left_to_the_provider(self, id):
        assert self.ids(id) == [id]

    @pytest.mark.parametrize(
        "body",
        [
            chat({"role": "assistant", "tool_calls": "x"}, {"role": "tool", "tool_call_id": []}, 5),
            chat(*tool_round("a.b")) | {"model": "openai/gpt-x"},
        ],
    )
    def test_nothing_else_is_touched(self, body):
        assert rewritten("chat_completions", body, on=OPTIONS[2:])[0] == body

    def test_unless_switched_off(self):
        body = chat(*tool_round("a.b"))
        assert rewritten("chat_completions", body, on=())[0] == body

    @pytest.mark.parametrize("kind", ["responses", "messages"])
    def test_not_for_other_kinds(self, kind):
        body = chat(*tool_round("a.b"))
        assert rewritten(kind, body)[0] == body


class TestTrackingIds:
    def hashed(self, id: str, provider: str = "p") -> str:
        return hmac.new(b"salt", f"{provider}\0{id}".encode(), hashlib.sha256).hexdigest()

    @pytest.mark.parametrize(
        ("kind", "dialect", "body", "fields"),
        [
            ("chat_completions", "openai", {"user": "u", "prompt_cache_key": "s"}, ["user", "prompt_cache_key"]),
            (
                "chat_completions",
                "openrouter",
                {"session_id": "s", "safety_identifier": "u"},
                ["session_id", "safety_identifier"],
            ),
            ("responses", "openai", {"prompt_cache_key": "s", "previous_response_id": "r"}, ["prompt_cache_key"]),
            ("messages", "openrouter", {"user": "u", "session_id": "s"}, ["user", "session_id"]),
        ],
    )
    def test_become_salted_hashes_in_the_kinds_own_fields(self, kind, dialect, body, fields):
        expected = {"model": "m", **body} | {field: self.hashed(body[field]) for field in fields}
        assert rewritten(kind, body, dialect=dialect, salt="salt")[0] == expected

    @pytest.mark.parametrize(
        ("kind", "outer", "inner"),
        [
            ("messages", "metadata", "user_id"),
            ("chat_completions", "metadata", "session_id"),
            ("responses", "metadata", "conversation_id"),
            ("responses", "client_metadata", "thread_id"),
        ],
    )
    def test_also_inside_metadata(self, kind, outer, inner):
        sent, _ = rewritten(kind, {outer: {inner: "x", "other": "y"}}, salt="salt")
        assert sent[outer] == {inner: self.hashed("x"), "other": "y"}

    def test_what_the_anthropic_dialect_does_not_take_is_removed_rather_than_hashed(self):
        body = {"user": "u", "metadata": {"user_id": "u"}}
        sent, _ = rewritten("messages", body, dialect="anthropic", salt="salt")
        assert sent == {"model": "m", "metadata": {"user_id": self.hashed("u")}}

    def test_in_headers_too(self):
        headers = {"x-session-id": "s", "session_id": "s", "user-agent": "a", "x-request-id": "r"}
        _, changed = rewritten("responses", {}, headers=headers, salt="salt")
        assert changed == {"x-session-id": self.hashed("s"), "session_id": self.hashed("s")}

    def test_in_headers_that_a_body_holds(self):
        """As Codex sends them with each turn of a WebSocket."""
        held = {
            "x-codex-window-id": "w",
            "ws_request_header_session_id": "s",
            "ws_request_header_x_codex_parent_thread_id": "t",
        }
        sent, _ = rewritten("responses", {"client_metadata": held | {"x-other": "o", "note": "n"}}, salt="salt")
        assert sent["client_metadata"] == {name: self.hashed(id_) for name, id_ in held.items()} | {
            "x-other": "o",
            "note": "n",
        }

    def test_differ_from_provider_to_provider(self):
        assert self.hashed("u", "p") != self.hashed("u", "q")
        assert rewrites._hash(SecretStr("salt"), "q", "u") == self.hashed("u", "q")

    @EVERY_KIND
    def test_stay_as_they_are_without_a_salt(self, kind):
        body = {"model": "m", "user": "u", "metadata": {"user_id": "u"}}
        assert rewritten(kind, body, headers={"x-session-id": "s"}) == (body, {})

    @EVERY_KIND
    @pytest.mark.parametrize("value", [None, "", 5, [], {"id": "x"}])
    def test_what_is_no_id_is_left_to_the_provider(self, kind, value):
        body = {"model": "m", "user": value, "metadata": value}
        assert rewritten(kind, body, salt="salt")[0] == body


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["role", "content", "type", "id"]), inner)
    ),
    max_leaves=10,
)
fields = st.sampled_from(
    ["messages", "tools", "metadata", "models", "betas", "stream", "stream_options", "user", "thinking", "a/b~"]
)


@pytest.mark.parametrize("dialect", list(DIALECTS))
@EVERY_KIND
@hypothesis.settings(max_examples=25)
@given(body=st.dictionaries(fields, values))
def test_no_body_makes_a_rule_fail(kind, dialect, body):
    rewritten(kind, {"model": CLAUDE, **body}, dialect=dialect, effort="high", model="claude-x", salt="salt")


def test_the_table_names_only_kinds_that_there_are():
    for rule in rewrites.RULES:
        assert set(rule.kinds or ()) <= set(KINDS)
