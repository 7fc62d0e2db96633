"""Anthropic Messages (`/messages`): what a request says, what an answer says, what the gateway may refuse or set.

Field names are those of Anthropic's API reference (https://platform.claude.com/docs/en/api/messages), beta ones too.
"""

import re
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from decimal import Decimal
from itertools import chain
from typing import Literal, NamedTuple

from gateway_addon.api.base import (
    OTHER_EFFORT,
    OTHER_TOOL_CHOICE,
    Answer,
    HistoryItem,
    Json,
    Of,
    Operation,
    Pass,
    Refusal,
    RequestFacts,
    SidePath,
    ToolCall,
    ToolResult,
    Usage,
    of,
)
from gateway_addon.api.deltas import Delta, decoder, delta_of
from gateway_addon.api.errors import merge, read_error
from gateway_addon.api.gateways import read_gateway, read_own_cost
from gateway_addon.api.parts import note, role_of, with_notes, words
from gateway_addon.api.prompts import clean, join_texts, real_prompt, side_request, system_prompts
from gateway_addon.api.refusals import anthropic_error_body, anthropic_error_event, check_model, check_object
from gateway_addon.api.usage import has_implausible_count
from gateway_addon.api.values import count, is_implausible, items, mapping, objects, text, written
from gateway_addon.terms import Executor, Role, SideRequest, Warning
from gateway_addon.wire import jsontext
from gateway_addon.wire.cut import CONVERSATION, SYSTEM, TOOLS

NAME = "messages"
SUFFIX = "/messages"
VENDOR = "anthropic"
USAGE_ON_REQUEST = False
OWN_HEADER = "anthropic-version"
SIDE_PATHS = (SidePath(("POST",), re.compile("/messages/count_tokens"), names_model=True),)
MEMBERS = {"system": SYSTEM, "tools": TOOLS, "messages": CONVERSATION}
SYSTEM_ROLES = ("system", "developer")
VOLATILE_MEMBERS = frozenset({"cache_control", "encrypted_content", "id", "role", "signature", "tool_use_id", "type"})
CACHE_SETTINGS = {
    "thinking": OTHER_EFFORT,
    "output_config": OTHER_EFFORT,
    "tool_choice": OTHER_TOOL_CHOICE,
}
TRACKING_PLACES = ("/metadata/user_id", "/user", "/session_id")
FIELDS = frozenset(
    {
        "model",
        "messages",
        "max_tokens",
        "system",
        "stream",
        "stop_sequences",
        "temperature",
        "top_p",
        "top_k",
        "tools",
        "tool_choice",
        "thinking",
        "output_config",
        "metadata",
        "service_tier",
        "cache_control",
        "container",
        "inference_geo",
        "speed",
        "diagnostics",
    }
)
BETA_FIELDS = {
    # beta names of the anthropic SDK 2.12
    "context_management": ("context-management-", "compact-"),
    "compaction": ("compact-",),
    "mcp_servers": ("mcp-client-",),
    "fallbacks": ("server-side-fallback-",),
    "fallback_credit_token": ("fallback-credit-",),
    "thread": ("message-threads-",),
    "billing_policy": ("user-profiles-billing-",),
    "output_format": ("structured-outputs-",),
}
FREE_TEXT_CALLS = ()
DELTA_MEMBERS = ("delta",)
BLOCK_MEMBERS = ("type", "index")
MODEL_PLACES = (
    "/model",
    "/message/model",
    # a fallback says, as a block of its own, which model took over from which
    "/content_block/from/model",
    "/content_block/to/model",
    "/content/*/from/model",
    "/content/*/to/model",
    # each sampling pass names its own
    "/usage/iterations/*/model",
    "/message/usage/iterations/*/model",
    # a refusal may recommend another one
    "/stop_details/recommended_model",
    "/delta/stop_details/recommended_model",
    "/message/stop_details/recommended_model",
)
METADATA_PLACES = ("", "/message")
USAGE_PLACES = ("/usage", "/message/usage")

DELTA_FIELDS = {
    "text_delta": "text",
    "thinking_delta": "thinking",
    "input_json_delta": "partial_json",
    "compaction_delta": "content",
}
"""The deltas that are kept, each with the field that holds its text."""

RESULT_FIELDS = (
    "title",
    "url",
    "context",
    "text",
    "stdout",
    "stderr",
    "error_code",
    "error_message",
    "error",
    "tool_name",
)
"""The fields with something to read in the blocks of tool results, of the client's tools and the server's."""

RESULT_PARTS = ("content", "source", "lines", "tool_references", "tabs", "state_changes")
"""The fields that hold more of a result: texts, or blocks with such fields."""

SOURCE_FIELDS = {"text": "data", "content": "content"}
"""The kinds of a document's source that are text, each with the field that holds it; the others are files."""

INPUT_COUNTS = ("input_tokens", "cache_creation_input_tokens", "cache_read_input_tokens")
"""The parts of the input, which are disjoint and make sense only when taken from one report."""

EXTRA_PASSES = ("compaction", "advisor_message")
"""The `iterations` that the top-level counts leave out."""

LOOP_PASSES = ("message", "fallback_message")
"""The `iterations` that the top-level counts sum up, but for those of a model that declined."""

FEES = {"web_search_requests": "web_searches", "code_execution_requests": "code_executions"}
"""What `server_tool_use` counts, by the price table's units; anything else keeps its name, which no price has."""

FREE = ("web_fetch_requests", "tool_search_requests")
"""What `server_tool_use` counts and Anthropic bills by its tokens only."""

PRICE_MODIFIERS = ("speed", "inference_geo")
"""The fields of a usage object that change the price, besides `service_tier`."""


def is_request(body: Json) -> bool:
    """Whether a request body may be of this kind: any with `messages`."""
    return "messages" in body


def is_answer(answer: Json) -> bool:
    """Whether a whole answer or a stream event names itself as this kind by its `type`.

    `error` and `ping` do not: others use these words too.
    """
    return _type(answer) == "message" or _names_this_kind(_type(answer))


def validate(body: object) -> Refusal | None:
    """Refuse a body that is no object, `messages` that are no list, or no model."""
    if refusal := check_object(body):
        return refusal
    request = mapping(body)
    if not isinstance(request.get("messages"), list):
        return Refusal(400, "`messages` must be a list.", "invalid_body")
    return check_model(request)


def error_body(refusal: Refusal) -> Json:
    """The addon's own error reply."""
    return anthropic_error_body(refusal)


error_event = anthropic_error_event


def effort_operations(body: Json, effort: str) -> list[Operation]:
    """Let the model think with `effort`, unless the client has said itself how to think."""
    output_config = body.get("output_config")
    if body.get("thinking") is not None or mapping(output_config).get("effort") is not None:
        return []
    thinking = {"op": "add", "path": "/thinking", "value": {"type": "adaptive"}}
    if isinstance(output_config, dict):
        return [thinking, {"op": "add", "path": "/output_config/effort", "value": effort}]
    return [thinking, {"op": "add", "path": "/output_config", "value": {"effort": effort}}]


# ---- Requests ----


class _Message(NamedTuple):
    """What a message of the history says for itself."""

    role: object
    texts: list[str]
    calls: list[tuple[str | None, str | None]]
    """Id and name of each."""
    tool_changes: list[tuple[str, "_Tool"]]


def _read_message(message: Json) -> _Message:
    content = message.get("content")
    calls = [_id_and_name(block) for block in _parts(content) if _is_call(block)]
    return _Message(message.get("role"), _texts(content), calls, list(_tool_changes(content)))


def read_request(body: Json, of: Of = of) -> RequestFacts:
    """What a request body says. Never raises."""
    sent = list(objects(body.get("messages")))
    messages = of(_read_message, sent)
    turns = [message.texts for message in reversed(messages) if message.role == "user"]
    last_text = "\n".join(turns[0]) if turns else None
    opening = _texts(body.get("system"))
    later = [part for message in messages if message.role == "system" for part in message.texts]
    system_prompt, opening_system = system_prompts([*opening, *later], len(opening))
    previous_id = text(mapping(body.get("thread")).get("previous_message_id"))
    max_tokens = count(body.get("max_tokens"))
    tools = _tools_offered(of(_read_tool, objects(body.get("tools"))), messages)
    calls = [call for message in messages for call in message.calls]
    return RequestFacts(
        model=text(body.get("model")),
        streamed=body.get("stream") is True,
        max_tokens=max_tokens,
        tools=tools,
        tool_results=_tool_results(_blocks(sent[_after_answer(messages) :]), calls),
        system_prompt=system_prompt,
        user_prompt=real_prompt(turns),
        user_turns=turns,
        opening_system=opening_system,
        first_prompt=None if previous_id else real_prompt(reversed(turns)),
        side_request=_own_side_request(body) or side_request(system_prompt, last_text, max_tokens, len(tools)),
        previous_id=previous_id,
    )


def history(body: Json) -> Iterator[HistoryItem]:
    """All that a request says, in its order. Never raises."""
    names: dict[str, str | None] = {}
    yield from (_item(-1, "system", block, names) for block in _parts(body.get("system")))
    for number, message in enumerate(items(body.get("messages"))):
        message = {"content": message} if isinstance(message, str) else mapping(message)
        role = role_of(message)
        blocks = list(_parts(message.get("content")))
        yield from (_item(number, role, block, names) for block in blocks)
        if not blocks:
            yield HistoryItem(message=number, role=role)


def _item(number: int, role: Role, block: Json, names: dict[str, str | None]) -> HistoryItem:
    """What a block says; `names` are those of the calls so far, by id, to which it may add its own."""
    kind = _type(block)
    if _is_call(block):
        call_id, name = text(block.get("id")), _call_name(block)
        names |= {call_id: name} if call_id else {}
        arguments = clean(written(block.get("input")) or "{}")
        call = ToolCall(call_id, name, kind, "client" if kind == "tool_use" else "server", arguments)
        return HistoryItem(message=number, role=role, tool_call=call)
    if kind.endswith("tool_result"):
        call_id, content = text(block.get("tool_use_id")), block.get("content")
        result = ToolResult(call_id, names.get(call_id or ""), _result_text(content), _has_failed(block))
        silent = (part for part in objects(content) if not _result_text([part]) and _type(part) != "text")
        role = role if role == "assistant" else "tool"
        return HistoryItem(message=number, role=role, tool_result=with_notes(result, silent))
    if reasoning := words(block.get("thinking")):
        return HistoryItem(message=number, role=role, reasoning=reasoning)
    if said := _result_text([block]):
        return HistoryItem(message=number, role=role, text=said)
    return HistoryItem(message=number, role=role, note=None if kind == "text" else note(block))


def _own_side_request(body: Json) -> SideRequest | None:
    """What the format itself calls something else than a turn: with `compaction` the answer is a summary only."""
    return "compaction" if mapping(body.get("compaction")) else None


class _Tool(NamedTuple):
    """What a tool says of itself, declared or named in a change."""

    server: str
    """The MCP server's name; "" for none."""
    name: str
    """"" for all that a server has."""
    toolset: Json | None
    """The tool itself, if it is all that an MCP server has."""
    members: list[str]
    """The names of a server's tools, where they are listed."""


def _read_tool(tool: Json) -> _Tool:
    server = text(tool.get("mcp_server_name")) or text(tool.get("server_name")) or ""
    name = text(tool.get("name")) or ("" if server else _dateless(_type(tool)))
    members = [text(member.get("name")) for member in objects(tool.get("tools") if server else None)]
    return _Tool(server, name, tool if _type(tool) == "mcp_toolset" else None, list(filter(None, members)))


def _tools_offered(declared: Iterable[_Tool], messages: list[_Message]) -> list[str]:
    """The names of the tools declared, less those withdrawn in mid-conversation and with those added there.

    An MCP server's tools go by the server's name and, where they are listed, by their own names, which calls carry.
    """
    known: dict[tuple[str, str], None] = {}  # by server, "" for none, and name; "" is all that the server has
    whole: dict[str, bool] = {}  # by server: whether it is offered
    single: defaultdict[str, dict[str, bool]] = defaultdict(dict)  # what has been said of its tools since
    toolsets: dict[str, Json] = {}
    offered = (("tool_addition", tool) for tool in declared)
    for change, tool in chain(offered, (change for message in messages for change in message.tool_changes)):
        server, name = tool.server, tool.name
        if tool.toolset is not None:
            toolsets[server] = tool.toolset
        if change == "mcp_tool_listing":
            pass  # says what the server has, not whether that is offered
        elif name:
            known[server, name] = None
            single[server][name] = change != "tool_removal"
        elif server:
            known[server, ""] = None
            whole[server] = change != "tool_removal"
            single[server].clear()
        for member in tool.members:
            if _is_enabled(toolsets.get(server, {}), member):
                known[server, member] = None
    return _distinct(name or server for server, name in known if single[server].get(name, whole.get(server, False)))


def _tool_changes(content: object) -> Iterator[tuple[str, _Tool]]:
    """What a message says of the tools: `tool_addition`, `tool_removal` or `mcp_tool_listing`, and the tool meant.

    The `tool_changes` of a compaction block stand for those in the messages that it sums up.
    """
    for block in _parts(content):
        if _type(block) == "mcp_tool_listing":
            yield "mcp_tool_listing", _read_tool(block)
        for change in (block, *objects(block.get("tool_changes"))):
            if _type(change) in ("tool_addition", "tool_removal"):
                tool = mapping(change.get("tool"))
                yield _type(change), _read_tool(mapping(tool.get("definition")) or tool)


def _dateless(kind: str) -> str:
    """How calls name a tool that has a dated type only, such as `computer_toolset_20260801`: `computer`."""
    return re.sub(r"(?:_toolset)?_\d{8}$", "", kind)


def _is_enabled(toolset: Json, name: str) -> bool:
    configs = (mapping(toolset.get("configs")).get(name), toolset.get("default_config"))
    return next((enabled for config in configs if isinstance(enabled := mapping(config).get("enabled"), bool)), True)


def _after_answer(messages: list[_Message]) -> int:
    """Where the messages since the last assistant turn begin: what is new in a request that repeats its history."""
    return max((n for n, message in enumerate(messages, 1) if message.role == "assistant"), default=0)


# ---- Content, in requests and in answers ----


def _type(value: Json) -> str:
    return text(value.get("type")) or ""


def _distinct(names: Iterable[str | None]) -> list[str]:
    return list(dict.fromkeys(filter(None, names)))


def _blocks(messages: Iterable[Json]) -> Iterator[Json]:
    for message in messages:
        yield from _parts(message.get("content"))


def _parts(content: object) -> Iterator[Json]:
    """The blocks of a content; a string is one of text."""
    return iter([{"type": "text", "text": content}]) if isinstance(content, str) else objects(content)


def _is_call(block: Json) -> bool:
    """`tool_use`, `server_tool_use`, `mcp_tool_use`."""
    return _type(block).endswith("tool_use")


def _call_name(call: Json) -> str | None:
    """The name of the tool called; a toolset's member after its toolset."""
    name, toolset = text(call.get("name")), text(call.get("toolset_name"))
    return f"{toolset}.{name}" if toolset and name else name


def _id_and_name(call: Json) -> tuple[str | None, str | None]:
    return text(call.get("id")), _call_name(call)


def _texts(content: object) -> list[str]:
    """The texts of a content: a string, or its text blocks."""
    return [part for block in _parts(content) if _type(block) == "text" and (part := text(block.get("text")))]


def _tool_results(blocks: Iterable[Json], calls: Iterable[tuple[str | None, str | None]]) -> list[ToolResult]:
    """The results among `blocks`, named after their calls; server tools have types such as `mcp_tool_result`.

    A tool that the server ran has a result only if it brought text or failed.
    """
    names = {call_id: name for call_id, name in calls if call_id}
    results = []
    for block in blocks:
        if _type(block).endswith("tool_result"):
            call_id, words = text(block.get("tool_use_id")), _result_text(block.get("content"))
            result = ToolResult(call_id, names.get(call_id or ""), words, _has_failed(block))
            if words or result.is_error or _type(block) == "tool_result":
                results.append(result)
    return results


def _has_failed(result: Json) -> bool:
    """Whether a tool failed: by its result, or for a server's tool by an object in it, alone or in a list."""
    content = result.get("content")
    return result.get("is_error") is True or any(map(_is_failure, (mapping(content), *objects(content))))


def _is_failure(outcome: Json) -> bool:
    code = outcome.get("return_code")
    has_failed = isinstance(code, int | float | Decimal) and code != 0
    return has_failed or text(outcome.get("error_code")) is not None or _type(outcome).endswith("_tool_result_error")


def _result_text(content: object) -> str:
    """What a tool's result has to read, however it is nested; of images and files nothing."""
    parts: list[str] = []
    pending = [content]  # no recursion: how deep it goes is the sender's choice
    while pending:
        match pending.pop():
            case str(part):
                parts.append(part)
            case list(values):
                pending.extend(reversed(values))
            case dict(block):
                parts.extend(filter(None, (text(block.get(key)) for key in RESULT_FIELDS)))
                pending.extend(_nested(block, key) for key in reversed(RESULT_PARTS))
    return join_texts(parts) or ""


def _nested(block: Json, key: str) -> object:
    value = block.get(key)
    if key == "source":
        return mapping(value).get(SOURCE_FIELDS.get(_type(mapping(value)), ""))
    return value


# ---- Answers ----


def reader(request: RequestFacts) -> "MessagesReader":
    """A reader for the answer to `request`, of which it needs to know nothing."""
    return MessagesReader()


@dataclass(slots=True)
class _Block:
    """A content block as it was announced, and the deltas since, by the field they continue."""

    place: tuple[int, int]
    """Where it stands in the answer: its index, and before that how often an index had come again until then."""
    start: Json
    deltas: defaultdict[str, list[str]] = field(default_factory=lambda: defaultdict(list))
    stopped: bool = False

    def content(self, key: str) -> str:
        return (text(self.start.get(key)) or "") + "".join(self.deltas[key])

    def words(self) -> str:
        """What the model says in it; with `compaction` that is a summary."""
        return self.content("content" if _type(self.start) == "compaction" else "text")

    def call(self) -> ToolCall:
        kind = _type(self.start)
        executor: Executor = "client" if kind == "tool_use" else "server"
        return ToolCall(text(self.start.get("id")), _call_name(self.start), kind, executor, self._arguments())

    def _arguments(self) -> str | None:
        # deltas count more than an `input` that was announced already: some back ends send both
        streamed = self.content("partial_json")
        announced = self.start.get("input")
        written = streamed or _written({} if announced in (None, "") else announced)
        return None if written is None else clean(written)


def _written(arguments: object) -> str | None:
    """Arguments as text: a string as sent, anything else as compact JSON; None if there are none to be written."""
    if isinstance(arguments, str) or arguments is None:
        return arguments
    try:
        return jsontext.dumps(arguments)
    except ValueError:  # nested too deeply
        return None


def _is_same_call(block: Json, other: Json) -> bool:
    return text(block.get("id")) is not None and block.get("id") == other.get("id")


class _Piece(Delta):
    """The `delta` of an event; only the field of its type counts."""

    type: str
    text: str = ""
    thinking: str = ""
    partial_json: str = ""
    content: str = ""


class _BlockDelta(Delta):
    """An event that does no more than to go on with a block."""

    type: Literal["content_block_delta"]
    index: int
    delta: _Piece


_read_delta = decoder(_BlockDelta)


class MessagesReader:
    """Reads one answer: a stream, event by event, or a whole body."""

    def __init__(self) -> None:
        self.answer = Answer()
        self._last_place: tuple[int, str] | None = None
        self._last_pieces: list[str] = []
        """Index and type of the last event, if it was a delta as usual, and the pieces where its own has gone."""
        self._blocks: list[_Block] = []
        self._current: dict[int, _Block] = {}
        """The last block of each index."""
        self._laps = 0
        """How often an index has come again: what follows stands behind what came before."""
        self._output_counted = False
        """False as long as `output_tokens` is the placeholder that a stream starts with."""
        self._implausible = False
        """Whether the message has named a count that no call can have."""

    def goes_on(self, data: bytes, name: str) -> bool:
        # nearly every event goes on where the one before it stopped
        if self._last_place is None or (event := _read_delta(data)) is None:
            return False
        delta = event.delta
        if self._last_place != (event.index, delta.type):
            return False
        self._last_pieces.append(getattr(delta, DELTA_FIELDS[delta.type]))
        return True

    def event(self, event: Json, name: str = "") -> None:
        self._last_place = None
        kind = _type(event) or name
        match kind:
            case "content_block_delta":
                self._read_delta(event)
            case "content_block_start":
                self._announce(event)
            case "content_block_stop":
                self._block_of(event).stopped = True
            case "message_start":
                self._read_start(mapping(event.get("message")))
            case "message_delta":
                self._read_message_delta(event)
            case "message_stop":
                self._read_message_delta(event)
                self.answer.ended = True
        read_gateway(self.answer, event)
        read_own_cost(self.answer, event)
        self._read_error(event, name)
        self.answer.recognised |= kind == "ping" or _names_this_kind(kind)
        self._note_final()

    def done(self) -> None:
        """`[DONE]`, which some gateways add, says nothing here: the end is a stop reason or `message_stop`."""

    def body(self, body: Json) -> None:
        self._output_counted = True
        self._read_message(body)
        self._read_error(body)
        if _type(body) == "message" or isinstance(body.get("content"), list | str):
            self.answer.recognised = self.answer.ended = True
        self._note_final()

    def finish(self) -> Answer:
        answer = self.answer
        blocks = sorted(self._blocks, key=lambda block: block.place)
        calls = [block for block in blocks if _is_call(block.start)]
        answer.tool_calls = [block.call() for block in calls]
        answer.tool_results = _tool_results(
            (block.start for block in blocks), map(_id_and_name, (block.start for block in calls))
        )
        answer.text = join_texts(block.words() for block in blocks) or ""
        answer.reasoning = join_texts(block.content("thinking") for block in blocks) or ""
        return answer

    def _read_error(self, holder: Json, name: str = "") -> None:
        if problem := read_error(holder, name):
            self.answer.error = merge(self.answer.error, problem)
            self.answer.recognised = True

    def _read_start(self, message: Json) -> None:
        before = self.answer
        if before.response_id and text(message.get("id")) in (None, before.response_id):
            return  # the same message announced twice
        # another message is a gateway's second try, which takes the place of the first
        self.answer = Answer(started=before.started, error=before.error, own_cost=before.own_cost)
        self._blocks.clear()
        self._current.clear()
        # with a stop reason this is no start but all there is, as for calls made from code
        self._output_counted = text(message.get("stop_reason")) is not None
        self._implausible = False
        self._read_message(message)

    def _read_message(self, message: Json) -> None:
        self.answer.response_id = text(message.get("id"))
        self.answer.model = text(message.get("model"))
        self.answer.inference_provider = text(message.get("provider"))
        for index, block in enumerate(_parts(message.get("content"))):
            self._add_block(index, block)
        self._read_stop(message)
        read_own_cost(self.answer, message)
        read_gateway(self.answer, message)
        self._take_usage(mapping(message.get("usage")))

    def _read_message_delta(self, event: Json) -> None:
        delta = mapping(event.get("delta"))
        self._read_stop(delta)
        usage = mapping(event.get("usage")) or mapping(delta.get("usage"))
        self._output_counted |= count(usage.get("output_tokens")) is not None
        self._implausible |= has_implausible_count(usage)
        self._take_usage(_updated(self.answer.reported_usage or {}, usage))

    def _announce(self, event: Json) -> None:
        index, start = count(event.get("index")), mapping(event.get("content_block"))
        before = None if index is None else self._current.get(index)
        # the same call announced once more, or a block whose pieces came first; anything else at an index is another
        # block, also where its stop is missing
        if before and not before.stopped and (not before.start or _is_same_call(before.start, start)):
            before.start = before.start | {key: value for key, value in start.items() if value}
            self._note_block(start)
        else:
            self._add_block(self._next_index() if index is None else index, start)

    def _add_block(self, index: int, start: Json) -> _Block:
        self._laps += index in self._current
        block = self._current[index] = _Block((self._laps, index), start)
        self._blocks.append(block)
        self._note_block(start)
        return block

    def _note_block(self, start: Json) -> None:
        if _is_call(start) or text(start.get("text")) or text(start.get("thinking")):
            self.answer.started = True
        if _type(start) == "fallback":  # from here on another model speaks
            self.answer.model = text(mapping(start.get("to")).get("model")) or self.answer.model

    def _block_of(self, event: Json) -> _Block:
        """The block that a delta or a stop belongs to: by its index, or without one the last."""
        index = count(event.get("index"))
        if index is None:
            return self._blocks[-1] if self._blocks else self._add_block(0, {})
        return self._current.get(index) or self._add_block(index, {})

    def _next_index(self) -> int:
        return self._blocks[-1].place[1] + 1 if self._blocks else 0

    def _read_delta(self, event: Json) -> None:
        delta = mapping(event.get("delta"))
        key = DELTA_FIELDS.get(_type(delta))
        if key and (piece := _written(delta.get(key)) if key == "partial_json" else text(delta.get(key))):
            self.answer.started = True
            self._last_pieces = self._block_of(event).deltas[key]
            self._last_pieces.append(piece)
            if usual := delta_of(_BlockDelta, event):
                self._last_place = usual.index, usual.delta.type

    def _read_stop(self, holder: Json) -> None:
        """Take the stop reason of a message or `delta`; a later null takes nothing back."""
        if reason := text(holder.get("stop_reason")):
            self.answer.finish_reason = reason
            self.answer.ended = True
        if category := text(mapping(holder.get("stop_details")).get("category")):
            self.answer.finish_detail = category

    def _take_usage(self, usage: Json) -> None:
        answer = self.answer
        answer.reported_usage = usage or None
        answer.usage = _read_usage(usage, self._output_counted)
        answer.service_tier = text(usage.get("service_tier"))
        answer.price_context = _price_context(usage)
        answer.fees = _fees(mapping(usage.get("server_tool_use")))
        iterations = list(objects(usage.get("iterations")))
        for iteration in iterations:
            if _type(iteration) == "fallback_message":  # names the model that served
                answer.model = text(iteration.get("model")) or answer.model
        answer.extra_passes = [_pass(each) for each in iterations if _type(each) in EXTRA_PASSES]
        answer.passes = [_pass(each) for each in iterations if _type(each) in LOOP_PASSES]
        if self._output_counted:
            answer.hidden_tokens = _hides_tokens(usage, answer.usage)
        self._implausible |= has_implausible_count(usage) or is_implausible(_whole_input(usage))
        marks: dict[Warning, bool] = {
            "usage_ambiguous": self._output_counted and _is_ambiguous(usage),
            "usage_implausible": self._implausible,
        }
        answer.warnings = [warning for warning, holds in marks.items() if holds]

    def _note_final(self) -> None:
        self.answer.usage_final = self.answer.ended and self.answer.usage.output_tokens is not None


def _names_this_kind(event_type: str) -> bool:
    return event_type.startswith(("message_", "content_block_"))


def _updated(usage: Json, delta: Json) -> Json:
    """The usage so far with that of a `message_delta`, which is cumulative: it replaces, never adds."""
    given = {key: value for key, value in delta.items() if value is not None}
    inputs = {key: value for key in INPUT_COUNTS if count(value := given.pop(key, None)) is not None}
    if count(given.get("output_tokens")) is None:
        given.pop("output_tokens", None)
    else:
        usage = {key: value for key, value in usage.items() if key != "total_tokens"}  # a sum of other counts
    # Some gateways send zeros for what they said at the start. But next to a true count a zero is true as well:
    # after a compaction nothing is read from the cache.
    return usage | given | (inputs if any(map(count, inputs.values())) else {})


def _read_usage(usage: Json, output_counted: bool) -> Usage:
    """Anthropic's counts: `input_tokens` leaves out what was cached, the output includes thinking.

    Unless `total_tokens`, which only other servers send, is the sum of input and output alone: then the input includes
    what was cached.
    """
    uncached, written, read = (count(usage.get(key)) for key in INPUT_COUNTS)
    if not (output_counted or uncached or written or read):
        return Usage()  # Vercel's stream starts with zeros, whatever the input was
    output = count(usage.get("output_tokens")) if output_counted else None
    thinking = mapping(usage.get("output_tokens_details")).get("thinking_tokens")
    total_input = None
    if uncached is not None:
        includes_cache = output is not None and count(usage.get("total_tokens")) == uncached + output
        total_input = count(uncached if includes_cache else _whole_input(usage))
    return Usage(
        input_tokens=total_input or (None if output else total_input),  # no answer comes from nothing
        cache_read_tokens=read,
        cache_write_tokens=written,
        cache_write_1h_tokens=_written_for_1h(mapping(usage.get("cache_creation")), written),
        output_tokens=output,
        reasoning_tokens=count(thinking) if output_counted else None,
    )


def _whole_input(usage: Json) -> int:
    """The input with what was cached, where `input_tokens` leaves that out."""
    return sum(count(usage.get(key)) or 0 for key in INPUT_COUNTS)


def _hides_tokens(usage: Json, counts: Usage) -> bool:
    """Whether more was billed than the counts say: more in total, or more thinking than the output has."""
    total, output = count(usage.get("total_tokens")), counts.output_tokens
    if output is None:
        return False
    exceeds = total is not None and counts.input_tokens is not None and total > counts.input_tokens + output
    return exceeds or (counts.reasoning_tokens or 0) > output


def _is_ambiguous(usage: Json) -> bool:
    """Whether the total says neither that the input includes what was cached, nor that it does not."""
    total, output = count(usage.get("total_tokens")), count(usage.get("output_tokens"))
    uncached, written, read = (count(usage.get(key)) for key in INPUT_COUNTS)
    if total is None or output is None or uncached is None:
        return False
    return uncached + output < total < uncached + (written or 0) + (read or 0) + output


def _written_for_1h(split: Json, written: int | None) -> int | None:
    """The one-hour part of the cache writes; what a split leaves over was written for five minutes.

    A split that exceeds the writes is of another pass: a stream gives it at the start and never corrects it.
    """
    for_1h = count(split.get("ephemeral_1h_input_tokens"))
    for_5m = count(split.get("ephemeral_5m_input_tokens")) or 0
    return None if for_1h is None or written is None or for_5m + for_1h > written else for_1h


def _pass(iteration: Json) -> Pass:
    return Pass(text(iteration.get("model")), _read_usage(iteration, output_counted=True))


def _price_context(usage: Json) -> dict[str, str]:
    context = {key: value for key in PRICE_MODIFIERS if (value := text(usage.get(key)))}
    credit = text(mapping(mapping(usage.get("fallback_credit")).get("status")).get("type"))
    if credit and credit != "not_applied":  # redeemed: what was written to the cache is billed at other prices
        context["fallback_credit"] = credit
    return context


def _fees(used: Json) -> dict[str, int]:
    counts = {FEES.get(key, key): count(value) for key, value in used.items() if key not in FREE}
    return {unit: times for unit, times in counts.items() if times}
