"""Anthropic Messages (`/messages`): what a request says, what an answer says, what the gateway may refuse or set.

The facts of the format are in wire-formats §5; field names are those of Anthropic's API reference, "Messages".
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from operator import itemgetter

from gateway_addon.api.base import Answer, Json, Operation, Pass, Refusal, RequestFacts, ToolCall, ToolResult, Usage
from gateway_addon.api.errors import merge, read_error
from gateway_addon.api.gateways import read_gateway
from gateway_addon.api.prompts import clean, is_volatile, join_texts, real_prompt, side_request
from gateway_addon.api.refusals import anthropic_error_body, check_model, check_object
from gateway_addon.api.values import count, mapping, objects, text
from gateway_addon.wire import jsontext

NAME = "messages"
SUFFIX = "/messages"
VENDOR = "anthropic"
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

EXECUTORS = {"tool_use": "client", "server_tool_use": "server", "mcp_tool_use": "server"}
"""The blocks that are calls, and who runs each."""

DELTA_FIELDS = {"text_delta": "text", "thinking_delta": "thinking", "input_json_delta": "partial_json"}
"""The deltas that are kept, each with the field that holds its text."""

TOOL_NAMES = ("name", "mcp_server_name", "server_name", "type")
"""What a tool is known by: a set of MCP tools by its server (trap 95), which a reference calls `server_name`."""

RESULT_FIELDS = ("title", "url", "text", "stdout", "stderr", "error_code", "tool_name")
"""The fields with something to read in the blocks of tool results, of the client's tools and the server's."""

INPUT_COUNTS = ("input_tokens", "cache_creation_input_tokens", "cache_read_input_tokens")
"""The parts of the input, which are disjoint and make sense only when taken from one report."""

EXTRA_PASSES = ("compaction", "advisor_message")
"""The `iterations` that the top-level counts leave out."""

PRICE_MODIFIERS = ("speed", "inference_geo")
"""The fields of a usage object that change the price, besides `service_tier`."""


def is_request(body: Json) -> bool:
    """Whether a request body may be of this kind: any with `messages` (wire-formats §1)."""
    return "messages" in body


def is_answer(answer: Json) -> bool:
    """Whether a whole answer or a stream event names itself as this kind by its `type`.

    `error` and `ping` do not: others use these words too.
    """
    return _type(answer) == "message" or _names_this_kind(_type(answer))


def validate(body: object) -> Refusal | None:
    """Refuse a body that is no object, `messages` that are no list, or no model (design 2.6)."""
    if refusal := check_object(body):
        return refusal
    request = mapping(body)
    if not isinstance(request.get("messages"), list):
        return Refusal(400, "`messages` must be a list.", "invalid_body")
    return check_model(request)


def error_body(refusal: Refusal) -> Json:
    """The addon's own error reply (design 2.6)."""
    return anthropic_error_body(refusal)


def effort_operations(body: Json, effort: str) -> list[Operation]:
    """Let the model think with `effort`, unless the client has said itself how to think (wire-formats §5.1)."""
    output_config = body.get("output_config")
    if body.get("thinking") is not None or mapping(output_config).get("effort") is not None:
        return []
    thinking = {"op": "add", "path": "/thinking", "value": {"type": "adaptive"}}
    if isinstance(output_config, dict):
        return [thinking, {"op": "add", "path": "/output_config/effort", "value": effort}]
    return [thinking, {"op": "add", "path": "/output_config", "value": {"effort": effort}}]


# ---- Requests ----


def read_request(body: Json) -> RequestFacts:
    """What a request body says (wire-formats §5.1, 5.2, 6, 7). Never raises."""
    messages = list(objects(body.get("messages")))
    turns = [_texts(message.get("content")) for message in reversed(messages) if message.get("role") == "user"]
    last_text = "\n".join(turns[0]) if turns else None
    system_prompt = _system_prompt(body, messages)
    previous_id = text(mapping(body.get("thread")).get("previous_message_id"))
    max_tokens = count(body.get("max_tokens"))
    tools = _distinct(_tool_names(body, messages))
    calls = [block for block in _blocks(messages) if _type(block) in EXECUTORS]
    return RequestFacts(
        model=text(body.get("model")),
        streamed=body.get("stream") is True,
        max_tokens=max_tokens,
        tools=tools,
        tools_used=_distinct(text(call.get("name")) for call in calls),
        tool_results=_tool_results(_blocks(_after_answer(messages)), calls),
        system_prompt=system_prompt,
        user_prompt=real_prompt(turns),
        user_turns=turns,
        opening_system=_system_prompt(body, []),
        first_prompt=None if previous_id else real_prompt(reversed(turns)),
        side_request=_own_side_request(body) or side_request(system_prompt, last_text, max_tokens, len(tools)),
        previous_id=previous_id,
    )


def _own_side_request(body: Json) -> str | None:
    """What the format itself calls something else than a turn: with `compaction` the answer is a summary only."""
    return "compaction" if mapping(body.get("compaction")) else None


def _system_prompt(body: Json, messages: list[Json]) -> str | None:
    parts = _texts(body.get("system"))
    for message in messages:
        if message.get("role") == "system":
            parts += _texts(message.get("content"))
    return join_texts(part for part in parts if not is_volatile(part))


def _tool_names(body: Json, messages: list[Json]) -> Iterator[str | None]:
    """The tools declared, then those that `tool_addition` blocks add in mid-conversation: by name or by definition."""
    additions = (mapping(block.get("tool")) for block in _blocks(messages) if _type(block) == "tool_addition")
    added = (mapping(tool.get("definition")) or tool for tool in additions)
    for tool in (*objects(body.get("tools")), *added):
        yield next((name for key in TOOL_NAMES if (name := text(tool.get(key)))), None)


def _after_answer(messages: list[Json]) -> list[Json]:
    """The messages since the last assistant turn: what is new in a request that repeats its history (trap 106)."""
    last = max((n for n, message in enumerate(messages) if message.get("role") == "assistant"), default=-1)
    return messages[last + 1 :]


# ---- Content, in requests and in answers ----


def _type(value: Json) -> str:
    return text(value.get("type")) or ""


def _distinct(names: Iterable[str | None]) -> list[str]:
    return list(dict.fromkeys(filter(None, names)))


def _blocks(messages: Iterable[Json]) -> Iterator[Json]:
    for message in messages:
        yield from objects(message.get("content"))


def _texts(content: object) -> list[str]:
    """The texts of a content: a string, or its text blocks."""
    if isinstance(content, str):
        return [content]
    return [part for block in objects(content) if _type(block) == "text" and (part := text(block.get("text")))]


def _tool_results(blocks: Iterable[Json], calls: Iterable[Json]) -> list[ToolResult]:
    """The results among `blocks`, named after their calls; server tools have types such as `mcp_tool_result`."""
    names = {call_id: text(call.get("name")) for call in calls if (call_id := text(call.get("id")))}
    return [
        ToolResult(
            call_id=text(block.get("tool_use_id")),
            name=names.get(text(block.get("tool_use_id")) or ""),
            content=_result_text(block.get("content")),
            is_error=block.get("is_error") is True or _has_failed(mapping(block.get("content"))),
        )
        for block in blocks
        if _type(block).endswith("tool_result")
    ]


def _has_failed(outcome: Json) -> bool:
    """Whether a server tool failed, by the object in its result (wire-formats §5.1, §7)."""
    code = outcome.get("return_code")
    return _type(outcome).endswith("_tool_result_error") or (isinstance(code, int) and code != 0)


def _result_text(content: object) -> str:
    """What a tool's result has to read, however it is nested; of images and files nothing (trap 98)."""
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
                pending.append(block.get("content"))
    return join_texts(parts) or ""


# ---- Answers ----


def reader(request: RequestFacts) -> "MessagesReader":
    """A reader for the answer to `request`, of which it needs to know nothing."""
    return MessagesReader()


@dataclass(slots=True)
class _Block:
    """A content block as it was announced, and the deltas since, by the field they continue."""

    start: Json = field(default_factory=dict)
    deltas: defaultdict[str, list[str]] = field(default_factory=lambda: defaultdict(list))

    def content(self, key: str) -> str:
        return (text(self.start.get(key)) or "") + "".join(self.deltas[key])

    def call(self) -> ToolCall:
        kind = _type(self.start)
        name, call_id = text(self.start.get("name")), text(self.start.get("id"))
        return ToolCall(call_id, name, kind, EXECUTORS[kind], self._arguments())

    def _arguments(self) -> str | None:
        # deltas count more than an `input` that was announced already: some back ends send both (traps 92, 93)
        if streamed := self.content("partial_json"):
            return clean(streamed)
        try:
            return clean(jsontext.dumps(self.start.get("input") or {}))
        except ValueError:  # nested too deeply to be written as text
            return None


class MessagesReader:
    """Reads one answer: the stream of wire-formats §5.4, event by event, or a whole body (§5.3)."""

    def __init__(self) -> None:
        self.answer = Answer()
        self._blocks: defaultdict[int, _Block] = defaultdict(_Block)
        self._output_counted = False
        """False as long as `output_tokens` is the placeholder that a stream starts with."""

    def event(self, event: Json, name: str = "") -> None:
        kind = _type(event) or name
        match kind:
            case "content_block_delta":
                self._read_delta(event)
            case "content_block_start":
                self._read_block(_index(event), mapping(event.get("content_block")))
            case "message_start":
                self._read_start(mapping(event.get("message")))
            case "message_delta":
                self._read_message_delta(event)
            case "message_stop":
                self.answer.ended = True
        read_gateway(self.answer, event)
        self._read_error(event, name)
        self.answer.recognised |= kind == "ping" or _names_this_kind(kind)
        self._note_final()

    def done(self) -> None:
        """`[DONE]`, which some gateways add, says nothing here: the end is a stop reason or `message_stop`."""

    def body(self, body: Json) -> None:
        self._output_counted = True
        self._read_message(body)
        self._read_error(body)
        if _type(body) == "message" or isinstance(body.get("content"), list):
            self.answer.recognised = self.answer.ended = True
        self._note_final()

    def finish(self) -> Answer:
        answer = self.answer
        blocks = [block for _, block in sorted(self._blocks.items(), key=itemgetter(0))]
        calls = [block for block in blocks if _type(block.start) in EXECUTORS]
        answer.tool_calls = [block.call() for block in calls]
        answer.tool_results = _tool_results((block.start for block in blocks), (block.start for block in calls))
        answer.text = join_texts(block.content("text") for block in blocks) or ""
        answer.reasoning = join_texts(block.content("thinking") for block in blocks) or ""
        return answer

    def _read_error(self, holder: Json, name: str = "") -> None:
        if problem := read_error(holder, name):
            self.answer.error = merge(self.answer.error, problem)
            self.answer.recognised = True

    def _read_start(self, message: Json) -> None:
        before = self.answer
        if before.response_id and text(message.get("id")) in (None, before.response_id):
            return  # the same message announced twice (trap 123)
        # another message is a gateway's second try, which takes the place of the first (trap 124)
        self.answer = Answer(started=before.started, error=before.error)
        self._blocks.clear()
        # with a stop reason this is no start but all there is, as for calls made from code (trap 112)
        self._output_counted = text(message.get("stop_reason")) is not None
        self._read_message(message)

    def _read_message(self, message: Json) -> None:
        self.answer.response_id = text(message.get("id"))
        self.answer.model = text(message.get("model"))
        self.answer.inference_provider = text(message.get("provider"))
        for index, block in enumerate(objects(message.get("content"))):
            self._read_block(index, block)
        self._read_stop(message)
        read_gateway(self.answer, message)
        self._take_usage(mapping(message.get("usage")))

    def _read_message_delta(self, event: Json) -> None:
        self._read_stop(mapping(event.get("delta")))
        usage = mapping(event.get("usage"))
        self._output_counted |= count(usage.get("output_tokens")) is not None
        self._take_usage(_updated(self.answer.reported_usage or {}, usage))

    def _read_block(self, index: int, block: Json) -> None:
        self._blocks[index] = _Block(block)
        if _type(block) in EXECUTORS or text(block.get("text")) or text(block.get("thinking")):
            self.answer.started = True
        if _type(block) == "fallback":  # from here on another model speaks (trap 104)
            self.answer.model = text(mapping(block.get("to")).get("model")) or self.answer.model

    def _read_delta(self, event: Json) -> None:
        delta = mapping(event.get("delta"))
        key = DELTA_FIELDS.get(_type(delta))
        if key and (piece := text(delta.get(key))):
            self.answer.started = True
            self._blocks[_index(event)].deltas[key].append(piece)

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
        answer.price_context = {key: value for key in PRICE_MODIFIERS if (value := text(usage.get(key)))}
        iterations = list(objects(usage.get("iterations")))
        answer.extra_passes = [
            Pass(text(iteration.get("model")), _read_usage(iteration, output_counted=True))
            for iteration in iterations
            if _type(iteration) in EXTRA_PASSES
        ]
        for iteration in iterations:
            if _type(iteration) == "fallback_message":  # names the model that served (trap 104)
                answer.model = text(iteration.get("model")) or answer.model

    def _note_final(self) -> None:
        self.answer.usage_final = self.answer.ended and self.answer.usage.output_tokens is not None


def _names_this_kind(event_type: str) -> bool:
    return event_type.startswith(("message_", "content_block_"))


def _index(event: Json) -> int:
    return count(event.get("index")) or 0


def _updated(usage: Json, delta: Json) -> Json:
    """The usage so far with that of a `message_delta`, which is cumulative: it replaces, never adds (§5.4)."""
    given = {key: value for key, value in delta.items() if value is not None}
    inputs = {key: value for key in INPUT_COUNTS if count(value := given.pop(key, None)) is not None}
    if count(given.get("output_tokens")) is None:
        given.pop("output_tokens", None)
    # Some gateways send zeros for what they said at the start. But next to a true count a zero is true as well:
    # after a compaction nothing is read from the cache (trap 111).
    return usage | given | (inputs if any(map(count, inputs.values())) else {})


def _read_usage(usage: Json, output_counted: bool) -> Usage:
    """Anthropic's counts: `input_tokens` leaves out what was cached, the output includes thinking (wire-formats §8)."""
    uncached, written, read = (count(usage.get(key)) for key in INPUT_COUNTS)
    if not (output_counted or uncached or written or read):
        return Usage()  # Vercel's stream starts with zeros, whatever the input was (trap 122)
    thinking = mapping(usage.get("output_tokens_details")).get("thinking_tokens")
    return Usage(
        input_tokens=None if uncached is None else count(uncached + (written or 0) + (read or 0)),
        cache_read_tokens=read,
        cache_write_tokens=written,
        cache_write_1h_tokens=_written_for_1h(mapping(usage.get("cache_creation")), written),
        output_tokens=count(usage.get("output_tokens")) if output_counted else None,
        reasoning_tokens=count(thinking) if output_counted else None,
    )


def _written_for_1h(split: Json, written: int | None) -> int | None:
    """The one-hour part of the cache writes; what a split leaves over was written for five minutes (trap 54).

    A split that exceeds the writes is of another pass: a stream gives it at the start and never corrects it (§5.4).
    """
    for_1h = count(split.get("ephemeral_1h_input_tokens"))
    for_5m = count(split.get("ephemeral_5m_input_tokens")) or 0
    return None if for_1h is None or written is None or for_5m + for_1h > written else for_1h
