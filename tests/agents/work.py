"""What the model does when a real agent asks: it reads a file with a tool of the agent's, has a sub-agent do the same
where there are sub-agents, and answers. What each call was given is kept, to be compared with the rows."""

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

from tests.provider.answer import Answer, Json, ToolCall, Usage, objects
from tests.provider.delivery import Reply
from tests.provider.replies import Call, says

FILE, SECRET = "notes.txt", "the kettle is blue"
PROMPT = f"Read {FILE} and tell me what it says."
SUB_PROMPT = f"As a helper, read {FILE} and report."
END = "It says that the kettle has a colour."

READERS = ("Bash", "bash", "exec_command", "shell_command", "shell", "run_shell_command", "run_commands",
           "execute_command", "Read", "read", "read_file", "read_files")  # fmt: skip
"""Names of tools that can show a file, the shell first."""
DELEGATES = ("Agent", "Task", "agent", "task", "spawn_agent")
"""Names of tools that start a sub-agent."""
WAITERS = ("wait_agent",)
"""Names of tools that wait for one."""

VALUES: Json = {
    **dict.fromkeys(("command", "cmd", "commands"), f"cat {FILE}"),
    **dict.fromkeys(("path", "file_path", "filePath", "absolute_path", "paths", "files"), FILE),
    **dict.fromkeys(("prompt", "message", "task"), SUB_PROMPT),
    **dict.fromkeys(("description", "task_name", "name"), "read_the_file"),
    "is_background": False,
    "run_in_background": False,
    "requires_approval": False,
}
"""What arguments are given, by name."""
PREFERRED = ("general-purpose", "general", "default", "explore")
"""Types of sub-agents."""


@dataclass(frozen=True)
class Answered:
    """A call as the provider saw it."""

    id: str
    """A part of the answer's id, which the row has as `response_id`."""
    usage: Usage
    is_sub: bool
    """Of a sub-agent."""
    tools: tuple[str, ...]
    """Called in the answer."""
    results: int
    """That the request brought."""
    has_seen: bool
    """What stands in the file is in the request."""


class Work:
    """The scenario. `answered` are the calls so far."""

    def __init__(self) -> None:
        self.answered: list[Answered] = []

    def reply(self, call: Call) -> Reply:
        said = replace(self._answer(call), id=call.id)
        usage = Usage(input=1000 + len(self.answered), output=10 + len(self.answered), cache_read=500)
        self.answered.append(
            Answered(
                id=call.id,
                usage=usage,
                is_sub=_is_sub(call.body),
                tools=tuple(_full_name(call.body, one.name) for one in said.tool_calls),
                results=_results(call.body),
                has_seen=SECRET in json.dumps(call.body),
            )
        )
        reply = says(replace(said, usage=usage))(call)
        return replace(reply, pieces=[_with_namespaces(piece, call.body) for piece in reply.pieces])

    def _answer(self, call: Call) -> Answer:
        tools = dict(_tools(call.body))
        wanted = [READERS] if _is_sub(call.body) else [READERS, DELEGATES, WAITERS]
        steps = [name for names in wanted for name in [next((one for one in names if one in tools), None)] if name]
        done = _results(call.body)
        if done >= len(steps):
            return Answer(text=END)
        name = steps[done]
        return Answer(
            text="One moment.",
            tool_calls=(ToolCall(name, _arguments(tools[name], name, call.body)),),
            finish="tool_calls",
        )


def _tools(body: Json) -> Iterator[tuple[str, Json]]:
    """Name and schema of the tools that are offered, whatever the kind; those of Responses' namespaces too."""
    for tool in objects(body.get("tools")):
        for one in objects(tool.get("tools")) or [tool]:
            function: Json = one["function"] if isinstance(one.get("function"), dict) else one
            if "name" in function:
                yield function["name"], function.get("parameters") or function.get("input_schema") or {}


def _namespace(body: Json, name: str) -> str:
    """The one that a tool is offered in; "" if it is in none."""
    spaces = [
        tool for tool in objects(body.get("tools")) if any(one["name"] == name for one in objects(tool.get("tools")))
    ]
    return str(spaces[0]["name"]) if spaces else ""


def _full_name(body: Json, name: str) -> str:
    """As the rows have it."""
    return ".".join(filter(None, (_namespace(body, name), name)))


def _with_namespaces(piece: bytes, body: Json) -> bytes:
    """An event whose calls name the namespace of their tool."""

    def named(found: re.Match[bytes]) -> bytes:
        space = _namespace(body, found[1].decode())
        return b'"namespace": "%b", %b' % (space.encode(), found[0]) if space else found[0]

    return re.sub(rb'"name": ?"(\w+)"', named, piece)


def _arguments(schema: Json, tool: str, body: Json) -> str:
    """Arguments that fit a tool's schema."""
    properties = schema.get("properties", {})
    needed = {"subagent_type", "message", *schema.get("required", ())}
    return json.dumps({name: _value(name, properties[name], tool, body) for name in properties if name in needed})


def _value(name: str, schema: Json, tool: str, body: Json) -> Any:
    if name == "targets":
        # as the tool that started them has said
        return re.findall(r"agent_id\W+([\w-]+)", json.dumps(_turns(body)))[:1]
    if choices := schema.get("enum"):
        return next((one for one in PREFERRED if one in choices), choices[0])
    if name in ("subagent_type", "agent_type"):
        return "general" if tool == "task" else "general-purpose"
    alternatives = [one.get("type") for one in objects(schema.get("anyOf"))]
    kinds = alternatives or schema.get("type", "string")
    value = VALUES.get(name)
    if "array" in kinds:
        item = schema.get("items", {})
        return [json.loads(_arguments(item, tool, body)) if item.get("type") == "object" else value]
    if value is None or ("string" in kinds) != isinstance(value, str):
        values: Json = {"null": None, "boolean": False, "integer": 10, "number": 10, "object": {}, "string": "x"}
        value = next(values[one] for one in values if one in kinds)
    return value


def _turns(body: Json) -> list[Json]:
    return objects(body.get("messages")) or objects(body.get("input"))


def _results(body: Json) -> int:
    """Tool results in a history."""
    found = 0
    for turn in _turns(body):
        blocks = objects(turn.get("content"))
        found += turn.get("role") == "tool" or str(turn.get("type", "")).endswith("_call_output")
        found += sum(block.get("type") == "tool_result" for block in blocks)
    return found


def _is_sub(body: Json) -> bool:
    """Whether a person's words, or what stands in their place, are those for the sub-agent."""
    for turn in _turns(body):
        if turn.get("role") == "user":
            content = turn.get("content")
            texts = [content] if isinstance(content, str) else [one.get("text", "") for one in objects(content)]
            if any(SUB_PROMPT in str(text) for text in texts):
                return True
    return False
