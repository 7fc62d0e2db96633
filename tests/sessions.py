"""A synthetic coding agent at work: requests that send the whole history again with every call, and their answers.

All text is random words from a seed, so that nothing in it compresses or repeats by accident.
"""

import json
import random
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from tests.provider import chat_completions, messages, responses
from tests.provider.answer import Answer, ToolCall, Usage

Json = dict[str, Any]

SYLLABLES = ("ba", "ke", "li", "mor", "na", "pe", "qui", "ras", "so", "tun", "ü", "vel", "wy", "xi", "zo", "—")
TOOLS = 24
TURNS_PER_PROMPT = 12


class Turn(NamedTuple):
    request: bytes
    answer: Json


def session(kind: str, turns: int, *, seed: int = 1, scale: float = 1.0) -> Iterator[Turn]:
    """The calls of one conversation with `turns` answers, most of which call a tool.

    `scale` 1: system prompt and tools of 60 kB, and 6.7 kB more of history with every turn.
    """
    client = CLIENTS[kind]
    chance = random.Random(seed)
    system = text(chance, 20_000 * scale)
    tools = [(f"tool_{number}", text(chance, 1_200 * scale)) for number in range(TOOLS)]
    history = client.begin(system)
    for number in range(turns):
        if number % TURNS_PER_PROMPT == 0:
            history.append(client.prompt(text(chance, 500 * scale)))
        request = client.request(system, tools, history, f"{chance.getrandbits(20):05x}")
        path, patch = text(chance, 30), text(chance, 700 * scale)
        calls = (ToolCall(tools[number % TOOLS][0], json.dumps({"path": path, "patch": patch}, ensure_ascii=False)),)
        is_last = (number + 1) % TURNS_PER_PROMPT == 0
        answer = client.answer(
            Answer(
                id=f"{number:06}",
                model="fake/coder",
                text=text(chance, 300 * scale),
                tool_calls=() if is_last else calls,
                finish="stop" if is_last else "tool_calls",
                usage=Usage(input=len(request) // 4, output=300, cache_read=len(request) // 5),
            )
        )
        yield Turn(json.dumps(request, ensure_ascii=False, separators=(",", ":")).encode(), answer)
        history += client.replay(answer)
        if not is_last:
            history.append(client.result(answer, text(chance, 5_400 * scale)))


def text(chance: random.Random, size: float) -> str:
    """About `size` bytes of words in lines, with characters that JSON escapes."""
    words: list[str] = []
    written = 0
    while written < size:
        word = "".join(chance.choices(SYLLABLES, k=chance.randint(1, 4))) + chance.choice(('"', "\n", "\\", " ", ", "))
        words.append(word)
        written += len(word.encode())
    return "".join(words)


class _Client(NamedTuple):
    """How a client of a kind writes a conversation down."""

    begin: Callable[[str], list[Json]]
    prompt: Callable[[str], Json]
    replay: Callable[[Json], list[Json]]
    """What it sends back of an answer."""
    result: Callable[[Json, str], Json]
    """The result of the tool that an answer called."""
    request: Callable[[str, list[tuple[str, str]], list[Json], str], Json]
    """Of system prompt, tools, history, and what is new in every call."""
    answer: Callable[[Answer], Json]


def _schema(description: str) -> Json:
    return {"type": "object", "properties": {"path": {"type": "string", "description": description}}}


def _messages_request(system: str, tools: list[tuple[str, str]], history: list[Json], new: str) -> Json:
    """With a billing line, and markers at the end of system prompt and tools and of the two latest user turns."""
    marker = {"cache_control": {"type": "ephemeral"}}
    users = [index for index, message in enumerate(history) if message["role"] == "user"]
    turns = list(history)
    for index in users[-2:]:
        content = history[index]["content"]
        blocks = [{"type": "text", "text": content}] if isinstance(content, str) else content
        turns[index] = {"role": "user", "content": [*blocks[:-1], blocks[-1] | marker]}
    offered = [{"name": name, "description": about, "input_schema": _schema(about)} for name, about in tools]
    return {
        "model": "fake/coder",
        "messages": turns,
        "system": [
            {"type": "text", "text": f"x-anthropic-billing-header: cc_version=2.1.86.{new}; cc_entrypoint=cli;"},
            {"type": "text", "text": system} | marker,
        ],
        "tools": [*offered[:-1], offered[-1] | marker],
        "metadata": {"user_id": "user_1"},
        "max_tokens": 32000,
        "stream": True,
    }


def _messages_result(answer: Json, result: str) -> Json:
    call = answer["content"][-1]
    return {"role": "user", "content": [{"type": "tool_result", "tool_use_id": call["id"], "content": result}]}


def _chat_request(system: str, tools: list[tuple[str, str]], history: list[Json], new: str) -> Json:
    functions = [{"name": name, "description": about, "parameters": _schema(about)} for name, about in tools]
    offered = [{"type": "function", "function": function} for function in functions]
    return {"model": "fake/coder", "messages": history, "tools": offered, "stream": True, "metadata": {"turn": new}}


def _chat_result(answer: Json, result: str) -> Json:
    call = answer["choices"][0]["message"]["tool_calls"][0]
    return {"role": "tool", "tool_call_id": call["id"], "content": result}


def _responses_request(system: str, tools: list[tuple[str, str]], history: list[Json], new: str) -> Json:
    offered = [
        {"type": "function", "name": name, "description": about, "parameters": _schema(about)} for name, about in tools
    ]
    return {
        "model": "fake/coder",
        "instructions": system,
        "input": history,
        "tools": offered,
        "store": False,
        "stream": True,
        "client_metadata": {"turn": new},
    }


def _responses_result(answer: Json, result: str) -> Json:
    return {"type": "function_call_output", "call_id": answer["output"][-1]["call_id"], "output": result}


CLIENTS = {
    "messages": _Client(
        begin=lambda system: [],
        prompt=lambda prompt: {"role": "user", "content": prompt},
        replay=lambda answer: [{"role": "assistant", "content": answer["content"]}],
        result=_messages_result,
        request=_messages_request,
        answer=messages.body,
    ),
    "chat_completions": _Client(
        begin=lambda system: [{"role": "system", "content": system}],
        prompt=lambda prompt: {"role": "user", "content": prompt},
        replay=lambda answer: [answer["choices"][0]["message"]],
        result=_chat_result,
        request=_chat_request,
        answer=chat_completions.body,
    ),
    "responses": _Client(
        begin=lambda system: [],
        prompt=lambda prompt: {"role": "user", "content": [{"type": "input_text", "text": prompt}]},
        replay=lambda answer: answer["output"],
        result=_responses_result,
        request=_responses_request,
        answer=responses.body,
    ),
}
