"""OpenAI Chat Completions: what requests and answers say, told as tables of (body or events) → expected fields."""

from collections.abc import Sequence
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway_addon.api import chat_completions
from gateway_addon.api.base import Answer, Json, Problem, Refusal, RequestFacts, ToolCall, ToolResult, Usage

USAGE: Json = {
    "prompt_tokens": 100,
    "prompt_tokens_details": {"cached_tokens": 64, "cache_write_tokens": 7},
    "completion_tokens": 20,
    "completion_tokens_details": {"reasoning_tokens": 8},
    "total_tokens": 120,
}
COUNTS = Usage(input_tokens=100, cache_read_tokens=64, cache_write_tokens=7, output_tokens=20, reasoning_tokens=8)

GATEWAY: Json = {"routing": {"finalProvider": "bedrock"}, "cost": "0.01"}


def completion(message: Json | None = None, finish_reason: str | None = "stop", **fields: Any) -> Json:
    choice = {"index": 0, "message": {"role": "assistant", **(message or {})}, "finish_reason": finish_reason}
    return {"id": "c1", "object": "chat.completion", "model": "gpt-x", "choices": [choice]} | fields


def chunk(delta: Json | None = None, finish_reason: str | None = None, index: int = 0, **fields: Any) -> Json:
    choice = {"index": index, "delta": delta or {}, "finish_reason": finish_reason}
    return {"id": "c1", "object": "chat.completion.chunk", "model": "gpt-x", "choices": [choice]} | fields


def says(content: str) -> Json:
    return chunk({"content": content})


def calls(*parts: Json) -> Json:
    return chunk({"tool_calls": list(parts)})


def part(index: int | None = None, arguments: str | None = None, *, name: str | None = None, **fields: Any) -> Json:
    function = {key: value for key, value in {"name": name, "arguments": arguments}.items() if value is not None}
    return ({} if index is None else {"index": index}) | {"function": function} | fields


def call(call_id: str | None, name: str | None, arguments: str, kind: str = "function") -> ToolCall:
    return ToolCall(call_id, name, kind, "client", arguments)


def read(*events: Json, done: bool = False, offered: Sequence[str] = ()) -> Answer:
    reader = chat_completions.reader(RequestFacts(tools=list(offered)))
    for event in events:
        reader.event(event)
    if done:
        reader.done()
    return reader.finish()


def read_body(body: Json) -> Answer:
    reader = chat_completions.reader(RequestFacts())
    reader.body(body)
    return reader.finish()


def fields(answer: Answer, names: Json) -> Json:
    return {name: getattr(answer, name) for name in names}


# ---- Requests ----

HELLO: Json = {"role": "user", "content": "hello"}
LOOKED: Json = {
    "role": "assistant",
    "content": None,
    "tool_calls": [{"id": "call_1", "type": "function", "function": {"name": "look", "arguments": "{}"}}],
}
SEEN: Json = {"role": "tool", "tool_call_id": "call_1", "content": "a wall"}


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ({"model": "gpt-x", "stream": True}, {"model": "gpt-x", "streamed": True}),
        ({"model": "", "stream": "yes"}, {"model": None, "streamed": False}),
        ({"max_tokens": 5}, {"max_tokens": 5}),
        ({"max_tokens": 5, "max_completion_tokens": 9}, {"max_tokens": 9}),
        ({"max_tokens": 5, "max_completion_tokens": None}, {"max_tokens": 5}),
        ({"max_tokens": 0, "messages": [HELLO]}, {"max_tokens": 0, "side_request": "warmup"}),
        (
            {"tools": [{"type": "function", "function": {"name": "look"}}, {"function": {"name": "go"}}]},
            {"tools": ["look", "go"]},
        ),
        pytest.param(
            {"tools": [{"type": "custom", "custom": {"name": "patch", "format": {}}}]},
            {"tools": ["patch"]},
            id="custom",
        ),
        ({"tools": [{"type": "openrouter:web_search", "parameters": {}}]}, {"tools": ["openrouter:web_search"]}),
        pytest.param(
            {"tools": [{"type": "builtin_function", "function": {"name": "$web_search"}}]},
            {"tools": ["$web_search"]},
            id="Moonshot's own tools are called like functions",
        ),
        pytest.param(
            {"tools": [{"type": "web_search_20250305", "name": "web_search"}, {"type": "function", "name": "look"}]},
            {"tools": ["web_search", "look"]},
            id="a name in the tool itself",
        ),
        pytest.param(
            {"tools": [{"type": "web_search", "web_search": {"enable": True}}]}, {"tools": ["web_search"]}, id="z.ai"
        ),
        ({"functions": [{"name": "look"}, {"name": "look"}, {}]}, {"tools": ["look"]}),
        ({"tools": [{"type": "function"}, {"function": 3}, None, "look"]}, {"tools": []}),
        (
            {"messages": [{"role": "system", "content": "Be brief."}, HELLO]},
            {"system_prompt": "Be brief.", "user_prompt": "hello"},
        ),
        pytest.param(
            {
                "messages": [
                    {"role": "developer", "content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]},
                    HELLO,
                    {"role": "system", "content": "c"},
                ]
            },
            {"system_prompt": "a\nb\nc"},
            id="system and developer messages anywhere",
        ),
        (
            {
                "messages": [
                    {
                        "role": "system",
                        "content": [
                            {"type": "text", "text": "x-anthropic-billing-header: cch=1;"},
                            {"type": "text", "text": "Be brief."},
                        ],
                    }
                ]
            },
            {"system_prompt": "Be brief."},
        ),
        ({"messages": [HELLO, LOOKED, SEEN]}, {"user_prompt": "hello"}),
        pytest.param(
            {
                "messages": [
                    HELLO,
                    {
                        "role": "user",
                        "content": [{"type": "image_url", "image_url": {"url": "data:image/png;base64,A"}}],
                    },
                    {"role": "user", "content": [{"type": "text", "text": "<system-reminder>x</system-reminder>"}]},
                ]
            },
            {"user_prompt": "hello"},
            id="the last turn with words of a person",
        ),
        pytest.param(
            {
                "messages": [
                    {"role": "system", "content": "Be brief."},
                    {"role": "user", "content": "<environment_details>Rain.</environment_details>"},
                    {"role": "user", "content": "Hi."},
                    {"role": "system", "content": "It is late."},
                    {"role": "user", "content": "Bye."},
                ]
            },
            {"opening_system": "Be brief.", "first_prompt": "Hi.", "system_prompt": "Be brief.\nIt is late."},
            id="what a conversation began with is in all of its requests",
        ),
        pytest.param(
            {"messages": [None, "hello", {"role": "user", "content": 7}, {"role": ["user"]}]},
            {"user_prompt": None, "system_prompt": None},
            id="nonsense",
        ),
        ({"messages": {"role": "user"}}, {"user_prompt": None}),
        ({}, {"model": None, "streamed": False, "max_tokens": None, "tools": [], "side_request": None}),
    ],
)
def test_what_a_request_says(body: Json, expected: Json):
    facts = chat_completions.read_request(body)
    assert {name: getattr(facts, name) for name in expected} == expected


@pytest.mark.parametrize(
    ("messages", "results"),
    [
        ([HELLO, LOOKED, SEEN], [ToolResult("call_1", "look", "a wall", None)]),
        pytest.param([HELLO, LOOKED, SEEN, {"role": "assistant", "content": "A wall."}, HELLO], [], id="old result"),
        pytest.param([SEEN], [ToolResult("call_1", None, "a wall", None)], id="the call is not in the history"),
        pytest.param(
            [
                LOOKED,
                {
                    "role": "tool",
                    "tool_call_id": "call_1",
                    "content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}],
                },
            ],
            [ToolResult("call_1", "look", "a\nb", None)],
            id="parts",
        ),
        pytest.param(
            [LOOKED, SEEN | {"content": {"wall": Decimal("1.50")}}],
            [ToolResult("call_1", "look", '{"wall":1.50}', None)],
            id="an object",
        ),
        pytest.param(
            [LOOKED, {"role": "tool", "content": None}], [ToolResult(None, None, "", None)], id="neither id nor content"
        ),
        pytest.param(
            [
                {"role": "assistant", "function_call": {"name": "look", "arguments": ""}},
                {"role": "function", "name": "look", "content": "a wall"},
            ],
            [ToolResult(None, "look", "a wall", None)],
            id="legacy",
        ),
        pytest.param(
            [LOOKED, SEEN, LOOKED | {"tool_calls": [{"id": "call_1", "function": {"name": "go"}}]}, SEEN],
            [ToolResult("call_1", "go", "a wall", None)],
            id="an id used again means the last call",
        ),
    ],
)
def test_only_results_after_the_last_assistant_turn_are_new(messages: list[Json], results: list[ToolResult]):
    assert chat_completions.read_request({"messages": messages}).tool_results == results


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ({"messages": [HELLO]}, True),
        ({"messages": [HELLO], "tools": [{"type": "function", "function": {"name": "look"}}]}, True),
        ({"messages": [HELLO], "system": "Be brief."}, False),
        ({"messages": [HELLO], "anthropic_version": "v"}, False),
        ({"messages": [HELLO], "tools": [{"name": "look", "input_schema": {}}]}, False),
        ({"messages": [{"role": "user", "content": [{"type": "tool_result"}]}]}, False),
        ({"messages": [{"role": "assistant", "content": [{"type": "tool_use"}]}]}, False),
        ({"input": "hello"}, False),
        ({}, False),
    ],
)
def test_is_request(body: Json, expected: bool):
    assert chat_completions.is_request(body) is expected


INVALID = "invalid_body"


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        (None, 400, INVALID),
        ([], 400, INVALID),
        ("hello", 400, INVALID),
        ({"model": "gpt-x"}, 400, INVALID),
        ({"model": "gpt-x", "messages": "hello"}, 400, INVALID),
        ({"model": "gpt-x", "input": "hello"}, 400, INVALID),
        ({"model": 3, "messages": []}, 400, INVALID),
        ({"model": None, "messages": []}, 400, INVALID),
        ({"messages": []}, 404, "model_not_found"),
        ({"model": " ", "messages": []}, 404, "model_not_found"),
    ],
)
def test_what_is_refused(body: object, status: int, code: str):
    refusal = chat_completions.validate(body)
    assert refusal is not None
    assert (refusal.status, refusal.code) == (status, code)


def test_all_else_is_for_the_upstream_to_judge():
    assert chat_completions.validate({"model": "gpt-x", "messages": [3], "temperature": "hot"}) is None


@pytest.mark.parametrize(
    ("refusal", "kind", "param"),
    [
        (Refusal(400, "No.", "invalid_body"), "invalid_request_error", None),
        (Refusal(401, "No.", "invalid_api_key"), "authentication_error", None),
        (Refusal(403, "No.", "admin_only"), "permission_error", None),
        (Refusal(404, "No.", "model_not_found"), "invalid_request_error", "model"),
        (Refusal(404, "No.", "kind_not_served"), "invalid_request_error", None),
        (Refusal(500, "No.", "internal_error"), "server_error", None),
    ],
)
def test_a_refusal_has_the_shape_of_an_openai_error(refusal: Refusal, kind: str, param: str | None):
    assert chat_completions.error_body(refusal) == {
        "error": {"message": "No.", "type": kind, "param": param, "code": refusal.code}
    }


def test_effort_goes_where_openrouter_takes_it():
    added = [{"op": "add", "path": "/reasoning", "value": {"effort": "high"}}]
    assert chat_completions.effort_operations({"model": "gpt-x"}, "high") == added


@pytest.mark.parametrize("wish", [{"reasoning": {}}, {"reasoning_effort": "low"}, {"include_reasoning": False}])
def test_effort_never_overrides_the_client(wish: Json):
    assert chat_completions.effort_operations(wish, "high") == []


# ---- Answers ----


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (
            completion({"content": "Hello."}, usage=USAGE, service_tier="default", provider="Acme"),
            {
                "response_id": "c1",
                "model": "gpt-x",
                "text": "Hello.",
                "finish_reason": "stop",
                "service_tier": "default",
                "inference_provider": "Acme",
                "usage": COUNTS,
                "reported_usage": USAGE,
                "usage_final": True,
                "ended": True,
                "recognised": True,
                "error": None,
            },
        ),
        pytest.param(
            completion(usage=None),
            {"usage": Usage(), "reported_usage": None, "usage_final": False, "ended": True},
            id="no usage",
        ),
        pytest.param(completion({"content": None}), {"text": "", "started": False}, id="no content"),
        pytest.param(completion({"content": []}), {"text": ""}, id="empty content"),
        pytest.param(
            completion({"content": None, "refusal": "I won't."}),
            {"text": "I won't.", "finish_reason": "stop", "error": None},
            id="refusal",
        ),
        pytest.param(
            completion(finish_reason=""), {"finish_reason": None, "ended": True}, id="Snowflake: empty finish reason"
        ),
        pytest.param(
            completion(
                {
                    "content": [
                        {"type": "thinking", "thinking": [{"type": "text", "text": "Hm."}]},
                        {"type": "text", "text": "Hel"},
                        {"type": "text", "text": "lo."},
                        {"type": "image_url", "image_url": "x"},
                    ]
                }
            ),
            {"text": "Hello.", "reasoning": "Hm."},
            id="Mistral: parts",
        ),
        (completion({"reasoning_content": "Hm."}), {"reasoning": "Hm.", "started": True}),
        (
            completion({"reasoning": "Hm.", "reasoning_details": [{"type": "reasoning.text", "text": "Hm."}]}),
            {"reasoning": "Hm."},
        ),
        (
            completion(
                {
                    "reasoning_details": [
                        {"type": "reasoning.summary", "summary": "Hm"},
                        {"type": "reasoning.text", "text": "."},
                        {"type": "reasoning.encrypted", "data": "AAAA"},
                    ]
                }
            ),
            {"reasoning": "Hm."},
        ),
        (
            completion(
                {
                    "tool_calls": [
                        {"id": "call_1", "type": "function", "function": {"name": "look", "arguments": '{"at":1}'}},
                        {"id": "call_2", "type": "custom", "custom": {"name": "patch", "input": "- a"}},
                    ]
                },
                "tool_calls",
            ),
            {"tool_calls": [call("call_1", "look", '{"at":1}'), call("call_2", "patch", "- a", "custom")]},
        ),
        pytest.param(
            completion({"tool_calls": [{"id": "call_1", "function": {"name": "look"}}]}),
            {"tool_calls": [call("call_1", "look", "{}")]},
            id="no arguments",
        ),
        pytest.param(
            completion({"tool_calls": [{"id": "", "index": 0, "function": {"name": n}} for n in ("look", "go")]}),
            {"tool_calls": [call(None, "look", "{}"), call(None, "go", "{}")]},
            id="calls in a body are never merged",
        ),
        (
            completion({"function_call": {"name": "look", "arguments": '{"at":1}'}}, "function_call"),
            {"tool_calls": [call(None, "look", '{"at":1}')], "finish_reason": "function_call"},
        ),
        pytest.param(
            completion(
                {
                    "tool_calls": [
                        part(0, name="look", id="call_1")
                        | {"function": {"name": "look", "arguments": {"at": [1, "ä"]}}},
                        {
                            "id": "call_2",
                            "type": "custom",
                            "custom": {"name": "patch", "input": {"a": Decimal("1.50")}},
                        },
                        part(2, name="go", id="call_3") | {"function": {"name": "go", "arguments": {}}},
                        part(3, '{"at" : 1}', name="look", id="call_4"),
                    ]
                }
            ),
            {
                "tool_calls": [
                    call("call_1", "look", '{"at":[1,"ä"]}'),
                    call("call_2", "patch", '{"a":1.50}', "custom"),
                    call("call_3", "go", "{}"),
                    call("call_4", "look", '{"at" : 1}'),
                ]
            },
            id="arguments as an object are written as compact JSON, a string as sent",
        ),
        (
            completion({"function_call": {"name": "look", "arguments": {"at": 1}}}),
            {"tool_calls": [call(None, "look", '{"at":1}')]},
        ),
        (completion({"function_call": {}}), {"tool_calls": []}),
        pytest.param(
            completion({"tool_calls": [part(name="look", id="call_1")], "function_call": {"name": "look"}}),
            {"tool_calls": [call("call_1", "look", "{}")]},
            id="a call told in both ways is one",
        ),
        pytest.param(
            completion(
                choices=[
                    {
                        "index": 1,
                        "message": {"content": "two", "tool_calls": [part(name="b")]},
                        "finish_reason": "length",
                    },
                    {
                        "index": 0,
                        "message": {"content": "one", "tool_calls": [part(name="a")]},
                        "finish_reason": "stop",
                    },
                ]
            ),
            {"text": "one\ntwo", "finish_reason": "stop", "tool_calls": [call(None, "a", "{}"), call(None, "b", "{}")]},
            id="choices",
        ),
        pytest.param(
            completion(
                choices=[
                    {"index": 0, "message": {"content": "I look."}, "finish_reason": ""},
                    *(
                        {
                            "index": 0,
                            "message": {"tool_calls": [part(0, name=name, id=i)]},
                            "finish_reason": "tool_calls",
                        }
                        for name, i in (("look", "a"), ("go", "b"))
                    ),
                ]
            ),
            {
                "text": "I look.",
                "finish_reason": "tool_calls",
                "tool_calls": [call("a", "look", "{}"), call("b", "go", "{}")],
            },
            id="Copilot: one answer in several choices, all of the same index",
        ),
        pytest.param(
            completion(
                choices=[
                    {"message": {"content": "I look."}, "finish_reason": None},
                    {"message": {"tool_calls": [part(0, name="look")]}, "finish_reason": "tool_calls"},
                    {"message": {"tool_calls": [part(0, name="go")]}, "finish_reason": "stop"},
                ]
            ),
            {
                "text": "I look.",
                "finish_reason": "tool_calls",
                "tool_calls": [call(None, "look", "{}"), call(None, "go", "{}")],
            },
            id="Copilot: without an index",
        ),
        pytest.param(
            completion({"content": None, "audio": {"id": "a", "data": "AAAA", "transcript": "Hello."}}),
            {"text": "Hello.", "started": True},
            id="spoken words",
        ),
        pytest.param(
            completion({"content": "Hm.", "extra_content": {"google": {"thought": True}}}),
            {"text": "", "reasoning": "Hm."},
            id="Gemini: the content is a thought",
        ),
        pytest.param(
            completion({"content": "Hi.", "extra_content": {"google": {"thought": False}}}),
            {"text": "Hi.", "reasoning": ""},
            id="Gemini: the content is none",
        ),
        pytest.param(completion(cost="0.00042"), {"own_cost": "0.00042", "own_charge": None}, id="a cost of its own"),
        pytest.param(
            {"error": {"code": 503, "message": "Down."}},
            {"error": Problem("Down.", None, 503), "usage": Usage(), "recognised": True},
            id="error in a 200",
        ),
        pytest.param(completion(error=None), {"error": None}, id="null is no error"),
        pytest.param(completion(error={}), {"error": None}, id="nor is an empty object"),
        ({}, {"recognised": False, "ended": False, "error": None}),
        (
            {"choices": "none", "usage": [], "id": 4, "model": {}},
            {"recognised": False, "response_id": None, "model": None},
        ),
        pytest.param(
            completion({"content": "nul \0 and \ud800"}), {"text": "nul  and \ufffd"}, id="text unfit for a database"
        ),
        (
            completion({"content": "x", "provider_metadata": {"gateway": GATEWAY}}, generationId="gen_1"),
            {"gateway": GATEWAY, "generation_id": "gen_1"},
        ),
        (completion(providerMetadata={"gateway": GATEWAY, "bedrock": {}}), {"gateway": GATEWAY}),
        (completion(providerMetadata={"bedrock": {}}), {"gateway": None}),
    ],
)
def test_a_whole_answer(body: Json, expected: Json):
    assert fields(read_body(body), expected) == expected


@pytest.mark.parametrize(
    ("events", "expected"),
    [
        (
            [chunk({"role": "assistant", "content": ""}), says("Hel"), says("lo."), chunk(finish_reason="stop")],
            {"text": "Hello.", "finish_reason": "stop", "ended": True, "usage": Usage(), "usage_final": False},
        ),
        pytest.param(
            [says("Hi"), chunk(finish_reason="stop"), chunk(choices=[], usage=USAGE)],
            {"usage": COUNTS, "reported_usage": USAGE, "usage_final": True},
            id="usage behind the end",
        ),
        pytest.param(
            [chunk(usage={"prompt_tokens": 9, "completion_tokens": n}) for n in (1, 2, 3)],
            {"usage": Usage(input_tokens=9, output_tokens=3), "usage_final": False},
            id="usage in every chunk",
        ),
        pytest.param(
            [chunk({}, "stop", usage=USAGE), chunk(choices=[], usage=None)],
            {"usage": COUNTS, "usage_final": True},
            id="usage with the end, null behind it",
        ),
        pytest.param([chunk({}, "stop", x_groq={"id": "r", "usage": USAGE})], {"usage": COUNTS}, id="Groq"),
        pytest.param(
            [chunk(choices=[{"index": 0, "delta": {}, "finish_reason": "stop", "usage": USAGE}])],
            {"usage": COUNTS, "reported_usage": USAGE, "usage_final": True},
            id="Moonshot: usage in the choice",
        ),
        pytest.param(
            [
                chunk({}, "stop", usage=USAGE, choices=[{"index": 0, "usage": {"prompt_tokens": 1}}]),
                chunk(choices=[{"index": 0, "delta": {}, "usage": None}]),
            ],
            {"usage": COUNTS},
            id="usage in its usual place comes first",
        ),
        pytest.param(
            [chunk({}, "stop"), chunk(choices=[], usage=USAGE | {"total_tokens": 999})],
            {"usage": COUNTS, "hidden_tokens": True},
            id="Google: thinking that only the total counts",
        ),
        pytest.param(
            [
                chunk({}, "stop"),
                chunk(choices=[], usage={"prompt_tokens": 9, "completion_tokens": 1, "cache_read_input_tokens": 5}),
            ],
            {"usage": Usage(input_tokens=9, output_tokens=1, cache_read_tokens=5), "warnings": ["usage_ambiguous"]},
            id="cache counts of another vendor, and nothing tells how they are meant",
        ),
        pytest.param(
            [
                chunk({"content": "Hm", "extra_content": {"google": {"thought": True}}}),
                chunk({"content": ".", "extra_content": {"google": {"thought": True}}}),
                chunk({"content": "Four.", "extra_content": {"google": {"thought_signature": "AAAA"}}}),
            ],
            {"text": "Four.", "reasoning": "Hm."},
            id="Gemini: thoughts",
        ),
        pytest.param(
            [
                chunk({"audio": {"id": "a", "transcript": "Hel"}}),
                chunk({"audio": {"data": "AAAA", "transcript": "lo."}}),
                chunk({"audio": {"expires_at": 9}}),
            ],
            {"text": "Hello.", "started": True},
            id="spoken words",
        ),
        pytest.param(
            [{"choices": [{"index": 0, "delta": {}}], "x_groq": {"id": "r", "error": "Over capacity."}}],
            {"error": Problem("Over capacity.")},
            id="Groq: why a stream ends early",
        ),
        pytest.param(
            [
                {"id": "", "model": "", "object": "", "choices": [], "prompt_filter_results": [{}]},
                says("Hi"),
            ],
            {"response_id": "c1", "model": "gpt-x", "text": "Hi"},
            id="Azure: first chunk without id and model",
        ),
        ([says("Hi"), chunk(id="c2", model="gpt-y")], {"response_id": "c1", "model": "gpt-x"}),
        pytest.param(
            [chunk({}, "stop"), chunk(usage=USAGE)], {"finish_reason": "stop"}, id="a finish reason is not taken back"
        ),
        pytest.param([says("Hi")], {"ended": False, "finish_reason": None, "text": "Hi"}, id="cut"),
        pytest.param(
            [chunk({"content": "b"}, "length", 1), chunk({"content": "a"}, "stop", 0)],
            {"finish_reason": "stop", "text": "a\nb"},
            id="choices",
        ),
        ([chunk({"refusal": "I "}), chunk({"refusal": "won't."})], {"text": "I won't."}),
        (
            [chunk({"reasoning": word, "reasoning_details": [{"text": word}]}) for word in ("Hm", ".")],
            {"reasoning": "Hm.", "text": ""},
        ),
        (
            [chunk(service_tier="auto"), chunk(service_tier="priority"), chunk(service_tier=None)],
            {"service_tier": "priority"},
        ),
        (
            [chunk({"provider_metadata": {"gateway": GATEWAY}}, "stop", usage=USAGE, generationId="gen_1")],
            {"gateway": GATEWAY, "generation_id": "gen_1", "usage": COUNTS},
        ),
        pytest.param(
            [completion({"content": "Hello.", "tool_calls": [part(name="look", id="call_1")]})],
            {"text": "Hello.", "tool_calls": [call("call_1", "look", "{}")], "ended": True},
            id="a stream of one whole answer",
        ),
        pytest.param(
            [chunk({"future": 1}, new=[1]), {"type": "ping"}],
            {"text": "", "error": None},
            id="unknown fields and events",
        ),
    ],
)
def test_a_streamed_answer(events: list[Json], expected: Json):
    assert fields(read(*events), expected) == expected


def test_halves_of_an_emoji_in_two_deltas_become_one():
    assert read(says("\ud83d"), says("\ude00")).text == "😀"


@pytest.mark.parametrize(
    ("parts", "expected"),
    [
        pytest.param(
            [part(0, "", name="look", id="call_1"), part(0, '{"at"'), part(0, ":1}")],
            [call("call_1", "look", '{"at":1}')],
            id="arguments are appended",
        ),
        pytest.param(
            [
                part(0, "", name="look", id="call_1"),
                part(1, "", name="go", id="call_2"),
                part(0, "{1"),
                part(1, "{2"),
                part(0, "1}"),
                part(1, "2}"),
            ],
            [call("call_1", "look", "{11}"), call("call_2", "go", "{22}")],
            id="mixed",
        ),
        pytest.param(
            [part(None, "{1", name="look", id="call_1"), part(None, "1}"), part(None, "{2}", name="go", id="call_2")],
            [call("call_1", "look", "{11}"), call("call_2", "go", "{2}")],
            id="no index",
        ),
        pytest.param(
            [part(None, "{1", id="a"), part(None, "{2", id="b"), part(None, "1}", id="a"), part(None, "2}", id="b")],
            [call("a", None, "{11}"), call("b", None, "{22}")],
            id="no index, ids in turn",
        ),
        pytest.param(
            [part(0, "{1", name="look", id="call_1"), part(None, "1}", id="call_1")],
            [call("call_1", "look", "{11}")],
            id="index only at first",
        ),
        pytest.param(
            [part(0, "{1", name="look", id="call_1"), part(0, "1}", name="", id="")],
            [call("call_1", "look", "{11}")],
            id="empty id later",
        ),
        pytest.param(
            [part(0, "{1", name="look", id="call_1"), part(0, "1}", name="look", id="call_1")],
            [call("call_1", "look", "{11}")],
            id="repeated id and name",
        ),
        pytest.param([part(1, "{}", name="look", id="call_1")], [call("call_1", "look", "{}")], id="first index is 1"),
        pytest.param(
            [part(0, name="look", id="call_1"), {"index": 0, "function": {"arguments": None}}],
            [call("call_1", "look", "{}")],
            id="null arguments",
        ),
        pytest.param([part(0, "", name="look", id="call_1")], [call("call_1", "look", "{}")], id="empty arguments"),
        pytest.param([part(0, '{"at', name="look", id="call_1")], [call("call_1", "look", '{"at')], id="cut arguments"),
        pytest.param(
            [part(5, "{5}", name="go", id="call_2"), part(2, "{2}", name="look", id="call_1")],
            [call("call_1", "look", "{2}"), call("call_2", "go", "{5}")],
            id="in the order of the index",
        ),
        pytest.param(
            [
                {"index": 0, "id": "call_1", "type": "custom", "custom": {"name": "patch", "input": "- "}},
                {"index": 0, "custom": {"input": "a"}},
            ],
            [call("call_1", "patch", "- a", "custom")],
            id="custom",
        ),
        pytest.param([{}, {"index": "x", "function": []}], [call(None, None, "{}")], id="nonsense"),
        pytest.param(
            [
                part(0, "{1}", name="look", id="a"),
                part(0, "{2}", name="look", id="b"),
                part(0, "{3}", name="go", id="c"),
            ],
            [call("a", "look", "{1}"), call("b", "look", "{2}"), call("c", "go", "{3}")],
            id="one index, several ids",
        ),
        pytest.param(
            [
                *(part(0, id="a"), part(0, name="look"), part(0, "{1"), part(0, "1}")),
                *(part(0, id="b"), part(0, name="go"), part(0, "{2"), part(0, "2}", id="")),
            ],
            [call("a", "look", "{11}"), call("b", "go", "{22}")],
            id="one index, names and arguments follow without an id",
        ),
        pytest.param(
            [
                *(part(0, "{1", name="look", id="a"), part(0, "{2", name="go", id="b")),
                *(part(0, "1", id="a"), part(0, "}"), part(0, "2", id="b"), part(0, "}")),
            ],
            [call("a", "look", "{11}"), call("b", "go", "{22}")],
            id="one index, ids in turn",
        ),
        pytest.param(
            [
                part(1, "{1}", name="look", id="a"),
                part(2, "{2}", name="go", id="b"),
                part(1, "{3}", name="look", id="c"),
            ],
            [call("a", "look", "{1}"), call("b", "go", "{2}"), call("c", "look", "{3}")],
            id="an index used again, in the order of arrival",
        ),
        pytest.param(
            [
                part(0, "{1}", name="look", id=""),
                part(0, "{2}", name="look", id=""),
                part(0, "{", name="go"),
                part(0, "}"),
            ],
            [call(None, "look", "{1}"), call(None, "look", "{2}"), call(None, "go", "{}")],
            id="one index, no ids: a name and arguments behind whole arguments",
        ),
        pytest.param(
            [part(0, "{1", name="look"), part(0, "1}", name="look"), part(0, "", name="look")],
            [call(None, "look", "{11}")],
            id="no id, the name in every part",
        ),
        pytest.param(
            [part(0, '{"at', name="look"), part(0, "{2}", name="go")],
            [call(None, "look", '{"at'), call(None, "go", "{2}")],
            id="one index, no ids: another name behind cut arguments",
        ),
        pytest.param(
            [part(0, name="read"), part(0, name="read_file"), part(0, "{}", name="read_file")],
            [call(None, "read_file", "{}")],
            id="no id, a name that grows",
        ),
        pytest.param(
            [part(0, name="look"), part(0, name="go"), part(None, name="look")],
            [call(None, "look", "{}"), call(None, "go", "{}"), call(None, "look", "{}")],
            id="one index, neither ids nor arguments, but tools that are offered",
        ),
        pytest.param(
            [part(0, "{1}", name="look", id="a"), part(1, "{2}", name="go", id="a")],
            [call("a", "look", "{1}"), call("a", "go", "{2}")],
            id="one id, several indexes",
        ),
        pytest.param(
            [part(0, name="look", id="a"), {"index": 0, "function": {"arguments": {"at": 1}}}],
            [call("a", "look", '{"at":1}')],
            id="arguments as an object",
        ),
        *(
            pytest.param(
                [part(0, name=piece, id="a") for piece in pieces], [call("a", name, "{}")], id=" ".join(pieces)
            )
            for pieces, name in [
                (["read", "_file"], "read_file"),
                (["read_file", "read_file", ""], "read_file"),
                (["read", "_file", "read_file"], "read_file"),
                (["re", "read", "read_file"], "read_file"),
                (["f", "fmpeg"], "ffmpeg"),
                (["mcp__", "un", "known"], "mcp__unknown"),
                (["unknown", "unknown"], "unknown"),
            ]
        ),
    ],
)
def test_tool_calls_in_a_stream(parts: list[Json], expected: list[ToolCall]):
    offered = ["look", "go", "read", "read_file", "ffmpeg"]
    assert read(*(calls(part) for part in parts), offered=offered).tool_calls == expected
    assert read(calls(*parts), offered=offered).tool_calls == expected


def test_the_legacy_function_call_in_a_stream():
    deltas = [{"name": "look", "arguments": ""}, {"arguments": '{"at"'}, {"arguments": ":1}"}]
    answer = read(*(chunk({"function_call": delta}) for delta in deltas), chunk(finish_reason="function_call"))
    assert answer.tool_calls == [call(None, "look", '{"at":1}')]


def test_the_legacy_function_call_in_pieces_of_any_kind():
    deltas = [{"name": "read"}, {"name": "_file"}, {"arguments": {"at": 1}}]
    answer = read(*(chunk({"function_call": delta}) for delta in deltas))
    assert answer.tool_calls == [call(None, "read_file", '{"at":1}')]


@pytest.mark.parametrize(
    "places",
    [
        pytest.param([{"index": 0}, {"index": 1}, {"index": 2}], id="apart"),
        pytest.param([{"index": 0}, {"index": 0}, {"index": 0}], id="all the same"),
        pytest.param([{}, {}, {}], id="none"),
    ],
)
def test_an_answer_spread_over_choices_as_copilot_does(places: list[Json]):
    deltas: list[Json] = [
        {"content": "I look."},
        {"tool_calls": [part(0, "{1}", name="look", id="a")]},
        {"tool_calls": [part(0, "{2}", name="look", id="b")]},
    ]
    choices = [place | {"delta": delta} for place, delta in zip(places, deltas, strict=True)]
    expected = "I look.", [call("a", "look", "{1}"), call("b", "look", "{2}")]
    for answer in (read(chunk(choices=choices)), read(*(chunk(choices=[choice]) for choice in choices))):
        assert (answer.text, answer.tool_calls) == expected


SEARCHED: Json = {"index": 0, "type": "search", "arguments": '{"query": "tea"}', "output": "Tea is hot."}
RAN: Json = {"index": 1, "type": "python", "arguments": '{"code": "1"}', "output": None}
TOOLS_RUN = (
    [
        ToolCall(None, "search", "search", "server", '{"query": "tea"}'),
        ToolCall(None, "python", "python", "server", '{"code": "1"}'),
    ],
    [ToolResult(None, "search", "Tea is hot.", None)],
)


def test_groq_tells_what_its_own_tools_did():
    answer = read_body(completion({"content": "Hot.", "executed_tools": [SEARCHED, RAN]}))
    assert (answer.tool_calls, answer.tool_results) == TOOLS_RUN


def test_groq_tells_of_a_call_and_later_of_its_outcome():
    events = [chunk({"executed_tools": [tool]}) for tool in (SEARCHED | {"output": None}, SEARCHED, RAN)]
    answer = read(*events, chunk({"content": "Hot."}, "stop"))
    assert (answer.tool_calls, answer.tool_results) == TOOLS_RUN
    assert read(events[0]).started


def test_calls_of_all_choices_are_kept():
    answer = read(
        chunk({"tool_calls": [part(0, "{1", name="a")]}, index=1),
        chunk({"tool_calls": [part(0, "{0", name="b")]}, index=0),
    )
    assert answer.tool_calls == [call(None, "b", "{0"), call(None, "a", "{1")]


DOWN = {"code": 503, "message": "Down."}


@pytest.mark.parametrize(
    ("events", "expected"),
    [
        pytest.param(
            [{"error": {"code": 402, "message": "No credit."}}],
            {"error": Problem("No credit.", None, 402), "model": None, "usage": Usage(), "ended": False},
            id="nothing but an error",
        ),
        pytest.param(
            [says("Hi"), chunk({}, "stop", choices=[{"index": 0, "finish_reason": "stop", "error": DOWN}])],
            {"error": Problem("Down.", None, 503), "finish_reason": "stop"},
            id="error in a choice",
        ),
        pytest.param(
            [chunk({}, "error", error=DOWN), chunk(choices=[], usage=USAGE)],
            {"error": Problem("Down.", None, 503), "finish_reason": "error", "usage": COUNTS},
            id="error in a chunk, usage behind it",
        ),
        pytest.param(
            [chunk({}, "length"), chunk(error=DOWN, usage=USAGE)],
            {"error": Problem("Down.", None, 503), "finish_reason": "length", "usage": COUNTS, "usage_final": True},
            id="error behind the finish reason",
        ),
        pytest.param(
            [chunk({}, "error")], {"error": Problem(), "finish_reason": "error"}, id="an error without a word"
        ),
        pytest.param(
            [chunk({}, "error"), chunk(error=DOWN)], {"error": Problem("Down.", None, 503)}, id="and then with words"
        ),
        pytest.param(
            [chunk({}, "content_filter")], {"error": None, "finish_reason": "content_filter"}, id="a filter is no error"
        ),
    ],
)
def test_errors_in_a_stream(events: list[Json], expected: Json):
    assert fields(read(*events), expected) == expected


def test_an_error_event_needs_no_error_key():
    """Groq names the event instead, and sends no `[DONE]`."""
    reader = chat_completions.reader(RequestFacts())
    reader.event({"message": "Stop.", "code": "tool_use_failed"}, "error")
    answer = reader.finish()
    assert answer.error == Problem("Stop.", "tool_use_failed")
    assert not answer.ended


def test_done_is_an_end_even_without_a_finish_reason():
    answer = read(says("Hi"), chunk(choices=[], usage=USAGE), done=True)
    assert answer.ended
    assert answer.usage_final
    assert answer.finish_reason is None


FRAME: Json = {"choices": [], "cost": "0.0004"}
TYPED = FRAME | {"x-opencode-type": "inference-cost"}
CHARGE: Json = {"choices": [], "cost": "0"}


@pytest.mark.parametrize(
    ("before_done", "behind_done", "own_charge"),
    [
        ([FRAME], [], None),
        ([TYPED], [], None),
        ([], [TYPED], None),
        ([], [FRAME], None),
        ([FRAME], [CHARGE], "0"),
        ([TYPED], [CHARGE], "0"),
        ([TYPED, CHARGE], [], "0"),
        ([], [TYPED, CHARGE], "0"),
        ([], [CHARGE, TYPED], "0"),
    ],
)
def test_opencode_zen_sends_the_price_and_what_is_charged_in_frames_of_their_own(
    before_done: list[Json], behind_done: list[Json], own_charge: str | None
):
    reader = chat_completions.reader(RequestFacts())
    for event in [says("Hi"), chunk({}, "stop"), chunk(choices=[], usage=USAGE), *before_done]:
        reader.event(event)
    reader.done()
    for event in behind_done:
        reader.event(event)
    answer = reader.finish()
    assert (answer.own_cost, answer.own_charge) == ("0.0004", own_charge)
    assert (answer.text, answer.usage, answer.usage_final, answer.ended) == ("Hi", COUNTS, True, True)


def test_a_cost_that_grows_with_the_answer_is_no_charge():
    answer = read(chunk({"content": "H"}, cost="0.1"), chunk({"content": "i"}, "stop", cost="0.2"))
    assert (answer.own_cost, answer.own_charge) == ("0.2", None)


@pytest.mark.parametrize(
    ("event", "started"),
    [
        (chunk({"role": "assistant", "content": ""}), False),
        (chunk(choices=[]), False),
        (chunk({}, "stop"), False),
        (says("H"), True),
        (chunk({"reasoning": "H"}), True),
        (chunk({"refusal": "H"}), True),
        (calls(part(0, "", name="look")), True),
    ],
)
def test_the_first_token_starts_the_answer(event: Json, started: bool):
    reader = chat_completions.reader(RequestFacts())
    reader.event(event)
    assert reader.answer.started is started


def test_usage_keeps_the_digits_of_a_cost():
    answer = read(chunk({}, "stop", usage={"prompt_tokens": 1, "cost": Decimal("0.00001230")}))
    assert str((answer.reported_usage or {})["cost"]) == "0.00001230"


# ---- Properties ----

KEYS = [
    *("id", "object", "model", "messages", "choices", "index", "delta", "message", "content", "role", "type", "text"),
    *("reasoning", "reasoning_details", "thinking", "refusal", "tool_calls", "tools", "function", "custom", "name"),
    *("arguments", "input", "function_call", "functions", "finish_reason", "usage", "x_groq", "prompt_tokens"),
    *("prompt_tokens_details", "completion_tokens_details", "cached_tokens", "error", "provider_metadata", "gateway"),
    *("max_tokens", "tool_call_id", "stream", "audio", "transcript", "extra_content", "google", "thought", "cost"),
    *("executed_tools", "output"),
]
WORDS = [
    "user",
    "assistant",
    "tool",
    "function",
    "system",
    "text",
    "thinking",
    "tool_result",
    "error",
    "custom",
    "stop",
]
SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | st.decimals() | st.text() | st.sampled_from(WORDS)
JSON = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from(KEYS), inner, max_size=6),
    max_leaves=25,
)
OBJECTS = st.dictionaries(st.sampled_from(KEYS), JSON, max_size=6)
DELTAS = st.lists(OBJECTS.map(lambda delta: chunk(delta)) | OBJECTS, max_size=6)


@given(DELTAS, st.sampled_from(["", "error"]))
def test_no_event_raises(events: list[Json], name: str):
    reader = chat_completions.reader(RequestFacts())
    for event in events:
        reader.event(event, name)
    reader.done()
    assert reader.finish().ended


@given(OBJECTS, OBJECTS)
def test_no_body_raises(body: Json, message: Json):
    read_body(body)
    read_body(completion(message))


@given(OBJECTS, st.lists(OBJECTS, max_size=4))
def test_no_request_raises(body: Json, messages: list[Json]):
    for request in (body, body | {"messages": messages}):
        chat_completions.is_request(request)
        chat_completions.validate(request)
        chat_completions.effort_operations(request, "high")
        chat_completions.read_request(request)


@st.composite
def interleaved_parts(draw: st.DrawFn) -> tuple[list[str], list[Json]]:
    """The arguments of some calls, and parts that carry them: cut anywhere, the calls in any order."""
    arguments = draw(st.lists(st.text('{}":1ä', min_size=1, max_size=12), min_size=1, max_size=3))
    queues = []
    for index, text in enumerate(arguments):
        cuts = sorted(draw(st.lists(st.integers(0, len(text)), max_size=4)))
        pieces = [text[start:end] for start, end in zip([0, *cuts], [*cuts, len(text)], strict=True)]
        queues.append(
            [part(index, name=f"tool_{index}", id=f"call_{index}"), *(part(index, piece) for piece in pieces)]
        )
    order = draw(st.permutations([index for index, queue in enumerate(queues) for _ in queue]))
    return arguments, [queues[index].pop(0) for index in order]


@given(st.lists(st.text("ab_", min_size=1, max_size=4), min_size=1, max_size=5), st.booleans())
def test_the_name_of_a_tool_that_is_offered_may_be_cut_anywhere(pieces: list[str], repeated: bool):
    name = "".join(pieces)
    parts = [part(0, name=piece) for piece in [*pieces, *[name] * repeated]]
    assert read(*map(calls, parts), offered=[name]).tool_calls == [call(None, name, "{}")]


@given(st.lists(st.lists(st.text('{}":1ä'), max_size=3), max_size=4))
def test_calls_that_share_an_index_are_told_apart_by_their_ids(cut_arguments: list[list[str]]):
    parts = [
        part(0, piece, name=f"tool_{number}" if first else None, id=f"call_{number}" if first else "")
        for number, pieces in enumerate(cut_arguments)
        for first, piece in zip([True, *[False] * len(pieces)], ["", *pieces], strict=True)
    ]
    expected = [call(f"call_{n}", f"tool_{n}", "".join(pieces) or "{}") for n, pieces in enumerate(cut_arguments)]
    assert read(*map(calls, parts)).tool_calls == expected
    assert read(calls(*parts)).tool_calls == expected


@given(interleaved_parts(), st.booleans())
def test_calls_are_the_same_however_their_arguments_are_cut_and_mixed(
    case: tuple[list[str], list[Json]], in_one_chunk: bool
):
    arguments, parts = case
    answer = read(calls(*parts)) if in_one_chunk else read(*map(calls, parts))
    assert answer.tool_calls == [call(f"call_{index}", f"tool_{index}", text) for index, text in enumerate(arguments)]
