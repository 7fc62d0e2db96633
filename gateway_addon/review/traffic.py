"""What stands out in the calls themselves: stray credentials, bodies sent for nothing, tools that reach out."""

import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from gateway_addon.review.findings import Finding, Place
from gateway_addon.store import evidence
from gateway_addon.store.database import Database
from gateway_addon.wire import jsontext

HOMES = {
    "anthropic_key": ("anthropic.com",),
    "openrouter_key": ("openrouter.ai",),
    "vercel_key": ("vercel.sh", "vercel.com"),
    "google_key": ("googleapis.com",),
    "groq_key": ("groq.com",),
    "huggingface_token": ("huggingface.co",),
    "github_token": ("github.com", "githubcopilot.com"),
}
"""Where a credential belongs whose shape tells who has issued it. `sk-…` is the shape of many an issuer's."""

# by what comes with it, as names differ from agent to agent
_SHELL_TOOL = re.compile(r"(?i)bash|shell|terminal|command|(?:^|_)exec(?:$|_)")
_NETWORK_TOOL = re.compile(r"(?i)web|fetch|http|brows|url")
_NETWORK_PROGRAM = re.compile(
    r"(?:^|[;&|(`'\"\n]|\bsudo\b|\bxargs\b)\s*"
    r"(?:curl|wget|ssh|scp|sftp|rsync|nc|ncat|telnet|ftp|ping|dig|nslookup|gh|aws|gcloud|kubectl"
    r"|git\s+(?:clone|fetch|pull|push)|docker\s+(?:pull|push)"
    r"|(?:pip3?|uv|uvx|npm|npx|pnpm|yarn|cargo|go|gem|brew|apt|apt-get)\s+(?:\w+\s+)?(?:install|add|get|update))\b"
)
_URL_HOST = re.compile(r"https?://(?:[^/\s@\"'\\]*@)?(?P<host>[\w.-]+|\[[0-9a-fA-F:]+\])")
_COMMAND = ("command", "cmd", "commands", "script")
"""Members of arguments that hold what a shell is to run."""

MAX_SHOWN = 200
"""Characters of a tool call's arguments."""


def stray_credentials(db: Database) -> Iterator[Finding]:
    """The client's credentials at hosts that are not their issuer's, or of which no provider is known."""
    calls = defaultdict(list)
    for call in evidence.calls_with_credentials(db):
        kind, host = call["client_credential"], call["upstream_host"]
        homes = HOMES.get(kind)
        if not _is_at(host, homes) if homes else call["provider"] is None:
            calls[kind, host].append(call)
    for (kind, host), sent in calls.items():
        yield Finding(
            rule="stray_credential",
            severity="high" if kind in HOMES else "medium",
            what=f"{kind} sent to {host}",
            first_seen=_place(db, sent[0], "headers"),
            count=len(sent),
            hosts={host: len(sent)},
        )


def refused_bodies(db: Database) -> Iterator[Finding]:
    """Bodies that a host was sent in full, only to refuse them."""
    calls = defaultdict(list)
    for call in evidence.refused_calls(db):
        calls[call["upstream_host"], call["http_status"]].append(call)
    for (host, status), refused in calls.items():
        size = sum(call["request_bytes"] or 0 for call in refused)
        yield Finding(
            rule="refused_body",
            severity="low",
            what=f"{size} bytes answered with {status}",
            first_seen=_place(db, refused[0], "request"),
            count=len(refused),
            hosts={host: len(refused)},
        )


def tool_uses(db: Database, masked: Callable[[str], str]) -> Iterator[Finding]:
    """What tool calls ran in a shell, and where they reached out to: a list, which judges nothing.

    `masked` takes the secrets out of what is shown.
    """
    calls = defaultdict(list)
    for call in evidence.client_tool_calls(db):
        command = _command(call["arguments"])
        name = call["name"] or call["type"]
        text = command or call["arguments"] or ""
        if command is not None or _SHELL_TOOL.search(name):
            calls["shell_tool_call", name, text].append(call)
        if _NETWORK_TOOL.search(name) or _URL_HOST.search(text) or (command and _NETWORK_PROGRAM.search(command)):
            calls["network_tool_call", name, text].append(call)
    for (rule, name, text), made in calls.items():
        shown = masked(text)
        yield Finding(
            rule=rule,
            severity="info",
            what=f"{name}: {shown[:MAX_SHOWN]}{'…' if len(shown) > MAX_SHOWN else ''}" if shown else name,
            first_seen=_place(db, made[0], "tool arguments", name, made[0]["call_id"]),
            count=len(made),
            hosts=dict(Counter(found["host"] for found in _URL_HOST.finditer(text))),
        )


def _command(arguments: str | None) -> str | None:
    """What a shell is to run, if arguments say so."""
    parsed = jsontext.parse_object(arguments) if arguments else None
    for name in _COMMAND:
        match (parsed or {}).get(name):
            case str(command):
                return command
            case [*words] if words:
                return " ".join(map(str, words))
    return None


def _is_at(host: str, homes: Iterable[str]) -> bool:
    return any(host == home or host.endswith(f".{home}") for home in homes)


def _place(
    db: Database, call: Mapping[str, Any], place: str, tool: str | None = None, call_id: str | None = None
) -> Place:
    return Place(call["id"], call["started_at"], evidence.turn(db, call["id"]), place, tool, call_id)
