"""What a tool's arguments name or carry that can be told again in other texts: hosts, URLs, addresses, packages,
commands, and pieces of data; also where it stands in base64 or is percent-encoded."""

import re
from collections.abc import Iterator
from functools import lru_cache
from ipaddress import ip_address
from typing import Literal, NamedTuple

from gateway_addon.review import reach
from gateway_addon.review.instructions import visible
from gateway_addon.review.timeline import Action
from gateway_addon.wire import jsontext
from gateway_addon.wire.packed import unpacked

type Kind = Literal["host", "url", "address", "package", "command", "path", "data"]

WORDS = 6
"""Words that are the same in a row are taken for the same text, ..."""
MIN_WORDS = 24
"""... if they have so many characters, ..."""
MIN_TOKEN = 12
"""... or one word that has so many, letters and digits among them."""
MIN_COMMAND = 12
"""Characters of a command that nobody would think of by chance."""
MAX_MARKS = 5_000
"""Pieces of data of one call that are looked for."""


class Mark(NamedTuple):
    kind: Kind
    text: str
    """In lower case, as it is looked for."""


_ADDRESS = re.compile(r"[\w.+-]{1,64}@(?P<host>[\w-]{1,63}(?:\.[\w-]{1,63}){1,8})")
_REMOTE = re.compile(r"(?:^|\s)(?:[\w.-]{1,32}@)?(?P<host>[\w-]{1,63}(?:\.[\w-]{1,63}){1,8})(?=[:\s]|$)")
_REACHES_BY_NAME = re.compile(r"(?:^|[;&|\s])(?:ssh|scp|sftp|rsync|nc|ncat|telnet|ping|dig|nslookup|host|curl|wget)\s")
_SENDS = re.compile(r"(?i)send|mail|message|post|share|invite|upload|notify|webhook")
_URL = re.compile(r"(?:https?|wss?|ftp|ssh|git)://[^\s\"'<>`\\]{1,2000}")
_INSTALL = re.compile(
    r"\b(?:pip3?|uv|poetry|conda|npm|pnpm|yarn|bun|cargo|go|gem|brew|apt|apt-get|apk|dnf|yum)\s+(?:pip\s+)?(?:-\S+\s+)*"
    r"(?:i|install|add|get)\s+(?P<names>[^;&|\n<>]{1,2000})|\b(?:npx|uvx|bunx|pipx\s+run)\s+(?:-\S+\s+)*(?P<name>[^\s;&|]+)"
)
_PACKAGE = re.compile(r"(?P<name>(?:@[\w.-]+/)?[A-Za-z][\w.-]+?)(?:\[[\w,-]*\])?(?:(?:[=<>~!]=?|@)[\w.*^~-]+)?")
_SEGMENT = re.compile(r"\s*(?:&&|\|\||[;|\n])\s*")
_UNPACKS = re.compile(r"\bbase64\s+(?:-d|-D|--decode)|\b(?:eval|python3?|node|perl|ruby|unquote|b64decode)\b")
_PATH = re.compile(r"(?<![\w/.:-])(?:~|\.{1,2})?/?(?:[\w.@-]+/)+[\w.@-]+")
_WORD = re.compile(r"\w+")
_RUN = re.compile(r"[^\s\"'<>`()\[\]{}]{6,}")
_TOKEN = re.compile(r"\w[\w.-]+\w")
_LOCAL = ("localhost", "0.0.0.0", "host.docker.internal")


def views(text: str) -> Iterator[str]:
    """A text, and what stands in it in another writing, or between characters that nobody sees."""
    yield text
    if (seen := visible(text)) is not text:
        yield seen
    yield from unpacked(text)


@lru_cache(1024)
def arguments_text(action: Action) -> str:
    """The texts of a tool call's arguments, without the JSON around them."""
    parsed = jsontext.parse_any(action.arguments) if action.arguments else None
    return "\n".join(_strings(parsed)) or action.arguments


def _strings(value: object) -> Iterator[str]:
    pending = [value]
    while pending:
        match pending.pop():
            case str(text):
                yield text
            case dict(members):
                pending.extend(reversed(members.values()))
            case list(values):
                pending.extend(reversed(values))


@lru_cache(256)
def contacted(action: Action) -> tuple[str, ...]:
    """The hosts that a tool call speaks to, as far as its arguments name them; none of this machine."""
    hosts: dict[str, None] = {}
    command = reach.command_of(action.arguments)
    if command is None and not reach.is_network_tool(action.name):
        # a page that is opened; but not a file that is written with a URL in it
        texts = [text for text in arguments_text(action).split("\n") if _URL.fullmatch(text.strip())]
    else:
        texts = [command or arguments_text(action)]
    for text in texts:
        for view in views(text):
            hosts |= dict.fromkeys(reach.hosts_in(view))
            if command is not None and _REACHES_BY_NAME.search(view):
                hosts |= dict.fromkeys(_remotes(view))
    for address in addresses(action):
        hosts[address.partition("@")[2]] = None
    return tuple(host for host in hosts if not _is_local(host))


def _remotes(command: str) -> Iterator[str]:
    for segment in _SEGMENT.split(command):
        if _REACHES_BY_NAME.match(f"{segment} "):
            # what looks like a file's name is rather one
            yield from (host for found in _REMOTE.finditer(segment) if not _is_file(host := found["host"].lower()))


def _is_file(name: str) -> bool:
    return name.rpartition(".")[2] in _ENDINGS


_ENDINGS = frozenset(
    (
        *("py", "js", "ts", "json", "md", "txt", "sh", "yml", "yaml", "toml", "xml", "html", "css", "log", "csv"),
        *("db", "env", "pem", "key", "zip", "gz", "tar", "c", "h", "rs", "go", "rb", "lock"),
    )
)


def addresses(action: Action) -> tuple[str, ...]:
    """The mail addresses that a tool call sends something to."""
    if not _SENDS.search(action.name):
        return ()
    return tuple({found[0].lower(): None for found in _ADDRESS.finditer(arguments_text(action))})


def _is_local(host: str) -> bool:
    try:
        return ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host in _LOCAL or host.endswith(".localhost") or "." not in host


def packages(command: str) -> Iterator[str]:
    """The packages that a command installs, or fetches to run them."""
    for found in _INSTALL.finditer(command):
        for word in (found["names"] or found["name"]).split():
            name = _PACKAGE.fullmatch(word.strip("\"'"))
            if name and not _is_file(name["name"].lower()):
                yield name["name"].lower()


def commands(command: str) -> Iterator[str]:
    """The commands of a command line, of those that nobody would think of by chance; and all of it."""
    for segment in dict.fromkeys((command.strip(), *_SEGMENT.split(command.strip()))):
        if len(segment) >= MIN_COMMAND and len(segment.split()) > 1:
            yield segment.lower()


@lru_cache(256)
def marks_of(action: Action) -> tuple[Mark, ...]:
    """What of a tool call is looked for in what was said before it."""
    found: dict[Mark, None] = {Mark("host", host): None for host in contacted(action)}
    found |= {Mark("address", address): None for address in addresses(action)}
    command = reach.command_of(action.arguments)
    if command is not None:
        # what stands in base64 is run only if something unpacks it
        for view in views(command) if _UNPACKS.search(command) else (command,):
            found |= {Mark("package", name): None for name in packages(view)}
            found |= {Mark("command", segment): None for segment in commands(view)}
    if command is not None or contacted(action):
        for view in views(command or arguments_text(action)):
            found |= {Mark("url", url[0].rstrip(".,;:!?)]}").lower()): None for url in _URL.finditer(view)}
            found |= {Mark("path", path[0].lower()): None for path in _PATH.finditer(view)}
    if contacted(action):
        found |= dict.fromkeys(list(_data(action))[:MAX_MARKS])
    return tuple(found)


def _data(action: Action) -> Iterator[Mark]:
    text = reach.command_of(action.arguments) or arguments_text(action)
    hosts = set(contacted(action))
    for view in views(text):
        plain = _URL.sub(lambda url: url[0].partition("?")[2], view)
        for token in _TOKEN.findall(plain.lower()):
            if (
                len(token) >= MIN_TOKEN
                and token not in hosts
                and re.search(r"\d", token)
                and re.search(r"[a-z]", token)
            ):
                yield Mark("data", token)
        for words in shingles(plain):
            yield Mark("data", " ".join(words))


def shingles(text: str) -> Iterator[tuple[str, ...]]:
    """Each `WORDS` words in a row."""
    words = _WORD.findall(text.lower())
    return (row for row in zip(*(words[n:] for n in range(WORDS)), strict=False) if sum(map(len, row)) >= MIN_WORDS)


def tokens_in(text: str) -> set[str]:
    """The words of a text in lower case, such as names of hosts and packages."""
    return set(_TOKEN.findall(text.lower()))


def words_in(text: str) -> set[str]:
    return set(_WORD.findall(text.lower()))


def runs_in(text: str) -> set[str]:
    """What stands between spaces, quotes and brackets, in lower case, and without a full stop behind it."""
    found = set(_RUN.findall(text.lower()))
    return found | {run.rstrip(".,;:!?") for run in found}
