"""Who may spend a provider's key, and which credentials leave."""

import hmac
import ipaddress
import re
from collections.abc import Iterator

from gateway_addon.api import first_kind
from gateway_addon.api.base import ApiKind, Refusal
from gateway_addon.config import Provider, Settings
from gateway_addon.dialects import DIALECTS
from gateway_addon.wire.headers import Headers

OWN_TOKEN = "{gateway:token}"
"""What stands in a flow for the gateway's client or admin token."""
CREDENTIALS = ("authorization", "x-api-key")
"""Where clients put their API key, and so our token too: all three kinds' SDKs use one of the two."""

TOKEN_NEEDED = Refusal(401, "this gateway wants its client token as API key", "invalid_api_key")
ADMIN_ONLY = Refusal(403, "this API kind is for the administrator of the gateway only", "admin_only")


def refuse(kind: ApiKind | None, headers: Headers, peer_ip: str, settings: Settings) -> Refusal | None:
    """Whether a caller must be turned away: 401, 403, or None. `headers`: names in lower case.

    A token vouches for its bearer; so does a loopback address, but not for a page in a browser there (`Origin`), which
    anybody may have written. Strangers may pass as long as no provider has a key of the gateway's to spend: they then
    bring their own credentials. Nothing a request says about itself, token apart, tells who sent it.
    """
    admin = bool(_showing(headers, settings, settings.access.admin_token_env))
    known = admin or bool(_showing(headers, settings, settings.access.client_token_env))
    from_page = "origin" in headers
    spends = any(settings.provider_key(provider) for provider in settings.providers.values())
    if not known and (from_page or (spends and not _is_loopback(peer_ip))):
        return TOKEN_NEEDED
    if kind is not None and kind.NAME in settings.access.admin_only_kinds and not admin:
        return ADMIN_ONLY
    return None


def withheld(headers: Headers, provider: Provider, settings: Settings) -> list[str]:
    """The names of the credential headers that must not go to `provider`.

    All of them where the gateway puts in a key of its own. Else the client's credentials are the provider's to judge,
    but the gateway's tokens are nobody else's: without them the request goes out bare, which a local server takes and
    any other answers with its own 401.
    """
    if settings.provider_key(provider):
        return [name for name in CREDENTIALS if name in headers]
    return own_tokens(headers, settings)


def own_tokens(headers: Headers, settings: Settings) -> list[str]:
    """The names of the credential headers that show a token of the gateway's own."""
    return _showing(headers, settings, settings.access.client_token_env, settings.access.admin_token_env)


def without_own_tokens(text: str, settings: Settings) -> str:
    """A text, such as a URL, with `OWN_TOKEN` for each of the gateway's own tokens in it."""
    for token in _tokens(settings, settings.access.client_token_env, settings.access.admin_token_env):
        text = text.replace(token, OWN_TOKEN)
    return text


def provider_credentials(provider: Provider, kind: ApiKind | None, settings: Settings) -> dict[str, str]:
    """The headers (lower case) that carry the gateway's own key for `provider`; none if it has no such key.

    Headers outside `CREDENTIALS` among them (`anthropic-version`) are no secret.
    """
    key = settings.provider_key(provider)
    if key is None:
        return {}
    # a provider without a dialect speaks each kind's own vendor's; lists of models are asked for as the first kind's
    dialect = DIALECTS[provider.dialect or (kind or first_kind()).VENDOR]
    return dialect.key_headers(kind.NAME if kind else "", key.get_secret_value())


def _showing(headers: Headers, settings: Settings, *variables: str) -> list[str]:
    """The credential headers that hold the token of one of the named variables; compared in constant time."""
    tokens = [token.encode() for token in _tokens(settings, *variables)]
    return [name for name in CREDENTIALS if any(_is_token(part, tokens) for part in _shown(headers.joined(name)))]


def _tokens(settings: Settings, *variables: str) -> list[str]:
    return [token.get_secret_value() for token in map(settings.secret, variables) if token]


def _is_token(shown: bytes, tokens: list[bytes]) -> bool:
    return sum(hmac.compare_digest(shown, token) for token in tokens) > 0


def _shown(value: str) -> Iterator[bytes]:
    """What a credential header shows: `Bearer TOKEN`, the scheme in any case, or the bare token; also when repeated."""
    for part in (value, *value.split(",")):
        yield re.sub(r"(?i)\A\s*bearer\s+", "", part).strip().encode("utf-8", "surrogateescape")


def _is_loopback(peer_ip: str) -> bool:
    try:
        return ipaddress.ip_address(peer_ip).is_loopback  # from 3.13 on of ::ffff:127.0.0.1 too
    except ValueError:
        return False
