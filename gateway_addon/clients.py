"""Who is calling: the client program, its session and agent, told from a request (wire-formats §12)."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from hashlib import blake2b

from gateway_addon.api.base import Json, RequestFacts
from gateway_addon.api.values import mapping, text
from gateway_addon.wire import jsontext


@dataclass(slots=True, frozen=True)
class Client:
    """What a request says of its sender; None is unknown."""

    client: str | None = None
    client_version: str | None = None
    session_id: str | None = None
    """As sent; else what its beginning tells (`OPENING`)."""
    agent_id: str | None = None
    """The sub-agent; None for the session's main agent."""
    parent_agent_id: str | None = None
    """The agent, or the session, that started this one."""
    side_request: str | None = None
    """What the client itself calls a request that is no turn of the conversation; None: it says nothing."""
    conversation_id: str | None = None
    """Tells the conversations of one session and agent apart: a hash of the first real prompt. A changed system prompt
    leaves it alone, as it is a turn of the same conversation that pays for it."""


@dataclass(slots=True, frozen=True)
class Sign:
    """A header by which a client is known. A group of the pattern is the client's version."""

    header: str
    pattern: re.Pattern[str]


def _header(name: str, pattern: str = "") -> Sign:
    return Sign(name, re.compile(pattern, re.IGNORECASE))


def _product(name: str) -> Sign:
    """`name/1.2`, and the SDKs' `name/Language 1.2` and `name/part/1.2`, anywhere in the user agent."""
    return _header("user-agent", rf"(?<![\w./-]){name}/(?:[a-z][\w-]*[ /]?)?(\d[^\s;,()]*)?")


def _app(referer: str, title: str) -> tuple[Sign, ...]:
    """The names an app gives itself for OpenRouter's statistics, under any of the headers it takes them from."""
    return (
        *(_header(name, re.escape(referer)) for name in ("referer", "http-referer")),
        *(_header(name, f"^{re.escape(title)}$") for name in ("x-title", "x-openrouter-title")),
    )


# The first client with a sign that fits. Kilo Code comes before what it is built on: OpenCode and Cline.
CLIENTS: dict[str, tuple[Sign, ...]] = {
    "claude-code": (
        _product("claude-cli"),
        _header("x-claude-code-session-id"),
        _header("anthropic-beta", "claude-code-"),
        _header("x-app", "^cli(?:-bg)?$"),
    ),
    "codex": (_product("codex[_-](?:cli_rs|exec|vscode|tui)"), _header("originator", "^codex")),
    "kilo-code": (
        _product("Kilo-Code"),
        _header("x-kilocode-version", r"(\S+)"),
        _header("x-kilocode-taskid"),
        _header("x-kilocode-mode"),
        _header("x-kilo-session"),
        _header("user-agent", "opencode-kilo-provider"),
        *_app("kilocode.ai", "Kilo Code"),
    ),
    "opencode": (_product("opencode"), _header("x-opencode-session")),
    "roo-code": (_product("RooCode"), _header("x-roo-task-id"), *_app("Roo-Cline", "Roo Code")),
    "cline": (_product("Cline"), *_app("cline.bot", "Cline")),
    "aider": _app("aider.chat", "Aider"),
    "cursor": (_product("Cursor"),),
    "copilot": (_product("GitHubCopilotChat"), _header("copilot-integration-id")),
}

OPENINGS = {
    "x-anthropic-billing-header:": "claude-code",
    "you are cline": "cline",
    "you are kilo": "kilo-code",
    "you are opencode": "opencode",
    "act as an expert software developer": "aider",
}
"""First words of the system prompt, in lower case, of clients whose headers may not name them."""

# Last: agents send the user agent of the SDK they are built with.
SDKS: dict[str, tuple[Sign, ...]] = {
    "openai-sdk": (_product("(?:Async)?(?:Azure)?OpenAI"), _product("Agents")),
    "anthropic-sdk": (_product("(?:Async)?Anthropic"),),
    "ai-sdk": (_product("ai"), _product("ai-sdk")),
}

SESSION_HEADERS = (
    "x-claude-code-session-id",
    "x-kilocode-taskid",
    "x-kilo-session",
    "x-opencode-session",
    "x-roo-task-id",
    "x-task-id",
    "session-id",
    "session_id",
    "conversation_id",
    "x-client-session-id",
    "vscode-sessionid",
    "x-session-affinity",
    "x-session-id",
)
AGENT_HEADERS = ("x-claude-code-agent-id", "thread-id", "x-agent-task-id")
PARENT_HEADERS = (
    "x-claude-code-parent-agent-id",
    "x-codex-parent-thread-id",
    "x-kilocode-parent-taskid",
    "x-parent-session-id",
)
"""By precedence, all clients together: no two of them mean different things by one name."""

SIDE_REQUESTS = {
    ("x-claude-code-request-class", "compaction"): "compaction",
    ("x-claude-code-request-class", "auxiliary"): "auxiliary",
    ("x-openai-subagent", "compact"): "compaction",
    ("x-openai-subagent", "memory_consolidation"): "memory",
}
"""Headers that say of themselves that this is no turn of the conversation."""

OPENING = "opening-"
"""How a session id begins that no client sent: a hash of client, system prompt and first real prompt follows."""

_MONTH = r"(?:jan|feb|mar|apr|may|jun|jul|aug|sep|oct|nov|dec)[a-z]*"
_VOLATILE_LINE = re.compile(
    r"^x-anthropic-billing-header:"
    r"|\d:\d\d|\d{4}[-/]\d\d?[-/]\d|\d/\d\d?/\d{4}"
    rf"|\b{_MONTH}\.? \d|\d\.? {_MONTH}\b",
    re.IGNORECASE,
)
"""A line of a system prompt that is another one tomorrow, or with the next call: dates, times, the billing line."""

_OLD_USER_ID = re.compile(r"user_[0-9a-f]{64}_account_[0-9a-f-]*_session_([0-9a-f-]{36})")


MAX_OPENING = 8_000
"""Characters of a system prompt that tell its conversation from others; agents' prompts differ sooner than that."""


def identify(headers: Mapping[str, str], body: Json | None, facts: RequestFacts) -> Client:
    """Tell the client from a request. Never raises, whatever the types in `body`.

    `headers`: names in lower case, the first value of each (trap 109). `body`: the request's, None if it is unknown;
    `facts`: what was read of it.
    Clients are told by their own headers first, then by the system prompt's first words, then by the SDK's user agent.
    """
    name, version = _told_by(CLIENTS, headers)
    if name is None:
        name = _told_by_opening(facts.system_prompt or "")
    if name is None:
        name, version = _told_by(SDKS, headers)
    body = body or {}
    user = _user_id(mapping(body.get("metadata")).get("user_id"))
    session_id = (
        _first_header(headers, SESSION_HEADERS) or _session_in_body(body, user) or _session_by_opening(name, facts)
    )
    codex = mapping(body.get("client_metadata"))
    agent_id = _first_header(headers, AGENT_HEADERS) or text(codex.get("thread_id"))
    return Client(
        client=name,
        client_version=version,
        session_id=session_id,
        # Codex's main thread carries the id of the session
        agent_id=agent_id if agent_id != session_id else None,
        parent_agent_id=_first_header(headers, PARENT_HEADERS) or text(user.get("parent_session_id")),
        side_request=next((side for (name, value), side in SIDE_REQUESTS.items() if headers.get(name) == value), None),
        conversation_id=_digest(facts.first_prompt) if facts.first_prompt else None,
    )


def is_subscription(headers: Mapping[str, str], host: str, path: str) -> bool:
    """Whether a login with a flat fee pays for a call: Claude Code's OAuth, or ChatGPT's (wire-formats §10.4).

    `headers`: the request's, names in lower case. In a saved flow only the beta may be left of an OAuth login.
    """
    return (
        headers.get("authorization", "").lower().startswith("bearer sk-ant-oat")
        or any(beta.strip().startswith("oauth-") for beta in headers.get("anthropic-beta", "").split(","))
        or host == "chatgpt.com"
        or path.startswith("/backend-api/codex/")
    )


def _told_by(table: Mapping[str, Iterable[Sign]], headers: Mapping[str, str]) -> tuple[str | None, str | None]:
    """The first client with a fitting sign, and the version that one of its signs tells."""
    for name, signs in table.items():
        matches = [sign.pattern.search(headers[sign.header]) for sign in signs if sign.header in headers]
        found = [match for match in matches if match]
        if found:
            return name, next((match[1] for match in found if match.re.groups and match[1]), None)
    return None, None


def _told_by_opening(system_prompt: str) -> str | None:
    opening = system_prompt.lstrip()[:100].lower()
    return next((name for words, name in OPENINGS.items() if opening.startswith(words)), None)


def _first_header(headers: Mapping[str, str], names: Iterable[str]) -> str | None:
    return next((value for name in names if (value := headers.get(name, "").strip())), None)


def _session_in_body(body: Json, user: Json) -> str | None:
    # `user` and `safety_identifier` are left out: they name a person
    metadata = mapping(body.get("metadata"))
    conversation = body.get("conversation")
    places = (
        body.get("session_id"),
        user.get("session_id"),
        mapping(body.get("client_metadata")).get("session_id"),
        body.get("prompt_cache_key"),
        body.get("promptCacheKey"),
        mapping(conversation).get("id") or conversation,
        metadata.get("session_id"),
        metadata.get("conversation_id"),
    )
    return next((found for place in places if (found := text(place))), None)


def _session_by_opening(client: str | None, facts: RequestFacts) -> str | None:
    """The same for every turn of a conversation, and for another that begins alike: it is all there is to go by."""
    if facts.first_prompt is None:
        return None
    stable = _stable((facts.opening_system or "")[:MAX_OPENING])
    return OPENING + _digest("\n".join([client or "", stable, facts.first_prompt]))


@lru_cache(maxsize=32)
def _stable(opening: str) -> str:
    """What stays of a system prompt's beginning; remembered, because agents send the same one with every call."""
    return "\n".join(line for line in opening.splitlines() if not _VOLATILE_LINE.search(line))


def _digest(words: str) -> str:
    return blake2b(words.encode(), digest_size=8).hexdigest()


def _user_id(user_id: object) -> Json:
    """What Claude Code packs into `metadata.user_id`: JSON in a string, a pattern before; else opaque (trap 108)."""
    user_id = text(user_id) or ""
    if old := _OLD_USER_ID.fullmatch(user_id):
        return {"session_id": old[1]}
    return jsontext.parse_object(user_id) or {}
