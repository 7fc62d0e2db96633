"""What the gateway changes in a model call: the table `RULES`, one small function per rule.

A rule answers with RFC 6902 operations over the request as a document, `{"url", "headers", "body"}`. Each
addresses the request *as the client sent it*, no two touch one place, and removals from one array come last element
first: so the list is right both for a patch tool, which goes step by step, and for `jsontext.apply`, which splices all
of it at once. Messages and Responses requests keep their own cache markup and ids.
"""

import hashlib
import hmac
import re
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass

from pydantic import SecretStr

from gateway_addon.api import turns
from gateway_addon.api.base import ApiKind, Json, Operation
from gateway_addon.api.values import items, mapping, objects, text
from gateway_addon.config import Settings
from gateway_addon.dialects import DIALECTS
from gateway_addon.dialects.base import Dialect
from gateway_addon.gateway.models import Choice
from gateway_addon.wire.headers import Headers
from gateway_addon.wire.jsontext import pointer


@dataclass(slots=True, frozen=True, kw_only=True)
class RuleContext:
    """What a rule may look at."""

    kind: ApiKind
    body: Json
    headers: Headers
    choice: Choice
    settings: Settings
    is_side: bool = False
    """It is no model call, but a request on a path beside."""

    @property
    def dialect(self) -> Dialect:
        """The one the provider speaks."""
        return DIALECTS[self.choice.provider.dialect or self.kind.VENDOR]


@dataclass(slots=True, frozen=True)
class Rule:
    """A row of `RULES`."""

    change: Callable[[RuleContext], list[Operation]]
    condition: Callable[[RuleContext], bool] = lambda call: True
    kinds: Collection[str] | None = None
    """Names of the kinds whose bodies the rule knows; None: it asks the kind's module."""
    on_side_paths: bool = False
    """It holds for bodies that are no model call, too."""


def operations(call: RuleContext) -> list[Operation]:
    """All that the rules change in a call, in the order of the table, nothing twice."""
    found: dict[str, Operation] = {}
    for rule in RULES:
        if call.is_side and not rule.on_side_paths:
            continue
        if (rule.kinds is None or call.kind.NAME in rule.kinds) and rule.condition(call):
            for operation in rule.change(call):
                # what one rule removes, another need not hash: of two on one place the first holds
                found.setdefault(operation["path"], operation)
    return list(found.values())


def _add(*parts: str | int, value: object) -> Operation:
    return {"op": "add", "path": pointer(*parts), "value": value}


def _replace(*parts: str | int, value: object) -> Operation:
    return {"op": "replace", "path": pointer(*parts), "value": value}


def _remove(*parts: str | int) -> Operation:
    return {"op": "remove", "path": pointer(*parts)}


# Model and effort


def model_name(call: RuleContext) -> list[Operation]:
    """The provider's name of the model in place of the public id."""
    if call.body["model"] == call.choice.upstream_model:
        return []
    return [_replace("body", "model", value=call.choice.upstream_model)]


def effort(call: RuleContext) -> list[Operation]:
    """An auto model's reasoning effort, in the kind's own field, never over a wish of the client's."""
    if call.choice.effort is None:
        return []
    wanted = call.kind.effort_operations(call.body, call.choice.effort)
    return [operation | {"path": "/body" + operation["path"]} for operation in wanted]


# Fields


def strip_models(call: RuleContext) -> list[Operation]:
    """OpenRouter's list of fallback models: it would go round the model that was resolved and checked."""
    return [_remove("body", "models")] if "models" in call.body else []


def include_usage(call: RuleContext) -> list[Operation]:
    """Ask for usage at the end of a stream, without which tokens and cost stay unknown."""
    options = call.body.get("stream_options")
    if options is None:
        return [_add("body", "stream_options", value={"include_usage": True})]
    if isinstance(options, dict) and options.get("include_usage") is not True:
        return [_add("body", "stream_options", "include_usage", value=True)]
    return []


def asks_for_usage(operations: list[Operation]) -> bool:
    """Whether `include_usage` is among the rules that took effect: the client did not ask for that chunk."""
    return any(op["op"] == "add" and op["path"].startswith("/body/stream_options") for op in operations)


def keep_known_fields(call: RuleContext) -> list[Operation]:
    """Anthropic answers 400 to any member it does not know; a keep-list also holds for those not invented yet."""
    betas = _header_betas(call, "anthropic-beta") + _body_betas(call.body)
    with_beta = {name for name, prefixes in call.kind.BETA_FIELDS.items() if any(b.startswith(prefixes) for b in betas)}
    known = {*(call.kind.FIELDS or ()), *with_beta}
    metadata = mapping(call.body.get("metadata"))
    tools = enumerate(items(call.body.get("tools")))
    foreign = [index for index, tool in tools if (text(mapping(tool).get("type")) or "").startswith("openrouter:")]
    return [
        *(_remove("body", name) for name in call.body if name not in known),
        *(_remove("body", "metadata", key) for key in metadata if key != "user_id"),
        *(_remove("body", "tools", index) for index in reversed(foreign)),
    ]


def betas_header(call: RuleContext) -> list[Operation]:
    """`betas` is an argument of the SDK; on the wire it is a header."""
    return _with_betas(call, "anthropic-beta", _body_betas(call.body))


# Chat Completions to Claude models

FINE_GRAINED = "fine-grained-tool-streaming-2025-05-14"


def fine_grained_streaming(call: RuleContext) -> list[Operation]:
    """Tool arguments as the model writes them, rather than in one piece at their end."""
    headers = call.dialect.BETA_HEADERS
    return [operation for header in headers for operation in _with_betas(call, header, [FINE_GRAINED])]


EPHEMERAL = {"type": "ephemeral"}


def cache_breakpoints(call: RuleContext) -> list[Operation]:
    """Let Claude cache the prompt: OpenRouter's `cache_control` on the system prompt and the last two inputs.

    The last input is what the next call reads up to; the one before it is what this call does. Three of the four
    breakpoints Anthropic allows. A client that set any knows what it does.
    """
    messages = list(_messages(call.body))
    marked = [call.body, *objects(call.body.get("tools")), *(p for _, m in messages for p in objects(m.get("content")))]
    if any("cache_control" in place for place in marked):
        return []
    system = [(index, message) for index, message in messages if message.get("role") in ("system", "developer")]
    inputs = [(index, message) for index, message in messages if message.get("role") in ("user", "tool")]
    marks = (_mark(index, message.get("content")) for index, message in system[:1] + inputs[-2:])
    return [mark for mark in marks if mark]


def _messages(body: Json) -> Iterator[tuple[int, Json]]:
    """The messages with their index; what is no object counts as an empty one."""
    return ((index, mapping(message)) for index, message in enumerate(items(body.get("messages"))))


def _mark(index: int, content: object) -> Operation | None:
    """A breakpoint at the end of a message; blank texts must not have one."""
    if isinstance(content, str):
        parts = [{"type": "text", "text": content, "cache_control": EPHEMERAL}]
        return _replace("body", "messages", index, "content", value=parts) if content.strip() else None
    for place, part in reversed(list(enumerate(items(content)))):
        if (text(mapping(part).get("text")) or "").strip():
            return _add("body", "messages", index, "content", place, "cache_control", value=EPHEMERAL)
    return None


REFUSED_IN_ID = re.compile(r"[^A-Za-z0-9_-]")
"""Anthropic takes only these characters in the id of a tool call."""


def tool_call_ids(call: RuleContext) -> list[Operation]:
    """Rename ids that another vendor made and Anthropic refuses, in calls and in results alike."""
    places = list(_id_places(call.body))
    names = _safe_ids([id for _, id in places])
    return [_replace("body", *place, value=names[id]) for place, id in places if names[id] != id]


def _id_places(body: Json) -> Iterator[tuple[tuple[str | int, ...], str]]:
    for index, message in _messages(body):
        for position, tool_call in enumerate(items(message.get("tool_calls"))):
            if id := text(mapping(tool_call).get("id")):
                yield ("messages", index, "tool_calls", position, "id"), id
        if id := text(message.get("tool_call_id")):
            yield ("messages", index, "tool_call_id"), id


def _safe_ids(ids: list[str]) -> dict[str, str]:
    """By id as sent, an id that Anthropic takes, no two alike.

    A digest rather than a counter: the new name depends on nothing but the old one, so that the next request of the
    conversation says the same and the provider's cache still fits.
    """
    names = {id: id for id in ids if not REFUSED_IN_ID.search(id)}
    taken = set(names)
    for id in ids:
        if id not in names:
            digest = hashlib.sha256(id.encode("utf-8", "surrogatepass")).hexdigest()[:12]
            name = f"{REFUSED_IN_ID.sub('_', id)}_{digest}"
            while name in taken:
                name += "_"
            names[id] = name
            taken.add(name)
    return names


# Tracking

TRACKING_HEADERS = (
    "session-id",
    "session_id",
    "thread-id",
    "conversation_id",
    "x-session-id",
    "x-session-affinity",
    "x-parent-session-id",
    "x-claude-code-session-id",
    "x-claude-code-agent-id",
    "x-claude-code-parent-agent-id",
    "x-codex-window-id",
    "x-codex-parent-thread-id",
    "x-opencode-session",
    "x-kilocode-taskid",
    "x-kilocode-parent-taskid",
    "x-kilocode-machineid",
    "x-kilo-session",
    "x-task-id",
    "x-roo-task-id",
    "vscode-sessionid",
    "x-client-session-id",
    "x-agent-task-id",
)
"""Where the agents' headers name a person or a session."""


_HYPHENED = {name.replace("_", "-") for name in TRACKING_HEADERS}


def tracking_ids(call: RuleContext) -> list[Operation]:
    """With a salt, ids leave as hashes: one for each id, so that caches still fit, but another at every provider."""
    salt = call.settings.secret(call.settings.rewrite.tracking_salt_env)
    if salt is None:
        return []
    ids: dict[tuple[str, ...], str | None] = {("headers", name): call.headers.get(name) for name in TRACKING_HEADERS}
    places = [tuple(place.split("/")[1:]) for place in call.kind.TRACKING_PLACES]
    ids |= {("body", *place): _at(call.body, place) for place in places}
    # headers of a turn on a WebSocket, where they cannot be headers
    ids |= {
        ("body", turns.SENT_IN, member): value
        for member, name, value in turns.sent_with(call.body)
        if name.replace("_", "-") in _HYPHENED
    }
    return [_replace(*place, value=_hash(salt, call.choice.provider.id, id)) for place, id in ids.items() if id]


def _at(body: Json, place: tuple[str, ...]) -> str | None:
    value: object = body
    for part in place:
        value = mapping(value).get(part)
    return text(value)


def _hash(salt: SecretStr, provider: str, id: str) -> str:
    message = f"{provider}\0{id}".encode("utf-8", "surrogatepass")
    return hmac.new(salt.get_secret_value().encode(), message, hashlib.sha256).hexdigest()


# Betas


def _header_betas(call: RuleContext, header: str) -> list[str]:
    return [beta.strip() for beta in call.headers.joined(header).split(",") if beta.strip()]


def _body_betas(body: Json) -> list[str]:
    """Only what looks like a beta: a line end inside one would begin a header of its own."""
    betas = items(body.get("betas"))
    return [beta for beta in betas if isinstance(beta, str) and re.fullmatch(r"[A-Za-z0-9._-]+", beta)]


def _with_betas(call: RuleContext, header: str, betas: list[str]) -> list[Operation]:
    """Add to a comma-separated header what it does not list yet."""
    listed = _header_betas(call, header)
    missing = [beta for beta in dict.fromkeys(betas) if beta not in listed]
    return [_add("headers", header, value=", ".join(listed + missing))] if missing else []


# Conditions


def _to_claude(call: RuleContext) -> bool:
    """`claude-…` alone, behind a vendor (`anthropic/claude-…`) or a cloud's prefix (`us.anthropic.claude-…`)."""
    return re.search(r"(?:^|[/.])claude", call.choice.upstream_model, re.IGNORECASE) is not None


def _wants_cache_breakpoints(call: RuleContext) -> bool:
    return call.settings.rewrite.anthropic_cache_breakpoints and _to_claude(call)


def _wants_tool_call_ids(call: RuleContext) -> bool:
    return call.settings.rewrite.normalize_tool_call_ids and _to_claude(call)


def _needs_to_ask_for_usage(call: RuleContext) -> bool:
    return call.kind.USAGE_ON_REQUEST and not call.dialect.SENDS_USAGE and call.body.get("stream") is True


def _is_foreign_to_its_vendor(call: RuleContext) -> bool:
    return call.dialect.IS_STRICT and call.kind.FIELDS is not None


CHAT = ("chat_completions",)

RULES = (
    Rule(model_name, on_side_paths=True),
    Rule(effort),
    Rule(strip_models, lambda call: call.settings.rewrite.strip_models, on_side_paths=True),
    Rule(include_usage, _needs_to_ask_for_usage),
    Rule(keep_known_fields, _is_foreign_to_its_vendor),
    Rule(betas_header, _is_foreign_to_its_vendor),
    # these know the bodies of one kind, which gateways translate for Claude models
    Rule(fine_grained_streaming, _to_claude, CHAT),
    Rule(cache_breakpoints, _wants_cache_breakpoints, CHAT),
    Rule(tool_call_ids, _wants_tool_call_ids, CHAT),
    Rule(tracking_ids),
)
"""Every change there is; a rule also finds by itself that there is nothing to change."""
