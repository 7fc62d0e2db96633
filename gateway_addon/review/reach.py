"""Tools that run a shell or reach the network, from answers and from histories, grouped by what they do. A list, which
judges nothing."""

import re
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import lru_cache

from gateway_addon.review.findings import MAX_SHOWN, Finding, Place, fingerprint, short
from gateway_addon.review.timeline import Action, Step, Timeline
from gateway_addon.wire import jsontext

SHELL, NETWORK = "shell_tool_call", "network_tool_call"

# by what comes with it, as names differ from agent to agent
_SHELL_TOOL = re.compile(r"(?i)bash|shell|terminal|command|(?:^|_)exec(?:$|_)")
_NETWORK_TOOL = re.compile(r"(?i)web|fetch|http|brows|url")
_SEARCH_TOOL = re.compile(r"(?i)search")
_COMMAND = ("command", "cmd", "commands", "script")
"""Members of arguments that hold what a shell is to run."""

_BEGINS = r"(?:^|[;&|(`'\"\n]|\bsudo\b|\bxargs\b|\btime\b|\bdo\b|\bthen\b)[ \t]*(?:\w+=\S*[ \t]+)*"
_NETWORK = tuple(
    (does, re.compile(rf"{_BEGINS}(?:{programs})(?![\w./-])"))
    for does, programs in (
        ("speaks HTTP", r"curl|wget|https?|xh|aria2c|iwr|Invoke-WebRequest|Invoke-RestMethod"),
        ("reaches into another machine", r"ssh|scp|sftp|rsync|telnet|ftp|nc|ncat|netcat|socat|mosh"),
        ("asks for names or probes hosts", r"ping|dig|nslookup|host|traceroute|nmap|whois"),
        ("moves commits", r"git\s+(?:clone|fetch|pull|push|ls-remote)|gh|glab"),
        (
            "installs packages",
            r"(?:(?:python3?\s+-m\s+)?pip3?|uv(?:\s+pip)?|poetry|conda|npm|pnpm|yarn|bun|cargo|go|gem|brew|apt|apt-get"
            r"|apk|dnf|yum)\s+(?:-\S+\s+)*(?:i|install|add|get|update|upgrade|sync|ci)",
        ),
        ("runs a package of a registry", r"npx|uvx|bunx|pipx|pnpm\s+dlx|yarn\s+dlx"),
        ("speaks to a cloud", r"aws|gcloud|gsutil|az|kubectl|helm|terraform|doctl|flyctl|vercel|heroku"),
        ("moves images", r"(?:docker|podman)\s+(?:pull|push|login)"),
    )
)
URL_HOST = re.compile(r"(?:https?|wss?|ftp|ssh|git)://(?:[^/\s@\"'\\]*@)?(?P<host>[\w.-]+|\[[0-9a-fA-F:]+\])")
_PROGRAM = re.compile(r"\s*(?:\w+=\S*\s+)*(?:sudo\s+)?(?P<name>[\w./+-]+)")
_OWN = re.compile(r"(?:^|/)(?P<name>[\w.+-]+)$")


@lru_cache(1024)
def command_of(arguments: str) -> str | None:
    """What a shell is to run, if arguments say so."""
    parsed = jsontext.parse_object(arguments) if arguments else None
    for name in _COMMAND:
        match (parsed or {}).get(name):
            case str(command):
                return command
            case [*words] if words:
                return " ".join(map(str, words))
    return None


@lru_cache(1024)
def doings(action: Action) -> tuple[tuple[str, str], ...]:
    """What a tool call does: rules, each with a few words. Nothing if it neither runs a shell nor reaches out."""
    command = command_of(action.arguments)
    text = command or action.arguments
    done = []
    if command is not None or _SHELL_TOOL.search(action.name):
        done.append((SHELL, f"runs {_program(command)}" if command else "runs a shell"))
    programs = [does for does, regex in _NETWORK if command and regex.search(command)]
    if programs:
        done += [(NETWORK, does) for does in programs]
    elif _NETWORK_TOOL.search(action.name):
        done.append((NETWORK, "searches the web" if _SEARCH_TOOL.search(action.name) else "opens pages"))
    elif URL_HOST.search(text):
        done.append((NETWORK, "names a URL"))
    return tuple(done)


def is_network_tool(name: str) -> bool:
    return _NETWORK_TOOL.search(name) is not None


def reaches_out(action: Action) -> bool:
    return any(rule == NETWORK for rule, _ in doings(action))


def hosts_in(text: str) -> Counter[str]:
    return Counter(found["host"].rstrip(".").lower() for found in URL_HOST.finditer(text))


def _program(command: str) -> str:
    found = _PROGRAM.match(command)
    own = _OWN.search(found["name"]) if found else None
    return own["name"] if own else "a script"


@dataclass(slots=True)
class _Group:
    first: Place
    count: int = 0
    hosts: Counter[str] = field(default_factory=Counter)
    examples: dict[str, None] = field(default_factory=dict)


def findings(timeline: Timeline, masked: Callable[[str], str]) -> Iterator[Finding]:
    """What tool calls ran in a shell, and how they reached out, by what they do and the tool.

    `masked` takes the secrets out of what is shown. What a provider ran is none of the machine's.
    """
    groups: dict[tuple[str, str, str], _Group] = {}
    for step in timeline.steps():
        if _is_own(step):
            assert step.action
            text = command_of(step.action.arguments) or step.action.arguments
            for rule, does in doings(step.action):
                group = groups.setdefault((rule, step.action.name, does), _Group(step.place))
                group.count += 1
                group.hosts.update(hosts_in(text))
                if text and sum(map(len, group.examples)) < MAX_SHOWN:
                    group.examples[masked(text)] = None
    for (rule, tool, does), group in groups.items():
        examples = "; ".join(group.examples)
        yield Finding(
            rule=rule,
            severity="info",
            what=short(f"{tool} {does}: {examples}" if examples else f"{tool} {does}", MAX_SHOWN + 1),
            fingerprint=fingerprint(rule, tool, does),
            first_seen=group.first,
            count=group.count,
            hosts=dict(group.hosts),
        )


def _is_own(step: Step) -> bool:
    return step.action is not None and not step.is_result and step.action.executor == "client"
