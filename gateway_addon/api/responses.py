"""OpenAI Responses (`/responses`): what a request says, what an answer says, what the gateway may refuse or set.

Field names are those of the OpenAI API reference, "Responses" (also its multi-agent beta), and of OpenRouter's server
tools.
"""

import math
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from itertools import takewhile
from typing import NamedTuple

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
    SidePath,
    ToolCall,
    ToolResult,
    of,
)
from gateway_addon.api.deltas import Delta, Silent, decoder, delta_of
from gateway_addon.api.errors import merge, read_error
from gateway_addon.api.gateways import read_gateway, read_own_cost
from gateway_addon.api.parts import note, role_of, with_notes
from gateway_addon.api.prompts import clean, join_texts, real_prompt, side_request, system_prompts
from gateway_addon.api.refusals import check_model, check_object, openai_error_body, responses_error_event
from gateway_addon.api.usage import has_implausible_count, take_usage
from gateway_addon.api.values import count, items, mapping, objects, text
from gateway_addon.terms import Executor, Role, SideRequest
from gateway_addon.wire.cut import CONVERSATION, SYSTEM, TOOLS
from gateway_addon.wire.jsontext import dumps

NAME = "responses"
SUFFIX = "/responses"
VENDOR = "openai"
USAGE_ON_REQUEST = False
OWN_HEADER = None
SIDE_PATHS = (
    SidePath(("POST",), re.compile("/responses/input_tokens"), names_model=True),
    SidePath(("POST",), re.compile("/responses/compact"), logged=True, side_request="compaction", names_model=True),
    SidePath(("GET", "POST"), re.compile(r"/responses/(?!\.{1,2}(?:/|$))[\w.:~-]+(?:/cancel)?", re.ASCII)),
)
MEMBERS = {"instructions": SYSTEM, "tools": TOOLS, "input": CONVERSATION}
SYSTEM_ROLES = ("system", "developer")
VOLATILE_MEMBERS = frozenset(
    {"annotations", "call_id", "encrypted_content", "id", "logprobs", "phase", "role", "signature", "status", "type"}
)
CACHE_SETTINGS = {
    "reasoning": OTHER_EFFORT,
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
    "/client_metadata/session_id",
    "/client_metadata/thread_id",
)
FIELDS = None
BETA_FIELDS: Mapping[str, tuple[str, ...]] = {}
FREE_TEXT_CALLS = ("custom", "custom_tool_call", "code_interpreter_call", "openrouter:code_interpreter", "program")
DELTA_MEMBERS = ("delta",)
BLOCK_MEMBERS = ("type", "item_id", "output_index", "content_index", "summary_index")
MODEL_PLACES: tuple[str, ...] = ("/model", "/response/model")
METADATA_PLACES = ("", "/response")
USAGE_PLACES = ("/usage", "/response/usage")

ANSWER_OBJECTS = ("response", "response.compaction")
"""What `object` says in a whole answer; the second is the answer of `/responses/compact`."""

TERMINAL_STEPS = {
    "completed": "completed",
    "incomplete": "incomplete",
    "failed": "failed",
    "cancelled": "cancelled",
    "done": "completed",
}
"""The events `response.<step>` that end a stream, each with the status it stands for where the response names none.

`cancelled` is not in OpenAI's types; `done` is the Realtime API's name, which some gateways use here.
"""

PART_TEXT = {
    "input_text": "text",
    "output_text": "text",
    "text": "text",
    "summary_text": "text",
    "reasoning_text": "text",
    "refusal": "refusal",
    "output_audio": "transcript",
    "logs": "logs",
}
"""The parts of contents and outputs that hold text, each with the field that holds it."""

SERVER_TOOL = "openrouter:"
"""How the types of OpenRouter's server tools begin: a call, its arguments and its outcome in one item."""

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

LOOSE_ARGUMENTS = (
    *("action", "operation", "command", "file_path", "file_id", "filename", "key", "value", "query", "url", "timezone"),
    *("prompt", "revised_prompt", "task_name", "task_description", "server_label", "tool_name"),
)
"""Fields of a server-run call without arguments of its own that say, together, what the model asked for."""

PICTURE_CALLS = ("image_generation_call", "openrouter:image_generation")
"""Calls whose `result` is a picture."""

RESULT_FIELDS = ("output", "tools", "result")
"""Fields of a `*_output` item that hold the result; `tools` is what a tool search found."""

OUTCOME_FIELDS = (
    *("outputs", "results", "output", "result", "content", "advice", "outcome", "analysis", "responses", "datetime"),
    *("stdout", "stderr"),
)
"""Fields of a server-run call that hold what came of it."""

ERROR_FIELDS = ("error", "failure_reason")

FOUND_FIELDS = ("results", "responses")
HIT_FIELDS = ("title", "url", "text", "content", "snippet")
"""Fields that list what was found, and the texts of one such thing."""

FAILED = ("failed", "incomplete")
"""What `status` says of an item that did not come to its end; other values are no verdict, even in finished answers."""

OUTPUT_NAMES = {"program_output": "program", "tool_search_output": "tool_search"}
"""Outputs that need not name their call, each with the name of it."""

TELLING_OUTPUTS = ("apply_patch_call_output", "program_output")
"""Outputs whose `status` says whether the tool did its work, so that `completed` means it did."""

FEES = {
    "web_search": "web_searches",
    "file_search": "storage_searches",
    "code_interpreter": "code_executions",
    "image_gen": "image_gen",
}
"""The tools that cost a fee of their own, as `tool_usage` names them, each with the price table's unit.

No price table has a unit for the tokens of a generated picture: its name stands for itself.
"""

FEE_CALLS = {
    "web_search_call": "web_search",
    "file_search_call": "file_search",
    "code_interpreter_call": "code_interpreter",
    "image_generation_call": "image_gen",
}
"""The calls of those tools: they are counted where `tool_usage` says nothing."""

FREE_ACTIONS = ("open_page", "find_in_page")
"""What a web search may do besides searching; OpenAI bills searches only."""

TOOL_ITEMS = ("additional_tools", "tool_search_output", "mcp_list_tools")
"""Items that name further tools."""

CALLED_AS = {"computer_use": "computer", "programmatic_tool_calling": "program"}
"""Built-in tools that are offered under another name than they are called."""

MODEL_ITEMS = (
    *("reasoning", "compaction", "item_reference", "agent_message", "mcp_list_tools", "mcp_approval_request"),
    *("program_output", "multi_agent_call_output"),
)
"""Input items, besides assistant messages and calls, that belong to the model's own earlier turns."""

REASONING_WISHES = ("effort", "max_tokens", "enabled")
"""Members of `reasoning` by which a client says itself how much to reason; the last two are OpenRouter's."""


class Stream(NamedTuple):
    """How one family of events (`<family>.delta`, `<family>.done`) brings text in pieces."""

    into: str
    """What the text is: `text`, `reasoning`, `arguments` or `result`."""
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
    "response.audio.transcript": Stream("text", "transcript"),
    "response.mcp_call_arguments": Stream("arguments", "arguments"),
    "response.code_interpreter_call_code": Stream("arguments", "code"),
    "response.shell_call_command": Stream("arguments", "command", "command_index"),
    "response.apply_patch_call_operation_diff": Stream("arguments", "diff"),
    "response.shell_call_output_content": Stream("result", "output", "command_index"),
}

PART_STREAMS = {
    "output_text": "response.output_text",
    "refusal": "response.refusal",
    "reasoning_text": "response.reasoning_text",
    "summary_text": "response.reasoning_summary_text",
}
"""The family of events that a part's text would come in: `<...>_part.done` brings it whole."""


def is_request(body: Json) -> bool:
    """Whether a request body may be of this kind: `input`, and no `messages`."""
    return "input" in body and "messages" not in body


def is_answer(answer: Json) -> bool:
    """Whether a whole answer (`object`) or a stream event (`type`) names itself as this kind."""
    return answer.get("object") in ANSWER_OBJECTS or _type(answer).startswith("response.")


class _Entry(NamedTuple):
    """What an item of the history says for itself."""

    role: object
    texts: list[str]
    """Of a message."""
    call: tuple[str | None, str | None, str | None] | None
    """Of a call: its name, its namespace, and its name where that is declared."""
    ids: list[str]
    """Of a call: by which its result may name it."""
    is_served: bool
    """A call that the server ran."""
    is_by_model: bool
    """It was part of an answer, whatever comes before it."""
    result_of: str | None
    """The id of the call that it is the result of; if the server ran that, it was part of an answer."""
    tools: list[Json]
    """Offered from here on."""


def _read_entry(item: Json) -> _Entry:
    role, kind, is_call = _role(item), _type(item), _is_call(item)
    namespace = text(item.get("namespace"))
    declared = frozenset([namespace]) if namespace else frozenset()
    return _Entry(
        role=role,
        texts=_texts(item.get("content")) if role else [],
        call=(_call_name(item, frozenset()), namespace, _call_name(item, declared)) if is_call else None,
        ids=_ids(item) if is_call else [],
        is_served=is_call and _executor(item) == "server",
        is_by_model=is_call or _is_by_model(item),
        result_of=_link(item) if kind.endswith("_output") else None,
        tools=list(objects(item.get("tools"))) if kind in TOOL_ITEMS else [],
    )


def read_request(body: Json, of: Of = of) -> RequestFacts:
    """What a request body says. Never raises."""
    sent = [_as_item(given) for given in _given(body) if isinstance(given, dict | str)]
    history = of(_read_entry, sent)
    offered = _tools_offered(body, history)
    namespaces = _namespaces(offered)
    tools = _unique(name for tool in offered for name in _tool_names(tool))
    calls = [(entry, name) for entry in history if (name := _name_in(entry, namespaces))]
    results = [result for item in sent[_after_model(history) :] if (result := _result(item, namespaces))]
    # the result of a local shell names its call by `id`, all others by `call_id`
    _name_results(results, {item_id: name for entry, name in calls for item_id in entry.ids})
    turns = [entry.texts for entry in reversed(history) if entry.role == "user"]
    last_text = "\n".join(turns[0]) if turns else None
    opening = _system_texts(body, takewhile(lambda entry: entry.role != "user", history))
    # where a stored prompt stands for them, only its id is known
    prompts = system_prompts(_system_texts(body, history), len(opening))
    system_prompt, opening_system = (prompt or text(mapping(body.get("prompt")).get("id")) for prompt in prompts)
    previous_id = _previous_id(body)
    max_tokens = count(body.get("max_output_tokens"))
    return RequestFacts(
        model=text(body.get("model")),
        streamed=body.get("stream") is True,
        max_tokens=max_tokens,
        tools=tools,
        tool_results=results,
        system_prompt=system_prompt,
        user_prompt=real_prompt(turns),
        user_turns=turns,
        opening_system=opening_system,
        first_prompt=None if previous_id else real_prompt(reversed(turns)),
        side_request=_own_side_request(body) or side_request(system_prompt, last_text, max_tokens, len(tools)),
        previous_id=previous_id,
        namespaces=namespaces,
    )


def history(body: Json) -> Iterator[HistoryItem]:
    """All that a request says, in its order. Never raises."""
    given = body.get("input")
    sent = [given] if isinstance(given, str) else items(given)
    entries = [_read_entry(item) for item in objects(sent)]
    namespaces = _namespaces(_tools_offered(body, entries))
    served = _served(entries)
    names: dict[str, str | None] = {}
    if instructions := body.get("instructions"):
        yield from _content_items(-1, "system", instructions)
    if prompt := mapping(body.get("prompt")):
        yield HistoryItem(message=-1, role="system", note=f"prompt, {note(prompt)}")
    for number, item in enumerate(sent):
        if isinstance(item, str):
            yield HistoryItem(message=number, role="user", text=clean(item) or None)
        elif isinstance(item, dict):
            role: Role = "assistant" if _was_answer(_read_entry(item), served) else role_of(item)
            yield from _items(number, role, item, namespaces, names)


def _items(
    number: int, role: Role, item: Json, namespaces: frozenset[str], names: dict[str, str | None]
) -> Iterator[HistoryItem]:
    """What an item says; `names` are those of the calls so far, by id, to which it may add its own."""
    kind = _type(item)
    if _is_call(item):
        name = _call_name(item, namespaces)
        names |= dict.fromkeys(_ids(item), name)
        call = ToolCall(_link(item), name, kind, _executor(item), clean(_arguments(item)) or "{}")
        yield HistoryItem(message=number, role=role, tool_call=call)
    if result := _result(item, namespaces):
        _name_results([result], names)
        # of parts without any text the result holds the JSON
        silent = [part for part in objects(item.get("output")) if _texts(item.get("output")) and not _texts([part])]
        by: Role = "assistant" if role == "assistant" else "tool"
        yield HistoryItem(message=number, role=by, tool_result=with_notes(result, silent))
    elif kind == "reasoning" and (thoughts := _texts(item.get("summary")) + _texts(item.get("content"))):
        yield from (HistoryItem(message=number, role=role, reasoning=clean(thought)) for thought in thoughts)
    elif _role(item) or kind == "agent_message":
        yield from _content_items(number, role, item.get("content"))
    elif not _is_call(item):
        yield HistoryItem(message=number, role=role, note=note(item))


def _content_items(number: int, role: Role, content: object) -> Iterator[HistoryItem]:
    """The parts of a content; of one without any, an item that says nothing."""
    parts = [{"type": "text", "text": content}] if isinstance(content, str) else list(objects(content))
    for part in parts:
        if said := "\n".join(_texts([part])):
            yield HistoryItem(message=number, role=role, text=clean(said))
        else:
            yield HistoryItem(message=number, role=role, note=None if _type(part) in PART_TEXT else note(part))
    if not parts:
        yield HistoryItem(message=number, role=role)


def reader(request: RequestFacts) -> Reader:
    """A reader for the answer to `request`, whose declared namespaces it needs to name calls."""
    return _Reader(request.namespaces)


def validate(body: object) -> Refusal | None:
    """Refuse a body that is no object, an `input` of an impossible type, or no model."""
    if refusal := check_object(body):
        return refusal
    request = mapping(body)
    if not isinstance(request.get("input"), str | list | None):
        return Refusal(400, "`input` must be a string, a list or null.", "invalid_body")
    return check_model(request)


error_body = openai_error_body
error_event = responses_error_event


def effort_operations(body: Json, effort: str) -> list[Operation]:
    """Set `reasoning.effort`, unless the client has said itself how much to reason."""
    reasoning = body.get("reasoning")
    if reasoning is None:
        return [{"op": "add", "path": "/reasoning", "value": {"effort": effort}}]
    if not isinstance(reasoning, dict) or any(reasoning.get(wish) is not None for wish in REASONING_WISHES):
        return []
    return [{"op": "add", "path": "/reasoning/effort", "value": effort}]


# ---- Requests ----


def _own_side_request(body: Json) -> SideRequest | None:
    """What the format itself calls something else than a turn: a warm-up or a compaction."""
    last = mapping(next(reversed(items(body.get("input"))), None))
    if body.get("generate") is False:
        return "warmup"
    return "compaction" if _type(last) == "compaction_trigger" else None


def _previous_id(body: Json) -> str | None:
    conversation = body.get("conversation")
    return text(body.get("previous_response_id")) or text(conversation) or text(mapping(conversation).get("id"))


def _tools_offered(body: Json, history: Iterable[_Entry]) -> list[Json]:
    return [*objects(body.get("tools")), *(tool for entry in history for tool in entry.tools)]


def _namespaces(offered: Iterable[Json]) -> frozenset[str]:
    return frozenset(name for tool in offered if _type(tool) == "namespace" and (name := text(tool.get("name"))))


def _tool_names(tool: Json) -> Iterator[str]:
    """The names under which one entry of `tools` is called."""
    name = text(tool.get("name"))
    if _type(tool) == "namespace":
        members = (text(member.get("name")) for member in objects(tool.get("tools")))
        yield from (f"{name}.{member}" for member in members if name and member)
    elif known_as := name or text(tool.get("server_label")) or _called_as(_type(tool)):
        yield known_as


def _called_as(kind: str) -> str:
    """The name that calls of a built-in tool go by: without the dates and previews of the type that offers it."""
    kind = _VERSION.sub("", kind)
    return CALLED_AS.get(kind, kind)


_VERSION = re.compile(r"(_preview)?(_\d{4}_?\d{2}_?\d{2})?$")


def _role(item: Json) -> object:
    """The role of a message; None for items of other types."""
    return item.get("role") if item.get("type") in (None, "message") else None


def _name_in(entry: _Entry, namespaces: frozenset[str]) -> str | None:
    """The name of a call where these namespaces are declared."""
    if entry.call is None:
        return None
    name, namespace, full_name = entry.call
    return full_name if namespace in namespaces else name


def _system_texts(body: Json, history: Iterable[_Entry]) -> list[str]:
    """What `instructions` and system messages say."""
    said = (part for entry in history if entry.role in SYSTEM_ROLES for part in entry.texts)
    return [*_texts(body.get("instructions")), *said]


def _given(body: Json) -> list[object]:
    given = body.get("input")
    return [given] if isinstance(given, str) else items(given)


def _as_item(given: Json | str) -> Json:
    """Some servers take bare strings for user turns."""
    return {"role": "user", "content": given} if isinstance(given, str) else given


def _after_model(history: list[_Entry]) -> int:
    """Where the items since the model's last turn begin: what is new in a request that repeats its history."""
    served = _served(history)
    return max((n for n, entry in enumerate(history, 1) if _was_answer(entry, served)), default=0)


def _served(history: Iterable[_Entry]) -> set[str]:
    """The ids of the calls that the server ran."""
    return {item_id for entry in history if entry.is_served for item_id in entry.ids}


def _was_answer(entry: _Entry, served: set[str]) -> bool:
    """Whether an item was part of an answer; a result was if the server ran its call, whose id is then in `served`."""
    return entry.is_by_model or entry.result_of in served


def _is_by_model(item: Json) -> bool:
    """Whether an item tells of itself that it was part of an answer."""
    # a reference may come without its type, and then has no role either
    kind = _type(item) or ("message" if "role" in item else "item_reference")
    if kind.endswith("_output") and item.get("execution") == "server":
        return True
    return kind in MODEL_ITEMS or _role(item) == "assistant"


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
    kind = _type(item)
    return kind.endswith("_call") or kind == "program" or kind.startswith(SERVER_TOOL)


def _call_name(item: Json, namespaces: frozenset[str]) -> str | None:
    kind, name, namespace = _type(item), text(item.get("name")), text(item.get("namespace"))
    if kind.startswith(SERVER_TOOL):
        return kind  # `name` is what the agent that does the work is called
    if kind == "multi_agent_call":
        name = text(item.get("action")) or name
    if name is None:
        return None if kind in NAMED_CALLS else kind.removesuffix("_call")
    return _full_name(name, namespace, namespaces)


def _full_name(name: str, namespace: str | None, namespaces: frozenset[str]) -> str:
    # a function found by tool search is called with its own name for a namespace that nobody declared
    return f"{namespace}.{name}" if namespace in namespaces else name


def _executor(item: Json) -> Executor:
    match item.get("execution"):
        case "client":
            return "client"
        case "server":
            return "server"
    hosted = mapping(item.get("environment")).get("type") == "container_reference"
    return "client" if _type(item) in CLIENT_CALLS and not hosted else "server"


def _arguments(item: Json) -> str:
    """The arguments of a call item: text as the model wrote it, anything else as compact JSON; "" when none."""
    for key in ARGUMENT_FIELDS:
        value = item.get(key)
        if value and (key in TEXT_ARGUMENTS or not isinstance(value, str)):
            return value if isinstance(value, str) else _compact(value)
    if _type(item) in PICTURE_CALLS or _type(item).startswith(SERVER_TOOL):
        asked = {key: value for key in LOOSE_ARGUMENTS if (value := item.get(key))}
        return _compact(asked) if asked else ""
    return ""


def _compact(value: object) -> str:
    try:
        return dumps(value)
    except ValueError:
        return "(nested too deeply)"


def _result(item: Json, namespaces: frozenset[str]) -> ToolResult | None:
    """The result that an item carries: a `*_output` item, or a server-run call that brought text or failed.

    `name` is left open where only the call knows it.
    """
    kind, is_error = _type(item), _is_error(item)
    if _is_call(item):
        name = _call_name(item, namespaces)
        fields = [key for key in OUTCOME_FIELDS if key != "result" or kind not in PICTURE_CALLS]
        found = [_outcome_text(key, item.get(key)) for key in fields]
        is_answered = any(found) or is_error or isinstance(item.get("output"), str)
        if _executor(item) != "server" or not is_answered:
            return None
    elif kind.endswith("_output"):
        own = text(item.get("name")) or text(item.get("action")) or OUTPUT_NAMES.get(kind)
        name = _full_name(own, text(item.get("namespace")), namespaces) if own else None
        found = [_content_text(next((item[key] for key in RESULT_FIELDS if key in item), None))]
    else:
        return None
    found += [_error_text(item.get(key)) for key in ERROR_FIELDS]
    return ToolResult(_link(item), name, clean("\n".join(filter(None, found))), is_error)


def _outcome_text(key: str, content: object) -> str:
    """One field of what came of a server-run call, as text; pictures and files among `outputs` are none."""
    if key == "outputs":
        return "\n".join(_texts(content))
    hits = [hit for thing in objects(content) for place in HIT_FIELDS if (hit := text(thing.get(place)))]
    return "\n".join(hits) if hits and key in FOUND_FIELDS else _content_text(content)


def _content_text(content: object) -> str:
    """A result as text: a string, the texts of a list of parts, or anything else as JSON."""
    return "\n".join(_texts(content)) or (_compact(content) if content else "")


def _error_text(error: object) -> str:
    """What an error of a tool says: a string, or an object with `message` or `content`."""
    if isinstance(error, dict) and error:
        return text(error.get("message")) or "\n".join(_texts(error.get("content"))) or _compact(error)
    return text(error) or ""


def _is_error(item: Json) -> bool | None:
    """Whether a tool failed, by the signs its item has for it; None where it has none."""
    kind, status = _type(item), item.get("status")
    if status in FAILED or any(item.get(key) for key in ERROR_FIELDS):
        return True
    runs = [item, *(outcome for output in objects(item.get("output")) if (outcome := mapping(output.get("outcome"))))]
    if any(run.get("type") == "timeout" or _is_failure(run.get("exit_code")) for run in runs):
        return True
    can_tell = _is_call(item) and _executor(item) == "server"
    if kind == "mcp_call" or len(runs) > 1:
        return False
    return False if status == "completed" and (can_tell or kind in TELLING_OUTPUTS) else None


def _is_failure(exit_code: object) -> bool:
    return isinstance(exit_code, int) and exit_code != 0


def _name_results(results: list[ToolResult], names: Mapping[str, str | None]) -> None:
    for result in results:
        result.name = names.get(result.call_id or "") or result.name


def _unique(names: Iterable[str]) -> list[str]:
    return list(dict.fromkeys(names))


# ---- Answers ----


@dataclass(slots=True)
class _Output:
    """What one output item says."""

    call: ToolCall | None = None
    """Its arguments are in `said` until the reader has finished."""
    result: ToolResult | None = None
    """Its content as well."""
    said: dict[str, str] = field(default_factory=dict)
    """The texts that are not empty: `text`, `reasoning`, `arguments`, `result`."""
    fee: str | None = None
    """The tool that costs a fee of its own, as `tool_usage` names it."""


def _read_output(item: Json, namespaces: frozenset[str]) -> _Output:
    call, said, result = None, {}, _result(item, namespaces)
    if _is_call(item):
        call = ToolCall(_link(item), _call_name(item, namespaces), _type(item), _executor(item), "")
        said["arguments"] = _arguments(item)
    elif _type(item) == "reasoning":
        said["reasoning"] = "\n".join(_texts(item.get("summary")) + _texts(item.get("content")))
    elif item.get("type") in (None, "message", "agent_message"):
        said["text"] = "\n".join(_texts(item.get("content")))
    if result and result.content:
        said["result"] = result.content
    return _Output(call, result, {into: value for into, value in said.items() if value}, _fee(item))


def _fee(item: Json) -> str | None:
    is_free = item.get("status") == "failed" or mapping(item.get("action")).get("type") in FREE_ACTIONS
    return None if is_free else FEE_CALLS.get(_type(item))


@dataclass(slots=True)
class _Item:
    """An output item while it is streamed."""

    position: int | None
    """`output_index`; some servers leave it out, others give the same one to all items."""
    identity: tuple[str | None, ...] = ()
    """Its type, `call_id` and name, once it was announced."""
    output: _Output = field(default_factory=_Output)
    is_open: bool = True
    pieces: dict[tuple[str, int], list[str]] = field(default_factory=dict)
    """Deltas by event family and part."""

    def said(self) -> dict[str, str]:
        """Its texts so far; deltas count more than what the item was announced with, and are not added to it."""
        streamed: dict[str, list[str]] = {}
        for (family, _), pieces in self.pieces.items():
            streamed.setdefault(STREAMS[family].into, []).append("".join(pieces))
        return self.output.said | {into: "\n".join(parts) for into, parts in streamed.items()}

    def close(self, output: _Output) -> None:
        """Take the finished item; what it leaves out stays as it was announced and streamed."""
        before, call = self.output, output.call or self.output.call
        if call and before.call:
            call.call_id, call.name = call.call_id or before.call.call_id, call.name or before.call.name
        self.output = _Output(call, output.result or before.result, self.said() | output.said, output.fee)
        self.is_open = False
        self.pieces.clear()

    def may_be(self, identity: tuple[str | None, ...]) -> bool:
        """Whether what an event says of an item fits this one. The name of an open one may not be whole yet."""
        known = self.identity[:2] if self.is_open else self.identity
        return all(before == after for before, after in zip(known, identity, strict=False) if before and after)


class _TextDelta(Delta):
    """An event that does no more than to go on with a text."""

    type: str
    delta: str
    item_id: str | None = None
    output_index: int | None = None
    content_index: int | None = None
    summary_index: int | None = None
    sequence_number: Silent = None
    logprobs: Silent = None
    obfuscation: Silent = None

    def place(self) -> tuple[object, ...]:
        return self.type, self.item_id, self.output_index, self.content_index, self.summary_index


_read_delta = decoder(_TextDelta)


class _Reader:
    """Reads one answer: a stream, event by event, or a whole body."""

    def __init__(self, namespaces: frozenset[str]) -> None:
        self.answer = Answer()
        self._last_place: tuple[object, ...] | None = None
        self._last_pieces: list[str] = []
        """The place of the last event, if it was a delta as usual, and the pieces where its own has gone."""
        self._namespaces = namespaces
        self._items: list[_Item] = []
        self._newest: dict[int | None, _Item] = {}
        """By `output_index`; None holds the item that an event without one, and without a known id, belongs to."""
        self._known: dict[tuple[int | None, str], _Item] = {}
        """By `output_index` and id, or `call_id`, of the item."""
        self._final: list[_Output] = []
        """The `output` of the terminal event or the whole body."""
        self._tool_usage: Json = {}

    def goes_on(self, data: bytes, name: str) -> bool:
        # nearly every event goes on where the one before it stopped
        if self._last_place is None or (event := _read_delta(data)) is None or event.place() != self._last_place:
            return False
        self._last_pieces.append(event.delta)
        return True

    def event(self, event: Json, name: str = "") -> None:
        self._last_place = None
        kind = _type(event) or name
        family, _, step = kind.rpartition(".")
        read_own_cost(self.answer, event)
        if not kind.startswith("response."):
            self._fail(read_error(event, kind))
            return
        self.answer.recognised = True
        if family in STREAMS:
            self._read_piece(event, family, step)
        elif family.endswith("_part") and step == "done":
            self._read_part(event)
        elif family == "response.output_item":
            self._read_item(event, step)
        elif family.endswith("_call") and step == "failed":
            self._fail_call(event)
        elif family == "response":
            response = mapping(event.get("response"))
            read_gateway(self.answer, event)
            self._read_response(response)
            if step in TERMINAL_STEPS:
                self._end(response, TERMINAL_STEPS[step])

    def done(self) -> None:
        """`[DONE]` says nothing here: the end is a terminal event."""

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
                output.result.content = clean(output.said.get("result", ""))
                answer.tool_results.append(output.result)
        _name_results(answer.tool_results, {call.call_id: call.name for call in answer.tool_calls if call.call_id})
        answer.text = join_texts(output.said.get("text", "") for output in outputs) or ""
        answer.reasoning = join_texts(output.said.get("reasoning", "") for output in outputs) or ""
        # as `tool_usage` says; where it says nothing as `usage` does, else by the calls
        fees = _called_fees(outputs) | answer.fees | _named_fees(self._tool_usage)
        answer.fees = {unit: times for unit, times in fees.items() if times}
        if has_implausible_count(self._tool_usage) and "usage_implausible" not in answer.warnings:
            answer.warnings.append("usage_implausible")
        return answer

    def _read_response(self, response: Json) -> None:
        """Take a response object. What a later one says wins: through Copilot even the id changes."""
        answer = self.answer
        answer.response_id = text(response.get("id")) or answer.response_id
        answer.model = text(response.get("model")) or answer.model
        answer.service_tier = text(response.get("service_tier")) or answer.service_tier
        take_usage(answer, mapping(response.get("usage")), "input", "output")
        self._tool_usage = mapping(response.get("tool_usage")) or self._tool_usage
        read_own_cost(self.answer, response)
        read_gateway(self.answer, response)
        self._fail(read_error(response))

    def _end(self, response: Json, status: str | None) -> None:
        """Take the end of the answer: a whole body, or the response object of a terminal event that means `status`."""
        answer = self.answer
        # a second terminal event may say less than the first
        answer.usage_final = bool(mapping(response.get("usage"))) or (answer.ended and answer.usage_final)
        named = text(response.get("status"))
        if named or not answer.ended:
            answer.finish_reason = named or status
            answer.finish_detail = text(mapping(response.get("incomplete_details")).get("reason"))
        answer.ended = True
        if answer.finish_reason == "failed":
            self._fail(Problem())  # it failed even where it does not say why
        # the output of a compaction is the history it was given, not something the model has said
        if response.get("object") != "response.compaction":
            final = [_read_output(item, self._namespaces) for item in objects(response.get("output"))]
            self._final = final or self._final
            self._note_start(*final)

    def _read_item(self, event: Json, step: str) -> None:
        item = mapping(event.get("item"))
        output = _read_output(item, self._namespaces)
        self._note_start(output)
        if step in ("added", "done"):
            streamed = self._item_of(event, step) or self._new_item(event)
            streamed.identity = _identity(item)
            if step == "added":
                streamed.output = output
            else:
                streamed.close(output)

    def _read_piece(self, event: Json, family: str, step: str) -> None:
        stream = STREAMS[family]
        key = {"delta": "delta", "done": stream.whole}.get(step, "")
        self._take_piece(event, family, step, _piece(event.get(key), stream.into))

    def _read_part(self, event: Json) -> None:
        part = mapping(event.get("part"))
        if family := PART_STREAMS.get(_type(part)):
            self._take_piece(event, family, "done", text(part.get(PART_TEXT[_type(part)])))

    def _take_piece(self, event: Json, family: str, step: str, piece: str | None) -> None:
        if not piece:
            return
        self.answer.started = True
        item = self._item_of(event, step)
        if item is None:
            item = self._new_item(event)
        elif not item.is_open:
            return  # it has said this already
        if item.output.call and not item.output.call.name:
            item.output.call.name = text(event.get("name"))
        part = family, count(event.get(STREAMS[family].part)) or 0
        if step == "done":
            item.pieces[part] = [piece]
        else:
            self._last_pieces = item.pieces.setdefault(part, [])
            self._last_pieces.append(piece)
            if usual := delta_of(_TextDelta, event):
                self._last_place = usual.place()

    def _fail_call(self, event: Json) -> None:
        """Take `response.<type>_call.failed`, which comes before the item says so itself."""
        item = self._item_of(event, "failed")
        if item and item.output.call and item.output.result is None:
            item.output.result = ToolResult(item.output.call.call_id, item.output.call.name, "", is_error=True)

    def _item_of(self, event: Json, step: str) -> _Item | None:
        """The item an event is about, None for a new one.

        `output_index` counts more than ids, as these can differ in every event (Copilot). Where it is left out
        (llama.cpp), or is the same for all items, ids tell them apart, and that an item was begun or has ended.
        """
        item, position, ids = mapping(event.get("item")), count(event.get("output_index")), _event_ids(event)
        known = next((found for name in ids if (found := self._known.get((position, name)))), None)
        newest = self._newest.get(position)
        if step == "added" and newest and newest.identity and (ids or position is None):
            newest = None
        for found in (known, newest):
            stays = step in ("done", "failed") and (found is known or not item)
            if found and found.may_be(_identity(item)) and (found.is_open or stays):
                self._note_item(event, found)
                return found
        return None

    def _new_item(self, event: Json) -> _Item:
        item = _Item(count(event.get("output_index")))
        self._items.append(item)
        self._note_item(event, item)
        return item

    def _note_item(self, event: Json, item: _Item) -> None:
        self._newest[item.position] = item
        if item.position is None or "item" in event:
            self._known.update({(item.position, name): item for name in _event_ids(event)})

    def _streamed_outputs(self) -> list[_Output]:
        in_order = sorted(self._items, key=lambda item: math.inf if item.position is None else item.position)
        return [replace(item.output, said=item.said()) for item in in_order]

    def _note_start(self, *outputs: _Output) -> None:
        if any(output.call or output.said for output in outputs):
            self.answer.started = True

    def _fail(self, problem: Problem | None) -> None:
        self.answer.error = merge(self.answer.error, problem)
        self.answer.recognised = self.answer.recognised or problem is not None


def _event_ids(event: Json) -> list[str]:
    """The ids by which an event names the item it is about."""
    names = (event.get("item_id"), event.get("call_id"), *_ids(mapping(event.get("item"))))
    return [name for value in names if (name := text(value))]


def _identity(item: Json) -> tuple[str | None, ...]:
    return text(item.get("type")), text(item.get("call_id")), text(item.get("name"))


def _piece(value: object, into: str) -> str | None:
    """A piece of a text; arguments and results may come as objects."""
    if isinstance(value, str):
        return text(value)
    if into == "result":
        streams = (mapping(value).get(name) for name in ("stdout", "stderr"))
        return "".join(part for stream in streams if (part := text(stream))) or _content_text(items(value)) or None
    return _compact(value) if value and into == "arguments" else None


def _called_fees(outputs: Iterable[_Output]) -> dict[str, int]:
    """How often tools with a fee were called, by the price table's unit."""
    return dict(Counter(FEES[output.fee] for output in outputs if output.fee))


def _named_fees(tool_usage: Json) -> dict[str, int]:
    """How often tools with a fee were used, as `tool_usage` says."""
    uses = {FEES.get(tool, tool): _uses(usage) for tool, usage in tool_usage.items()}
    return {unit: times for unit, times in uses.items() if times is not None}


def _uses(usage: object) -> int | None:
    """How often a tool was used, or the tokens it used where those are billed."""
    counts = (count(mapping(usage).get(name)) for name in ("num_requests", "num_sessions", "total_tokens"))
    return next((number for number in counts if number is not None), None)
