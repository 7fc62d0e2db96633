"""OpenAI Responses: what requests and answers say, told as tables of (body or events) → expected fields."""

from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway_addon.api import responses
from gateway_addon.api.base import Answer, Json, Refusal, RequestFacts, ToolCall, ToolResult, Usage

USAGE: Json = {
    "input_tokens": 100,
    "input_tokens_details": {"cached_tokens": 64, "cache_write_tokens": 7},
    "output_tokens": 20,
    "output_tokens_details": {"reasoning_tokens": 8},
    "total_tokens": 120,
}
COUNTS = Usage(input_tokens=100, cache_read_tokens=64, cache_write_tokens=7, output_tokens=20, reasoning_tokens=8)

LIST_FILES: Json = {
    "type": "function_call",
    "id": "fc_1",
    "call_id": "call_1",
    "name": "list_files",
    "arguments": '{"dir":"."}',
}
SAY_HELLO: Json = {
    "type": "message",
    "id": "msg_1",
    "role": "assistant",
    "content": [{"type": "output_text", "text": "Hello.", "annotations": []}],
}


def response(**fields: Any) -> Json:
    return {"id": "resp_1", "object": "response", "status": "completed", "model": "gpt-x", "output": []} | fields


def added(index: int | None, item: Json) -> Json:
    return {"type": "response.output_item.added", "output_index": index, "item": item}


def item_done(index: int | None, item: Json) -> Json:
    return {"type": "response.output_item.done", "output_index": index, "item": item}


def delta(family: str, index: int | None, piece: str, **fields: Any) -> Json:
    return {"type": f"response.{family}.delta", "output_index": index, "delta": piece} | fields


def ends(step: str = "completed", **fields: Any) -> Json:
    return {"type": f"response.{step}", "response": response(status=step, **fields)}


def part(kind: str, text: str) -> Json:
    return {"type": kind, "text": text}


def read(*events: Json, namespaces: frozenset[str] = frozenset()) -> Answer:
    reader = responses.reader(RequestFacts(namespaces=namespaces))
    for event in events:
        reader.event(event)
    return reader.finish()


def read_body(body: Json) -> Answer:
    reader = responses.reader(RequestFacts())
    reader.body(body)
    return reader.finish()


def facts(**body: Any) -> RequestFacts:
    return responses.read_request(body)


def user(content: object) -> Json:
    return {"role": "user", "content": content}


# ---- Which bodies ----


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ({"input": "Hi"}, True),
        ({"input": None}, True),
        ({"input": [], "messages": []}, False),
        ({"messages": []}, False),
        ({}, False),
    ],
)
def test_a_request_has_input_and_no_messages(body, expected):
    assert responses.is_request(body) is expected


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        ({"object": "response"}, True),
        ({"object": "response.compaction"}, True),
        ({"type": "response.created"}, True),
        ({"object": "chat.completion"}, False),
        ({"type": "error"}, False),
        ({"type": ["response.created"], "object": {}}, False),
    ],
)
def test_an_answer_names_itself(answer, expected):
    assert responses.is_answer(answer) is expected


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        (None, 400, "invalid_body"),
        ([], 400, "invalid_body"),
        ({"model": "m", "input": 5}, 400, "invalid_body"),
        ({"model": "m", "input": {"role": "user"}}, 400, "invalid_body"),
        ({"model": 5, "input": "Hi"}, 400, "invalid_body"),
        ({"input": "Hi"}, 404, "model_not_found"),
        ({"model": " ", "input": "Hi"}, 404, "model_not_found"),
    ],
)
def test_what_the_gateway_refuses(body, status, code):
    refusal = responses.validate(body)
    assert refusal is not None
    assert (refusal.status, refusal.code) == (status, code)


@pytest.mark.parametrize("given", [{}, {"input": None}, {"input": "Hi"}, {"input": []}])
def test_input_may_be_absent_null_text_or_a_list(given):
    assert responses.validate({"model": "m"} | given) is None


def test_the_error_reply_has_the_shape_of_openai():
    reply = responses.error_body(Refusal(404, "no such model", "model_not_found"))
    assert reply["error"]["message"] == "no such model"
    assert reply["error"]["code"] == "model_not_found"


@pytest.mark.parametrize(
    ("reasoning", "operations"),
    [
        ({}, [{"op": "add", "path": "/reasoning", "value": {"effort": "high"}}]),
        ({"reasoning": None}, [{"op": "add", "path": "/reasoning", "value": {"effort": "high"}}]),
        ({"reasoning": {"summary": "auto"}}, [{"op": "add", "path": "/reasoning/effort", "value": "high"}]),
        ({"reasoning": {"effort": None}}, [{"op": "add", "path": "/reasoning/effort", "value": "high"}]),
        ({"reasoning": {"effort": "low"}}, []),
        ({"reasoning": {"max_tokens": 500}}, []),
        ({"reasoning": {"enabled": False}}, []),
        ({"reasoning": "much"}, []),
    ],
)
def test_effort_is_set_unless_the_client_has_a_wish(reasoning, operations):
    assert responses.effort_operations({"model": "m"} | reasoning, "high") == operations


# ---- Requests ----


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        pytest.param({"model": "gpt-x"}, {"model": "gpt-x"}, id="model"),
        pytest.param({"stream": True}, {"streamed": True}, id="streamed"),
        pytest.param({"stream": "yes"}, {"streamed": False}, id="streamed-only-if-true"),
        pytest.param({"max_output_tokens": 900, "max_tokens": 1}, {"max_tokens": 900}, id="max-tokens"),
        pytest.param({"previous_response_id": "resp_0"}, {"previous_id": "resp_0"}, id="previous-response"),
        pytest.param({"conversation": "conv_1"}, {"previous_id": "conv_1"}, id="conversation"),
        pytest.param({"conversation": {"id": "conv_1"}}, {"previous_id": "conv_1"}, id="conversation-object"),
        pytest.param(
            {
                "instructions": "Be brief.",
                "input": [
                    {"role": "developer", "content": "Be kind."},
                    user("Hi"),
                    {"role": "developer", "content": "It is late."},
                    user("Bye"),
                ],
            },
            {"opening_system": "Be brief.\nBe kind.", "first_prompt": "Hi"},
            id="opening",
        ),
        pytest.param(
            {"previous_response_id": "resp_0", "input": "Bye"},
            {"first_prompt": None, "user_prompt": "Bye"},
            id="begun-before",
        ),
        pytest.param({"generate": False, "input": "Hi"}, {"side_request": "warmup"}, id="warm-up"),
        pytest.param(
            {"input": [user("Hi"), {"type": "compaction_trigger"}]},
            {"side_request": "compaction", "user_prompt": "Hi"},
            id="compaction-trigger",
        ),
        pytest.param(
            {"input": "Rename the file", "tools": [{"type": "shell"}]}, {"side_request": None}, id="real-turn"
        ),
    ],
)
def test_request_facts(body, expected):
    found = responses.read_request(body)
    assert {name: getattr(found, name) for name in expected} == expected


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        pytest.param({"instructions": "Be brief."}, "Be brief.", id="instructions"),
        pytest.param(
            {
                "input": [
                    {"role": "system", "content": "Rule one."},
                    user("Hi"),
                    {"type": "message", "role": "developer", "content": [{"type": "input_text", "text": "Rule two."}]},
                ],
                "instructions": "Be brief.",
            },
            "Be brief.\nRule one.\nRule two.",
            id="instructions-and-system-messages",
        ),
        pytest.param(
            {"input": [{"type": "additional_tools", "role": "developer", "content": "no", "tools": []}]},
            None,
            id="additional-tools-hold-no-text",
        ),
        pytest.param({"prompt": {"id": "pmpt_1"}}, "pmpt_1", id="prompt-template"),
        pytest.param({"prompt": {"id": "pmpt_1"}, "instructions": "Be brief."}, "Be brief.", id="template-is-last"),
        pytest.param({"instructions": "a\0b\ud800"}, "ab\ufffd", id="cleaned"),
        pytest.param({"instructions": "x-anthropic-billing-header: cc_version=1;"}, None, id="billing-line"),
        pytest.param({}, None, id="none"),
    ],
)
def test_system_prompt(body, expected):
    assert responses.read_request(body).system_prompt == expected


PICTURE: Json = {"type": "input_image", "image_url": "data:image/png;base64,iVBORw0KGgo="}


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        pytest.param("Fix the test", "Fix the test", id="text"),
        pytest.param(None, None, id="null"),
        pytest.param([user("Fix the test")], "Fix the test", id="one-message"),
        pytest.param([{"type": "message"} | user("Fix the test")], "Fix the test", id="typed-message"),
        pytest.param(
            [
                user([{"type": "input_text", "text": "Fix"}, PICTURE, {"type": "text", "text": "the test"}]),
                LIST_FILES,
                {"type": "function_call_output", "call_id": "call_1", "output": "a.py"},
            ],
            "Fix\nthe test",
            id="parts-joined",
        ),
        pytest.param([user("Fix the test"), user([PICTURE])], "Fix the test", id="picture-alone-is-no-prompt"),
        pytest.param(
            [user("Fix the test"), user("<environment_context>cwd</environment_context>")],
            "Fix the test",
            id="harness-text-is-no-prompt",
        ),
        pytest.param(
            [user("Fix the test"), SAY_HELLO, {"type": "item_reference", "id": "msg_0"}], "Fix the test", id="walk"
        ),
        pytest.param([user("before"), "Fix the test"], "Fix the test", id="bare-string"),
        pytest.param([user("Fix the test"), user(None), user(5), 5, None, []], "Fix the test", id="odd-values-skipped"),
        pytest.param([SAY_HELLO], None, id="no-user-turn"),
        pytest.param({"role": "user", "content": "Hi"}, None, id="neither-text-nor-list"),
    ],
)
def test_last_real_user_prompt(given, expected):
    assert facts(input=given).user_prompt == expected


def test_tools_by_name_label_or_type_also_those_of_input_items():
    found = facts(
        tools=[
            {"type": "function", "name": "read"},
            {"type": "custom", "name": "patch"},
            {"type": "namespace", "name": "crm", "tools": [{"type": "function", "name": "find"}, {"type": "custom"}]},
            {"type": "mcp", "server_label": "wiki"},
            {"type": "web_search_2025_08_26"},
            {"type": "function", "name": "read"},
            {"name": ["odd"], "type": 5},
            "odd",
        ],
        input=[
            {"type": "additional_tools", "role": "developer", "tools": [{"type": "function", "name": "late"}]},
            {
                "type": "tool_search_output",
                "tools": [{"type": "namespace", "name": "mail", "tools": [{"name": "send"}]}],
            },
            {"type": "mcp_list_tools", "server_label": "wiki", "tools": [{"name": "page"}]},
        ],
    )
    assert found.tools == ["read", "patch", "crm.find", "wiki", "web_search", "late", "mail.send", "page"]
    assert found.namespaces == {"crm", "mail"}


@pytest.mark.parametrize(
    ("offered", "called"),
    [
        ("web_search", {"type": "web_search_call"}),
        ("web_search_2025_08_26", {"type": "web_search_call"}),
        ("web_search_preview", {"type": "web_search_call"}),
        ("web_search_preview_2025_03_11", {"type": "web_search_call"}),
        ("computer_use_preview", {"type": "computer_call"}),
        ("computer", {"type": "computer_call"}),
        ("file_search", {"type": "file_search_call"}),
        ("local_shell", {"type": "local_shell_call"}),
        ("programmatic_tool_calling", {"type": "program"}),
        ("openrouter:web_search", {"type": "openrouter:web_search"}),
    ],
)
def test_a_built_in_tool_is_offered_under_the_name_it_is_called_by(offered, called):
    found = facts(tools=[{"type": offered}], input=[called | {"id": "1"}])
    ended = {"type": "response.completed", "response": {"status": "completed", "output": [called | {"id": "1"}]}}
    reader = responses.reader(found)
    reader.event(ended)
    assert [call.name for call in reader.finish().tool_calls] == found.tools


def test_a_named_tool_keeps_its_name_whatever_it_looks_like():
    assert facts(tools=[{"type": "function", "name": "web_search_preview"}]).tools == ["web_search_preview"]


LIST_FILES_OUTPUT: Json = {"type": "function_call_output", "call_id": "call_1", "output": "a.py"}
LIST_FILES_RESULT = ToolResult("call_1", "list_files", "a.py", None)


@pytest.mark.parametrize(
    ("history", "expected"),
    [
        pytest.param([user("Hi"), LIST_FILES, LIST_FILES_OUTPUT], [LIST_FILES_RESULT], id="new"),
        pytest.param([LIST_FILES, LIST_FILES_OUTPUT, SAY_HELLO, user("Hi")], [], id="before-message"),
        pytest.param([LIST_FILES, LIST_FILES_OUTPUT, LIST_FILES | {"call_id": "call_2"}], [], id="before-call"),
        pytest.param([LIST_FILES, LIST_FILES_OUTPUT, {"type": "reasoning", "summary": []}], [], id="before-reasoning"),
        pytest.param([LIST_FILES, LIST_FILES_OUTPUT, {"id": "msg_1"}], [], id="before-reference"),
        pytest.param([LIST_FILES, LIST_FILES_OUTPUT, user("And now?")], [LIST_FILES_RESULT], id="user-turn-after-it"),
        pytest.param(
            [{"type": "function_call_output", "call_id": "call_9", "output": "x"}],
            [ToolResult("call_9", None, "x", None)],
            id="call-is-kept-on-the-server",
        ),
        pytest.param(
            [LIST_FILES, LIST_FILES_OUTPUT | {"output": [{"type": "input_text", "text": "one"}, PICTURE]}],
            [ToolResult("call_1", "list_files", "one", None)],
            id="parts",
        ),
        pytest.param(
            [LIST_FILES, LIST_FILES_OUTPUT | {"output": None}],
            [ToolResult("call_1", "list_files", "", None)],
            id="no-output",
        ),
        pytest.param(
            [
                {"type": "local_shell_call", "id": "lsh_1", "call_id": "call_1", "action": {"command": ["ls"]}},
                {"type": "local_shell_call_output", "id": "lsh_1", "output": '{"exit_code":0}'},
            ],
            [ToolResult("lsh_1", "local_shell", '{"exit_code":0}', None)],
            id="local-shell-by-id",
        ),
        pytest.param(
            [
                {"type": "shell_call", "call_id": "call_1", "action": {"commands": ["ls"]}},
                {
                    "type": "shell_call_output",
                    "call_id": "call_1",
                    "output": [{"stdout": "a", "stderr": "", "outcome": {"type": "exit", "exit_code": 0}}],
                },
            ],
            [
                ToolResult(
                    "call_1",
                    "shell",
                    '[{"stdout":"a","stderr":"","outcome":{"type":"exit","exit_code":0}}]',
                    False,
                )
            ],
            id="shell",
        ),
        pytest.param(
            [
                {
                    "type": "computer_call_output",
                    "call_id": "call_1",
                    "output": PICTURE | {"type": "computer_screenshot"},
                }
            ],
            [
                ToolResult(
                    "call_1",
                    None,
                    '{"type":"computer_screenshot","image_url":"[image/png, 12 characters of base64]"}',
                    None,
                )
            ],
            id="screenshot",
        ),
        pytest.param(
            [LIST_FILES_OUTPUT | {"name": "list_files"}, LIST_FILES_OUTPUT | {"call_id": None, "name": "pwd"}],
            [LIST_FILES_RESULT, ToolResult(None, "pwd", "a.py", None)],
            id="result-names-its-tool",
        ),
        pytest.param(
            [LIST_FILES, LIST_FILES_OUTPUT, {"type": "agent_message", "author": "scout", "content": []}],
            [],
            id="before-agent-message",
        ),
        pytest.param(
            [
                {"type": "multi_agent_call", "call_id": "call_1", "action": "spawn_agent", "arguments": "{}"},
                {"type": "multi_agent_call_output", "call_id": "call_1", "action": "spawn_agent", "output": []},
                {"type": "program", "call_id": "call_2", "code": "1"},
                {"type": "program_output", "call_id": "call_2", "result": "1", "status": "completed"},
                {"type": "shell_call", "call_id": "call_3", "environment": {"type": "container_reference"}},
                {"type": "shell_call_output", "call_id": "call_3", "output": []},
                {"type": "tool_search_output", "call_id": None, "execution": "server", "tools": []},
                {"type": "openrouter:bash", "id": "st_1", "status": "failed"},
                user("And now?"),
            ],
            [],
            id="results-of-the-server-were-in-the-answer",
        ),
    ],
)
def test_new_tool_results(history, expected):
    assert facts(input=history).tool_results == expected


@pytest.mark.parametrize(
    ("result", "is_error"),
    [
        ({"type": "function_call_output", "status": "completed"}, None),
        ({"type": "custom_tool_call_output", "status": "incomplete"}, True),
        ({"type": "apply_patch_call_output", "status": "completed"}, False),
        ({"type": "apply_patch_call_output", "status": "failed"}, True),
        ({"type": "apply_patch_call_output"}, None),
        ({"type": "shell_call_output", "output": [{"outcome": {"type": "exit", "exit_code": 2}}]}, True),
        ({"type": "shell_call_output", "output": [{"outcome": {"type": "timeout"}}]}, True),
        ({"type": "shell_call_output", "output": [{"stdout": "a"}]}, None),
        ({"type": "shell_call_output", "output": [], "error": "no such container"}, True),
    ],
)
def test_signs_of_a_failed_tool(result, is_error):
    assert facts(input=[result]).tool_results[0].is_error is is_error


# ---- Answers: tool calls ----


@pytest.mark.parametrize(
    ("item", "expected"),
    [
        pytest.param(
            LIST_FILES, ToolCall("call_1", "list_files", "function_call", "client", '{"dir":"."}'), id="function"
        ),
        pytest.param(
            {"type": "function_call", "call_id": "call_1", "name": "now", "arguments": ""},
            ToolCall("call_1", "now", "function_call", "client", "{}"),
            id="no-arguments",
        ),
        pytest.param(
            {"type": "function_call", "call_id": "call_1", "name": "find", "namespace": "crm", "arguments": "{}"},
            ToolCall("call_1", "crm.find", "function_call", "client", "{}"),
            id="declared-namespace",
        ),
        pytest.param(
            {"type": "function_call", "call_id": "call_1", "name": "find", "namespace": "find", "arguments": "{}"},
            ToolCall("call_1", "find", "function_call", "client", "{}"),
            id="undeclared-namespace",
        ),
        pytest.param(
            {"type": "custom_tool_call", "id": "ctc_1", "call_id": "call_1", "name": "patch", "input": "*** begin"},
            ToolCall("call_1", "patch", "custom_tool_call", "client", "*** begin"),
            id="custom",
        ),
        pytest.param(
            {"type": "local_shell_call", "call_id": "call_1", "action": {"type": "exec", "command": ["ls", "-l"]}},
            ToolCall("call_1", "local_shell", "local_shell_call", "client", '{"type":"exec","command":["ls","-l"]}'),
            id="local-shell",
        ),
        pytest.param(
            {"type": "shell_call", "call_id": "call_1", "action": {"commands": ["ls"], "timeout_ms": Decimal("1.50")}},
            ToolCall("call_1", "shell", "shell_call", "client", '{"commands":["ls"],"timeout_ms":1.50}'),
            id="shell",
        ),
        pytest.param(
            {"type": "shell_call", "call_id": "call_1", "environment": {"type": "container_reference"}},
            ToolCall("call_1", "shell", "shell_call", "server", "{}"),
            id="shell-in-the-providers-container",
        ),
        pytest.param(
            {"type": "apply_patch_call", "call_id": "call_1", "operation": {"type": "delete_file", "path": "a"}},
            ToolCall("call_1", "apply_patch", "apply_patch_call", "client", '{"type":"delete_file","path":"a"}'),
            id="apply-patch",
        ),
        pytest.param(
            {"type": "computer_call", "call_id": "call_1", "actions": [{"type": "wait"}]},
            ToolCall("call_1", "computer", "computer_call", "client", '[{"type":"wait"}]'),
            id="computer",
        ),
        pytest.param(
            {"type": "mcp_call", "id": "mcp_1", "server_label": "wiki", "name": "page", "arguments": '{"n":1}'},
            ToolCall("mcp_1", "page", "mcp_call", "server", '{"n":1}'),
            id="mcp",
        ),
        pytest.param(
            {"type": "web_search_call", "id": "ws_1", "status": "searching", "action": {"query": "news"}},
            ToolCall("ws_1", "web_search", "web_search_call", "server", '{"query":"news"}'),
            id="web-search",
        ),
        pytest.param(
            {"type": "code_interpreter_call", "id": "ci_1", "code": "1 + 1", "outputs": None},
            ToolCall("ci_1", "code_interpreter", "code_interpreter_call", "server", "1 + 1"),
            id="code-interpreter",
        ),
        pytest.param(
            {"type": "image_generation_call", "id": "ig_1", "result": "iVBORw0KGgo="},
            ToolCall("ig_1", "image_generation", "image_generation_call", "server", "{}"),
            id="picture-is-not-kept",
        ),
        pytest.param(
            {
                "type": "tool_search_call",
                "id": "ts_1",
                "call_id": None,
                "arguments": {"q": "mail"},
                "execution": "server",
            },
            ToolCall("ts_1", "tool_search", "tool_search_call", "server", '{"q":"mail"}'),
            id="tool-search",
        ),
        pytest.param(
            {"type": "tool_search_call", "id": "ts_1", "call_id": "call_1", "arguments": {}, "execution": "client"},
            ToolCall("call_1", "tool_search", "tool_search_call", "client", "{}"),
            id="tool-search-by-client",
        ),
        pytest.param(
            {"type": "x_search_call", "id": "xs_1", "call_id": "", "name": "x_search", "arguments": '{"q":"a"}'},
            ToolCall("xs_1", "x_search", "x_search_call", "server", '{"q":"a"}'),
            id="x-search",
        ),
        pytest.param(
            {"type": "mcp_approval_request", "id": "mcpr_1", "name": "page", "arguments": "{}"}, None, id="approval"
        ),
        pytest.param({"type": "mcp_list_tools", "id": "mcpl_1", "tools": [{"name": "page"}]}, None, id="mcp-list"),
        pytest.param(
            {"type": "custom_tool_call", "call_id": "call_1", "name": "patch", "input": "a\0b\ud800"},
            ToolCall("call_1", "patch", "custom_tool_call", "client", "ab\ufffd"),
            id="cleaned",
        ),
        pytest.param({"type": "next_years_item", "name": "page"}, None, id="unknown-type"),
        pytest.param(
            {"type": "function_call", "call_id": "call_1", "name": "ls", "arguments": {"n": Decimal("1.50")}},
            ToolCall("call_1", "ls", "function_call", "client", '{"n":1.50}'),
            id="arguments-are-an-object",
        ),
        pytest.param(
            {"type": "program", "id": "p_1", "call_id": "call_1", "code": "await ls()", "fingerprint": "x"},
            ToolCall("call_1", "program", "program", "server", "await ls()"),
            id="program",
        ),
        pytest.param(
            {
                "type": "multi_agent_call",
                "call_id": "call_1",
                "action": "spawn_agent",
                "arguments": '{"n":1}',
                "agent": {"agent_name": "root"},
            },
            ToolCall("call_1", "spawn_agent", "multi_agent_call", "server", '{"n":1}'),
            id="multi-agent",
        ),
        pytest.param(
            {"type": "multi_agent_call", "call_id": "call_1", "action": "list_agents", "arguments": ""},
            ToolCall("call_1", "list_agents", "multi_agent_call", "server", "{}"),
            id="multi-agent-without-arguments",
        ),
        pytest.param(
            {"type": "openrouter:bash", "id": "st_1", "call_id": "call_1", "arguments": '{"command":"ls"}'},
            ToolCall("call_1", "openrouter:bash", "openrouter:bash", "server", '{"command":"ls"}'),
            id="openrouter-arguments",
        ),
        pytest.param(
            {"type": "openrouter:web_search", "id": "st_1", "action": {"type": "search", "query": "pager"}},
            ToolCall(
                "st_1", "openrouter:web_search", "openrouter:web_search", "server", '{"type":"search","query":"pager"}'
            ),
            id="openrouter-action",
        ),
        pytest.param(
            {"type": "openrouter:memory", "id": "st_1", "action": "write", "key": "k", "value": {"n": 1}},
            ToolCall(
                "st_1",
                "openrouter:memory",
                "openrouter:memory",
                "server",
                '{"action":"write","key":"k","value":{"n":1}}',
            ),
            id="openrouter-loose-fields",
        ),
        pytest.param(
            {"type": "openrouter:subagent", "id": "st_1", "name": "scout", "task_name": "look", "outcome": "found"},
            ToolCall("st_1", "openrouter:subagent", "openrouter:subagent", "server", '{"task_name":"look"}'),
            id="openrouter-agent-is-not-the-tool",
        ),
        pytest.param(
            {"type": "openrouter:next_years_tool", "id": "st_1"},
            ToolCall("st_1", "openrouter:next_years_tool", "openrouter:next_years_tool", "server", "{}"),
            id="openrouter-unknown-tool",
        ),
        pytest.param(
            {"type": "image_generation_call", "id": "ig_1", "action": "generate", "revised_prompt": "a pager"},
            ToolCall(
                "ig_1",
                "image_generation",
                "image_generation_call",
                "server",
                '{"action":"generate","revised_prompt":"a pager"}',
            ),
            id="picture-that-was-asked-for",
        ),
    ],
)
@pytest.mark.parametrize("way", ["body", "terminal", "items"])
def test_a_call_reads_the_same_whichever_way_it_comes(way, item, expected):
    reader = responses.reader(RequestFacts(namespaces=frozenset({"crm"})))
    if way == "body":
        reader.body(response(output=[item]))
    else:
        reader.event(item_done(0, item))
        reader.event(ends(output=[item] if way == "terminal" else []))
    assert reader.finish().tool_calls == ([expected] if expected else [])


CALL_A: Json = {"type": "function_call", "id": "fc_a", "call_id": "call_a", "name": "read", "arguments": ""}
CALL_B: Json = {"type": "custom_tool_call", "id": "ctc_b", "call_id": "call_b", "name": "patch", "input": ""}
FULL_A = CALL_A | {"arguments": '{"path":"a"}'}
FULL_B = CALL_B | {"input": "+ line"}


@pytest.mark.parametrize(
    ("events", "expected"),
    [
        pytest.param(
            [item_done(1, FULL_B), item_done(0, FULL_A), ends()], ['{"path":"a"}', "+ line"], id="in-order-of-position"
        ),
        pytest.param([item_done(0, FULL_A), ends(output=[FULL_B])], ["+ line"], id="terminal-output-instead"),
        pytest.param(
            [item_done(0, FULL_A), ends(output=["odd", None])], ['{"path":"a"}'], id="terminal-output-unusable"
        ),
        pytest.param([item_done(0, FULL_A)], ['{"path":"a"}'], id="cut-after-item"),
        pytest.param(
            [
                added(0, CALL_A),
                delta("function_call_arguments", 0, '{"pa'),
                delta("function_call_arguments", 0, 'th":'),
            ],
            ['{"path":'],
            id="cut-in-arguments",
        ),
        pytest.param([added(0, FULL_A)], ['{"path":"a"}'], id="announced-in-full"),
        pytest.param(
            [added(0, FULL_A), delta("function_call_arguments", 0, '{"path":"a"}')], ['{"path":"a"}'], id="not-twice"
        ),
        pytest.param(
            [
                added(0, CALL_A),
                delta("function_call_arguments", 0, '{"pa'),
                {"type": "response.function_call_arguments.done", "output_index": 0, "arguments": '{"path":"a"}'},
            ],
            ['{"path":"a"}'],
            id="arguments-done",
        ),
        pytest.param(
            [added(0, CALL_A), delta("function_call_arguments", 0, '{"path":"a"}'), item_done(0, CALL_A), ends()],
            ['{"path":"a"}'],
            id="item-done-without-arguments",
        ),
        pytest.param(
            [
                added(0, CALL_A | {"id": "one"}),
                delta("function_call_arguments", 0, '{"path":', item_id="two"),
                delta("function_call_arguments", 0, '"a"}', item_id="three"),
                item_done(0, CALL_A | {"id": "four"}),
                ends(),
            ],
            ['{"path":"a"}'],
            id="ids-differ-in-every-event",
        ),
        pytest.param(
            [
                added(None, CALL_A),
                added(None, CALL_B),
                delta("function_call_arguments", None, '{"path":"a"}', item_id="fc_a"),
                item_done(None, CALL_A),
                item_done(None, FULL_B),
                ends(),
            ],
            ['{"path":"a"}', "+ line"],
            id="by-item-id-without-output-index",
        ),
        pytest.param(
            [
                added(None, {"type": "function_call", "name": "read"}),
                delta("function_call_arguments", None, '{"path":"a"}'),
                item_done(None, {"type": "function_call", "name": "read"}),
                item_done(None, {"type": "custom_tool_call", "name": "patch", "input": "+ line"}),
                ends(),
            ],
            ['{"path":"a"}', "+ line"],
            id="in-turn-without-any-key",
        ),
        pytest.param(
            [
                added(0, {"type": "shell_call", "call_id": "call_1", "action": {"commands": []}}),
                {"type": "response.shell_call_command.added", "output_index": 0, "command_index": 0, "command": ""},
                delta("shell_call_command", 0, "ls", command_index=0),
                item_done(0, {"type": "shell_call", "call_id": "call_1", "action": {"commands": ["ls"]}}),
                ends(),
            ],
            ['{"commands":["ls"]}'],
            id="shell-command-in-pieces",
        ),
        pytest.param(
            [
                added(0, CALL_A),
                {"type": "response.function_call_arguments.done", "output_index": 0, "arguments": {"path": "a"}},
            ],
            ['{"path":"a"}'],
            id="arguments-done-as-object",
        ),
    ],
)
def test_arguments_of_streamed_calls(events, expected):
    assert [call.arguments for call in read(*events).tool_calls] == expected


BEGINS_A, BEGINS_B = ({key: call[key] for key in call if key != "id"} for call in (CALL_A, CALL_B))


@pytest.mark.parametrize("ends_early", [False, True], ids=["whole", "cut"])
@pytest.mark.parametrize(
    "events",
    [
        pytest.param(
            [
                added(None, BEGINS_A),
                delta("function_call_arguments", None, '{"path":"a"}', item_id="call_a"),
                added(None, BEGINS_B),
                delta("custom_tool_call_input", None, "+ line", item_id="call_b"),
                item_done(None, BEGINS_A | {"arguments": '{"path":"a"}'}),
                item_done(None, BEGINS_B | {"input": "+ line"}),
            ],
            id="call-id-only",
        ),
        pytest.param(
            [
                added(None, BEGINS_A),
                delta("function_call_arguments", None, '{"path":"a"}'),
                added(None, BEGINS_B),
                delta("custom_tool_call_input", None, "+ line"),
            ],
            id="deltas-without-any-id",
        ),
        pytest.param(
            [
                added(0, CALL_A),
                added(0, CALL_B),
                delta("custom_tool_call_input", 0, "+ line", item_id="ctc_b"),
                delta("function_call_arguments", 0, '{"path":"a"}', item_id="fc_a"),
                item_done(0, FULL_A),
                item_done(0, FULL_B),
            ],
            id="one-index-for-all",
        ),
        pytest.param(
            [
                added(0, CALL_A),
                delta("function_call_arguments", 0, '{"path":"a"}'),
                item_done(0, FULL_A),
                added(0, CALL_B | {"call_id": "call_b", "id": "fc_a"}),
                delta("custom_tool_call_input", 0, "+ line"),
                item_done(0, FULL_B | {"id": "fc_a"}),
            ],
            id="index-and-id-used-again",
        ),
        pytest.param([item_done(0, FULL_A), item_done(0, FULL_B)], id="finished-items-with-one-index"),
        pytest.param([item_done(None, FULL_A), item_done(None, FULL_B)], id="finished-items-only"),
    ],
)
def test_calls_are_told_apart_however_little_the_events_say(events, ends_early):
    answer = read(*events) if ends_early else read(*events, ends())
    assert [(call.call_id, call.name, call.arguments) for call in answer.tool_calls] == [
        ("call_a", "read", '{"path":"a"}'),
        ("call_b", "patch", "+ line"),
    ]


@pytest.mark.parametrize("index", [0, None])
def test_calls_with_one_and_the_same_id_stay_two(index):
    again = FULL_A | {"name": "write"}
    answer = read(added(index, FULL_A), item_done(index, FULL_A), added(index, again), item_done(index, again))
    assert [call.name for call in answer.tool_calls] == ["read", "write"]


@pytest.mark.parametrize(
    "events",
    [
        [added(0, CALL_A), item_done(0, FULL_A | {"name": ""})],
        [added(0, CALL_A | {"name": "re"}), item_done(0, FULL_A)],
        [
            added(0, CALL_A | {"name": None}),
            {"type": "response.function_call_arguments.done", "output_index": 0, "name": "read", "arguments": "{}"},
        ],
        [added(0, CALL_A), item_done(0, {"type": "function_call", "arguments": "{}"})],
    ],
    ids=["only-at-first", "whole-at-last", "beside-the-arguments", "finished-item-says-less"],
)
def test_the_name_of_a_call_may_come_in_any_of_its_events(events):
    assert [(call.call_id, call.name) for call in read(*events).tool_calls] == [("call_a", "read")]


def test_messages_at_one_index_are_all_text():
    one, two = (SAY_HELLO | {"id": text, "content": [{"type": "output_text", "text": text}]} for text in ("one", "two"))
    events = [added(0, one), delta("output_text", 0, "one"), item_done(0, one), added(0, two)]
    assert read(*events, delta("output_text", 0, "two")).text == "one\ntwo"
    assert read(*events, item_done(0, two)).text == "one\ntwo"


@pytest.mark.parametrize(
    ("item", "content", "is_error"),
    [
        pytest.param(
            {"type": "code_interpreter_call", "outputs": [{"type": "logs", "logs": "1"}, {"type": "image"}]},
            "1",
            None,
            id="logs",
        ),
        pytest.param(
            {
                "type": "code_interpreter_call",
                "status": "failed",
                "outputs": [{"type": "logs", "logs": "ZeroDivisionError"}],
            },
            "ZeroDivisionError",
            True,
            id="logs-of-a-failure",
        ),
        pytest.param(
            {
                "type": "file_search_call",
                "status": "completed",
                "results": [{"file_id": "f", "filename": "a.md", "score": 0.5, "text": "one"}, {"text": "two"}],
            },
            "one\ntwo",
            False,
            id="file-search",
        ),
        pytest.param(
            {"type": "web_search_call", "results": [{"title": "A pager", "url": "https://x.example"}]},
            "A pager\nhttps://x.example",
            None,
            id="search-hits",
        ),
        pytest.param(
            {"type": "image_generation_call", "status": "failed", "error": {"type": "blocked", "message": "No."}},
            "No.",
            True,
            id="picture-refused",
        ),
        pytest.param({"type": "web_search_call", "status": "failed"}, "", True, id="failure-without-words"),
        pytest.param({"type": "file_search_call", "status": "incomplete"}, "", True, id="not-finished"),
        pytest.param(
            {"type": "mcp_call", "name": "page", "status": "failed", "error": None}, "", True, id="mcp-without-words"
        ),
        pytest.param(
            {"type": "openrouter:bash", "status": "completed", "exit_code": 2, "stdout": "a", "stderr": "b"},
            "a\nb",
            True,
            id="exit-code",
        ),
        pytest.param(
            {"type": "openrouter:shell", "output": [{"stdout": "a", "outcome": {"type": "timeout"}}]},
            '[{"stdout":"a","outcome":{"type":"timeout"}}]',
            True,
            id="time-out",
        ),
        pytest.param(
            {"type": "openrouter:web_fetch", "status": "completed", "url": "https://x.example", "content": "words"},
            "words",
            False,
            id="page",
        ),
        pytest.param(
            {"type": "openrouter:subagent", "status": "failed", "error": "no outcome"}, "no outcome", True, id="agent"
        ),
        pytest.param(
            {"type": "openrouter:fusion", "status": "completed", "responses": [{"model": "m", "content": "words"}]},
            "words",
            False,
            id="panel",
        ),
        pytest.param(
            {"type": "openrouter:fusion", "status": "completed", "failure_reason": "nobody answered"},
            "nobody answered",
            True,
            id="panel-failed",
        ),
        pytest.param({"type": "openrouter:advisor", "advice": "Rest."}, "Rest.", None, id="advice"),
        pytest.param({"type": "x_search_call", "name": "x_search", "output": ["hit"]}, '["hit"]', None, id="json"),
    ],
)
@pytest.mark.parametrize("way", ["body", "terminal", "items"])
def test_what_came_of_a_server_run_call_stands_in_its_item(way, item, content, is_error):
    item = item | {"id": "st_1"}
    if way == "body":
        answer = read_body(response(output=[item]))
    else:
        answer = read(added(0, item), item_done(0, item), ends(output=[item] if way == "terminal" else []))
    name = answer.tool_calls[0].name
    assert answer.tool_results == [ToolResult("st_1", name, content, is_error)]
    assert answer.error is None


@pytest.mark.parametrize(
    "item",
    [
        {"type": "web_search_call", "status": "completed", "action": {"type": "search", "query": "pager"}},
        {"type": "file_search_call", "status": "completed", "results": []},
        {"type": "code_interpreter_call", "status": "completed", "outputs": None},
        {"type": "code_interpreter_call", "outputs": [{"type": "image", "url": "https://x.example/plot.png"}]},
        {"type": "image_generation_call", "status": "completed", "result": "iVBORw0KGgo="},
        {"type": "openrouter:image_generation", "status": "completed", "result": "iVBORw0KGgo="},
        {"type": "openrouter:bash", "status": "completed", "exit_code": 0, "stdout": "", "stderr": ""},
        {"type": "function_call", "name": "ls", "status": "incomplete"},
    ],
    ids=lambda item: item["type"],
)
def test_a_call_that_brought_no_text_and_did_not_fail_has_no_result(item):
    assert read_body(response(output=[item])).tool_results == []


@pytest.mark.parametrize(
    ("call", "output", "expected"),
    [
        pytest.param(
            {"type": "program", "call_id": "call_1", "code": "1"},
            {"type": "program_output", "call_id": "call_1", "result": "1", "status": "completed"},
            ToolResult("call_1", "program", "1", False),
            id="program",
        ),
        pytest.param(
            {"type": "program", "call_id": "call_1", "code": "1"},
            {"type": "program_output", "call_id": "call_1", "result": "", "status": "incomplete"},
            ToolResult("call_1", "program", "", True),
            id="program-that-did-not-end",
        ),
        pytest.param(
            {"type": "multi_agent_call", "call_id": "call_1", "action": "spawn_agent", "arguments": "{}"},
            {
                "type": "multi_agent_call_output",
                "call_id": "call_1",
                "action": "spawn_agent",
                "output": [{"type": "output_text", "text": "started"}],
            },
            ToolResult("call_1", "spawn_agent", "started", None),
            id="multi-agent",
        ),
        pytest.param(
            {"type": "tool_search_call", "id": "ts_1", "call_id": None, "execution": "server"},
            {"type": "tool_search_output", "id": "tso_1", "call_id": None, "execution": "server", "tools": []},
            ToolResult("tso_1", "tool_search", "", None),
            id="tool-search",
        ),
    ],
)
def test_results_of_the_server_in_items_of_their_own(call, output, expected):
    assert read_body(response(output=[call, output])).tool_results == [expected]
    assert read(item_done(0, call), item_done(1, output)).tool_results == [expected]
    assert read_body(response(output=[output])).tool_results == [expected]  # without its call


def test_a_failed_call_has_a_result_also_in_a_cut_stream():
    events = [added(0, MCP_CALL), {"type": "response.mcp_call.failed", "output_index": 0, "item_id": "mcp_1"}]
    assert read(*events).tool_results == [ToolResult("mcp_1", "page", "", True)]
    told = item_done(0, MCP_CALL | {"error": "no such page"})
    assert read(*events, told).tool_results == [ToolResult("mcp_1", "page", "no such page", True)]


def test_the_output_of_the_providers_shell_is_kept_in_a_cut_stream():
    family = "shell_call_output_content"
    events = [
        added(0, {"type": "shell_call", "call_id": "call_1", "environment": {"type": "container_reference"}}),
        added(1, {"type": "shell_call_output", "call_id": "call_1", "output": []}),
        {"type": f"response.{family}.delta", "output_index": 1, "command_index": 0, "delta": {"stdout": "a"}},
        {"type": f"response.{family}.delta", "output_index": 1, "command_index": 0, "delta": {"stderr": "b"}},
    ]
    assert read(*events).tool_results == [ToolResult("call_1", "shell", "ab", None)]
    outputs = [{"stdout": "a", "stderr": "b", "outcome": {"type": "exit", "exit_code": 0}}]
    whole = {"type": f"response.{family}.done", "output_index": 1, "command_index": 0, "output": outputs}
    assert [result.content for result in read(*events, whole).tool_results] == [
        '[{"stdout":"a","stderr":"b","outcome":{"type":"exit","exit_code":0}}]'
    ]


MCP_CALL: Json = {"type": "mcp_call", "id": "mcp_1", "name": "page", "arguments": "{}"}


@pytest.mark.parametrize(
    ("outcome", "expected"),
    [
        pytest.param({"error": "no such page"}, ToolResult("mcp_1", "page", "no such page", True), id="error-is-text"),
        pytest.param(
            {"error": {"type": "http_error", "code": 404, "message": "no such page"}},
            ToolResult("mcp_1", "page", "no such page", True),
            id="error-is-object",
        ),
        pytest.param(
            {"error": {"type": "mcp_tool_execution_error", "content": [{"type": "text", "text": "no such page"}]}},
            ToolResult("mcp_1", "page", "no such page", True),
            id="error-has-content",
        ),
        pytest.param({"error": {"code": 5}}, ToolResult("mcp_1", "page", '{"code":5}', True), id="error-has-no-words"),
        pytest.param({"error": None, "output": "text"}, ToolResult("mcp_1", "page", "text", False), id="good"),
        pytest.param({"error": {}, "output": ""}, ToolResult("mcp_1", "page", "", False), id="good-and-empty"),
        pytest.param({"error": None, "output": None}, None, id="not-run"),
    ],
)
def test_a_failed_mcp_tool_is_no_error_of_the_answer(outcome, expected):
    answer = read(item_done(0, MCP_CALL | outcome), ends(usage=USAGE))
    assert answer.tool_results == ([expected] if expected else [])
    assert answer.error is None


def test_results_of_the_providers_shell_are_named_by_their_call():
    answer = read_body(
        response(
            output=[
                {"type": "shell_call", "call_id": "call_1", "environment": {"type": "container_reference"}},
                {"type": "shell_call_output", "call_id": "call_1", "output": [{"outcome": {"type": "timeout"}}]},
            ]
        )
    )
    assert [(result.name, result.is_error) for result in answer.tool_results] == [("shell", True)]


# ---- Answers: text ----


@pytest.mark.parametrize(
    ("events", "text", "reasoning"),
    [
        pytest.param(
            [
                added(0, SAY_HELLO | {"content": []}),
                delta("output_text", 0, "Hel", content_index=0),
                delta("output_text", 0, "lo.", content_index=0),
            ],
            "Hello.",
            "",
            id="deltas",
        ),
        pytest.param(
            [
                delta("output_text", 0, "Hello.", content_index=0),
                {"type": "response.output_text.done", "output_index": 0, "content_index": 0, "text": "Hello."},
                {"type": "response.content_part.done", "output_index": 0, "part": SAY_HELLO["content"][0]},
                item_done(0, SAY_HELLO),
                ends(output=[SAY_HELLO]),
            ],
            "Hello.",
            "",
            id="once",
        ),
        pytest.param(
            [delta("output_text", 0, "Hello.", content_index=0), item_done(0, SAY_HELLO | {"content": []}), ends()],
            "Hello.",
            "",
            id="finished-item-without-its-text",
        ),
        pytest.param([delta("refusal", 0, "I will not.", content_index=0), ends()], "I will not.", "", id="refusal"),
        pytest.param(
            [delta("output_text", 1, "two"), delta("output_text", 0, "one"), ends()], "one\ntwo", "", id="by-position"
        ),
        pytest.param(
            [
                delta("reasoning_summary_text", 0, "First, ", summary_index=0),
                delta("reasoning_summary_text", 0, "look.", summary_index=0),
                delta("reasoning_summary_text", 0, "Then act.", summary_index=1),
                delta("reasoning_text", 0, "Hm.", content_index=0),
                item_done(0, {"type": "reasoning", "summary": [], "encrypted_content": "gAAA"}),
            ],
            "",
            "First, look.\nThen act.\nHm.",
            id="reasoning-deltas",
        ),
        pytest.param(
            [
                delta("reasoning_summary_text", 0, "Loo", summary_index=0),
                item_done(0, {"type": "reasoning", "summary": [{"type": "summary_text", "text": "Look."}]}),
            ],
            "",
            "Look.",
            id="reasoning-item",
        ),
        pytest.param(
            [
                {"type": "response.created", "response": response(instructions="Be brief.", tools=[LIST_FILES])},
                ends(instructions=[SAY_HELLO], tools=[LIST_FILES]),
            ],
            "",
            "",
            id="echoed-settings-are-no-output",
        ),
        pytest.param([delta("output_text", 0, "a\0b\ud800"), ends()], "ab\ufffd", "", id="cleaned"),
        pytest.param(
            [
                {
                    "type": "response.reasoning_summary_part.done",
                    "output_index": 0,
                    "part": part("summary_text", "Hm."),
                },
                {"type": "response.content_part.done", "output_index": 1, "part": part("reasoning_text", "Look.")},
                {"type": "response.content_part.done", "output_index": 2, "part": part("output_text", "Hello.")},
            ],
            "Hello.",
            "Hm.\nLook.",
            id="finished-parts-only",
        ),
        pytest.param(
            [
                delta("output_text", 0, "Hel"),
                delta("output_text", 0, "lo."),
                {
                    "type": "response.content_part.done",
                    "output_index": 0,
                    "content_index": 0,
                    "part": part("output_text", "Hello."),
                },
            ],
            "Hello.",
            "",
            id="finished-part-after-its-pieces",
        ),
        pytest.param(
            [
                {"type": "response.audio.transcript.delta", "delta": "Hel"},
                {"type": "response.audio.delta", "delta": "UklGR"},
                {"type": "response.audio.transcript.delta", "delta": "lo."},
                {"type": "response.audio.transcript.done"},
            ],
            "Hello.",
            "",
            id="spoken",
        ),
        pytest.param(
            [
                item_done(
                    0, SAY_HELLO | {"content": [{"type": "output_audio", "data": "UklGR", "transcript": "Hello."}]}
                )
            ],
            "Hello.",
            "",
            id="spoken-item",
        ),
        pytest.param(
            [
                item_done(
                    0, {"type": "agent_message", "content": [part("input_text", "Look."), part("text", "Found.")]}
                ),
                item_done(1, SAY_HELLO | {"agent": {"agent_name": "root"}}),
            ],
            "Look.\nFound.\nHello.",
            "",
            id="between-agents",
        ),
    ],
)
def test_text_and_reasoning(events, text, reasoning):
    answer = read(*events)
    assert (answer.text, answer.reasoning, answer.tool_calls) == (text, reasoning, [])


@pytest.mark.parametrize(
    ("event", "started"),
    [
        ({"type": "response.created", "response": response()}, False),
        (added(0, {"type": "reasoning", "summary": []}), False),
        (added(0, SAY_HELLO | {"content": []}), False),
        (delta("output_text", 0, ""), False),
        ({"type": "response.image_generation_call.partial_image", "partial_image_b64": "iVBO"}, False),
        (delta("output_text", 0, "H"), True),
        (delta("refusal", 0, "I"), True),
        (delta("reasoning_text", 0, "H"), True),
        (delta("function_call_arguments", 0, "{"), True),
        (added(0, CALL_A), True),
        (item_done(0, SAY_HELLO), True),
        (ends(output=[SAY_HELLO]), True),
    ],
)
def test_the_first_token_is_text_reasoning_or_part_of_a_call(event, started):
    reader = responses.reader(RequestFacts())
    reader.event(event)
    assert reader.answer.started is started


def test_pieces_of_pictures_are_not_kept():
    reader = responses.reader(RequestFacts())
    picture = {
        "type": "response.image_generation_call.partial_image",
        "output_index": 0,
        "partial_image_b64": "iVBORw0",
    }
    reader.event(picture)
    reader.event({"type": "response.audio.delta", "delta": "UklGR"})
    assert reader.finish() == Answer(recognised=True)


# ---- Answers: end, usage, facts ----


@pytest.mark.parametrize(
    ("events", "expected"),
    [
        pytest.param([ends()], ("completed", None, True), id="completed"),
        pytest.param(
            [ends("incomplete", incomplete_details={"reason": "max_output_tokens"})],
            ("incomplete", "max_output_tokens", True),
            id="max-tokens",
        ),
        pytest.param(
            [ends("incomplete", incomplete_details={"reason": "content_filter"})],
            ("incomplete", "content_filter", True),
            id="content-filter",
        ),
        pytest.param(
            [ends("incomplete", incomplete_details={"reason": "steered"})],
            ("incomplete", "steered", True),
            id="steered",
        ),
        pytest.param([ends("cancelled")], ("cancelled", None, True), id="cancelled"),
        pytest.param([ends("failed")], ("failed", None, True), id="failed"),
        pytest.param([{"type": "response.completed"}], ("completed", None, True), id="terminal-event-is-bare"),
        pytest.param(
            [{"type": "response.in_progress", "response": response(status="in_progress")}],
            (None, None, False),
            id="cut",
        ),
    ],
)
def test_the_end_of_a_stream(events, expected):
    answer = read(*events)
    assert (answer.finish_reason, answer.finish_detail, answer.ended) == expected


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"status": "completed"}, ("completed", None, True)),
        ({}, ("completed", None, True)),
        (
            {"status": "incomplete", "incomplete_details": {"reason": "content_filter"}},
            ("incomplete", "content_filter", True),
        ),
        ({"status": "failed"}, ("failed", None, True)),
        ({"status": "cancelled"}, ("cancelled", None, True)),
    ],
)
def test_done_ends_a_stream_by_its_status(fields, expected):
    answer = read({"type": "response.done", "response": {"object": "response", "usage": USAGE} | fields})
    assert (answer.finish_reason, answer.finish_detail, answer.ended) == expected
    assert (answer.usage, answer.usage_final) == (COUNTS, True)
    assert (answer.error is not None) is (answer.finish_reason == "failed")


def test_a_second_end_that_says_less_takes_nothing_away():
    end = ends("incomplete", incomplete_details={"reason": "max_output_tokens"}, usage=USAGE, output=[SAY_HELLO])
    assert read(end, {"type": "response.done"}) == read(end)


def test_done_marker_alone_is_no_end():
    reader = responses.reader(RequestFacts())
    reader.event(delta("output_text", 0, "Hel"))
    reader.done()
    assert not reader.finish().ended


def test_the_event_line_names_an_event_without_type():
    reader = responses.reader(RequestFacts())
    reader.event({"response": response(usage=USAGE)}, "response.completed")
    assert reader.answer.usage == COUNTS


def test_type_decides_against_the_event_line():
    reader = responses.reader(RequestFacts())
    reader.event(delta("output_text", 0, "Hi"), "response.completed")
    assert not reader.answer.ended


@pytest.mark.parametrize(
    ("usage", "expected"),
    [
        pytest.param(USAGE, COUNTS, id="all"),
        pytest.param(
            {"input_tokens": 5, "output_tokens": 0, "input_tokens_details": None},
            Usage(input_tokens=5, output_tokens=0),
            id="no-details",
        ),
        pytest.param(
            {
                "input_tokens": Decimal("12.0"),
                "output_tokens": "12",
                "output_tokens_details": {"reasoning_tokens": True},
            },
            Usage(input_tokens=12, output_tokens=12),
            id="numbers-of-other-types",
        ),
        pytest.param({"input_tokens": -1, "output_tokens": [], "input_tokens_details": 5}, Usage(), id="nonsense"),
        pytest.param(None, Usage(), id="null"),
    ],
)
def test_usage(usage, expected):
    streamed, whole = read(ends(usage=usage)), read_body(response(usage=usage))
    assert streamed.usage == whole.usage == expected
    assert streamed.usage_final is whole.usage_final is (usage is not None)
    assert streamed.reported_usage == whole.reported_usage == usage


@pytest.mark.parametrize(
    ("total", "counts", "warnings"),
    [
        (1010, Usage(input_tokens=1000, cache_read_tokens=600, cache_write_tokens=300, output_tokens=10), []),
        (1910, Usage(input_tokens=1900, cache_read_tokens=600, cache_write_tokens=300, output_tokens=10), []),
        (
            1234,
            Usage(input_tokens=1000, cache_read_tokens=600, cache_write_tokens=300, output_tokens=10),
            ["usage_ambiguous"],
        ),
    ],
    ids=["included", "beside", "neither"],
)
def test_cache_counts_under_anthropics_names(total, counts, warnings):
    usage = {
        "input_tokens": 1000,
        "cache_read_input_tokens": 600,
        "cache_creation_input_tokens": 300,
        "output_tokens": 10,
        "total_tokens": total,
    }
    for answer in (read(ends(usage=usage)), read_body(response(usage=usage))):
        assert (answer.usage, answer.warnings) == (counts, warnings)


def test_tokens_that_only_the_total_counts_are_hidden():
    usage = {"input_tokens": 10, "output_tokens": 5, "total_tokens": 90}
    assert read(ends(usage=usage)).hidden_tokens
    assert read_body(response(usage=usage)).hidden_tokens
    assert not read(ends(usage=USAGE)).hidden_tokens


IMAGE_TOKENS = {"input_tokens": 30, "output_tokens": 70, "total_tokens": 100}
SEARCH: Json = {"type": "web_search_call", "id": "ws_1", "status": "completed", "action": {"type": "search"}}


@pytest.mark.parametrize(
    ("tool_usage", "output", "fees"),
    [
        pytest.param({"web_search": {"num_requests": 3}}, [], {"web_searches": 3}, id="searches"),
        pytest.param({"image_gen": IMAGE_TOKENS}, [], {"image_gen": 100}, id="tokens-of-pictures"),
        pytest.param(
            {"image_gen": IMAGE_TOKENS | {"total_tokens": 0}, "web_search": {"num_requests": 0}}, [], {}, id="nothing"
        ),
        pytest.param({"file_search": {"num_requests": 2}}, [], {"storage_searches": 2}, id="file-searches"),
        pytest.param({"code_interpreter": {"num_sessions": 1}}, [], {"code_executions": 1}, id="code"),
        pytest.param({"oracle": {"num_requests": 1}}, [], {"oracle": 1}, id="tool-of-next-year"),
        pytest.param({"web_search": {"num_requests": 0}}, [SEARCH], {}, id="search-that-was-free"),
        pytest.param({"web_search": None, "odd": 5}, [SEARCH], {"web_searches": 1}, id="usage-says-nothing"),
        pytest.param(None, [SEARCH, SEARCH | {"id": "ws_2"}], {"web_searches": 2}, id="counted-by-calls"),
        pytest.param(None, [SEARCH | {"action": {"type": "open_page"}}], {}, id="opening-a-page-is-free"),
        pytest.param(None, [SEARCH | {"status": "failed"}], {}, id="failed-search"),
        pytest.param(
            None,
            [{"type": "file_search_call"}, {"type": "code_interpreter_call"}, {"type": "image_generation_call"}],
            {"storage_searches": 1, "code_executions": 1, "image_gen": 1},
            id="other-calls",
        ),
        pytest.param(None, [LIST_FILES, SAY_HELLO, {"type": "mcp_call", "name": "page"}], {}, id="free-tools"),
    ],
)
def test_fees_of_tools_that_the_server_runs(tool_usage, output, fees):
    fields = {"tool_usage": tool_usage, "output": output}
    items = [item_done(n, item) for n, item in enumerate(output)]
    assert read_body(response(**fields)).fees == fees
    assert read(*items, ends(**fields)).fees == fees
    assert read(*items, ends(**fields | {"output": []})).fees == fees


def test_fees_that_the_usage_names():
    usage = USAGE | {"server_tool_use": {"web_search_requests": 2}}
    assert read(ends(usage=usage, output=[SEARCH])).fees == {"web_searches": 2}
    assert read(ends(usage=usage, tool_usage={"web_search": {"num_requests": 3}})).fees == {"web_searches": 3}


@pytest.mark.parametrize(
    "answer",
    [
        lambda: read(ends(usage=USAGE), {"type": "ping", "cost": "0.00042"}),
        lambda: read(ends(usage=USAGE), {"choices": [], "cost": "0.00042"}),
        lambda: read({"type": "ping", "cost": "0.1"}, {"type": "ping", "cost": "0.00042"}, ends(usage=USAGE)),
        lambda: read(ends(usage=USAGE, cost="0.00042")),
        lambda: read(ends(usage=USAGE) | {"cost": "0.00042"}),
        lambda: read_body(response(usage=USAGE, cost="0.00042")),
    ],
    ids=["ping", "frame", "newest", "response", "event", "body"],
)
def test_the_gateways_own_figure_outside_of_the_usage(answer):
    found = answer()
    assert (found.own_cost, found.usage, found.error) == ("0.00042", COUNTS, None)


def test_what_comes_after_the_done_marker_is_read():
    reader = responses.reader(RequestFacts())
    reader.event(ends(usage=USAGE))
    reader.done()
    reader.event({"type": "ping", "cost": "0.00042"})
    assert reader.finish().own_cost == "0.00042"


def test_usage_before_the_end_is_not_final():
    answer = read({"type": "response.in_progress", "response": response(usage=USAGE)})
    assert (answer.usage, answer.usage_final) == (COUNTS, False)


def test_null_usage_after_usage_keeps_it():
    answer = read({"type": "response.in_progress", "response": response(usage=USAGE)}, ends(usage=None))
    assert (answer.usage, answer.usage_final) == (COUNTS, False)


def test_openrouter_cost_stays_in_the_usage_as_reported():
    usage = USAGE | {"cost": Decimal("0.00012340"), "is_byok": False, "cost_details": {"upstream_inference_cost": None}}
    reported = read(ends(usage=usage)).reported_usage
    assert reported == usage
    assert reported is not None
    assert str(reported["cost"]) == "0.00012340"


def test_the_terminal_event_names_id_model_and_tier():
    answer = read(
        {"type": "response.created", "response": response(id="resp_0", model="gpt-asked", service_tier="auto")},
        ends(id="resp_9", model="gpt-served", service_tier="priority"),
    )
    assert (answer.response_id, answer.model, answer.service_tier) == ("resp_9", "gpt-served", "priority")


METADATA: Json = {
    "gateway": {"cost": "0.01", "routing": {"finalProvider": "azure"}},
    "openai": {"responseId": "resp_1"},
}


@pytest.mark.parametrize("key", ["provider_metadata", "providerMetadata"])
@pytest.mark.parametrize(
    "place",
    [
        lambda metadata: read_body(response(**metadata)),
        lambda metadata: read(ends(**metadata)),
        lambda metadata: read(ends() | metadata),
    ],
    ids=["body", "response", "event"],
)
def test_vercel_metadata(place, key):
    answer = place({key: METADATA, "generationId": "gen_1"})
    assert (answer.gateway, answer.generation_id) == (METADATA["gateway"], "gen_1")


# ---- Answers: whole bodies ----


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        pytest.param(
            response(usage=USAGE, output=[SAY_HELLO, LIST_FILES]),
            {"ended": True, "recognised": True, "text": "Hello.", "usage": COUNTS, "finish_reason": "completed"},
            id="completed",
        ),
        pytest.param(
            response(status="queued", usage=None, background=True),
            {"ended": True, "finish_reason": "queued", "usage": Usage(), "usage_final": False, "error": None},
            id="queued",
        ),
        pytest.param(
            {"id": "cmp_1", "object": "response.compaction", "output": [user("Hi"), LIST_FILES], "usage": USAGE},
            {"ended": True, "recognised": True, "tool_calls": [], "text": "", "usage": COUNTS, "response_id": "cmp_1"},
            id="compaction",
        ),
        pytest.param({"output": [SAY_HELLO]}, {"recognised": True, "text": "Hello."}, id="server-without-object"),
        pytest.param({"error": {"message": "no"}}, {"ended": False, "recognised": True}, id="only-an-error"),
        pytest.param({"hello": "world"}, {"ended": False, "recognised": False, "error": None}, id="something-else"),
    ],
)
def test_whole_bodies(body, expected):
    answer = read_body(body)
    assert {name: getattr(answer, name) for name in expected} == expected


# ---- Answers: errors ----

TOO_BUSY = {"type": "rate_limit_error", "code": "rate_limit_error", "message": "Too busy", "param": None}
FLAT = {"type": "error", "code": "rate_limit_error", "message": "Too busy", "param": None, "sequence_number": 3}
NESTED = {"type": "error", "error": TOO_BUSY}
FAILED = ends("failed", id="resp_2", error={"code": "rate_limit_error", "message": "Too busy"}, usage=None)


@pytest.mark.parametrize(
    ("events", "response_id"),
    [
        pytest.param([FLAT], None, id="flat"),
        pytest.param([NESTED], None, id="nested"),
        pytest.param([FAILED], "resp_2", id="failed"),
        pytest.param([FLAT, FAILED], "resp_2", id="flat-then-failed"),
        pytest.param([NESTED, FAILED], "resp_2", id="nested-then-failed"),
        pytest.param([{"error": TOO_BUSY}], None, id="bare"),
    ],
)
def test_errors_in_a_stream(events, response_id):
    answer = read(*events)
    assert answer.error is not None
    assert (answer.error.message, answer.error.type, answer.error.status) == ("Too busy", "rate_limit_error", 429)
    assert answer.response_id == response_id
    assert answer.usage == Usage()


@pytest.mark.parametrize(
    ("body", "message", "status"),
    [
        pytest.param(
            response(status="failed", error={"code": "odd", "message": "Broken"}), "Broken", None, id="failed"
        ),
        pytest.param(response(status="failed", error=None), None, None, id="failed-without-a-word"),
        pytest.param({"error": {"code": 402, "message": "No credit"}}, "No credit", 402, id="status-as-code"),
        pytest.param({"error": "Broken"}, "Broken", None, id="text"),
    ],
)
def test_errors_in_a_body(body, message, status):
    error = read_body(body).error
    assert error is not None
    assert (error.message, error.status) == (message, status)


@pytest.mark.parametrize("nothing", [None, {}, False, ""])
def test_an_empty_error_is_none(nothing):
    assert read_body(response(error=nothing)).error is None
    assert read(ends(error=nothing)).error is None


def test_an_incomplete_answer_or_a_failed_steer_is_no_error():
    steer = {"type": "response.steer.failed", "error": {"message": "too late"}}
    assert read(steer, ends("incomplete")).error is None


# ---- Whatever the network sends ----

SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | st.decimals() | st.text(max_size=8)
TYPES = st.sampled_from(
    [
        *(f"{family}.{step}" for family in responses.STREAMS for step in ("delta", "done")),
        *(f"response.{step}" for step in ("output_item.added", "output_item.done", "created", "completed", "failed")),
        *("response.done", "response.content_part.done", "response.mcp_call.failed", "ping"),
        *("error", "response", "response.compaction", "message", "input_text", "output_text", "namespace"),
        *("openrouter:bash", "program", "program_output", "multi_agent_call", "agent_message", "code_interpreter_call"),
        *("file_search_call", "web_search_call", "image_generation_call", "mcp_list_tools"),
        *("reasoning", "function_call", "mcp_call", "shell_call", "shell_call_output", "tool_search_output"),
    ]
)
KEYS = st.sampled_from(
    [
        *("type", "object", "status", "id", "call_id", "item_id", "output_index", "content_index", "delta", "item"),
        *(
            "response",
            "input",
            "output",
            "usage",
            "error",
            "model",
            "tools",
            "name",
            "namespace",
            "arguments",
            "action",
        ),
        *("role", "content", "text", "refusal", "summary", "instructions", "prompt", "conversation", "reasoning"),
        *("execution", "environment", "outcome", "incomplete_details", "provider_metadata", "max_output_tokens"),
        *("outputs", "results", "result", "stdout", "exit_code", "part", "tool_usage", "num_requests", "cost"),
    ]
)
NEARLY_RIGHT = st.recursive(
    SCALARS | TYPES,
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(KEYS, inner, max_size=4),
    max_leaves=8,
)
OBJECTS = st.dictionaries(KEYS, NEARLY_RIGHT, max_size=4)


EVENTS = st.fixed_dictionaries(
    {}, optional={"type": TYPES | NEARLY_RIGHT, "item": OBJECTS, "response": OBJECTS, "output_index": SCALARS}
).flatmap(lambda event: OBJECTS.map(lambda rest: rest | event))
REQUESTS = OBJECTS | st.fixed_dictionaries(
    {"input": st.lists(OBJECTS, max_size=3)}, optional={"tools": st.lists(OBJECTS, max_size=2)}
)


@given(st.lists(st.tuples(EVENTS, TYPES), max_size=3), OBJECTS)
def test_no_answer_makes_a_reader_raise(events, body):
    reader = responses.reader(RequestFacts())
    for event, name in events:
        reader.event(event, name)
    reader.finish()
    read_body(body)
    responses.is_answer(body)


@given(REQUESTS)
def test_no_request_makes_its_reading_raise(body):
    responses.read_request(body)
    responses.validate(body)
    responses.effort_operations(body, "high")


@given(st.lists(st.text(min_size=1), max_size=4), st.lists(st.text(min_size=1), max_size=4), st.randoms())
def test_any_interleaving_of_two_calls_gives_the_same_calls(pieces_a, pieces_b, random):
    a = [added(0, CALL_A), *(delta("function_call_arguments", 0, piece) for piece in pieces_a)]
    b = [added(1, CALL_B), *(delta("custom_tool_call_input", 1, piece) for piece in pieces_b)]
    one_by_one = read(*a, *b)
    interleaved = read(*(random.choice([left for left in (a, b) if left]).pop(0) for _ in range(len(a) + len(b))))
    assert interleaved.tool_calls == one_by_one.tool_calls
    assert [call.name for call in interleaved.tool_calls] == ["read", "patch"]


def test_a_value_nested_too_deeply_to_be_written_raises_nothing():
    nested: Any = {}
    for _ in range(20_000):
        nested = {"in": nested}
    call = {"type": "shell_call", "call_id": "call_1", "action": nested}
    calls = read(item_done(0, call), ends()).tool_calls
    assert calls == [ToolCall("call_1", "shell", "shell_call", "client", "(nested too deeply)")]
