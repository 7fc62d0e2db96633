"""The ways an agent is run, each against the fake provider, and what must come of each."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from gateway_addon.cli import agents
from tests.agents.programs import CACHE, KEY, NODE, Program
from tests.agents.work import END, PROMPT, SUB_PROMPT, Answered, Work
from tests.mitmdump import Mitmdump, clean_environment, rows
from tests.provider import SCENARIOS, Provider
from tests.provider.scenarios import Scenario
from tests.provider.server import Received

SECONDS = 80
"""For a run of an agent."""

GATEWAY_KEY = {"TOY_KEY": "key-of-the-gateway"}

CONFIG = """default_provider = "toy"

[providers.toy]
api_url = "{url}/v1"
api_kinds = {kinds}
api_key_env = "TOY_KEY"
"""


@dataclass
class Run:
    """One agent, one way, with folders of its own."""

    program: Program
    provider: Provider
    folder: Path
    confdir: Path
    said: str = ""
    """By the agent."""
    faults: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.home, self.work, self.db = self.folder / "home", self.folder / "work", self.folder / "gateway.db"
        self.home.mkdir(parents=True)
        self.work.mkdir()
        (self.work / "notes.txt").write_text("the kettle is blue\n")

    def proxy(self, *, modes: list[str] | None = None, **options: object) -> Mitmdump:
        return Mitmdump(
            self.provider.url,
            confdir=self.confdir,
            modes=modes or [],
            options={"gateway_db": self.db, **options},
            env=GATEWAY_KEY,
        )

    def config(self, kinds: list[str]) -> Path:
        path = self.folder / "gateway.toml"
        path.write_text(CONFIG.format(url=self.provider.url, kinds=kinds))
        return path

    def agent(self, url: str, env: dict[str, str], *, before: tuple[str, ...] = ()) -> None:
        """Run the agent; `before` is what its command line begins with."""
        env = self.environment() | self.program.env | env
        if self.program.prepare:
            self._run([str(self.program.path), *(one.format(url=url) for one in self.program.prepare)], env)
        code = self._run([*before, str(self.program.path), *self.program.arguments], env)
        if code:
            self.faults.append(f"exit code {code}")

    def environment(self) -> dict[str, str]:
        kept = {
            name: value for name, value in clean_environment().items() if not re.search("_proxy$|^XDG_", name, re.I)
        }
        return kept | {"HOME": str(self.home), "PATH": f"{NODE}:{os.environ['PATH']}", "PWD": str(self.work)}

    def _run(self, command: list[str], env: dict[str, str]) -> int:
        process = subprocess.Popen(
            command,
            cwd=self.work,
            env=env,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            start_new_session=True,
        )
        try:
            self.said, _ = process.communicate(timeout=SECONDS)
        except subprocess.TimeoutExpired:
            self.faults.append("took too long")
            # `gateway-addon run` ends its proxy
            process.terminate()
            self.said, _ = process.communicate(timeout=SECONDS)
        finally:
            # with what it may have left behind
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
        return process.wait()


def native(run: Run) -> None:
    with run.proxy() as proxy:
        run.agent(proxy.url, run.program.native(proxy.url, run.home))
        proxy.stop()


def gateway(run: Run) -> None:
    with run.proxy(gateway_config=run.config([run.program.kind])) as proxy:
        url = f"{proxy.url}/api/gateway"
        run.agent(url, run.program.gateway(url, run.home))
        proxy.stop()
    _check_keys(run)


def _check_keys(run: Run) -> None:
    seen = {request.headers.get("authorization") or request.headers.get("x-api-key") for request in _calls(run)}
    if seen - {f"Bearer {GATEWAY_KEY['TOY_KEY']}", GATEWAY_KEY["TOY_KEY"]}:
        run.faults.append("another key than the gateway's was sent")


DETOUR = {"connection_strategy": "lazy", "upstream_cert": "false"}
"""With what `_map` gives, a forward proxy needs no network: every host is the fake provider."""


def _map(run: Run) -> str:
    return f"%https://[^/]+/%{run.provider.url}/"


def forward(run: Run) -> None:
    with run.proxy(modes=["regular"], map_remote=_map(run), **DETOUR) as proxy:
        env = agents.through_proxy(proxy.url, run.confdir / "mitmproxy-ca-cert.pem", run.environment(), run.folder)
        run.agent("https://api.openai.com", env)
        proxy.stop()


def with_run(run: Run) -> None:
    """One command, and the agent's own key."""
    options = {"confdir": str(run.confdir)}
    way = ["--upstream", run.provider.url]
    if agents.AGENTS[run.program.name].has_many_providers:
        way, options = [], options | DETOUR | {"map_remote": _map(run)}
    _run_command(run, [*way, *(f"--set={name}={value}" for name, value in options.items())], {})


def with_run_gateway(run: Run) -> None:
    """One command, and no key but the gateway's."""
    config = run.config([run.program.kind])
    way = ["--gateway", "--config", str(config), "--upstream", run.provider.url, f"--set=confdir={run.confdir}"]
    keyless = {name: "" for name, value in run.program.env.items() if value == KEY}
    _run_command(run, way, keyless | GATEWAY_KEY)
    _check_keys(run)


def _run_command(run: Run, options: list[str], env: dict[str, str]) -> None:
    before = (sys.executable, "-m", "gateway_addon", "run", "--db", str(run.db), *options, "--")
    run.agent("https://api.openai.com", env, before=before)
    if "rows are in" not in run.said:
        run.faults.append("no summary")


def refused(run: Run) -> None:
    """Every call is refused by the gateway."""
    others = [kind for kind in ("chat_completions", "responses", "messages") if kind != run.program.kind]
    with run.proxy(gateway_config=run.config(others)) as proxy:
        url = f"{proxy.url}/api/gateway"
        run.agent(url, run.program.gateway(url, run.home))
        proxy.stop()
    run.faults = [fault for fault in run.faults if not fault.startswith("exit code")]
    if _calls(run):
        run.faults.append("the provider was asked")
    found = rows(run.db, "SELECT outcome FROM requests")
    if not found or {row["outcome"] for row in found} != {"rejected"}:
        run.faults.append(f"outcomes {sorted({row['outcome'] for row in found})}")


WAYS: dict[str, Callable[[Run], None]] = {
    "native": native,
    "gateway": gateway,
    "forward": forward,
    "run": with_run,
    "run --gateway": with_run_gateway,
    "refusal": refused,
}


@dataclass(frozen=True)
class Result:
    calls: int
    subs: int
    """Of these, of sub-agents."""
    transports: frozenset[str]
    faults: list[str]


def tried(program: Program, way: str, confdir: Path) -> Result | None:
    """Run an agent one way, and compare what the provider saw with what the rows say. None: it cannot go that way."""
    if way == "run --gateway" and not agents.AGENTS[program.name].takes_address:
        return None
    folder = CACHE / "runs" / f"{program.name}-{way.replace(' ', '')}"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    work = Work()
    with _provider(work) as provider:
        run = Run(program, provider, folder, confdir)
        try:
            WAYS[way](run)
        except AssertionError as error:
            (folder / "fault.txt").write_text(str(error))
            run.faults.append(str(error).splitlines()[0])
        (folder / "heads.json").write_text(json.dumps([_head(request) for request in provider.requests], indent=1))
    (folder / "said.txt").write_text(run.said)
    if way == "refusal":
        return Result(_count(run.db), 0, frozenset(), run.faults)
    return Result(
        calls=len(work.answered),
        subs=sum(one.is_sub for one in work.answered),
        transports=frozenset(_transports(run.db)),
        faults=run.faults + list(_differences(run, work.answered)),
    )


@contextmanager
def _provider(work: Work) -> Iterator[Provider]:
    SCENARIOS["at-work"] = Scenario("a real agent at work", work.reply)
    try:
        with Provider() as provider:
            provider.default = "at-work"
            yield provider
    finally:
        del SCENARIOS["at-work"]


def _head(request: Received) -> dict[str, object]:
    """What tells a client, to look at."""
    beside = {name: value for name, value in request.json.items() if isinstance(value, str | int | float | dict)}
    return {"path": request.path, "headers": request.headers, "body": beside}


def _calls(run: Run) -> list[Received]:
    suffixes = ("/messages", "/responses", "/chat/completions")
    return [one for one in run.provider.requests if one.method == "POST" and one.path.split("?")[0].endswith(suffixes)]


def _count(db: Path) -> int:
    return len(rows(db, "SELECT id FROM requests")) if db.exists() else 0


def _transports(db: Path) -> set[str]:
    return {row.get("transport") or "http" for row in rows(db, "SELECT * FROM requests")} if db.exists() else set()


ROWS = """
    SELECT requests.*, prompts.user_prompt,
           (SELECT group_concat(name) FROM tool_calls WHERE request_id = requests.id) AS tools
    FROM requests LEFT JOIN prompts ON prompts.request_id = requests.id ORDER BY requests.started_at
"""


def _differences(run: Run, answered: list[Answered]) -> Iterator[str]:
    """In what the rows are not what the provider saw, or the agent has not done its work."""
    if not run.db.exists():
        yield "no database"
        return
    recorded = rows(run.db, ROWS)
    # the provider answers these by itself, before a connection's first turn
    warm = sum(request.json.get("generate") is False for request in run.provider.requests)
    if warm != sum(row["side_request"] == "warmup" for row in recorded):
        yield f"{warm} warm-ups"
    found = {
        str(row["response_id"]).rpartition("_")[2].rpartition("-")[2]: row
        for row in recorded
        if row["side_request"] != "warmup"
    }
    seen = {one.id: one for one in answered}
    if len(recorded) - warm != len(seen) or set(found) != set(seen):
        yield f"{len(seen)} calls, {len(recorded) - warm} rows"
    both = [(seen[id], found[id]) for id in seen if id in found]
    for one, row in both:
        counts = (row["input_tokens"], row["output_tokens"], row["cache_read_tokens"])
        if counts != (one.usage.input, one.usage.output, one.usage.cache_read):
            yield f"usage of {one.id}: {counts}"
        if row["outcome"] != "complete":
            yield f"outcome {row['outcome']}"
        if (row["tools"] or "") != ",".join(one.tools):
            yield f"tools of {one.id}: {row['tools']}"
        own = run.program.sub_client if one.is_sub and run.program.sub_client else run.program.client
        if row["client"] != own:
            yield f"client {row['client']}"
        if row["api_kind"] != run.program.kind:
            yield f"kind {row['api_kind']}"
    turns = [(one, row) for one, row in both if row["side_request"] is None]
    mains = [row for one, row in turns if not one.is_sub]
    subs = [row for one, row in turns if one.is_sub]
    if run.program.name != "aider" and not any(one.has_seen for one, _ in turns):
        yield "no tool result"
    if END not in run.said.replace("\n", " "):
        yield "no answer shown"
    if not mains:
        yield "no turn"
    if (sessions := {row["session_id"] for row in mains}) and (len(sessions) != 1 or None in sessions):
        yield f"{len(sessions)} sessions"
    if any(row["side_request"] and row["session_id"] not in sessions for _, row in both):
        yield "a side request of another session"
    if run.program.has_sessions and any(str(one).startswith("opening-") for one in sessions):
        yield "a session without an id"
    if any(row["agent_id"] for row in mains):
        yield "the main agent has an agent's id"
    if any(str(row["user_prompt"]).strip('"') != PROMPT for row in mains):
        yield f"prompts {sorted({str(row['user_prompt'])[:60] for row in mains})}"
    if run.program.delegates and not subs:
        yield "no sub-agent"
    if any(row["user_prompt"] != SUB_PROMPT for row in subs):
        yield f"prompts of sub-agents {sorted({str(row['user_prompt'])[:60] for row in subs})}"
    if any(not row["agent_id"] and row["session_id"] in sessions for row in subs):
        yield "a sub-agent's call counts as the main agent's"
    if run.program.has_sessions and any(not {row["session_id"], row["parent_agent_id"]} & sessions for row in subs):
        yield "a sub-agent belongs to no session"
