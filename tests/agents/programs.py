"""The agents: where they come from, how they are started, and the recipes that the README gives for them."""

import json
import os
import subprocess
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from tests.agents.work import PROMPT

CACHE = Path(os.environ.get("AGENTS_CACHE") or Path.home() / ".cache" / "gateway-addon-agents")
"""Outside of the repository: a folder for each agent."""

NODE = CACHE / "node" / "node_modules" / "node" / "bin"
NPM_INSTALL = ("npm", "install", "--no-fund", "--no-audit", "--loglevel=error")
KEY = "sk-not-a-key"

Recipe = Callable[[str, Path], dict[str, str]]
"""Gets the URL of the listener, or of the gateway at it, and the agent's home for its files; returns variables."""


def _nothing(url: str, home: Path) -> dict[str, str]:
    return {}


@dataclass(frozen=True, kw_only=True)
class Program:
    name: str
    """Of the command, as `gateway-addon run` knows it."""
    title: str
    package: str
    """Of npm, or of PyPI where `is_python`."""
    is_python: bool = False
    kind: str
    client: str | None
    """What the rows call it."""
    sub_client: str | None = None
    """What the rows call its sub-agents, if they cannot be told to be its own."""
    arguments: tuple[str, ...]
    """Of a run with `PROMPT`, without a terminal, nothing asked."""
    env: dict[str, str] = field(default_factory=dict)
    """Key, and telemetry and updates off."""
    native: Recipe
    """With the listener's URL."""
    gateway: Recipe
    """With that of the gateway at it."""
    prepare: tuple[str, ...] = ()
    """Arguments of a command that comes before; `{url}` is where calls go."""
    delegates: bool = False
    """Has a tool that starts sub-agents."""
    has_sessions: bool = True
    """Sends an id of the session; else it goes by how the conversation begins, and a sub-agent has a session apart."""

    @property
    def path(self) -> Path:
        folder = CACHE / self.name
        return folder / "bin" / self.name if self.is_python else folder / "node_modules" / ".bin" / self.name

    def version(self) -> str:
        """As its package says."""
        if self.is_python:
            lines = _said(CACHE / self.name / "bin" / "pip", "show", self.package).splitlines()
            return next(line.partition(": ")[2] for line in lines if line.startswith("Version: "))
        described = CACHE / self.name / "node_modules" / self.package / "package.json"
        return str(json.loads(described.read_text())["version"])

    def install(self) -> str:
        """Install it, if it is not there. Returns why that cannot be done; "" if it was."""
        if self.path.exists():
            return ""
        folder = CACHE / self.name
        folder.mkdir(parents=True, exist_ok=True)
        if self.is_python:
            uv = os.environ.get("UV", "uv")
            # no newer Python is taken by it
            venv = [uv, "venv", "-q", "--seed", "--allow-existing", "--python", ">=3.10,<3.13", "."]
            why = _failure([venv, ["bin/pip", "install", "-q", self.package]], folder)
        else:
            (folder / "package.json").write_text('{"private": true}')
            if why := _failure([[*NPM_INSTALL, self.package]], folder):
                # a registry may have the newest one before all that it is made of
                newest = _said("npm", "view", self.package, "version").strip()
                why = _failure([[*NPM_INSTALL, f"{self.package}@<{newest}"]], folder)
        return why or ("" if self.path.exists() else "installed without its program")


def _failure(commands: list[list[str]], folder: Path) -> str:
    """Run commands there until one fails. Returns what that one says; "" if none did."""
    env = os.environ | {"PATH": f"{NODE}:{os.environ['PATH']}"}
    for command in commands:
        done = subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True, check=False)
        if done.returncode:
            return (done.stderr.splitlines() or ["no reason given"])[-1]
    return ""


def install_node() -> None:
    """The agents want a newer one than systems have."""
    folder = CACHE / "node"
    if not NODE.exists():
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "package.json").write_text('{"private": true}')
        subprocess.run(
            ["npm", "install", "--no-fund", "--no-audit", "--loglevel=error", "node@24"], cwd=folder, check=True
        )


def _said(*command: object) -> str:
    return subprocess.run([str(word) for word in command], capture_output=True, text=True, check=False).stdout


def _file(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def _codex(url: str, home: Path) -> dict[str, str]:
    _file(
        home / ".codex" / "config.toml",
        f"""model_provider = "local"

[model_providers.local]
name = "local"
base_url = "{url}/v1"
wire_api = "responses"
env_key = "OPENAI_API_KEY"
""",
    )
    return {}


def _opencode(url: str, home: Path) -> dict[str, str]:
    options = {"baseURL": f"{url}/v1"} | ({"apiKey": "any"} if url.endswith("/gateway") else {})
    config = {"provider": {"anthropic": {"options": options}}}
    _file(home / ".config" / "opencode" / "opencode.json", json.dumps(config))
    return {}


def _kilo(url: str, home: Path) -> dict[str, str]:
    options = {"baseURL": f"{url}/v1"} | ({"apiKey": "any"} if url.endswith("/gateway") else {})
    return {"KILO_CONFIG_CONTENT": json.dumps({"provider": {"anthropic": {"options": options}}})}


def _pi(url: str, home: Path) -> dict[str, str]:
    _file(home / ".pi" / "agent" / "models.json", json.dumps({"providers": {"openai": {"baseUrl": f"{url}/v1"}}}))
    return {}


PROGRAMS = (
    Program(
        name="claude",
        title="Claude Code",
        package="@anthropic-ai/claude-code",
        kind="messages",
        client="claude-code",
        arguments=("-p", PROMPT, "--model", "claude-sonnet-4-6", "--dangerously-skip-permissions"),
        env={
            "ANTHROPIC_API_KEY": KEY,
            "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1",
            "DISABLE_AUTOUPDATER": "1",
            # lets root skip permissions
            "IS_SANDBOX": "1",
        },
        native=lambda url, home: {"ANTHROPIC_BASE_URL": url},
        gateway=lambda url, home: {"ANTHROPIC_BASE_URL": url, "ANTHROPIC_AUTH_TOKEN": "any", "ANTHROPIC_API_KEY": ""},
        delegates=True,
    ),
    Program(
        name="codex",
        title="Codex",
        package="@openai/codex",
        kind="responses",
        client="codex",
        arguments=(
            "exec",
            "--skip-git-repo-check",
            "--dangerously-bypass-approvals-and-sandbox",
            "-m",
            "gpt-5.1",
            PROMPT,
        ),
        env={"OPENAI_API_KEY": KEY, "CODEX_API_KEY": KEY},
        native=_codex,
        gateway=_codex,
        delegates=True,
    ),
    Program(
        name="aider",
        title="Aider",
        package="aider-chat",
        is_python=True,
        kind="chat_completions",
        client="aider",
        arguments=(
            "--model",
            "openai/gpt-5.1",
            "--yes-always",
            "--no-git",
            "--no-check-update",
            "--analytics-disable",
            "--no-show-model-warnings",
            "--no-pretty",
            "--message",
            PROMPT,
        ),
        env={"OPENAI_API_KEY": KEY, "LITELLM_LOCAL_MODEL_COST_MAP": "True"},
        native=lambda url, home: {"OPENAI_API_BASE": f"{url}/v1"},
        gateway=lambda url, home: {"OPENAI_API_BASE": f"{url}/v1", "OPENAI_API_KEY": "any"},
        has_sessions=False,
    ),
    Program(
        name="opencode",
        title="OpenCode",
        package="opencode-ai",
        kind="messages",
        client="opencode",
        arguments=("run", "--auto", "-m", "anthropic/claude-sonnet-4-6", PROMPT),
        env={"ANTHROPIC_API_KEY": KEY, "OPENCODE_DISABLE_AUTOUPDATE": "1", "OPENCODE_DISABLE_MODELS_FETCH": "1"},
        native=_opencode,
        gateway=_opencode,
        delegates=True,
    ),
    Program(
        name="qwen",
        title="Qwen Code",
        package="@qwen-code/qwen-code",
        kind="chat_completions",
        client="qwen-code",
        arguments=("--auth-type", "openai", "-m", "toy", "-y", PROMPT),
        env={"OPENAI_API_KEY": KEY, "QWEN_CODE_SUPPRESS_YOLO_WARNING": "1"},
        native=lambda url, home: {"OPENAI_BASE_URL": f"{url}/v1"},
        gateway=lambda url, home: {"OPENAI_BASE_URL": f"{url}/v1", "OPENAI_API_KEY": "any"},
        delegates=True,
        has_sessions=False,
    ),
    Program(
        name="pi",
        title="pi",
        package="@earendil-works/pi-coding-agent",
        kind="responses",
        client="pi",
        arguments=("--provider", "openai", "--model", "gpt-5.1", "-p", PROMPT),
        env={"OPENAI_API_KEY": KEY, "PI_OFFLINE": "1"},
        native=_pi,
        gateway=_pi,
    ),
    Program(
        name="kilo",
        title="Kilo CLI",
        package="@kilocode/cli",
        kind="messages",
        client="kilo-code",
        arguments=("run", "--auto", "-m", "anthropic/claude-sonnet-4-6", PROMPT),
        env={"ANTHROPIC_API_KEY": KEY, "KILO_TELEMETRY_LEVEL": "off", "KILO_DISABLE_AUTOUPDATE": "1"},
        native=_kilo,
        gateway=_kilo,
        delegates=True,
    ),
    Program(
        name="cline",
        title="Cline CLI",
        package="cline",
        kind="chat_completions",
        client="cline",
        sub_client="ai-sdk",
        arguments=("-P", "openai-compatible", "-m", "toy", "--auto-approve", "true", "--json", PROMPT),
        prepare=("auth", "-p", "openai", "-k", KEY, "-m", "toy", "-b", "{url}/v1"),
        env={"CLINE_TELEMETRY_DISABLED": "1"},
        native=_nothing,
        gateway=_nothing,
        delegates=True,
        has_sessions=False,
    ),
)
