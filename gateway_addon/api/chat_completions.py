"""OpenAI Chat Completions (`/chat/completions`): what a request says, what an answer says, what may be refused or set.

Field names are those of the OpenAI API reference, "Chat"; who else sends what else is said where it is read.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import takewhile
from typing import Literal, NamedTuple

from gateway_addon.api.base import (
    OTHER_CACHE_KEY,
    OTHER_EFFORT,
    OTHER_TOOL_CHOICE,
    Answer,
    HistoryItem,
    Json,
    Of,
    Operation,
    Problem,
    Reader,
    Refusal,
    RequestFacts,
    ToolCall,
    ToolResult,
    of,
)
from gateway_addon.api.deltas import Delta, Silent, decoder
from gateway_addon.api.errors import merge, read_error
from gateway_addon.api.gateways import read_gateway, read_own_cost
from gateway_addon.api.parts import note, role_of, with_notes
from gateway_addon.api.prompts import clean, join_texts, real_prompt, side_request, system_prompts
from gateway_addon.api.refusals import check_model, check_object, openai_error_body, openai_error_event
from gateway_addon.api.usage import take_usage
from gateway_addon.api.values import count, items, mapping, objects, text, written
from gateway_addon.wire.cut import CONVERSATION, TOOLS

NAME = "chat_completions"
SUFFIX = "/chat/completions"
VENDOR = "openai"
USAGE_ON_REQUEST = True
OWN_HEADER = None
SIDE_PATHS = ()
MEMBERS = {"messages": CONVERSATION, "tools": TOOLS}
SYSTEM_ROLES = ("system", "developer")
VOLATILE_MEMBERS = frozenset(
    {"annotations", "cache_control", "id", "logprobs", "role", "signature", "status", "tool_call_id", "type"}
)
CACHE_SETTINGS = {
    "reasoning": OTHER_EFFORT,  # OpenRouter
    "reasoning_effort": OTHER_EFFORT,
    "tool_choice": OTHER_TOOL_CHOICE,
    "prompt_cache_key": OTHER_CACHE_KEY,
}
TRACKING_PLACES = (
    "/user",
    "/safety_identifier",
    "/prompt_cache_key",
    "/session_id",
    "/metadata/session_id",
    "/metadata/conversation_id",
)
FIELDS = None
BETA_FIELDS: Mapping[str, tuple[str, ...]] = {}
FREE_TEXT_CALLS = ("custom",)
DELTA_MEMBERS = ("delta",)
BLOCK_MEMBERS = ()
MODEL_PLACES: tuple[str, ...] = ("/model", "/choices/*/model", "/choices/*/message/model", "/choices/*/delta/model")
METADATA_PLACES = ("", "/choices/*", "/choices/*/delta", "/choices/*/message")
USAGE_PLACES = ("/usage", "/x_groq/usage", "/choices/*/usage")

ANSWER_OBJECTS = ("chat.completion", "chat.completion.chunk")

MESSAGES_ONLY_FIELDS = ("system", "anthropic_version")
MESSAGES_ONLY_BLOCKS = ("tool_use", "tool_result")
"""Signs that a body with `messages` is an Anthropic Messages request."""

CALL_PAYLOADS = {"function": "arguments", "custom": "input"}
"""The objects that hold a tool's or call's name, by type; each with the field that holds a call's arguments."""

REASONING_FIELDS = ("reasoning", "reasoning_content")
"""Names of one and the same text; OpenRouter repeats it in `reasoning_details`."""

REASONING_WISHES = ("reasoning", "reasoning_effort", "include_reasoning")
"""Request fields by which a client asks for (or against) reasoning itself."""


def is_request(body: Json) -> bool:
    """Whether a request body may be a Chat Completions one: `messages` without a sign of Anthropic Messages."""
    if "messages" not in body or any(name in body for name in MESSAGES_ONLY_FIELDS):
        return False
    if any("input_schema" in tool for tool in objects(body.get("tools"))):
        return False
    parts = (part for message in objects(body["messages"]) for part in objects(message.get("content")))
    return not any(part.get("type") in MESSAGES_ONLY_BLOCKS for part in parts)


def is_answer(answer: Json) -> bool:
    """Whether an answer or chunk is one of Chat Completions: by `object`, or by `choices`, which no other kind has."""
    return answer.get("object") in ANSWER_OBJECTS or isinstance(answer.get("choices"), list)


class _Message(NamedTuple):
    """What a message of the history says for itself."""

    role: object
    texts: list[str]
    calls: list[tuple[str | None, str | None]]
    """Id and name of each."""


def _read_message(message: Json) -> _Message:
    return _Message(message.get("role"), _texts(message), list(_calls_made(message)))


def read_request(body: Json, of: Of = of) -> RequestFacts:
    """The facts of a request; what has a wrong type is as if it were absent."""
    sent = list(objects(body.get("messages")))
    messages = of(_read_message, sent)
    user_turns = [message.texts for message in reversed(messages) if message.role == "user"]
    opening = _system_texts(takewhile(lambda message: message.role != "user", messages))
    system_prompt, opening_system = system_prompts(_system_texts(messages), len(opening))
    facts = RequestFacts(
        model=text(body.get("model")),
        streamed=body.get("stream") is True,
        max_tokens=_first_count(body.get("max_completion_tokens"), body.get("max_tokens")),
        tools=_unique(_offered(body)),
        tool_results=_new_results(sent, messages),
        system_prompt=system_prompt,
        user_prompt=real_prompt(user_turns),
        user_turns=user_turns,
        opening_system=opening_system,
        first_prompt=real_prompt(reversed(user_turns)),
    )
    last_user_text = "\n".join(user_turns[0]) if user_turns else None
    facts.side_request = side_request(facts.system_prompt, last_user_text, facts.max_tokens, len(facts.tools))
    return facts


def reader(request: RequestFacts) -> Reader:
    """A reader for the answer to `request`, whose tools tell how a name that comes in pieces goes on."""
    return _Reader(request.tools)


def validate(body: object) -> Refusal | None:
    """What the gateway refuses before sending."""
    if refusal := check_object(body):
        return refusal
    request = mapping(body)
    if not isinstance(request.get("messages"), list):
        return Refusal(400, "`messages` must be a list.", "invalid_body")
    return check_model(request)


error_body = openai_error_body
error_event = openai_error_event


def effort_operations(body: Json, effort: str) -> list[Operation]:
    """Set OpenRouter's `reasoning.effort`, unless the client says anything about reasoning itself."""
    if any(wish in body for wish in REASONING_WISHES):
        return []
    return [{"op": "add", "path": "/reasoning", "value": {"effort": effort}}]


def history(body: Json) -> Iterator[HistoryItem]:
    """All that a request says, in its order. Never raises."""
    names: dict[str, str | None] = {}
    for number, message in enumerate(items(body.get("messages"))):
        message = {"content": message} if isinstance(message, str) else mapping(message)
        role, is_empty = role_of(message), True
        for item in _items(number, message, names):
            yield item
            is_empty = False
        if is_empty:
            yield HistoryItem(message=number, role=role)


def _items(number: int, message: Json, names: dict[str, str | None]) -> Iterator[HistoryItem]:
    """What a message says; `names` are those of the calls so far, by id, to which it adds its own."""
    role = role_of(message)
    silent = [part for part in objects(message.get("content")) if not _content({"content": [part]}, "text")]
    if role == "tool":
        call_id = text(message.get("tool_call_id"))
        name = names.get(call_id or "") or text(message.get("name"))
        result = ToolResult(call_id, name, _result_text(message), None)
        notes = (part for part in silent if part.get("type") != "text")
        yield HistoryItem(message=number, role=role, tool_result=with_notes(result, notes))
        return
    if reasoning := join_texts(_reasoning(message)):
        yield HistoryItem(message=number, role=role, reasoning=reasoning)
    yield from (HistoryItem(message=number, role=role, text=clean(said)) for said in _said(message))
    for part in silent:
        if part.get("type") not in ("text", "thinking"):
            yield HistoryItem(message=number, role=role, note=note(part))
    for made in _call_parts(message):
        call = _Call(0)
        call.add(made, [])
        names |= {call.call_id: call.name or None} if call.call_id else {}
        yield HistoryItem(message=number, role=role, tool_call=call.finish())


def _unique(names: Iterator[str | None]) -> list[str]:
    return list(dict.fromkeys(filter(None, names)))


def _texts(message: Json) -> list[str]:
    """The text parts of a message's content, which is a string or a list of parts."""
    content = message.get("content")
    if isinstance(content, str):
        return [content]
    return [part["text"] for part in objects(content) if part.get("type") == "text" and text(part.get("text"))]


def _system_texts(messages: Iterable[_Message]) -> list[str]:
    return [part for message in messages if message.role in SYSTEM_ROLES for part in message.texts]


def _offered(body: Json) -> Iterator[str | None]:
    for tool in objects(body.get("tools")):
        kind = text(tool.get("type")) or "function"
        # Moonshot's own tools are named like functions, Anthropic's in the tool itself; OpenRouter's go by their type
        name = text(_payload(tool)[1].get("name")) or text(tool.get("name"))
        yield name or (None if kind in CALL_PAYLOADS else kind)
    for function in objects(body.get("functions")):
        yield text(function.get("name"))


def _call_parts(message: Json) -> list[Json]:
    """The (parts of) tool calls in a message or delta; the legacy `function_call` counts as the only tool call."""
    parts = list(objects(message.get("tool_calls")))
    legacy = mapping(message.get("function_call"))
    return parts or ([{"index": 0, "function": legacy}] if legacy else [])


def _payload(call: Json) -> tuple[str, Json]:
    """The type of a (part of a) tool call and the object under it that holds name and arguments."""
    kind = next((kind for kind in CALL_PAYLOADS if isinstance(call.get(kind), dict)), "function")
    return kind, mapping(call.get(kind))


def _calls_made(message: Json) -> Iterator[tuple[str | None, str | None]]:
    """Id and name of each call in an assistant message of the history."""
    if message.get("role") == "assistant":
        for call in _call_parts(message):
            yield text(call.get("id")), text(_payload(call)[1].get("name"))


def _new_results(sent: list[Json], messages: list[_Message]) -> list[ToolResult]:
    """The results that follow the last assistant turn; the history repeats the earlier ones."""
    names = {call_id: name for message in messages for call_id, name in message.calls if call_id}
    new = max((n for n, message in enumerate(messages, 1) if message.role == "assistant"), default=0)
    results: list[ToolResult] = []
    for message in sent[new:]:
        content = _result_text(message)
        match message.get("role"):
            case "tool":
                call_id = text(message.get("tool_call_id"))
                results.append(ToolResult(call_id, names.get(call_id or ""), content, None))
            case "function":
                results.append(ToolResult(None, text(message.get("name")), content, None))
    return results


def _result_text(message: Json) -> str:
    """A result: its texts, or the object as which a client hands it over."""
    content = message.get("content")
    if isinstance(content, dict):
        return clean(written(content) or "")
    return join_texts(_texts(message)) or ""


@dataclass(slots=True)
class _Call:
    """A tool call in the making."""

    position: int
    call_id: str | None = None
    name: str = ""
    type: str | None = None
    arguments: list[str] = field(default_factory=list)

    def add(self, part: Json, offered: list[str]) -> None:
        kind, payload = _payload(part)
        # some servers repeat these in every part, others send "" later: the first that says something holds
        self.call_id = self.call_id or text(part.get("id"))
        self.type = self.type or text(part.get("type")) or (kind if payload else None)
        self.name = _joined(self.name, text(payload.get("name")) or "", offered)
        if arguments := written(payload.get(CALL_PAYLOADS[kind])):
            self.arguments.append(arguments)

    def goes_on_in(self, part: Json, offered: list[str]) -> bool:
        """Whether a part without an index or id of its own belongs to this call, and is not the next one."""
        call_id, payload = text(part.get("id")), _payload(part)[1]
        if self.call_id and call_id:
            return self.call_id == call_id
        name = text(payload.get("name"))
        if not (self.name and name):
            return True
        if self.arguments:  # the name is complete by then
            more = written(payload.get("arguments")) or ""
            is_next = self.arguments[-1].rstrip().endswith("}") and more.lstrip().startswith("{")
            return name == self.name and not is_next
        return _joined(self.name, name, offered) in offered or not {self.name, name} <= set(offered)

    def finish(self) -> ToolCall:
        arguments = clean("".join(self.arguments)) or "{}"
        return ToolCall(self.call_id, self.name or None, self.type or "function", "client", arguments)


def _joined(name: str, piece: str, offered: list[str]) -> str:
    """A tool's name with the next piece of it: the rest of it (Kimi), or all there is so far, repeated by others."""
    repeats = piece.startswith(name)
    if repeats and (piece in offered or not any(tool.startswith(name + piece) for tool in offered)):
        return piece
    return name + piece


@dataclass(slots=True)
class _Choice:
    """One of the answer's `n` choices."""

    finish_reason: str | None = None
    texts: list[str] = field(default_factory=list)
    reasoning: list[str] = field(default_factory=list)
    calls: list[_Call] = field(default_factory=list)
    calls_by_key: dict[int | str, _Call] = field(default_factory=dict)
    """The calls by id, and by `index` the latest of each."""
    next_position: int = 0
    executed: dict[int, Json] = field(default_factory=dict)
    """Groq: what its own tools did, by `index`; an event repeats what an earlier one said and adds the outcome."""

    def add_call(self, call: Json, offered: list[str]) -> None:
        """Add a whole call, which no index or id may merge with another."""
        self._new_call(None).add(call, offered)

    def add_call_part(self, part: Json, offered: list[str]) -> None:
        """Add a part to the call of its index; without one, to the call of its id; without that, to the last call.

        Gemini, Ollama, LiteLLM and others give all parallel calls the same index: another id there is another call.
        """
        index, call_id = count(part.get("index")), text(part.get("id"))
        key = call_id if index is None else index
        last = self.calls[-1] if self.calls else None
        call = last if key is None else self.calls_by_key.get(key)
        if call and not call.goes_on_in(part, offered):
            call = self.calls_by_key.get(call_id) if call_id else None
        if call is None:
            call = self._new_call(index)
        if index is not None:
            self.calls_by_key[index] = call
        if call_id:
            self.calls_by_key.setdefault(call_id, call)
        call.add(part, offered)

    def add_executed(self, position: int, tool: Json) -> None:
        index = count(tool.get("index"))
        said = {name: value for name, value in tool.items() if value not in (None, "")}
        self.executed.setdefault(position if index is None else index, {}).update(said)

    def _new_call(self, index: int | None) -> _Call:
        """A call in its place: the index says which, unless another call has it."""
        call = _Call(self.next_position if index is None or index in self.calls_by_key else index)
        self.next_position = max(self.next_position, call.position + 1)
        self.calls.append(call)
        return call


class _ArgumentsDelta(Delta):
    arguments: str


class _CallDelta(Delta):
    """More arguments of a call: its id and name are in an earlier one."""

    index: int
    function: _ArgumentsDelta


class _MessageDelta(Delta):
    """What `delta` holds; `reasoning_details` repeat the reasoning beside them."""

    role: Silent = None
    content: str | None = None
    refusal: None = None
    reasoning: str | None = None
    reasoning_content: str | None = None
    reasoning_details: Silent = None
    tool_calls: tuple[_CallDelta] | None = None


class _ChoiceDelta(Delta):
    index: int
    delta: _MessageDelta
    finish_reason: None = None
    native_finish_reason: None = None
    logprobs: Silent = None
    content_filter_results: Silent = None  # Azure
    stop_reason: Silent = None  # vLLM
    token_ids: Silent = None  # vLLM


class _Chunk(Delta):
    """An event that does no more than to go on with the texts of a choice."""

    choices: tuple[_ChoiceDelta]
    id: str | None = None
    created: Silent = None
    model: str | None = None
    provider: str | None = None
    service_tier: str | None = None
    system_fingerprint: Silent = None
    usage: None = None
    obfuscation: Silent = None
    p: Silent = None  # Mistral's padding
    object: Literal["chat.completion.chunk"] | None = None

    def head(self) -> tuple[str | None, ...]:
        return self.id, self.model, self.provider, self.service_tier


def _head(event: Json) -> tuple[object, ...]:
    return event.get("id"), event.get("model"), event.get("provider"), event.get("service_tier")


_read_chunk = decoder(_Chunk)


class _Reader:
    """Reads one answer; implements `base.Reader`."""

    def __init__(self, offered: list[str]) -> None:
        self.answer = Answer()
        self._offered = offered
        self._choices: dict[int, _Choice] = {}
        self._head: tuple[object, ...] | None = None
        """Of the event that was last read in full: what is repeated of it needs no second look."""

    def goes_on(self, data: bytes, name: str) -> bool:
        if name or self._head is None or (chunk := _read_chunk(data)) is None or chunk.head() != self._head:
            return False
        said = chunk.choices[0]
        delta, choice = said.delta, self._choices.get(said.index)
        thought = delta.reasoning or delta.reasoning_content
        if choice is None or (delta.reasoning_details and not thought):
            return False
        if delta.tool_calls:
            part = delta.tool_calls[0]
            call = choice.calls_by_key.get(part.index)
            if call is None or call.type is None:
                return False
            if part.function.arguments:
                call.arguments.append(part.function.arguments)
        if delta.content:
            choice.texts.append(delta.content)
        if thought:
            choice.reasoning.append(thought)
        self.answer.started = self.answer.started or bool(delta.content or thought)
        return True

    def event(self, event: Json, name: str = "") -> None:
        self._read(event, name)

    def body(self, body: Json) -> None:
        self._read(body)
        if self.answer.recognised:
            self._end()

    def done(self) -> None:
        self._end()

    def finish(self) -> Answer:
        choices = [self._choices[index] for index in sorted(self._choices)]
        self.answer.finish_reason = next((choice.finish_reason for choice in choices if choice.finish_reason), None)
        self.answer.text = join_texts("".join(choice.texts) for choice in choices) or ""
        self.answer.reasoning = join_texts("".join(choice.reasoning) for choice in choices) or ""
        self.answer.tool_calls = [
            call.finish() for choice in choices for call in sorted(choice.calls, key=lambda call: call.position)
        ]
        for tool in (tool for choice in choices for _, tool in sorted(choice.executed.items())):
            name, output = text(tool.get("name")) or text(tool.get("type")), written(tool.get("output"))
            arguments = clean(written(tool.get("arguments")) or "{}")
            self.answer.tool_calls.append(ToolCall(None, name, text(tool.get("type")) or "tool", "server", arguments))
            if output:
                self.answer.tool_results.append(ToolResult(None, name, clean(output), None))
        return self.answer

    def _end(self) -> None:
        self.answer.ended = True
        self.answer.usage_final = self.answer.reported_usage is not None

    def _read(self, data: Json, name: str = "") -> None:
        self._head = _head(data)
        answer = self.answer
        error = read_error(data, name) or read_error(mapping(data.get("x_groq")))
        answer.error = merge(answer.error, error)
        answer.recognised = answer.recognised or error is not None or is_answer(data)
        answer.response_id = answer.response_id or text(data.get("id"))
        answer.model = answer.model or text(data.get("model"))
        answer.service_tier = text(data.get("service_tier")) or answer.service_tier
        answer.inference_provider = text(data.get("provider")) or answer.inference_provider
        read_gateway(self.answer, data)
        read_own_cost(self.answer, data)
        # Groq and Moonshot report elsewhere, and only there if the client did not ask for usage
        places = (data, mapping(data.get("x_groq")), *objects(data.get("choices")))
        if usage := next(filter(None, (mapping(place.get("usage")) for place in places)), None):
            take_usage(answer, usage, "prompt", "completion")
            answer.usage_final = answer.ended
        for position, choice in enumerate(objects(data.get("choices"))):
            index = count(choice.get("index"))
            self._read_choice(choice, position if index is None else index)

    def _read_choice(self, data: Json, index: int) -> None:
        answer = self.answer
        choice = self._choices.setdefault(index, _Choice())
        delta = data.get("delta")
        message = delta if isinstance(delta, dict) else mapping(data.get("message"))
        add_call = choice.add_call_part if message is delta else choice.add_call
        choice.texts += _said(message)
        choice.reasoning += _reasoning(message)
        for call in _call_parts(message):
            add_call(call, self._offered)
        for position, tool in enumerate(objects(message.get("executed_tools"))):
            choice.add_executed(position, tool)
        parts = (choice.texts, choice.reasoning, choice.calls, choice.executed)
        answer.started = answer.started or any(parts)
        read_gateway(self.answer, message)
        answer.error = merge(answer.error, read_error(data))
        if finish_reason := text(data.get("finish_reason")):
            choice.finish_reason = finish_reason
            self._end()
            if finish_reason == "error":
                answer.error = merge(answer.error, Problem())


def _content(message: Json, kind: str) -> list[str]:
    """The texts of one kind, `text` or `thinking`, in `content`, which is a string or (Mistral) a list of parts."""
    content = message.get("content")
    if isinstance(content, str):
        return [content] if content and kind == "text" else []
    parts = [part.get(kind) for part in objects(content) if part.get("type") == kind]
    return [part for part in parts if isinstance(part, str) and part] + [
        nested["text"] for part in parts for nested in objects(part) if text(nested.get("text"))
    ]


def _said(message: Json) -> list[str]:
    """What a message or delta says: its content unless that is a thought, its refusal, the words of its audio."""
    content = [] if _is_thought(message) else _content(message, "text")
    spoken = text(mapping(message.get("audio")).get("transcript"))
    return [*content, *filter(None, (text(message.get("refusal")), spoken))]


def _is_thought(message: Json) -> bool:
    """Whether Gemini's compatible API marks the content as reasoning."""
    return mapping(mapping(message.get("extra_content")).get("google")).get("thought") is True


def _reasoning(message: Json) -> list[str]:
    """The reasoning in a message or delta, once, however many fields repeat it."""
    if plain := next(filter(None, (text(message.get(name)) for name in REASONING_FIELDS)), None):
        return [plain]
    details = (detail.get("text") or detail.get("summary") for detail in objects(message.get("reasoning_details")))
    content = [*_content(message, "thinking"), *(_content(message, "text") if _is_thought(message) else [])]
    return list(filter(None, map(text, details))) or content


def _first_count(*values: object) -> int | None:
    return next((number for number in map(count, values) if number is not None), None)
