"""`doctor`: what would not work, before it does not."""

import errno
import os
import re
import shutil
import socket
import ssl
import sys
import textwrap
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from importlib.metadata import version
from pathlib import Path
from platform import python_version
from typing import TYPE_CHECKING, Literal, NamedTuple
from urllib.parse import urlsplit
from urllib.request import getproxies_environment, proxy_bypass

import click

from gateway_addon import __version__
from gateway_addon.api import KINDS
from gateway_addon.cli.agents import SYSTEM_CERTIFICATES
from gateway_addon.cli.options import database, is_flow_file
from gateway_addon.cli.output import plain, print_json, say
from gateway_addon.cost import PriceTable
from gateway_addon.gateway import routing
from gateway_addon.store.database import StoreError, check_writable

if TYPE_CHECKING:
    from gateway_addon.config import Settings

type Level = Literal["good", "note", "bad"]
"""`note`: not as it must be for some uses; `bad`: something would not work."""


class Finding(NamedTuple):
    level: Level
    what: str
    mend: str = ""
    """What to do about it."""


@dataclass(frozen=True)
class Asked:
    """What is to be looked at."""

    db: Path
    config: Path | None
    port: int
    base_url: str | None
    confdir: Path
    """mitmproxy's own folder."""

    @cached_property
    def settings(self) -> "Settings | str":
        """Or what is wrong with them."""
        # pydantic takes a while to import, which other commands should not cost
        from gateway_addon.config import ConfigError, load

        try:
            return load(self.config, os.environ)
        except ConfigError as error:
            return str(error)

    @cached_property
    def base_urls(self) -> list[tuple[str, str, str]]:
        """Whence, the URL, and the SDK that is given it: the named one for both, else those of the environment."""
        if self.base_url is not None:
            return [("--base-url", self.base_url, sdk) for sdk in SDKS]
        return [(name, os.environ[name], sdk) for name, sdk in BASE_URLS.items() if os.environ.get(name)]


# -- what is installed -------------------------------------------------------------------------------------------------


def versions(_: Asked) -> Iterator[Finding]:
    ours = f"gateway-addon {__version__}, mitmproxy {version('mitmproxy')}"
    yield Finding("good", f"{ours}, genai-prices {version('genai-prices')}, Python {python_version()}")
    own, found = Path(sys.executable).with_name("mitmdump"), shutil.which("mitmdump")
    if found is None:
        yield Finding("note", "mitmdump is not on the PATH", f"start {_short(own)}")
    elif Path(found).resolve() != own.resolve():
        yield Finding("note", f"{_short(found)} is of another installation", f"start {_short(own)}")


def prices(_: Asked) -> Iterator[Finding]:
    table = PriceTable()
    table.load()
    if table.models:
        yield Finding("good", f"the price table has {table.models:,} models")
    else:
        yield Finding("bad", "there is no price table, so no estimates", "install genai-prices anew")


# -- what is configured ------------------------------------------------------------------------------------------------


def configuration(asked: Asked) -> Iterator[Finding]:
    if isinstance(asked.settings, str):
        yield Finding("bad", asked.settings)
    elif asked.config:
        yield Finding("good", f"{_short(asked.config)}: {len(asked.settings.models)} models of your own")
    else:
        yield Finding("good", "no configuration: the built-in providers")


def keys(asked: Asked) -> Iterator[Finding]:
    """Names only: a value is nobody's business."""
    if isinstance(asked.settings, str):
        return
    for provider in asked.settings.providers.values():
        if asked.settings.provider_key(provider):
            yield Finding("good", f"{provider.api_key_env} is set: the gateway pays {provider.id} with it")
        elif provider.api_key_env:
            yield Finding("note", f"{provider.api_key_env} is not set: {provider.id} gets the client's own key")
    if asked.settings.secret(token := asked.settings.access.client_token_env):
        yield Finding("good", f"{token} is set: who shows it may spend the gateway's keys")
    else:
        yield Finding("note", f"{token or 'A client token'} is not set: only programs here may spend the keys")


def rows(asked: Asked) -> Iterator[Finding]:
    if is_flow_file(asked.db):
        yield Finding("bad", f"{_short(asked.db)} is a flow file", "name a database")
        return
    try:
        check_writable(asked.db)
    except StoreError as error:
        yield Finding("bad", str(error), "name another file")
        return
    is_there = asked.db.exists()
    yield Finding("good", f"{_short(asked.db)} {'can be written to' if is_there else 'can be made'}")
    if is_there and asked.db.stat().st_mode & 0o077:
        yield Finding("note", f"{_short(asked.db)} can be read by others", f"chmod 600 {_short(asked.db)}")


# -- how agents get there ----------------------------------------------------------------------------------------------


def port(asked: Asked) -> Iterator[Finding]:
    try:
        socket.create_server(("127.0.0.1", asked.port)).close()
    except OSError as error:
        if error.errno != errno.EADDRINUSE:
            yield Finding("bad", f"port {asked.port}: {error.strerror}", "take another")
        elif any(_address(url) == ("127.0.0.1", asked.port) for _, url, _ in asked.base_urls):
            yield Finding("note", f"port {asked.port} is taken, as it must be if that is your mitmdump")
        else:
            yield Finding("bad", f"port {asked.port} is taken", "take another, or end what listens there")
    else:
        yield Finding("good", f"port {asked.port} is free")


SDKS = {"Anthropic": ("/v1", ("messages",)), "OpenAI": ("", ("chat_completions", "responses"))}
"""What an SDK puts between its base URL and the paths of these kinds."""

BASE_URLS = {
    "ANTHROPIC_BASE_URL": "Anthropic",
    "ANTHROPIC_API_BASE": "Anthropic",
    "OPENAI_BASE_URL": "OpenAI",
    "OPENAI_API_BASE": "OpenAI",
}


def base_urls(asked: Asked) -> Iterator[Finding]:
    """Whether what the SDKs make of their base URL is a path that leads somewhere."""
    mistakes = {(name, sdk): _mistake(url, sdk) for name, url, sdk in asked.base_urls}
    for name, given, sdk in asked.base_urls:
        # without what may be a secret
        url, mend = re.sub(r"//[^/]*@", "//…@", given).partition("?")[0], mistakes[name, sdk]
        if name in BASE_URLS:
            yield Finding("bad", f"{name}={url} is wrong", mend) if mend else Finding("good", f"{name}={url} is right")
        elif mend:
            # it may be meant for the other one
            is_of_use = any(mistakes[whence] is None for whence in mistakes)
            yield Finding("note" if is_of_use else "bad", f"{url} is not for {sdk} SDKs", mend)
        else:
            yield Finding("good", f"{url} suits {sdk} SDKs")
    for name, url in dict.fromkeys((name, url) for name, url, _ in asked.base_urls):
        yield from _reached(name, url)


def _mistake(url: str, sdk: str) -> str | None:
    """How to mend a base URL; None: it is right."""
    if not re.match(r"https?://[^/]", url) or "?" in url:
        return "give http://127.0.0.1:PORT/…"
    path = re.sub(r"https?://[^/]*", "", url).rstrip("/")
    for kind in KINDS.values():
        if path.endswith(kind.SUFFIX):
            return f"leave {kind.SUFFIX} off"
    between, kinds = SDKS[sdk]
    if routing.PREFIX.match(path):
        called = [routing.route("POST", f"{path}{between}{KINDS[kind].SUFFIX}") for kind in kinds]
        return None if all(isinstance(target, routing.Target) for target in called) else "/api/gateway and no more"
    has_version = re.search(r"/v\d+[a-z]*\d*$", path) is not None
    if between and has_version:
        return "leave /v1 off"
    return None if between or has_version else "add /v1"


def _reached(name: str, url: str) -> Iterator[Finding]:
    """Whether anybody is there, if it is on this machine."""
    address = _address(url)
    if address is None:
        return
    proxies = getproxies_environment()
    proxy = proxies.get(urlsplit(url).scheme) or proxies.get("all")
    if proxy and not proxy_bypass(address[0]):
        yield Finding("bad", f"{name}: a proxy of the environment gets these calls", f"NO_PROXY={address[0]}")
    if urlsplit(url).scheme == "https":
        yield Finding("note", f"{name}: https needs mitmproxy's certificate trusted", "http:// does not")
    yield from _unheard(name, address)


def _unheard(name: str, address: tuple[str, int]) -> Iterator[Finding]:
    try:
        socket.create_connection(address, timeout=1).close()
    except OSError:
        yield Finding("note", f"{name}: nothing listens at {address[0]}:{address[1]}", "start mitmdump")


def forward_proxy(asked: Asked) -> Iterator[Finding]:
    """Whether the one that the environment names is there, and gets the calls."""
    address = _forward_proxy()
    if address is None:
        return
    yield from _unheard("HTTPS_PROXY", address)
    if not isinstance(asked.settings, str):
        for host in sorted({provider.address[0] for provider in asked.settings.providers.values()}):
            if proxy_bypass(host):
                yield Finding("note", f"calls to {host} go past the forward proxy", "take it out of NO_PROXY")


def _forward_proxy() -> tuple[str, int] | None:
    """The address of one on this machine that programs are told to use."""
    proxies = getproxies_environment()
    return next(filter(None, (_address(proxies.get(scheme, "")) for scheme in ("https", "all"))), None)


def _address(url: str) -> tuple[str, int] | None:
    """Host and port of a URL that leads to this machine."""
    try:
        parts = urlsplit(url)
        there = (parts.hostname or "", parts.port or {"https": 443}.get(parts.scheme, 80))
    except ValueError:
        return None
    return ("127.0.0.1", there[1]) if there[0] in ("127.0.0.1", "localhost", "::1") else None


# -- the certificate of a forward proxy --------------------------------------------------------------------------------

CERTIFICATE = "mitmproxy-ca-cert.pem"


class Trusting(NamedTuple):
    """How programs of a sort find the certificates they trust."""

    variables: tuple[str, ...]
    """Name a file; the first that is set counts."""
    system: bool = False
    """Where none is set, the system's count."""


PROGRAMS = {
    "Node": Trusting(("NODE_EXTRA_CA_CERTS",)),
    "Codex": Trusting(("CODEX_CA_CERTIFICATE", "SSL_CERT_FILE"), system=True),
    "other native programs": Trusting(("SSL_CERT_FILE",), system=True),
    "Python's SDKs and Aider": Trusting(("SSL_CERT_FILE",)),
    "Python's requests": Trusting(("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE")),
}


def certificate(asked: Asked) -> Iterator[Finding]:
    """Only who goes through a forward proxy needs it, as the environment then says."""
    level: Level = "bad" if _forward_proxy() else "note"
    path = asked.confdir / CERTIFICATE
    if not path.exists():
        yield Finding(level, "mitmproxy has no certificate yet; a forward proxy needs one", "start mitmdump once")
        return
    try:
        ours, (about, *_) = _certificates(str(path)), _context(str(path)).get_ca_certs()
    except (OSError, ValueError):
        yield Finding(level, f"{_short(path)}: no certificate that can be read", "remove the folder")
        return
    expires = ssl.cert_time_to_seconds(str(about["notAfter"]))
    if expires < time.time():
        yield Finding(level, f"{_short(path)} has expired", "remove the folder")
        return
    yield Finding("good", f"{_short(path)} is valid until {time.strftime('%Y-%m-%d', time.gmtime(expires))}")
    for program, trusting in PROGRAMS.items():
        variable = next((name for name in trusting.variables if os.environ.get(name)), None)
        files = [os.environ[variable]] if variable else [*SYSTEM_CERTIFICATES] if trusting.system else []
        try:
            is_trusted = any(ours <= _certificates(file) for file in files if variable or os.path.exists(file))
        except (OSError, ValueError):
            yield Finding("bad", f"{program}: {variable} names no file of certificates", "unset it")
            continue
        if is_trusted:
            yield Finding("good", f"it is trusted by {program}, for {variable or 'the system does'}")
        else:
            yield Finding(level, f"it is not trusted by {program}", f"set {trusting.variables[0]} to it")


def _context(path: str) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.load_verify_locations(path)
    return context


def _certificates(path: str) -> set[bytes]:
    return set(_context(path).get_ca_certs(binary_form=True))


# -- the command -------------------------------------------------------------------------------------------------------

CHECKS: dict[str, Callable[[Asked], Iterator[Finding]]] = {
    "versions": versions,
    "prices": prices,
    "configuration": configuration,
    "keys": keys,
    "database": rows,
    "port": port,
    "base_url": base_urls,
    "forward_proxy": forward_proxy,
    "certificate": certificate,
}


@click.command()
@database
@click.option("--config", metavar="FILE", type=click.Path(path_type=Path), help="The gateway.toml to be used.")
@click.option(
    "--port", type=click.IntRange(1, 65535), default=8080, show_default=True, help="Where mitmdump is to listen."
)
@click.option("--base-url", metavar="URL", help="What the agent is given; else what the usual variables say.")
@click.option(
    "--confdir",
    metavar="FOLDER",
    type=click.Path(path_type=Path),
    default="~/.mitmproxy",
    show_default=True,
    help="mitmproxy's own.",
)
@click.option("--json", "as_json", is_flag=True, help="For programs.")
def doctor(path: Path, config: Path | None, port: int, base_url: str | None, confdir: Path, as_json: bool) -> None:
    """Say what would not work, and how to mend it; exit code 1 if there is any of that. Nothing is changed."""
    asked = Asked(path, config, port, base_url, confdir.expanduser())
    found = [(name, finding) for name, check in CHECKS.items() for finding in check(asked)]
    if as_json:
        print_json([{"check": name, **finding._asdict()} for name, finding in found])
    else:
        width = shutil.get_terminal_size((80, 24)).columns
        for _, finding in found:
            line = f"{finding.level:<6}" + plain(": ".join(filter(None, (finding.what, finding.mend))))
            # a path is not cut
            wrapped = textwrap.wrap(
                line, width, subsequent_indent=" " * 6, break_long_words=False, break_on_hyphens=False
            )
            say("\n".join(wrapped))
    if any(finding.level == "bad" for _, finding in found):
        sys.exit(1)


def _short(path: str | Path) -> str:
    """A path as people write it."""
    path = Path(path)
    for base, name in ((Path.cwd(), ""), (Path.home(), "~/")):
        if path.is_absolute() and path.is_relative_to(base):
            return f"{name}{path.relative_to(base)}"
    return str(path)
