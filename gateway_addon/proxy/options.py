"""The addon's mitmproxy options, and their one checked reading."""

import logging
import os
from dataclasses import dataclass, field
from decimal import Decimal, InvalidOperation
from pathlib import Path

from mitmproxy import exceptions, optmanager
from mitmproxy.addonmanager import Loader
from mitmproxy.utils import human

from gateway_addon import config
from gateway_addon.masking import Mask
from gateway_addon.proxy import companion

logger = logging.getLogger(__name__)

CONTENT_MODES = ("full", "prompts", "none")

_SPECS = (
    ("gateway_db", str, "gateway.db", "SQLite file for the rows; created with mode 0600, its folder must exist."),
    ("gateway_config", str, "", "TOML file with providers, models and access rules; empty: built-in providers only."),
    (
        "gateway_content",
        str,
        "full",
        "What text is stored: full, prompts (only what the prompts view shows, and error texts) or none.",
    ),
    (
        "gateway_body_limit",
        str,
        "64m",
        "Bytes of each streamed answer that are kept in memory for the flow (-w, mitmweb); suffixes k, m, g.",
    ),
    ("gateway_warn_usd", str, "", "One warning when a session has cost more than this many dollars; empty: none."),
    ("gateway_rewrite", bool, True, "False: observe only, nothing is changed or answered on any path."),
    ("gateway_otlp", bool, False, "Send finished calls as OpenTelemetry spans, from a process beside the proxy."),
    (
        "gateway_replay_keys",
        bool,
        False,
        "Client replay: give a provider that is known by its host the key of its usual variable, not the saved one.",
    ),
)

_WATCHED = {name for name, *_ in _SPECS} | {"stream_large_bodies"}


@dataclass(frozen=True)
class Options:
    """The options' values, checked."""

    db: Path
    settings: config.Settings
    mask: Mask = field(repr=False)
    """Of the secrets in the settings."""
    content: str
    body_limit: int
    """Bytes."""
    warn_usd: Decimal | None
    """None: no warning."""
    rewrite: bool
    otlp: bool
    replay_keys: bool
    """Requests that are sent again get today's key wherever their provider has one."""
    streams_requests: bool
    """mitmproxy may pass large requests on before they are complete."""


def add(loader: Loader) -> None:
    """Declare the options. A value of the wrong type on the command line raises `OptionsError`.

    Without `process_deferred` mitmproxy would swallow that error, and forward without this addon.
    """
    for name, typespec, default, help_text in _SPECS:
        loader.add_option(name, typespec, default, help_text)
    loader.master.options.process_deferred()


def concern(updated: set[str]) -> bool:
    """Whether a change of these options changes what `read` returns."""
    return not _WATCHED.isdisjoint(updated)


def read(options: optmanager.OptManager) -> Options:
    """The values in force. Raises `OptionsError`, one line that names what is wrong; touches no file but the config."""
    unknown = sorted(name for name in options.deferred if name.replace("-", "_").startswith("gateway_"))
    if unknown:
        raise exceptions.OptionsError(f"unknown option: {', '.join(unknown)}")
    if options.gateway_content not in CONTENT_MODES:
        raise exceptions.OptionsError(
            f"gateway_content: {options.gateway_content!r} is none of {', '.join(CONTENT_MODES)}"
        )
    if not options.gateway_db:
        raise exceptions.OptionsError("gateway_db: a file name is needed")
    if options.gateway_otlp and not companion.is_installed():
        raise exceptions.OptionsError("gateway_otlp: needs the extra `otlp`: pip install 'gateway-addon[otlp]'")
    # not there without a proxy server, as in a script's own tests
    streams_requests = bool(getattr(options, "stream_large_bodies", None))
    if streams_requests and options.gateway_rewrite:
        raise exceptions.OptionsError(
            "stream_large_bodies: a streamed request cannot be rewritten; unset it, or set gateway_rewrite=false"
        )
    try:
        body_limit = human.parse_size(options.gateway_body_limit) or 0
    except ValueError:
        body_limit = -1
    if body_limit < 0:
        raise exceptions.OptionsError(f"gateway_body_limit: {options.gateway_body_limit!r} is no size")
    try:
        warn_usd = Decimal(options.gateway_warn_usd) if options.gateway_warn_usd else None
    except InvalidOperation:
        warn_usd = Decimal("NaN")
    if warn_usd is not None and not (warn_usd.is_finite() and warn_usd > 0):
        raise exceptions.OptionsError(f"gateway_warn_usd: {options.gateway_warn_usd!r} is no sum of dollars above 0")
    path = Path(options.gateway_config).expanduser() if options.gateway_config else None
    try:
        settings = config.load(path, os.environ)
    except config.ConfigError as error:
        raise exceptions.OptionsError(str(error)) from None
    return Options(
        db=Path(options.gateway_db).expanduser(),
        settings=settings,
        mask=Mask(settings.secrets),
        content=options.gateway_content,
        body_limit=body_limit,
        warn_usd=warn_usd,
        rewrite=options.gateway_rewrite,
        otlp=options.gateway_otlp,
        replay_keys=options.gateway_replay_keys,
        streams_requests=streams_requests,
    )


def make_certificates(options: optmanager.OptManager) -> None:
    """Have mitmproxy make or read its certificates at once.

    Otherwise it does so when all listeners are up, and needs them for any request: a client that calls before that ends
    it, which with lazy connections is certain as soon as one of the listeners takes a moment longer than another.
    """
    options.update(confdir=options.confdir)


def prefer_lazy_connections(options: optmanager.OptManager) -> None:
    """On a reverse-mode listener, dial an upstream only when a request needs it, unless the user asked otherwise.

    Eager connections (mitmproxy's default) dial the reverse target even for calls that go elsewhere, and when it is
    down the client gets an end of file with no flow and no hook.
    """
    if not _has_reverse_listener(options) or options.connection_strategy != "eager":
        return
    # the option manager tells a default from the same value asked for only in here
    if options._options["connection_strategy"].value is optmanager.unset:
        options.update(connection_strategy="lazy")
    else:
        logger.warning("gateway-addon: connection_strategy=eager: calls fail without a row while the target is down")


def keep_host_headers(options: optmanager.OptManager) -> bool:
    """Have mitmproxy leave the `Host` header of requests at reverse-mode listeners as it came, unless the user has set
    that option. Returns whether it is now for the addon to put the header right (`callers.HostHeaders`)."""
    # neither is there without a proxy server, as in a script's own tests
    option = options._options.get("keep_host_header")
    if option is None or option.value is not optmanager.unset:
        return False
    options.update(keep_host_header=True)
    return True


def describe(options: Options, all_options: optmanager.OptManager) -> str:
    """What the addon will do, for the line at start; keys by the names of their variables."""
    settings = options.settings
    is_gateway = options.rewrite and all_options.server and _has_reverse_listener(all_options)
    does = "gateway below /api/gateway, all else observed" if is_gateway else "observing"
    content = "" if options.content == "full" else f", content: {options.content}"
    listeners = " ".join(all_options.mode) if all_options.server else "no listener"
    # what the gateway has paid for is paid for when it is sent again, also where there is no gateway now
    may_inject = is_gateway or getattr(all_options, "client_replay", None)
    able = settings.providers.values() if may_inject else ()
    keys = [f"{one.id} ({one.api_key_env})" for one in able if settings.provider_key(one)]
    return (
        f"{does}, rows go to {options.db}{content}; {listeners}; providers: {', '.join(settings.providers)};"
        f" keys injected: {', '.join(keys) or 'none'}"
    )


def _has_reverse_listener(options: optmanager.OptManager) -> bool:
    return any(mode.startswith("reverse:") for mode in options.mode)
