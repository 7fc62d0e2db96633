"""`run`: an agent with a proxy of its own."""

import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import NamedTuple
from urllib.parse import urlsplit

import click

from gateway_addon.cli import agents
from gateway_addon.cli.mitmdump import Mitmdump, free_ports
from gateway_addon.cli.options import DEFAULT, Unreadable, reading
from gateway_addon.cli.output import plain
from gateway_addon.record import from_row
from gateway_addon.sinks.console import Totals
from gateway_addon.store import queries
from gateway_addon.times import timestamp

FROM_TERMINAL = ("SIGINT", "SIGQUIT")
"""Signals that a terminal sends to all processes in its foreground, so to the agent, too."""
PASSED_ON = ("SIGTERM", "SIGHUP", "SIGUSR1", "SIGUSR2")
"""Others for the agent, which come to this process alone."""

GATEWAY = "https://openrouter.ai"
"""What a gateway's listener stands for unless `--upstream` says otherwise."""


NOT_PROXIED = "the agent made none, or takes no proxy from HTTPS_PROXY"
NOT_AT_ADDRESS = "the agent made none, or its own settings name another address: --forward sees those too"


@click.command(context_settings={"allow_interspersed_args": False})
@click.argument("command", metavar="-- AGENT [ARGS]...", nargs=-1, type=click.UNPROCESSED, required=True)
@click.option("--gateway", is_flag=True, help="On gateway paths: with your keys, models and rules.")
@click.option("--forward", is_flag=True, help="Through a forward proxy, whatever the agent.")
@click.option("--base-url-var", metavar="NAME", help="The variable from which the agent takes its base URL.")
@click.option("--upstream", metavar="URL", default="", help="Where calls go, instead of the provider: a local server.")
@click.option("--config", metavar="FILE", type=click.Path(path_type=Path), help="A gateway.toml.")
@click.option(
    "--db", "path", metavar="DB", envvar="GATEWAY_DB", default=DEFAULT, type=click.Path(path_type=Path),
    help="Where the rows go.",
)  # fmt: skip
@click.option("--save", metavar="FILE.flow", type=click.Path(path_type=Path), help="Keep a capture, too.")
@click.option("--set", "more", metavar="NAME=VALUE", multiple=True, help="Any other option of the addon or mitmproxy.")
def run(
    command: tuple[str, ...],
    gateway: bool,
    forward: bool,
    base_url_var: str | None,
    upstream: str,
    config: Path | None,
    path: Path,
    save: Path | None,
    more: tuple[str, ...],
) -> None:
    """Run an agent with a proxy that records its calls, and say at the end what they were.

    Claude Code, Codex and Aider are given the proxy's address; with --gateway or --upstream also OpenCode, Kilo, Qwen
    Code and pi; any other program by --base-url-var. Else a program goes through a forward proxy, by the usual
    variables. No file is changed. Exit code: the agent's; 2 if the proxy cannot start, and then no agent is started.
    """
    if (program := shutil.which(command[0])) is None:
        raise Unreadable(f"{command[0]}: no such program")
    agent = _agent(Path(command[0]).name, base_url_var, with_upstream=bool(gateway or upstream))
    if forward and (gateway or upstream or base_url_var):
        raise click.UsageError("--forward goes without --gateway, --upstream and --base-url-var")
    if (gateway or upstream) and not agent.takes_address:
        raise click.UsageError(f"{command[0]}: --base-url-var must say how to give it an address")
    if upstream and not re.match(r"https?://[^/]", upstream):
        raise click.UsageError(f"--upstream: {upstream!r} is not of the form https://HOST[:PORT]/PATH")
    if not path.parent.is_dir():
        raise Unreadable(f"{path}: its folder does not exist")
    forward = forward or (agent.has_many_providers and not (gateway or upstream))
    try:
        way = _way(agent, program, upstream, gateway=gateway, forward=forward)
    except ValueError as error:
        raise click.UsageError(str(error)) from error
    options = {
        "flow_detail": "0",
        # named, it is made or read before a client can call
        "confdir": str(Path.home() / ".mitmproxy"),
        "gateway_db": str(path),
        "gateway_config": str(config or ""),
        # a provider's own paths may look like the gateway's
        "gateway_rewrite": str(gateway).lower(),
        "save_stream_file": str(save or ""),
        # what tells that it listens; all of it goes to a file
        "termlog_verbosity": "info",
    }
    more = tuple(one for one in more if not one.startswith("termlog_verbosity="))
    asked = dict(one.partition("=")[::2] for one in more)
    arguments = [*(f"{name}={value}" for name, value in options.items() if name not in asked), *more]
    options |= asked
    path = Path(options["gateway_db"])
    if not path.name:
        raise Unreadable("gateway_db: names no file")
    log = path.with_name(f"{path.name}.log")
    began = time.time()
    with _signals() as passing, tempfile.TemporaryDirectory(prefix="gateway-addon-") as folder:
        proxy = Mitmdump(way.modes, way.ports, [f"--set={one}" for one in arguments], log)
        try:
            proxy.wait_until_it_listens()
            env, first = _wired(agent, way, Path(options["confdir"]).expanduser(), Path(folder), gateway=gateway)
            code = passing.run([program, *first, *command[1:]], env)
        finally:
            died = proxy.end()
    _tell(path, proxy.pid, began, log, NOT_PROXIED if forward else NOT_AT_ADDRESS)
    if died is not None:
        _say(f"mitmdump ended before the agent, with exit code {died}: {plain(log)} may say why")
    sys.exit(code)


def _agent(name: str, base_url_var: str | None, *, with_upstream: bool) -> agents.Agent:
    if base_url_var is None:
        return agents.AGENTS.get(name, agents.ANY)
    try:
        return agents.with_variable(base_url_var, "openai" if with_upstream else None)
    except LookupError as error:
        raise click.UsageError(f"--base-url-var: {error.args[0]}; say where calls go with --upstream") from None


class _Way(NamedTuple):
    """How calls go: a listener for each server, or one forward proxy."""

    modes: list[str]
    ports: list[int]
    upstreams: dict[str, str]
    """Base URLs by provider; none: a forward proxy."""

    def port(self, base_url: str) -> int:
        return self.ports[self.modes.index(_mode(base_url))]


def _mode(base_url: str) -> str:
    parts = urlsplit(base_url)
    return f"reverse:{parts.scheme}://{parts.netloc}"


def _way(agent: agents.Agent, program: str, upstream: str, *, gateway: bool, forward: bool) -> _Way:
    upstreams: dict[str, str] = {}
    if not forward:
        for name in agents.providers(agent):
            upstreams[name] = (
                upstream or GATEWAY if gateway else agents.upstream(agent, name, upstream, os.environ, program)
            )
    modes = list(dict.fromkeys(map(_mode, upstreams.values()))) or ["regular"]
    return _Way(modes, free_ports(len(modes)), upstreams)


def _wired(
    agent: agents.Agent, way: _Way, confdir: Path, folder: Path, *, gateway: bool
) -> tuple[dict[str, str], list[str]]:
    """The environment and the first arguments with which an agent comes that way."""
    env = dict(os.environ)
    if not way.upstreams:
        proxy = f"http://127.0.0.1:{way.ports[0]}"
        given, first = agents.through_proxy(proxy, confdir / "mitmproxy-ca-cert.pem", env, folder), list[str]()
    else:
        base_urls = {
            name: agents.at_gateway(name, way.port(url)) if gateway else agents.at_listener(url, way.port(url))
            for name, url in way.upstreams.items()
        }
        given, first = agents.settings(agent, base_urls, env, folder, gateway=gateway)
    return env | agents.past_proxy(env) | given, first


class _Passing:
    """Runs a program in the foreground and passes signals on to it. One that comes before ends this command."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None

    def run(self, command: Sequence[str], env: Mapping[str, str]) -> int:
        """Returns the exit code, as a shell would."""
        try:
            self._process = subprocess.Popen(command, env=env)
        except OSError as error:
            raise Unreadable(f"{command[0]}: {error.strerror}") from error
        code = self._process.wait()
        return 128 - code if code < 0 else code

    def receive(self, number: int, frame: FrameType | None) -> None:
        if self._process is None:
            raise KeyboardInterrupt
        if signal.Signals(number).name not in FROM_TERMINAL or not _is_in_foreground():
            self._process.send_signal(number)


@contextmanager
def _signals() -> Iterator[_Passing]:
    passing = _Passing()
    # not every system has all of them, and one that is ignored (`nohup`) stays so
    numbers = [
        one
        for one in signal.Signals
        if one.name in (*FROM_TERMINAL, *PASSED_ON) and signal.getsignal(one) is not signal.SIG_IGN
    ]
    before = {number: signal.signal(number, passing.receive) for number in numbers}
    try:
        yield passing
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _is_in_foreground() -> bool:
    """Whether a terminal sends its signals to this process and its children."""
    try:
        return os.tcgetpgrp(sys.stdin.fileno()) == os.getpgrp()
    except (AttributeError, OSError, ValueError):
        return False


def _tell(path: Path, pid: int, began: float, log: Path, hint: str) -> None:
    """What was recorded, where it is, and how to look at it. On stderr, as stdout is the agent's."""
    try:
        with reading(path) as db:
            rows = queries.calls_of_run(db, pid, timestamp(began))
    except click.ClickException as error:
        _say(plain(error.format_message()))
        return
    if not rows:
        _say(f"no model calls came this way; {hint} (mitmdump's log: {plain(log)})")
        return
    totals = Totals()
    for row in rows:
        totals.add(from_row(row))
    outcomes = Counter(row["outcome"] for row in rows)
    _say(f"{totals.line()} · {', '.join(f'{count} {outcome}' for outcome, count in outcomes.most_common())}")
    look = f"gateway-addon list {shlex.quote(str(path))} --since {rows[0]['started_at']}"
    _say(f"rows are in {plain(path)}, mitmdump's log in {plain(log)}; to look at them: {plain(look)}")


def _say(line: str) -> None:
    click.echo(f"gateway-addon: {line}", err=True)
