"""Who is calling: the client program, its session and agent, told from a request."""

import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from hashlib import blake2b
from urllib.parse import unquote

from gateway_addon.api.base import Json, RequestFacts
from gateway_addon.api.prompts import for_known_client
from gateway_addon.api.values import mapping, text
from gateway_addon.terms import SideRequest
from gateway_addon.wire import jsontext
from gateway_addon.wire.headers import Headers


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
    agent_name: str | None = None
    agent_type: str | None = None
    """What the client calls the agent: a name of its own, and what kind of agent it is (`Explore`, `review`)."""
    side_request: SideRequest | None = None
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
        _header("x-claude-code-request-class"),
    ),
    "codex": (_product("codex[_-](?:cli_rs|exec|vscode|tui)"), _header("originator", "^codex")),
    "kilo-code": (
        _product("Kilo-Code"),
        _header("x-kilocode-version", r"(\S+)"),
        _header("x-kilocode-taskid"),
        _header("x-kilocode-mode"),
        _header("x-kilo-session"),
        _header("user-agent", "opencode-kilo-provider"),
        # of the CLI: channel, version, client
        _header("user-agent", r"^kilo/[^/\s]+/(\d[^/\s]*)"),
        *_app("kilocode.ai", "Kilo Code"),
    ),
    "opencode": (_product("opencode"), _header("x-opencode-session"), _header("x-opencode-session-id")),
    "roo-code": (_product("RooCode"), _header("x-roo-task-id"), *_app("Roo-Cline", "Roo Code")),
    "cline": (_product("Cline"), *_app("cline.bot", "Cline")),
    "aider": _app("aider.chat", "Aider"),
    "qwen-code": (_product("QwenCode"),),
    "pi": (_header("user-agent", r"^pi/(\d\S*)"),),
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
    "openai-sdk": (_product("(?:Async)?(?:Azure|Bedrock)?OpenAI"), _product("Agents")),
    # a client of its own for each cloud: AnthropicBedrock, AnthropicVertex, ...
    "anthropic-sdk": (_product("(?:Async)?Anthropic[a-z]*"),),
    "ai-sdk": (_product("ai"), _product("ai-sdk")),
}

BORROWED: dict[str, tuple[Sign, ...]] = {"claude-code": (_header("x-app", "^cli(?:-bg)?$"),)}
"""Signs that other clients send too, to be served alike: they tell only where nothing else does."""

SESSION_HEADERS = (
    "x-claude-code-session-id",
    "x-kilocode-taskid",
    "x-kilo-session",
    "x-opencode-session",
    "x-opencode-session-id",
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
PURPOSE = re.compile(r"^[a-z]+-(?=ses_)")
"""What the Kilo CLI puts before a session's id in a request beside the conversation: `title-ses_...`."""
AGENT_HEADERS = ("x-claude-code-agent-id", "thread-id", "x-agent-task-id")
PARENT_HEADERS = (
    "x-claude-code-parent-agent-id",
    "x-codex-parent-thread-id",
    "x-kilocode-parent-taskid",
    "x-opencode-parent-session-id",
    "x-parent-session-id",
)
TYPE_HEADERS = ("x-claude-code-agent-type", "x-openai-subagent")
"""By precedence, all clients together: no two of them mean different things by one name."""

TOOL_DURATIONS = "x-claude-code-prev-tool-durations"
"""`NAME=MS;NAME=MS`, names percent-encoded: how long the tools took whose results are sent."""

SIDE_REQUESTS: dict[tuple[str, str], SideRequest] = {
    ("x-claude-code-request-class", "compaction"): "compaction",
    ("x-claude-code-request-class", "auxiliary"): "auxiliary",
    ("x-claude-code-request-class", "side_reply"): "side_reply",
    ("x-openai-subagent", "compact"): "compaction",
    ("x-openai-subagent", "memory_consolidation"): "memory",
    ("request_kind", "prewarm"): "warmup",
    ("request_kind", "compaction"): "compaction",
    ("request_kind", "memory"): "memory",
}
"""What headers, and Codex's metadata, say of a request that is no turn of the conversation. Others say that it is one:
`main`, `subagent` and `workflow` of Claude Code, `turn` and `review` of Codex."""

AUXILIARY: dict[str, SideRequest] = {
    "memory": "memory",
    "title": "title",
    "suggestion": "suggestion",
    "compact": "compaction",
    "quota": "quota_probe",
}
"""By a word in Claude Code's `x-claude-code-auxiliary-type`, such as `memory_save`."""

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

MAX_ID = 500
"""Characters of an id; no agent has longer ones, and a header may hold what it likes."""

MAX_WORDS = 100_000
"""Characters of a conversation's first prompt that tell it from others: of a longer one, those at both of its ends, as
a question may stand behind the file that it is about, and how long it is."""


def identify(headers: Headers, body: Json | None, facts: RequestFacts) -> Client:
    """Tell the client from a request. Never raises, whatever the types in `body`.

    `headers`: names in lower case, the first value of each. `body`: the request's, None if it is unknown; `facts`: what
    was read of it (`with_own_prompts`).
    """
    name, version = _name(headers, facts)
    body = body or {}
    user = _user_id(mapping(body.get("metadata")).get("user_id"))
    codex = _codex_metadata(headers, body)
    session_id = (
        PURPOSE.sub("", _first(headers, SESSION_HEADERS) or "", count=1)
        or _session_in_body(body, user, codex)
        or _session_by_opening(name, facts)
    )
    agent_id = _first(headers, AGENT_HEADERS) or text(codex.get("thread_id"))
    return Client(
        client=name,
        client_version=version,
        session_id=_bounded(session_id),
        # Codex's main thread carries the id of the session
        agent_id=_bounded(agent_id) if agent_id != session_id else None,
        parent_agent_id=_bounded(
            _first(headers, PARENT_HEADERS) or _first(codex, PARENT_HEADERS) or text(user.get("parent_session_id"))
        ),
        agent_name=_bounded(text(codex.get("agent_name"))),
        agent_type=_bounded(_first(headers, TYPE_HEADERS)),
        side_request=_side_request(headers, codex),
        conversation_id=_digest(_ends(facts.first_prompt)) if facts.first_prompt else None,
    )


def with_durations(headers: Headers, facts: RequestFacts) -> RequestFacts:
    """The facts with how long the tools took whose results are sent, where the client has measured that.

    It tells tools by their names: of several calls of one name nobody can say which took how long.
    """
    if TOOL_DURATIONS not in headers:
        return facts
    told = [entry.rpartition("=") for entry in headers[TOOL_DURATIONS].split(";")]
    measured = Counter(unquote(name.strip()) for name, _, _ in told)
    sent = Counter(result.name for result in facts.tool_results)
    for name, _, duration in told:
        name = unquote(name.strip())
        if measured[name] == sent[name] == 1 and _DURATION.fullmatch(duration.strip()):
            results = [
                replace(result, duration_ms=float(duration)) if result.name == name else result
                for result in facts.tool_results
            ]
            facts = replace(facts, tool_results=results)
    return facts


_DURATION = re.compile(r"\d{1,9}(?:\.\d{1,9})?", re.ASCII)


def with_own_prompts(headers: Headers, facts: RequestFacts) -> RequestFacts:
    """The facts with the prompts a person gave: what a known client writes beside them differs from what others send.

    To be called before `identify`, which tells sessions and conversations by their first prompt.
    """
    own = for_known_client(facts)
    # to ask for the name costs more, and most prompts are the same either way
    return own if own is not facts and _name(headers, facts)[0] in CLIENTS else facts


PLANS = re.compile(
    r"""
    chatgpt\.com/
    | [^/]+/backend-api/codex/                                         # ChatGPT, behind another host
    | (?:[^/]+\.)?(?:z\.ai|bigmodel\.cn)/api/coding/                   # Z.ai
    | (?:[^/]+\.)?(?:kimi\.com|kimi\.ai)/coding/
    | (?:[^/]+\.)?(?:minimax\.io|minimax\.cn|minimaxi\.com)/anthropic/ # MiniMax, where the key does not tell
    | (?:coding|token-plan)[\w-]*\.(?:[^/]+\.)?aliyuncs\.com/          # Alibaba
    | token-plan[\w-]*\.xiaomimimo\.com/
    | (?:[^/]+\.)?volces\.com/api/coding/
    | (?:[^/]+\.)?tencent\.com/coding/
    | opencode\.ai/zen/go/
    """,
    re.VERBOSE,
)
"""Host and path at which a plan with a flat fee is served. Source: https://models.dev and the vendors' own pages."""

PLAN_KEYS = ("sk-ant-oat", "sk-cp-", "sk-sp-")
"""How the credentials of plans begin: Claude's OAuth tokens, MiniMax's and Alibaba's keys of plans."""

METERED_KEYS = ("sk-api-",)
"""How keys begin that pay by the token at a host that serves a plan too: MiniMax's."""


BETA_HEADERS = ("anthropic-beta", "openai-beta")
"""Each is a list."""

BETA = re.compile(r"[\w.=-]{1,100}", re.ASCII)


def is_subscription(headers: Headers, host: str, path: str) -> bool:
    """Whether a login or plan with a flat fee pays for a call: what its tokens would cost is notional.

    `headers`: the request's, names in lower case. In a saved flow only the beta may be left of an OAuth login.
    """
    scheme, _, token = headers.get("authorization", "").partition(" ")
    key = token.strip() if scheme.lower() == "bearer" else headers.get("x-api-key", "")
    if key.startswith(PLAN_KEYS) or any(beta.startswith("oauth-") for beta in betas(headers)):
        return True
    return not key.startswith(METERED_KEYS) and PLANS.match(host.lower() + path) is not None


def _name(headers: Headers, facts: RequestFacts) -> tuple[str | None, str | None]:
    """The client and its version: by its own headers, by the system prompt's first words, by the user agent of an SDK,
    and last by signs that others send as well."""
    name, version = _told_by(CLIENTS, headers)
    if name is None:
        name = _told_by_opening(facts.system_prompt or "")
    if name is None:
        name, version = _told_by(SDKS, headers)
    if name is None:
        name, version = _told_by(BORROWED, headers)
    if name is None and any(beta.startswith("claude-code-") for beta in betas(headers)):
        name = "claude-code"
    return name, version


def betas(headers: Headers) -> tuple[str, ...]:
    """The names of the betas that a request asks for, as far as they are names; each once."""
    sent = (headers.joined(header) for header in BETA_HEADERS if header in headers)
    named = (beta.strip() for header in sent for beta in header.split(","))
    return tuple(dict.fromkeys(beta for beta in named if BETA.fullmatch(beta)))


def _told_by(table: Mapping[str, Iterable[Sign]], headers: Headers) -> tuple[str | None, str | None]:
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


def _first(headers: Mapping[str, object], names: Iterable[str]) -> str | None:
    return next((value for name in names if (value := (text(headers.get(name)) or "").strip())), None)


def _bounded(id: str | None) -> str | None:
    return id and id[:MAX_ID]


def _codex_metadata(headers: Headers, body: Json) -> Json:
    """What Codex says of a request, in JSON in a header and in the body: there with ids and headers beside it."""
    sent = _object(body.get("client_metadata"))
    turn = "x-codex-turn-metadata"
    return sent | _object(sent.get(turn)) | _object(headers.get(turn))


def _object(value: object) -> Json:
    """An object as it is or as JSON text; empty if it is neither."""
    return mapping(value) or _parsed(text(value))


def _parsed(words: str | None) -> Json:
    # most requests say nothing in any of the places
    return (jsontext.parse_object(words) if words else None) or {}


def _side_request(headers: Headers, codex: Json) -> SideRequest | None:
    if auxiliary := headers.get("x-claude-code-auxiliary-type", "").lower():
        return next((side for word, side in AUXILIARY.items() if word in auxiliary), "auxiliary")
    return next(
        (side for (name, value), side in SIDE_REQUESTS.items() if headers.get(name, codex.get(name)) == value), None
    )


def _session_in_body(body: Json, user: Json, codex: Json) -> str | None:
    # `user` and `safety_identifier` are left out: they name a person
    metadata = mapping(body.get("metadata"))
    conversation = body.get("conversation")
    places = (
        body.get("session_id"),
        user.get("session_id"),
        codex.get("session_id"),
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
    return OPENING + _digest(client or "", stable, _ends(facts.first_prompt))


@lru_cache(maxsize=32)
def _stable(opening: str) -> str:
    """What stays of a system prompt's beginning; remembered, because agents send the same one with every call."""
    return "\n".join(line for line in opening.splitlines() if not _VOLATILE_LINE.search(line))


@lru_cache(maxsize=8)
def _digest(*lines: str) -> str:
    """Of texts one below the other; remembered, because a conversation's first prompt comes with every call."""
    return blake2b("\n".join(lines).encode(), digest_size=8).hexdigest()


def _ends(prompt: str) -> str:
    if len(prompt) <= MAX_WORDS:
        return prompt
    return f"{prompt[: MAX_WORDS // 2]}\n{len(prompt)}\n{prompt[-MAX_WORDS // 2 :]}"


def _user_id(user_id: object) -> Json:
    """What Claude Code packs into `metadata.user_id`: JSON in a string, a pattern before; else opaque."""
    packed = text(user_id)
    old = _OLD_USER_ID.fullmatch(packed) if packed else None
    return {"session_id": old[1]} if old else _parsed(packed)
