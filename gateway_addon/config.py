"""`gateway.toml` as pydantic models: a file and the environment in, one frozen `Settings` out."""

import json
import re
import tomllib
from collections.abc import Collection, Iterator, Mapping
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PrivateAttr,
    SecretStr,
    ValidationError,
    model_validator,
)

from gateway_addon.api import KINDS
from gateway_addon.credentials import LOOKS_LIKE_A_KEY
from gateway_addon.dialects import DIALECTS

ReverseTarget = tuple[str, str, int]
"""Scheme, host and port of the server a reverse-mode listener stands for."""

NAME_A_VARIABLE = "looks like a key: put it into an environment variable and name that variable here"


class ConfigError(Exception):
    """The configuration cannot be used. The text is one line that names file and key, and never holds a secret."""


def _one_of(what: str, names: Collection[str]) -> AfterValidator:
    def check(name: str) -> str:
        if name not in names:
            raise ValueError(f"no such {what}: {name!r} (there are {', '.join(names)})")
        return name

    return AfterValidator(check)


def _check_url(url: str) -> str:
    parts = urlsplit(url)
    if parts.username is not None:
        raise ValueError("must not hold credentials; name a variable in api_key_env")
    # `port` raises ValueError itself when it is no number, or too large
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.port == 0 or parts.query or parts.fragment:
        raise ValueError("is not a URL of the form https://HOST[:PORT]/PATH")
    if not (url.isascii() and url.isprintable()) or " " in url:
        raise ValueError("holds characters that no URL has")
    return url.rstrip("/")


def _check_variable(name: str) -> str:
    if name and not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", name):
        raise ValueError("is not the name of an environment variable")
    return name


def _same_for_all_kinds(value: object) -> object:
    if isinstance(value, str):
        return dict.fromkeys(KINDS, value)
    if not isinstance(value, dict):
        raise ValueError("must be the name of a provider, or a table of such names by API kind")
    return value


Kind = Annotated[str, _one_of("API kind", KINDS)]
Kinds = Annotated[tuple[Kind, ...], Field(strict=False)]
"""TOML has lists only; a frozen model has tuples."""
Dialect = Annotated[str, _one_of("dialect", DIALECTS)]
Effort = Literal["none", "minimal", "low", "medium", "high", "xhigh", "max"]
Variable = Annotated[str, AfterValidator(_check_variable)]
"""The name of an environment variable; "" is none."""
Id = Annotated[str, Field(pattern=r"^[A-Za-z0-9._-]+$")]


class Table(BaseModel):
    """A table of the file: frozen, no unknown keys, no silent conversion of types."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, hide_input_in_errors=True)


class Provider(Table):
    """`[providers.ID]`: where calls go, which kinds it serves, how it is spoken to."""

    api_url: Annotated[str, AfterValidator(_check_url)]
    """Without a trailing slash."""
    api_kinds: Kinds
    dialect: Dialect | None = None
    """None: each kind's own vendor's."""
    websocket: bool | None = None
    """Whether Responses may be spoken over a WebSocket; None: as its dialect has it."""
    api_key_env: Variable = ""
    _id: str = PrivateAttr()

    @property
    def id(self) -> str:
        """Its name in the file."""
        return self._id

    @property
    def takes_websockets(self) -> bool:
        """Whether it may be spoken to over a WebSocket."""
        if self.websocket is None:
            return self.dialect is not None and DIALECTS[self.dialect].TAKES_WEBSOCKETS
        return self.websocket

    @cached_property
    def address(self) -> tuple[str, int]:
        """Host (lower case) and port of `api_url`."""
        parts = urlsplit(self.api_url)
        return parts.hostname or "", parts.port or {"http": 80, "https": 443}[parts.scheme]


class Model(Table):
    """`[models."PUBLIC ID"]`."""

    provider: str | None = None
    """None: the default provider."""
    model: str | None = None
    """The provider's name for it; None: the public id."""
    api_kinds: Kinds | None = None
    """None: every kind its provider serves."""
    free: bool = False


class AutoTarget(Table):
    """What an auto model stands for in one mode."""

    model: str
    effort: Effort | None = None


class AutoModel(Table):
    """`[auto_models."PUBLIC ID"]`: resolved by the request header `x-kilocode-mode`."""

    default: AutoTarget
    modes: dict[str, AutoTarget] = {}


class Access(Table):
    """`[access]`."""

    admin_only_kinds: Kinds = ()
    client_token_env: Variable = "GATEWAY_TOKEN"
    admin_token_env: Variable = "GATEWAY_ADMIN_TOKEN"


class Rewrite(Table):
    """`[rewrite]`."""

    strip_models: bool = True
    anthropic_cache_breakpoints: bool = True
    normalize_tool_call_ids: bool = True
    tracking_salt_env: Variable = ""


def public_id(id: str) -> str:
    """A model id as ids are compared: clients write them as they like."""
    return id.strip().lower()


class Settings(Table):
    """The whole configuration, the values of the named environment variables included. Made by `load`."""

    default_provider: Annotated[dict[Kind, str], BeforeValidator(_same_for_all_kinds)] = {}
    """By kind; a single name in the file stands for all kinds."""
    custom_prefixes: Annotated[tuple[str, ...], Field(strict=False)] = ()
    providers: dict[Id, Provider]
    """Those of the file first, then the built-in ones it does not override."""
    models: dict[str, Model] = {}
    auto_models: dict[str, AutoModel] = {}
    access: Access = Access()
    rewrite: Rewrite = Rewrite()
    _secrets: dict[str, SecretStr] = PrivateAttr(default_factory=dict)
    _models: dict[str, Model] = PrivateAttr(default_factory=dict)
    _auto_models: dict[str, AutoModel] = PrivateAttr(default_factory=dict)
    """Both by `public_id`."""

    @model_validator(mode="before")
    @classmethod
    def _built_in_providers(cls, data: dict[str, Any]) -> dict[str, Any]:
        tables = data.get("providers", {})
        if not isinstance(tables, dict) or not all(isinstance(table, dict) for table in tables.values()):
            return data
        built_in = {id: dict(table) for dialect in DIALECTS.values() for id, table in dialect.PROVIDERS.items()}
        overridden = {id: built_in.get(id, {}) | table for id, table in tables.items()}
        return data | {"providers": overridden | {id: table for id, table in built_in.items() if id not in tables}}

    def model_post_init(self, _context: object) -> None:
        for id, provider in self.providers.items():
            provider._id = id
        self._models = {
            public_id(id): model if model.model else model.model_copy(update={"model": id.strip()})
            for id, model in self.models.items()
        }
        self._auto_models = {public_id(id): model for id, model in self.auto_models.items()}

    def model(self, id: str) -> Model | None:
        """The model that a client means by `id`, with the name it has at its provider; None: `[models]` has none."""
        return self._models.get(public_id(id))

    def auto_model(self, id: str) -> AutoModel | None:
        """The auto model that a client means by `id`."""
        return self._auto_models.get(public_id(id))

    def is_custom(self, id: str) -> bool:
        """Whether an id is under one of `custom_prefixes`, so that only `[models]` can say what it is."""
        return public_id(id).startswith(tuple(map(public_id, self.custom_prefixes)))

    def secret(self, variable: str) -> SecretStr | None:
        """The value of a named environment variable at the start; None when unset, empty, or not named at all."""
        return self._secrets.get(variable)

    @property
    def secrets(self) -> list[str]:
        """All values that nobody but their owner may see: provider keys, tokens, salt."""
        return [value.get_secret_value() for value in self._secrets.values()]

    def provider_key(self, provider: Provider) -> SecretStr | None:
        """The key the gateway spends at a provider; None: the client's own credentials pass through."""
        return self.secret(provider.api_key_env)

    def provider_of_host(self, host: str, port: int, path: str = "") -> Provider | None:
        """The configured provider that a call to `host`:`port` goes to; of several there, `path` tells which."""
        address = (host.lower(), port)
        there = [provider for provider in self.providers.values() if provider.address == address]
        return next(
            (one for one in there if path.startswith(f"{urlsplit(one.api_url).path}/")), next(iter(there), None)
        )

    def default_provider_for(self, kind: str | None, reverse_target: ReverseTarget) -> Provider | None:
        """The provider of a model that names none: the configured one, else the one the listener stands for.

        A call without a kind (the list of models) goes to the provider that all kinds have in common, if there is one.
        """
        names = {self.default_provider.get(name) for name in (KINDS if kind is None else [kind])}
        name = names.pop() if len(names) == 1 else None
        _, host, port = reverse_target
        return self.provider_of_host(host, port) if name is None else self.providers[name]


def load(path: Path | None, env: Mapping[str, str]) -> Settings:
    """Read `gateway.toml`; `path` None is an empty file, which leaves the built-in providers.

    Raises `ConfigError`: unreadable file, TOML syntax (with the line), unknown keys, wrong types, dangling references,
    and a value that looks like a key (which the message does not repeat).
    """
    where = "gateway configuration" if path is None else str(path)
    try:
        data = {} if path is None else tomllib.loads(path.read_text("utf-8"))
        problem = next(_written_keys(data, ()), None)
        if problem is None:
            settings = Settings.model_validate(data)
            problem = next(_dangling(settings), None)
    except OSError as error:
        problem = error.strerror or "cannot be read"
    except ValidationError as error:
        problem = _first(error)
    except (ValueError, RecursionError) as error:
        problem = f"is not TOML: {error}"
    if problem is not None:
        raise ConfigError(" ".join(f"{where}: {problem}".split()))
    settings._secrets.update(_values(settings, env))
    return settings


def _written_keys(value: object, place: tuple[str, ...]) -> Iterator[str]:
    """A message for every value of the file that looks like a key."""
    match value:
        case dict():
            for name, member in value.items():
                yield from _written_keys(member, (*place, name))
        case list():
            for member in value:
                yield from _written_keys(member, place)
        case str() if LOOKS_LIKE_A_KEY.search(value):
            yield f"{_dotted(place)} {NAME_A_VARIABLE}"


def _dangling(settings: Settings) -> Iterator[str]:
    """A message for every name that nothing stands behind, or that two things stand behind."""

    def provider(name: str | None, *place: str) -> Iterator[str]:
        if name is not None and name not in settings.providers:
            yield f"{_dotted(place)}: no provider is called {name!r}"

    for name in settings.default_provider.values():
        yield from provider(name, "default_provider")
    for place, ids in (("models", settings.models), ("auto_models", settings.auto_models)):
        first: dict[str, str] = {}
        for id in ids:
            if (same := first.setdefault(public_id(id), id)) != id:
                yield f'{_dotted((place, id))}: is the same id as "{same}"'
    for id, model in settings.models.items():
        yield from provider(model.provider, "models", id, "provider")
    for id, auto in settings.auto_models.items():
        if settings.model(id):
            yield f"{_dotted(('auto_models', id))}: [models] has the same id"
        targets = {("default",): auto.default} | {("modes", mode): target for mode, target in auto.modes.items()}
        for member, target in targets.items():
            unknown = settings.model(target.model) is None and settings.is_custom(target.model)
            if unknown or settings.auto_model(target.model):
                yield f"{_dotted(('auto_models', id, *member, 'model'))}: no model is called {target.model!r}"


def _values(settings: Settings, env: Mapping[str, str]) -> Iterator[tuple[str, SecretStr]]:
    """The named variables that are set. An empty one counts as unset: an empty token would admit everybody."""
    access, rewrite = settings.access, settings.rewrite
    named = [provider.api_key_env for provider in settings.providers.values()]
    for variable in (*named, access.client_token_env, access.admin_token_env, rewrite.tracking_salt_env):
        value = env.get(variable, "").strip()
        if variable and value:
            if not (value.isascii() and value.isprintable()):
                raise ConfigError(f"environment variable {variable}: holds characters that no HTTP header can carry")
            yield variable, SecretStr(value)


def _first(error: ValidationError) -> str:
    """The first problem, in the words of the file's author rather than of pydantic.

    An unknown key comes before all others: it is a misspelt one, which is then missing as well.
    """
    problems = error.errors(include_url=False, include_input=False)
    problem = min(problems, key=lambda one: one["type"] != "extra_forbidden")
    words = {
        "extra_forbidden": "unknown key",
        "missing": "is missing",
        "string_pattern_mismatch": "is not a plain name",
    }
    text = words.get(problem["type"], problem["msg"].removeprefix("Value error, "))
    return f"{_dotted(tuple(part for part in map(str, problem['loc']) if part != '[key]'))}: {text}"


def _dotted(place: tuple[str, ...]) -> str:
    """A key as TOML writes it, parts that are no bare keys in quotes, and everything but ASCII escaped."""
    return ".".join(part if re.fullmatch(r"[\w-]+", part, re.ASCII) else json.dumps(part) for part in place)
