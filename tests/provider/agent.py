"""A small coding agent on the real SDKs: one loop per kind, for tests and for the demo.

Each loop sends `prompt`, runs the tools that the model calls on a `ToyProject`, sends the results back, and returns the
model's last text. `stream` streams every answer.
"""

import json
from typing import Any

import anthropic
import openai

from tests.provider.toy_project import DESCRIPTIONS, ToyProject, schema

INSTRUCTIONS = "You are a careful engineer. Find the cause before you change anything, and run the tests at the end."


def chat_completions(client: openai.OpenAI, model: str, prompt: str, *, stream: bool = False) -> str:
    project = ToyProject()
    tools: Any = [
        {"type": "function", "function": {"name": name, "description": text, "parameters": schema(name)}}
        for name, (text, _) in DESCRIPTIONS.items()
    ]
    messages: list[Any] = [{"role": "system", "content": INSTRUCTIONS}, {"role": "user", "content": prompt}]
    while True:
        call: Any = client.chat.completions.create
        arguments: dict[str, Any] = {"model": model, "messages": messages, "tools": tools}
        if stream:
            message = _joined_chunks(call(**arguments, stream=True, stream_options={"include_usage": True}))
        else:
            message = call(**arguments).choices[0].message.model_dump(exclude_none=True)
        if not message.get("tool_calls"):
            return str(message["content"])
        messages.append(message)
        for tool_call in message["tool_calls"]:
            function = tool_call["function"]
            result = project.run(function["name"], json.loads(function["arguments"] or "{}"))
            messages.append({"role": "tool", "tool_call_id": tool_call["id"], "content": result})


def _joined_chunks(stream: Any) -> dict[str, Any]:
    text = ""
    calls: list[Any] = []
    for chunk in stream:
        for choice in chunk.choices:
            text += choice.delta.content or ""
            for part in choice.delta.tool_calls or []:
                if part.index == len(calls):
                    function = {"name": part.function.name, "arguments": ""}
                    calls.append({"id": part.id, "type": "function", "function": function})
                calls[part.index]["function"]["arguments"] += part.function.arguments
    return {"role": "assistant", "content": text or None} | ({"tool_calls": calls} if calls else {})


def responses(client: openai.OpenAI, model: str, prompt: str, *, stream: bool = False) -> str:
    project = ToyProject()
    tools: Any = [
        {"type": "function", "name": name, "description": text, "parameters": schema(name), "strict": True}
        for name, (text, _) in DESCRIPTIONS.items()
    ]
    items: list[Any] = [{"role": "user", "content": prompt}]
    while True:
        call: Any = client.responses.create
        answer = call(model=model, instructions=INSTRUCTIONS, input=items, tools=tools, store=False, stream=stream)
        if stream:
            (answer,) = [event for event in answer if event.type == "response.completed"]
        # as plain data: the oldest SDK that we support has no types for all of it
        data = answer.model_dump(exclude_none=True)
        output = data["response"]["output"] if stream else data["output"]
        items += output
        calls = [item for item in output if item["type"] == "function_call"]
        if not calls:
            return "".join(part["text"] for item in output if item["type"] == "message" for part in item["content"])
        for item in calls:
            result = project.run(item["name"], json.loads(item["arguments"]))
            items.append({"type": "function_call_output", "call_id": item["call_id"], "output": result})


def messages(client: anthropic.Anthropic, model: str, prompt: str, *, stream: bool = False) -> str:
    project = ToyProject()
    tools: Any = [
        {"name": name, "description": text, "input_schema": schema(name)} for name, (text, _) in DESCRIPTIONS.items()
    ]
    turns: list[Any] = [{"role": "user", "content": prompt}]
    while True:
        arguments: dict[str, Any] = {
            "model": model,
            "max_tokens": 4096,
            "system": [{"type": "text", "text": INSTRUCTIONS, "cache_control": {"type": "ephemeral"}}],
            "tools": tools,
            "messages": turns,
        }
        answer: Any
        if stream:
            with client.messages.stream(**arguments) as events:
                answer = events.get_final_message()
        else:
            answer = client.messages.create(**arguments)
        turns.append(
            {"role": "assistant", "content": [block.model_dump(exclude_none=True) for block in answer.content]}
        )
        calls = [block for block in answer.content if block.type == "tool_use"]
        if not calls:
            return "".join(block.text for block in answer.content if block.type == "text")
        results = [
            {"type": "tool_result", "tool_use_id": block.id, "content": project.run(block.name, block.input)}
            for block in calls
        ]
        turns.append({"role": "user", "content": results})
