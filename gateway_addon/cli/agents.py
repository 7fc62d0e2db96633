"""How the agents that `run` knows are told where to send their calls, without a file of theirs being touched.

A value may hold `$anthropic`, `$openai`, `$openrouter`: the base URL to use for that provider, in the form that its own
SDK takes, which has no `/v1` for Anthropic. `$file` is the path of the file with the text of `Agent.file`.
"""

import json
import os
import re
import ssl
import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from string import Template
from urllib.parse import urlsplit

PROVIDERS = {
    "anthropic": "https://api.anthropic.com",
    "openai": "https://api.openai.com/v1",
    "openrouter": "https://openrouter.ai/api/v1",
}
"""Base URLs, as the SDKs take them."""

GATEWAY = "/api/gateway"


@dataclass(slots=True, frozen=True, kw_only=True)
class Login:
    """A login by which an agent talks to another address than with a key."""

    ask: tuple[str, ...]
    """Arguments with which the agent says how it is logged in."""
    answer: str
    """What it then says."""
    upstreams: Mapping[str, str]
    """By provider, the base URL instead of the one in `PROVIDERS`."""


@dataclass(slots=True, frozen=True, kw_only=True)
class Agent:
    """A program, and what it is to be given. Without `env` and `args` it can be told no address."""

    env: Mapping[str, str] = field(default_factory=dict)
    args: tuple[str, ...] = ()
    """Before its own."""
    gateway_args: tuple[str, ...] | None = None
    """On gateway paths, instead of `args`."""
    file: str = ""
    keys: tuple[tuple[str, ...], ...] = ()
    """Variables of its keys, those together that do for each other: on gateway paths the first of them gets a
    placeholder and the others nothing, as the gateway has keys of its own."""
    login: Login | None = None
    has_many_providers: bool = False
    """Its own files say whom it calls, and with which key. Only a forward proxy sees all of that, and sends no key to
    another host than it is for."""

    @property
    def takes_address(self) -> bool:
        return bool(self.env or self.args)


def _options(**base_urls: str) -> str:
    return json.dumps({"provider": {name: {"options": {"baseURL": url}} for name, url in base_urls.items()}})


_OPENCODE = _options(anthropic="$anthropic/v1", openai="$openai", openrouter="$openrouter")

_PI = """export default function (pi) {
  pi.registerProvider("anthropic", { baseUrl: "$anthropic" });
  pi.registerProvider("openai", { baseUrl: "$openai" });
  pi.registerProvider("openrouter", { baseUrl: "$openrouter" });
}
"""

_KEYS = (("OPENAI_API_KEY",), ("ANTHROPIC_API_KEY",), ("OPENROUTER_API_KEY",))

AGENTS = {
    "claude": Agent(
        # the second has it send, behind an address of one's own too, which agent a call is of and what it is for
        env={"ANTHROPIC_BASE_URL": "$anthropic", "CLAUDE_CODE_GATEWAY_HINT_HEADERS": "1"},
        keys=(("ANTHROPIC_AUTH_TOKEN", "ANTHROPIC_API_KEY"),),
    ),
    "codex": Agent(
        args=("-c", 'openai_base_url="$openai"'),
        # a provider that needs no login, as the gateway has keys of its own
        gateway_args=(
            "-c",
            "model_provider=gateway-addon",
            "-c",
            'model_providers.gateway-addon={name="gateway-addon",base_url="$openai",wire_api="responses"}',
        ),
        login=Login(
            ask=("login", "status"),
            answer="ChatGPT",
            upstreams={"openai": "https://chatgpt.com/backend-api/codex"},
        ),
    ),
    "aider": Agent(
        env={
            "OPENAI_API_BASE": "$openai",
            "ANTHROPIC_API_BASE": "$anthropic",
            "OPENROUTER_API_BASE": "$openrouter",
        },
        keys=_KEYS,
    ),
    "opencode": Agent(
        env={"OPENCODE_CONFIG_CONTENT": _OPENCODE},
        keys=_KEYS,
        has_many_providers=True,
    ),
    "kilo": Agent(
        env={"KILO_CONFIG_CONTENT": _OPENCODE},
        keys=_KEYS,
        has_many_providers=True,
    ),
    "qwen": Agent(
        env={"OPENAI_BASE_URL": "$openai", "ANTHROPIC_BASE_URL": "$anthropic"},
        keys=_KEYS,
        has_many_providers=True,
    ),
    "pi": Agent(
        args=("-e", "$file"),
        file=_PI,
        keys=_KEYS,
        has_many_providers=True,
    ),
    # takes base URLs from a file only
    "cline": Agent(has_many_providers=True),
}
"""By the name of the program."""

ANY = Agent(has_many_providers=True)


def with_variable(name: str, otherwise: str | None) -> Agent:
    """A program that takes its base URL from a variable. Its provider is the one that the name begins with, else
    `otherwise`; LookupError if that is None."""
    provider = next((one for one in PROVIDERS if name.lower().startswith(one)), otherwise)
    if provider is None:
        raise LookupError(f"{name} begins with none of {', '.join(PROVIDERS).upper()}")
    return Agent(env={name: f"${provider}"})


def providers(agent: Agent) -> list[str]:
    """Those that an agent's settings name."""
    settings = "\n".join([*agent.env.values(), *agent.args, agent.file])
    return [name for name in PROVIDERS if f"${name}" in settings]


def upstream(agent: Agent, provider: str, given: str, env: Mapping[str, str], program: str) -> str:
    """The base URL that a provider's calls go to: the given one; else the one that the variable has already, as of a
    gateway that is there; else that of the agent's login, or the provider's own. Raises ValueError for no URL."""
    if given:
        return _as_taken(provider, given)
    for name, value in agent.env.items():
        if value == f"${provider}" and (there := env.get(name, "").strip()):
            if not re.match("https?://[^/]", there, re.IGNORECASE):
                raise ValueError(f"{name}: {there!r} is no URL")
            return there.rstrip("/")
    login = agent.login
    if login and provider in login.upstreams and login.answer in _asked([program, *login.ask], env):
        return login.upstreams[provider]
    return PROVIDERS[provider]


def _as_taken(provider: str, url: str) -> str:
    """A server's URL, given with `/v1` or without, as the provider's SDK takes it."""
    if provider == "anthropic":
        return url.rstrip("/").removesuffix("/v1")
    return url.rstrip("/") if urlsplit(url).path.strip("/") else f"{url.rstrip('/')}/v1"


def _asked(command: list[str], env: Mapping[str, str]) -> str:
    """What a program says; "" if it does not."""
    try:
        return subprocess.run(
            command,
            env=env,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            timeout=10,
            check=False,
        ).stdout
    except (OSError, subprocess.TimeoutExpired):
        return ""


def at_listener(base_url: str, port: int) -> str:
    """A base URL, its host replaced by the listener that stands for it."""
    return f"http://127.0.0.1:{port}{urlsplit(base_url).path}"


def at_gateway(provider: str, port: int) -> str:
    return f"http://127.0.0.1:{port}{GATEWAY}{'' if provider == 'anthropic' else '/v1'}"


def settings(
    agent: Agent, base_urls: Mapping[str, str], env: Mapping[str, str], folder: Path, *, gateway: bool
) -> tuple[dict[str, str], list[str]]:
    """The variables and the first arguments that an agent is to be given. A file, if it needs one, goes to `folder`."""
    values = dict(base_urls)
    if agent.file:
        file = folder / "gateway-addon.js"
        file.write_text(Template(agent.file).substitute(values), "utf-8")
        values["file"] = str(file)
    given = {name: _joined(env.get(name, ""), Template(text).substitute(values)) for name, text in agent.env.items()}
    if gateway:
        # the key of one vendor is nothing to another; what the gateway spends are keys of its own
        for first, *others in agent.keys:
            given |= {first: "gateway-addon"} | dict.fromkeys(filter(env.get, others), "")
    args = agent.args if not gateway or agent.gateway_args is None else agent.gateway_args
    return given, [Template(text).substitute(values) for text in args]


def _joined(before: str, given: str) -> str:
    """A value for a variable that has one: of two JSON objects all that they hold, and what is given counts."""
    try:
        one, other = json.loads(before), json.loads(given)
    except ValueError:
        return given
    return json.dumps(_merged(one, other)) if isinstance(one, dict) and isinstance(other, dict) else given


def _merged(one: object, other: object) -> object:
    if not (isinstance(one, dict) and isinstance(other, dict)):
        return other
    return one | {key: _merged(one[key], value) if key in one else value for key, value in other.items()}


CERTIFICATES = (
    "NODE_EXTRA_CA_CERTS",
    "SSL_CERT_FILE",
    "CODEX_CA_CERTIFICATE",
    "REQUESTS_CA_BUNDLE",
    "CURL_CA_BUNDLE",
    "GIT_SSL_CAINFO",
    "AWS_CA_BUNDLE",
)
"""Variables that name a file of certificates to trust. For most it replaces the system's, so it must hold those too."""

SYSTEM_CERTIFICATES = (
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/ssl/cert.pem",
)
"""Where Linux distributions and macOS have theirs in one file."""


def through_proxy(proxy: str, authority: Path, env: Mapping[str, str], folder: Path) -> dict[str, str]:
    """The variables with which a program goes through a forward proxy and trusts its certificates."""
    bundle = folder / "certificates.pem"
    own = [env[name] for name in CERTIFICATES if env.get(name)]
    bundle.write_bytes(b"\n".join([*_certificates(own), authority.read_bytes()]))
    return {
        **dict.fromkeys(("HTTPS_PROXY", "https_proxy", "HTTP_PROXY", "http_proxy"), proxy),
        **dict.fromkeys(CERTIFICATES, str(bundle)),
        # Node's own `fetch` goes by the variables only if it is asked to
        "NODE_USE_ENV_PROXY": "1",
    }


def _certificates(own: list[str]) -> Iterator[bytes]:
    """What is trusted already: the system's, and what the environment names."""
    default = ssl.get_default_verify_paths().cafile
    system = [path for path in (default, *SYSTEM_CERTIFICATES) if path and os.path.isfile(path)]
    for path in dict.fromkeys([*system[:1], *own]):
        try:
            yield Path(path).read_bytes()
        except OSError:
            # what cannot be read was of no use before
            continue


def past_proxy(env: Mapping[str, str]) -> dict[str, str]:
    """The variables with which programs on this machine are asked without a proxy."""
    named = [one for one in re.split(r"[,\s]+", env.get("NO_PROXY") or env.get("no_proxy") or "") if one]
    value = ",".join(dict.fromkeys([*named, "localhost", "127.0.0.1"]))
    return {"NO_PROXY": value, "no_proxy": value}
