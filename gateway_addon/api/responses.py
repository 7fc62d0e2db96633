"""OpenAI Responses (`/responses`): what a request says, what an answer says, what the gateway may refuse or set.

The facts of the format are in wire-formats §4; field names are those of the OpenAI API reference, "Responses".
"""

import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import takewhile
from typing import NamedTuple

from gateway_addon.api.base import (
    Answer,
    Json,
    Operation,
    Problem,
    Reader,
    Refusal,
    RequestFacts,
    ToolCall,
    ToolResult,
    Usage,
)
from gateway_addon.api.errors import merge, read_error
from gateway_addon.api.gateways import read_gateway
from gateway_addon.api.prompts import clean, is_volatile, join_texts, real_prompt, side_request
from gateway_addon.api.refusals import check_model, check_object, openai_error_body
from gateway_addon.api.values import count, items, mapping, objects, text
from gateway_addon.wire.jsontext import dumps

NAME = "responses"
SUFFIX = "/responses"
VENDOR = "openai"
MODEL_PLACES: tuple[str, ...] = ("/model", "/response/model")
METADATA_PLACES = ("", "/response")
USAGE_PLACES = ("/usage", "/response/usage")

ANSWER_OBJECTS = ("response", "response.compaction")
"""What `object` says in a whole answer; the second is the answer of `/responses/compact`."""

TERMINAL_STEPS = ("completed", "incomplete", "failed", "cancelled")
"""The events `response.<step>` that end a stream; `cancelled` is not in OpenAI's types (wire-formats §4.5)."""

SYSTEM_ROLES = ("system", "developer")

PART_TEXT = {
    "input_text": "text",
    "output_text": "text",
    "text": "text",
    "summary_text": "text",
    "reasoning_text": "text",
    "refusal": "refusal",
}
"""The content parts that hold text, each with the field that holds it."""

NAMED_CALLS = ("function_call", "custom_tool_call", "mcp_call")
"""Calls of tools that somebody named; any other call is of a built-in tool, which goes by its type."""

CLIENT_CALLS = (
    "function_call",
    "custom_tool_call",
    "local_shell_call",
    "shell_call",
    "apply_patch_call",
    "computer_call",
)
"""Calls the client runs, unless the item says otherwise."""

TEXT_ARGUMENTS = ("arguments", "input", "code")
"""Fields of a call whose string is what the model wrote, to be kept as it is."""

ARGUMENT_FIELDS = (*TEXT_ARGUMENTS, "action", "actions", "operation", "commands", "queries")
"""Fields of a call that hold its arguments; of several, the first that holds anything."""

RESULT_FIELDS = ("output", "tools", "result")
"""Fields of a `*_output` item that hold the result; `tools` is what a tool search found."""

TOOL_ITEMS = ("additional_tools", "tool_search_output")
"""Input items that offer further tools."""

MODEL_ITEMS = ("reasoning", "compaction", "item_reference")
"""Input items, besides assistant messages and calls, that belong to the model's own earlier turns."""

REASONING_WISHES = ("effort", "max_tokens", "enabled")
"""Members of `reasoning` by which a client says itself how much to reason; the last two are OpenRouter's."""


class Stream(NamedTuple):
    """How one family of events (`<family>.delta`, `<family>.done`) brings text in pieces."""

    into: str
    """What the text is: `text`, `reasoning` or `arguments`."""
    whole: str
    """The field of `.done` with the whole text."""
    part: str = ""
    """The field that tells the parts of one item apart."""


STREAMS = {
    "response.output_text": Stream("text", "text", "content_index"),
    "response.refusal": Stream("text", "refusal", "content_index"),
    "response.reasoning_text": Stream("reasoning", "text", "content_index"),
    "response.reasoning_summary_text": Stream("reasoning", "text", "summary_index"),
    "response.function_call_arguments": Stream("arguments", "arguments"),
    "response.custom_tool_call_input": Stream("arguments", "input"),
    "response.mcp_call_arguments": Stream("arguments", "arguments"),
    "response.code_interpreter_call_code": Stream("arguments", "code"),
    "response.shell_call_command": Stream("arguments", "command", "command_index"),
    "response.apply_patch_call_operation_diff": Stream("arguments", "diff"),
}


def is_request(body: Json) -> bool:
    """Whether a request body may be of this kind: `input`, and no `messages` (wire-formats §1)."""
    return "input" in body and "messages" not in body


def is_answer(answer: Json) -> bool:
    """Whether a whole answer (`object`) or a stream event (`type`) names itself as this kind."""
    return answer.get("object") in ANSWER_OBJECTS or _type(answer).startswith("response.")


def read_request(body: Json) -> RequestFacts:
    """What a request body says (wire-formats §4.1-4.3, 6, 7). Never raises."""
    history = list(objects(body.get("input")))
    offered = [tool for holder in _tool_holders(body, history) for tool in objects(holder.get("tools"))]
    namespaces = frozenset(name for tool in offered if _type(tool) == "namespace" and (name := text(tool.get("name"))))
    tools = _unique(name for tool in offered for name in _tool_names(tool))
    calls = [(item, name) for item in history if _is_call(item) and (name := _call_name(item, namespaces))]
    results = [result for item in _after_model(history) if (result := _result(item))]
    # the result of a local shell names its call by `id`, all others by `call_id` (wire-formats §4.2)
    _name_results(results, {item_id: name for item, name in calls for item_id in _ids(item)})
    turns = list(_user_turns(body.get("input")))
    last_text = "\n".join(turns[0]) if turns else None
    system_prompt = _system_prompt(body, history)
    previous_id = _previous_id(body)
    max_tokens = count(body.get("max_output_tokens"))
    return RequestFacts(
        model=text(body.get("model")),
        streamed=body.get("stream") is True,
        max_tokens=max_tokens,
        tools=tools,
        tools_used=_unique(name for _, name in calls),
        tool_results=results,
        system_prompt=system_prompt,
        user_prompt=real_prompt(turns),
        user_turns=turns,
        opening_system=_system_prompt(body, takewhile(lambda item: _role(item) != "user", history)),
        first_prompt=None if previous_id else real_prompt(reversed(turns)),
        side_request=_own_side_request(body) or side_request(system_prompt, last_text, max_tokens, len(tools)),
        previous_id=previous_id,
        namespaces=namespaces,
    )


def reader(request: RequestFacts) -> Reader:
    """A reader for the answer to `request`, whose declared namespaces it needs to name calls."""
    return _Reader(request.namespaces)


def validate(body: object) -> Refusal | None:
    """Refuse a body that is no object, an `input` of an impossible type, or no model (design 2.6)."""
    if refusal := check_object(body):
        return refusal
    request = mapping(body)
    if not isinstance(request.get("input"), str | list | None):
        return Refusal(400, "`input` must be a string, a list or null.", "invalid_body")
    return check_model(request)


error_body = openai_error_body


def effort_operations(body: Json, effort: str) -> list[Operation]:
    """Set `reasoning.effort`, unless the client has said itself how much to reason."""
    reasoning = body.get("reasoning")
    if reasoning is None:
        return [{"op": "add", "path": "/reasoning", "value": {"effort": effort}}]
    if not isinstance(reasoning, dict) or any(reasoning.get(wish) is not None for wish in REASONING_WISHES):
        return []
    return [{"op": "add", "path": "/reasoning/effort", "value": effort}]


# ---- Requests ----


def _own_side_request(body: Json) -> str | None:
    """What the format itself calls something else than a turn: a warm-up (§4.6) or a compaction (§4.2)."""
    last = mapping(next(reversed(items(body.get("input"))), None))
    if body.get("generate") is False:
        return "warmup"
    return "compaction" if _type(last) == "compaction_trigger" else None


def _previous_id(body: Json) -> str | None:
    conversation = body.get("conversation")
    return text(body.get("previous_response_id")) or text(conversation) or text(mapping(conversation).get("id"))


def _tool_holders(body: Json, history: list[Json]) -> Iterator[Json]:
    yield body
    yield from (item for item in history if _type(item) in TOOL_ITEMS)


def _tool_names(tool: Json) -> Iterator[str]:
    """The names under which one entry of `tools` is called."""
    name = text(tool.get("name"))
    if _type(tool) == "namespace":
        members = (text(member.get("name")) for member in objects(tool.get("tools")))
        yield from (f"{name}.{member}" for member in members if name and member)
    elif known_as := name or text(tool.get("server_label")) or _type(tool):
        yield known_as


def _role(item: Json) -> object:
    """The role of a message; None for items of other types."""
    return item.get("role") if item.get("type") in (None, "message") else None


def _system_prompt(body: Json, history: Iterable[Json]) -> str | None:
    """`instructions` and system messages; where a stored prompt stands for them, only its id is known (§6.1)."""
    parts = _texts(body.get("instructions"))
    for item in history:
        if _role(item) in SYSTEM_ROLES:
            parts += _texts(item.get("content"))
    return join_texts(part for part in parts if not is_volatile(part)) or text(mapping(body.get("prompt")).get("id"))


def _user_turns(given: object) -> Iterator[list[str]]:
    """The texts of each user turn of `input`, the last turn first. Some servers take bare strings for user turns."""
    for item in [given] if isinstance(given, str) else reversed(items(given)):
        if isinstance(item, str):
            yield [item]
        elif isinstance(item, dict) and _role(item) == "user":
            yield _texts(item.get("content"))


def _after_model(history: list[Json]) -> list[Json]:
    """The items since the model's last turn: what is new in a request that repeats its history (trap 106)."""
    last = max((n for n, item in enumerate(history) if _is_by_model(item)), default=-1)
    return history[last + 1 :]


def _is_by_model(item: Json) -> bool:
    # a reference may come without its type, and then has no role either
    kind = _type(item) or ("message" if "role" in item else "item_reference")
    return kind in MODEL_ITEMS or _is_call(item) or _role(item) == "assistant"


# ---- Items, in requests and in answers ----


def _type(value: Json) -> str:
    return text(value.get("type")) or ""


def _ids(item: Json) -> list[str]:
    return [item_id for key in ("call_id", "id") if (item_id := text(item.get(key)))]


def _link(item: Json) -> str | None:
    """The id that ties a call and its result together: `call_id`, or where there is none (server-run tools), `id`."""
    return next(iter(_ids(item)), None)


def _texts(content: object) -> list[str]:
    """The texts of a content: a string, or a list of parts."""
    if isinstance(content, str):
        return [content]
    found = (text(part.get(PART_TEXT.get(_type(part), ""))) for part in objects(content))
    return [part for part in found if part]


def _is_call(item: Json) -> bool:
    return _type(item).endswith("_call")


def _call_name(item: Json, namespaces: frozenset[str]) -> str | None:
    kind, name, namespace = _type(item), text(item.get("name")), text(item.get("namespace"))
    if name is None:
        return None if kind in NAMED_CALLS else kind.removesuffix("_call")
    # a function found by tool search is called with its own name for a namespace that nobody declared (trap 117)
    return f"{namespace}.{name}" if namespace in namespaces else name


def _executor(item: Json) -> str:
    execution = text(item.get("execution"))
    if execution in ("client", "server"):
        return execution
    hosted = mapping(item.get("environment")).get("type") == "container_reference"
    return "client" if _type(item) in CLIENT_CALLS and not hosted else "server"


def _arguments(item: Json) -> str:
    """The arguments of a call item: text as the model wrote it, anything else as compact JSON; "" when none."""
    for key in ARGUMENT_FIELDS:
        if value := item.get(key):
            return value if isinstance(value, str) and key in TEXT_ARGUMENTS else _compact(value)
    return ""


def _compact(value: object) -> str:
    try:
        return dumps(value)
    except ValueError:
        return "(nested too deeply)"


def _result(item: Json) -> ToolResult | None:
    """The result that an item carries: a `*_output` item, or a call that an MCP server has answered.

    `name` is left open: it is the call's.
    """
    kind, error = _type(item), item.get("error")
    if kind == "mcp_call":
        content = _error_text(error) or item.get("output")
        if content is None:
            return None
    elif kind.endswith("_output"):
        content = next((item[key] for key in RESULT_FIELDS if key in item), None)
    else:
        return None
    return ToolResult(_link(item), None, clean(_content_text(content)), _is_error(item))


def _content_text(content: object) -> str:
    """A result as text: a string, the texts of a list of parts, or anything else as JSON."""
    return "\n".join(_texts(content)) or (_compact(content) if content else "")


def _error_text(error: object) -> str | None:
    """What an MCP call's error says: a string, or an object with `message` or `content` (trap 40)."""
    if isinstance(error, dict) and error:
        return text(error.get("message")) or "\n".join(_texts(error.get("content"))) or _compact(error)
    return text(error)


def _is_error(item: Json) -> bool | None:
    """Whether a tool failed, by the signals of wire-formats §7; None where the item's type has none."""
    kind, status = _type(item), item.get("status")
    outcomes = [outcome for output in objects(item.get("output")) if (outcome := mapping(output.get("outcome")))]
    if status in ("failed", "incomplete"):
        return True
    if kind == "mcp_call":
        return bool(item.get("error"))
    if kind == "shell_call_output" and outcomes:
        return any(
            outcome.get("type") == "timeout" or outcome.get("exit_code") not in (0, None) for outcome in outcomes
        )
    return False if kind == "apply_patch_call_output" and status == "completed" else None


def _name_results(results: list[ToolResult], names: Mapping[str, str | None]) -> None:
    for result in results:
        result.name = names.get(result.call_id or "")


def _unique(names: Iterable[str]) -> list[str]:
    return list(dict.fromkeys(names))


# ---- Answers ----


@dataclass(slots=True)
class _Output:
    """What one output item says."""

    call: ToolCall | None = None
    """Its arguments are in `said` until the reader has finished."""
    result: ToolResult | None = None
    said: dict[str, str] = field(default_factory=dict)
    """The texts that are not empty: `text`, `reasoning`, `arguments`."""


def _read_output(item: Json, namespaces: frozenset[str]) -> _Output:
    call, said = None, {}
    if _is_call(item):
        call = ToolCall(_link(item), _call_name(item, namespaces), _type(item), _executor(item), "")
        said["arguments"] = _arguments(item)
    elif _type(item) == "reasoning":
        said["reasoning"] = "\n".join(_texts(item.get("summary")) + _texts(item.get("content")))
    elif item.get("type") in (None, "message"):
        said["text"] = "\n".join(_texts(item.get("content")))
    return _Output(call, _result(item), {into: value for into, value in said.items() if value})


@dataclass(slots=True)
class _Item:
    """An output item while it is streamed."""

    output: _Output = field(default_factory=_Output)
    pieces: dict[tuple[str, int | None], list[str]] = field(default_factory=dict)
    """Deltas by event family and part."""

    def said(self) -> dict[str, str]:
        """Its texts so far; deltas count more than what the item was announced with, and are not added to it."""
        streamed: dict[str, list[str]] = {}
        for (family, _), pieces in self.pieces.items():
            streamed.setdefault(STREAMS[family].into, []).append("".join(pieces))
        return self.output.said | {into: "\n".join(parts) for into, parts in streamed.items()}

    def close(self, output: _Output) -> None:
        """Take the finished item; what it leaves out stays as it was streamed."""
        self.output = _Output(output.call or self.output.call, output.result, self.said() | output.said)
        self.pieces.clear()


class _Reader:
    """Reads one answer: the stream of wire-formats §4.5, event by event, or a whole body (§4.4)."""

    def __init__(self, namespaces: frozenset[str]) -> None:
        self.answer = Answer()
        self._namespaces = namespaces
        self._items: dict[int | str, _Item] = {}
        self._open: int | str | None = None
        """The key of the item that an event without any key belongs to."""
        self._final: list[_Output] = []
        """The `output` of the terminal event or the whole body."""

    def event(self, event: Json, name: str = "") -> None:
        kind = _type(event) or name
        family, _, step = kind.rpartition(".")
        if not kind.startswith("response."):
            self._fail(read_error(event, kind))
            return
        self.answer.recognised = True
        if family in STREAMS:
            self._read_piece(event, family, step)
        elif family == "response.output_item":
            self._read_item(event, step)
        elif family == "response":
            response = mapping(event.get("response"))
            read_gateway(self.answer, event)
            self._read_response(response)
            if step in TERMINAL_STEPS:
                self._end(response, step)

    def done(self) -> None:
        """`[DONE]` says nothing here: the end is a terminal event (wire-formats §4.5)."""

    def body(self, body: Json) -> None:
        self._read_response(body)
        if is_answer(body) or isinstance(body.get("output"), list):
            self.answer.recognised = True
            self._end(body, None)

    def finish(self) -> Answer:
        answer = self.answer
        outputs = self._final or self._streamed_outputs()
        for output in outputs:
            if output.call:
                output.call.arguments = clean(output.said.get("arguments", "{}"))
                answer.tool_calls.append(output.call)
            if output.result:
                answer.tool_results.append(output.result)
        _name_results(answer.tool_results, {call.call_id: call.name for call in answer.tool_calls if call.call_id})
        answer.text = join_texts(output.said.get("text", "") for output in outputs) or ""
        answer.reasoning = join_texts(output.said.get("reasoning", "") for output in outputs) or ""
        return answer

    def _read_response(self, response: Json) -> None:
        """Take a response object. What a later one says wins: through Copilot even the id changes (trap 125)."""
        answer = self.answer
        answer.response_id = text(response.get("id")) or answer.response_id
        answer.model = text(response.get("model")) or answer.model
        answer.service_tier = text(response.get("service_tier")) or answer.service_tier
        if usage := mapping(response.get("usage")):
            answer.usage, answer.reported_usage = _read_usage(usage), usage
        read_gateway(self.answer, response)
        self._fail(read_error(response))

    def _end(self, response: Json, step: str | None) -> None:
        """Take the end of the answer: a whole body, or the response object of the terminal event `response.<step>`."""
        answer = self.answer
        answer.ended = True
        answer.usage_final = bool(mapping(response.get("usage")))
        answer.finish_reason = text(response.get("status")) or step
        answer.finish_detail = text(mapping(response.get("incomplete_details")).get("reason"))
        if answer.finish_reason == "failed":
            self._fail(Problem())  # it failed even where it does not say why
        # the output of a compaction is the history it was given, not something the model has said (trap 60)
        if response.get("object") != "response.compaction":
            self._final = [_read_output(item, self._namespaces) for item in objects(response.get("output"))]
            self._note_start(*self._final)

    def _read_item(self, event: Json, step: str) -> None:
        item = mapping(event.get("item"))
        streamed = self._item_of(event, item)
        output = _read_output(item, self._namespaces)
        self._note_start(output)
        if step == "added":
            streamed.output = output
        elif step == "done":
            streamed.close(output)
            self._open = None

    def _read_piece(self, event: Json, family: str, step: str) -> None:
        stream = STREAMS[family]
        key = {"delta": "delta", "done": stream.whole}.get(step, "")
        if piece := text(event.get(key)):
            self.answer.started = True
            part = family, count(event.get(stream.part))
            pieces = self._item_of(event, {}).pieces
            if step == "done":
                pieces[part] = [piece]
            else:
                pieces.setdefault(part, []).append(piece)

    def _item_of(self, event: Json, item: Json) -> _Item:
        """The item an event is about: by `output_index`, since ids can differ in every event (trap 125); else by id."""
        key: int | str | None = count(event.get("output_index"))
        if key is None:
            key = text(event.get("item_id")) or text(item.get("id")) or self._open or f"#{len(self._items)}"
        self._open = key
        return self._items.setdefault(key, _Item())

    def _streamed_outputs(self) -> list[_Output]:
        in_order = sorted(self._items.items(), key=lambda entry: entry[0] if isinstance(entry[0], int) else math.inf)
        return [_Output(item.output.call, item.output.result, item.said()) for _, item in in_order]

    def _note_start(self, *outputs: _Output) -> None:
        if any(output.call or output.said for output in outputs):
            self.answer.started = True

    def _fail(self, problem: Problem | None) -> None:
        self.answer.error = merge(self.answer.error, problem)
        self.answer.recognised = self.answer.recognised or problem is not None


def _read_usage(usage: Json) -> Usage:
    """OpenAI's counts: the input includes what was cached, the output includes reasoning (wire-formats §8)."""
    given, made = mapping(usage.get("input_tokens_details")), mapping(usage.get("output_tokens_details"))
    return Usage(
        input_tokens=count(usage.get("input_tokens")),
        cache_read_tokens=count(given.get("cached_tokens")),
        cache_write_tokens=count(given.get("cache_write_tokens")),
        output_tokens=count(usage.get("output_tokens")),
        reasoning_tokens=count(made.get("reasoning_tokens")),
    )
