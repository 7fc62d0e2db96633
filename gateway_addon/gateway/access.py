"""Who may spend a provider's key, and which credentials leave."""

import base64
import binascii
import hmac
import ipaddress
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache

from gateway_addon.api import first_kind
from gateway_addon.api.base import ApiKind, Refusal
from gateway_addon.call import Head
from gateway_addon.config import Provider, ReverseTarget, Settings
from gateway_addon.dialects import DIALECTS
from gateway_addon.wire.headers import Headers

OWN_TOKEN = "{gateway:token}"
"""What stands in a flow for the gateway's client or admin token."""
CREDENTIALS = ("authorization", "x-api-key")
"""Where clients put their API key, and so our token too: all three kinds' SDKs use one of the two."""

MAX_CREDENTIAL = 16 * 1024
"""Characters of a credential header. A longer one is not looked through: it shows no token, and does not leave."""

NO_PAGE = ("", "none", "same-origin")
"""What `sec-fetch-site` says where no page of another site had the request made."""

TOKEN_NEEDED = Refusal(401, "this gateway wants its client token as API key", "invalid_api_key")
ADMIN_ONLY = Refusal(403, "this API kind is for the administrator of the gateway only", "admin_only")


@dataclass(slots=True, frozen=True, kw_only=True)
class Caller:
    """Who asks the gateway, and at which listener: what the connection tells, and the name the client called it by."""

    peer_ip: str
    reverse_target: ReverseTarget
    host: str | None
    """The `Host` header as the client sent it, "" if it sent none; None if that is not known any more."""
    listener: tuple[str, ...] = ()
    """Names and addresses of the listener."""
    is_own: bool = False
    """The connection is one the proxy itself has made, for somebody who may be anybody."""


def refuse(kind: ApiKind | None, head: Head, caller: Caller, settings: Settings) -> Refusal | None:
    """Whether a caller must be turned away: 401, 403, or None.

    A token vouches for its bearer; so does being a program on this machine, but not for a page in a browser there,
    which anybody may have written. Strangers may pass as long as no provider has a key of the gateway's to spend, and
    the file names no token to ask for: they then bring their own credentials. Nothing a request says about itself can
    make it more than that, token apart.
    """
    admin = bool(_showing(head.headers, settings, settings.access.admin_token_env))
    known = admin or bool(_showing(head.headers, settings, settings.access.client_token_env))
    if not known and (_is_from_page(head) or (_asks_strangers(settings) and not _is_local(head, caller))):
        return TOKEN_NEEDED
    if kind is not None and kind.NAME in settings.access.admin_only_kinds and not admin:
        return ADMIN_ONLY
    return None


def _asks_strangers(settings: Settings) -> bool:
    """Whether strangers need a token: where there is a key to spend, and where the file names the token's variable
    (which admits nobody while it is not set)."""
    spends = any(settings.provider_key(provider) for provider in settings.providers.values())
    return spends or "client_token_env" in settings.access.model_fields_set


def _is_from_page(head: Head) -> bool:
    """Whether a browser says that a page had this request made."""
    return "origin" in head.headers or head.headers.joined("sec-fetch-site").strip().lower() not in NO_PAGE


def _is_local(head: Head, caller: Caller) -> bool:
    """Whether a program on this machine asks, on behalf of nobody else.

    A page can give its own name this machine's address (DNS rebinding), and its browser then takes the gateway for a
    part of the page's site: no `Origin` on a GET, no fetch metadata. The name it calls the gateway by gives it away.
    Where that is not known, a GET vouches for nobody; a browser's POST always has an `Origin`.
    """
    if caller.is_own or not _is_loopback(caller.peer_ip):
        return False
    return head.method == "POST" if caller.host is None else _names_listener(caller.host, caller)


_HOST = re.compile(r"(?:\[([0-9A-Fa-f:.]{2,45})\]|([^\[\]:/@\s]{1,255}))(?::\d{0,5})?")


def _names_listener(host: str, caller: Caller) -> bool:
    """Whether a `Host` header names loopback or the listener; the port may be that of a tunnel."""
    match = _HOST.fullmatch(host)
    if match is None:
        return False
    name = (match[1] or match[2]).lower().removesuffix(".")
    return name == "localhost" or _is_loopback(name) or (name in caller.listener and not _is_unspecified(name))


def withheld(headers: Headers, provider: Provider, settings: Settings) -> list[str]:
    """The names of the headers that must not go to `provider`.

    All credentials where the gateway puts in a key of its own. Else the client's are the provider's to judge, but the
    gateway's tokens are nobody else's, in whatever header they stand: without them the request goes out bare, which a
    local server takes and any other answers with its own 401.
    """
    held = CREDENTIALS if settings.provider_key(provider) else ()
    own = own_tokens(headers, settings)
    return [*(name for name in held if name in headers), *(name for name in own if name not in held)]


FRAMING = ("content-length", "transfer-encoding")
"""Headers that say where a body ends: a number in them is no token, and a request without them is another one."""


def own_tokens(headers: Headers, settings: Settings) -> list[str]:
    """The names of the headers that hold a token of the gateway's own, or might: clients and tools also put their API
    key into `api-key`, `cookie`, `proxy-authorization`, a session's id."""
    written = _written_tokens(settings)
    return [name for name in headers if name not in FRAMING and _may_hold(name, headers.joined(name), written)]


def without_tokens(headers: Headers, settings: Settings) -> Headers:
    """The headers of which something may be made that leaves."""
    own = own_tokens(headers, settings)
    return headers if not own else headers.without(own)


def _may_hold(name: str, value: str, written: "list[_Written]") -> bool:
    if name in CREDENTIALS and len(value) > MAX_CREDENTIAL:
        return True
    texts = (name, value, *_decoded_basic(value))
    return any(token.is_in(text) for token in written for text in texts)


_BASIC = re.compile(r"(?i)\bbasic[ \t]{1,20}([a-z0-9+/=_-]+)")


def _decoded_basic(value: str) -> Iterator[str]:
    """The `user:password` of basic authentication."""
    for found in _BASIC.finditer(value):
        coded = found[1].rstrip("=").translate({ord("-"): "+", ord("_"): "/"})
        try:
            yield base64.b64decode(coded + "=" * (-len(coded) % 4)).decode("latin-1")
        except binascii.Error:
            continue


def without_own_tokens(text: str, settings: Settings) -> str:
    """A text, such as a URL, with `OWN_TOKEN` for each of the gateway's own tokens in it, percent-encoded ones too."""
    for token in _written_tokens(settings):
        if token.is_in(text):
            text = token.pattern.sub(OWN_TOKEN, text)
    return text


SHORT_TOKEN = 8
"""Characters below which a token counts only as a word of its own: it may well be a part of one."""


class _Written:
    """A token as it may stand in a text: any character of it percent-encoded, also more than once; in any case, since
    HTTP/2 has names of headers in lower case only."""

    def __init__(self, token: str) -> None:
        pattern = "".join(f"(?:{re.escape(character)}|%(?:25)*{ord(character):02x})" for character in token)
        if len(token) < SHORT_TOKEN:
            pattern = f"(?<![A-Za-z0-9]){pattern}(?![A-Za-z0-9])"
        self.pattern = re.compile(pattern, re.IGNORECASE)
        self._token = token.lower()

    def is_in(self, text: str) -> bool:
        # to look for the pattern takes a hundred times as long
        return ("%" in text or self._token in text.lower()) and self.pattern.search(text) is not None


def _written_tokens(settings: Settings) -> list[_Written]:
    tokens = _tokens(settings, settings.access.client_token_env, settings.access.admin_token_env)
    # the longer first: one may be the beginning of the other
    return [_written(token) for token in sorted(tokens, key=len, reverse=True)]


_written = lru_cache(16)(_Written)


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
    if len(value) > MAX_CREDENTIAL:
        return
    for part in (value, *value.split(",")):
        yield re.sub(r"(?i)\A\s*bearer\s+", "", part).strip().encode("utf-8", "surrogateescape")


def _is_loopback(peer_ip: str) -> bool:
    try:
        return ipaddress.ip_address(peer_ip).is_loopback  # from 3.13 on of ::ffff:127.0.0.1 too
    except ValueError:
        return False


def _is_unspecified(name: str) -> bool:
    """0.0.0.0 and the like: a listener's address that is nobody's name, though browsers reach loopback by it."""
    try:
        return ipaddress.ip_address(name).is_unspecified
    except ValueError:
        return False
