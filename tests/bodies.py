"""Request bodies with a word in every place where one may stand."""

import json
from typing import Any

Json = dict[str, Any]
Bodies = dict[str, tuple[str, Json]]


def bodies(word: str) -> Bodies:
    """By place: an API kind, and a body that has the word there and nowhere else."""
    return {f"{kind}: {place}": (kind, body) for kind, found in _BY_KIND.items() for place, body in found(word).items()}


def uneven(word: str) -> bytes:
    """A body that cannot be taken apart, with the word in it."""
    return f'{{"messages": [ 1,2, {{"content": "{word}"}}]}}'.encode()


def _messages(word: str) -> dict[str, Json]:
    said = {"role": "user", "content": "hello"}

    def of(role: str, *blocks: Json) -> Json:
        return {
            "messages": [said, {"role": role, "content": list(blocks)}, {"role": "assistant", "content": "so"}, said]
        }

    call = {"type": "tool_use", "id": "c-1", "name": "bash", "input": {}}
    result = {"type": "tool_result", "tool_use_id": "c-1", "content": word}
    return {
        "system": {"system": f"be a {word}", "messages": [said]},
        "system part": {"system": [{"type": "text", "text": "be brief"}, {"type": "text", "text": word}]},
        "billing line": {"system": [{"type": "text", "text": f"x-anthropic-billing-header: {word}"}]},
        "tool description": {"tools": [{"name": "bash", "description": word, "input_schema": {}}], "messages": [said]},
        "parameter": {"tools": [{"name": "bash", "input_schema": {"properties": {"cmd": {"description": word}}}}]},
        "user": of("user", {"type": "text", "text": word}),
        "assistant": of("assistant", {"type": "text", "text": f"a {word} it is"}),
        "a long text": of("assistant", {"type": "text", "text": f"a {word} it is " + "and so on " * 20}),
        "reasoning": of("assistant", {"type": "thinking", "thinking": word, "signature": "c2ln"}),
        "arguments": of("assistant", call | {"input": {"text": f"line\n{word}"}}),
        "long arguments": of("assistant", call | {"input": {"text": f"line\n{word}\n" + "and so on " * 20}}),
        "old result": of("user", result),
        "new result": {
            "messages": [said, {"role": "assistant", "content": [call]}, {"role": "user", "content": [result]}]
        },
        "server's result": of("assistant", {"type": "mcp_tool_result", "tool_use_id": "c-1", "content": word}),
        "metadata": {"messages": [said], "metadata": {"user_id": word}},
    }


def _chat(word: str) -> dict[str, Json]:
    said = {"role": "user", "content": "hello"}

    def of(*messages: Json) -> Json:
        return {"messages": [said, *messages, {"role": "assistant", "content": "so"}, said]}

    arguments = json.dumps({"text": f"line\n{word}"})
    call = {"id": "c-1", "type": "function", "function": {"name": "bash", "arguments": arguments}}
    function = {"name": "bash", "description": word, "parameters": {}}
    return {
        "system": of({"role": "system", "content": word}),
        "developer": of({"role": "developer", "content": [{"type": "text", "text": word}]}),
        "tool description": {"messages": [said], "tools": [{"type": "function", "function": function}]},
        "user": of({"role": "user", "content": [{"type": "text", "text": word}]}),
        "assistant": of({"role": "assistant", "content": word}),
        "reasoning": of({"role": "assistant", "reasoning_content": word, "content": None}),
        "arguments": of({"role": "assistant", "tool_calls": [call]}),
        "old result": of({"role": "tool", "tool_call_id": "c-1", "content": word}),
        "new result": {"messages": [said, {"role": "tool", "tool_call_id": "c-1", "content": word}]},
        "metadata": {"messages": [said], "metadata": {"note": word}},
    }


def _responses(word: str) -> dict[str, Json]:
    said = {"role": "user", "content": "hello"}

    def of(*items: Json) -> Json:
        return {"input": [said, *items, {"role": "assistant", "content": "so"}, said]}

    function = {"type": "function", "name": "bash", "description": word, "parameters": {}}
    arguments = json.dumps({"text": f"line\n{word}"})
    return {
        "instructions": {"instructions": word, "input": "hello"},
        "input": {"input": word},
        "developer": of({"role": "developer", "content": word}),
        "tool description": {"input": [said], "tools": [function]},
        "tools added later": of({"type": "additional_tools", "tools": [function]}),
        "assistant": of({"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": word}]}),
        "reasoning": of({"type": "reasoning", "summary": [{"type": "summary_text", "text": word}]}),
        "arguments": of({"type": "function_call", "call_id": "c-1", "name": "bash", "arguments": arguments}),
        "action": of({"type": "local_shell_call", "call_id": "c-1", "action": {"command": ["echo", word]}}),
        "old result": of({"type": "function_call_output", "call_id": "c-1", "output": word}),
        "new result": {"input": [said, {"type": "function_call_output", "call_id": "c-1", "output": word}]},
        "server's result": of({"type": "mcp_call", "id": "c-1", "name": "find", "arguments": "{}", "output": word}),
        "metadata": {"input": [said], "client_metadata": {"note": word}},
    }


_BY_KIND = {"messages": _messages, "chat_completions": _chat, "responses": _responses}
