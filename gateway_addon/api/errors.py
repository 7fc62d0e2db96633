"""Reading errors, whatever shape a provider gives them."""

import html
import re
from itertools import chain

from gateway_addon.api.base import Json, Problem
from gateway_addon.api.prompts import clean
from gateway_addon.api.values import count, items, mapping, objects, text
from gateway_addon.credentials import ECHOED
from gateway_addon.wire import jsontext

MAX_MESSAGE = 2_000
"""Characters of an error text that are kept."""

STATUS_OF_TYPE = {
    # Anthropic: "Errors", HTTP errors
    "invalid_request_error": 400,
    "authentication_error": 401,
    "billing_error": 402,
    "permission_error": 403,
    "not_found_error": 404,
    "conflict_error": 409,
    "request_too_large": 413,
    "rate_limit_error": 429,
    "api_error": 500,
    "timeout_error": 504,
    "overloaded_error": 529,
    # OpenAI: "Error codes"
    "context_length_exceeded": 400,
    "invalid_api_key": 401,
    "model_not_found": 404,
    "unsupported_image_media_type": 415,
    "insufficient_quota": 429,
    "usage_limit_reached": 429,
    "slow_down": 503,
    # Google: google.rpc.Code
    "failed_precondition": 400,
    "out_of_range": 400,
    "unauthenticated": 401,
    "permission_denied": 403,
    "aborted": 409,
    "already_exists": 409,
    "resource_exhausted": 429,
    "internal": 500,
    "unimplemented": 501,
    "deadline_exceeded": 504,
}
"""What providers call an error (its type, code or status word) and the HTTP status they send with it, in lower case."""

STATUS_IN_TYPE = {
    "bad_request": 400,
    "unauthorized": 401,
    "payment_required": 402,
    "forbidden": 403,
    "not_found": 404,
    "too_large": 413,
    "rate_limit": 429,
    "too_many_requests": 429,
    "server_error": 500,
    "internal_error": 500,
    "bad_gateway": 502,
    "overloaded": 503,
    "unavailable": 503,
    "timeout": 504,
    "invalid_": 400,
}
"""What other names say by a part of theirs; the first that is in a name holds."""


def is_known_type(name: str | None) -> bool:
    """Whether an error's type is one of the usual ones, not words of the moment."""
    if name is None or not re.fullmatch(r"[\w.-]{1,64}", name, re.ASCII):
        return False
    known = {*STATUS_OF_TYPE, *STATUS_IN_TYPE, *OWN_TYPES}
    return not known.isdisjoint({name.lower(), name.lower().removesuffix("_error")})


OWN_TYPES = ("timeout", "dns", "connect", "tls", "killed")
"""What the addon calls it when a connection fails."""


def read_error(body: object, name: str = "") -> Problem | None:
    """The error that a whole body or a stream event's data reports; None if it reports none.

    `name` is the event's `event:` name. An `error` that is null, false or empty is none; without one, only an object
    that calls itself an error is one, so that a good answer is never taken for one. Google wraps what it reports into
    a list.
    """
    if isinstance(body, list):
        return next(filter(None, (read_error(element, name) for element in objects(body))), None)
    if not isinstance(body, dict):
        return None
    error = body.get("error")
    if isinstance(error, list):
        error = next(iter(error), None)
    if isinstance(error, dict) and error:
        return _problem(error, beside=body)
    if isinstance(error, str) and error:
        return _problem({"message": error} | {key: body.get(key) for key in ("code", "error_type")})
    calls_itself_error = "error" in (body.get("type", name), body.get("object"))
    if calls_itself_error or (name == "error" and text(body.get("message"))):
        return _problem(body)
    return None


def read_error_body(body: object) -> Problem | None:
    """The error in the parsed JSON body of an answer with an HTTP error status (≥ 400); None in no known shape.

    Knows, beyond `read_error`, the shapes that only the status tells from a good answer: FastAPI's `detail` and
    Bedrock's bare `message`.
    """
    if isinstance(body, list):
        return next(filter(None, map(read_error_body, objects(body))), None)
    if problem := read_error(body):
        return problem
    error = mapping(body)
    detail = error.get("detail")
    if isinstance(detail, dict):
        return read_error(detail) or _problem(detail)
    problem = _problem(error | {"message": _detail_text(detail) or error.get("message")})
    return None if problem == Problem() else problem


def error_text(raw: bytes) -> Problem:
    """The error in a body that is no JSON: plain text, or what an HTML page shows."""
    # More than is kept, as tags and secrets will go; less than takes time
    content = raw[: 20 * MAX_MESSAGE].decode("utf-8", "replace").strip()
    if content.startswith("<"):
        content = _visible_text(content)
    return Problem(message=bounded(content) or None)


def merge(first: Problem | None, later: Problem | None) -> Problem | None:
    """The first error, completed by what a later report of it adds."""
    if first is None or later is None:
        return first or later
    return Problem(
        message=first.message or later.message,
        type=first.type or later.type,
        status=first.status or later.status,
    )


def bounded(message: str) -> str:
    """An error text fit to be stored: cleaned, without credentials (a provider may echo a key), at most `MAX_MESSAGE`
    characters."""
    message = clean(message[: 20 * MAX_MESSAGE])
    return ECHOED.sub(lambda secret: f"{secret['label'] or ''}<secret>", message)[:MAX_MESSAGE]


def _problem(error: Json, beside: Json | None = None) -> Problem:
    """An error object's problem; `beside` is the object around it, which may hold the status (WebSocket events)."""
    metadata, code, state = mapping(error.get("metadata")), error.get("code"), error.get("status")
    names = [
        name
        for name in map(text, (error.get("type"), error.get("error_type"), metadata.get("error_type"), code, state))
        # "error" is the envelope of a flat error, not a type
        if name and name != "error" and count(name) is None
    ]
    kind = names[0] if names else None
    numbers = map(count, (code, state, mapping(beside).get("status")))
    status = next((number for number in numbers if number and 400 <= number <= 599), None) or _status_of(names)
    message = text(error.get("message"))
    upstream = ": ".join(filter(None, (text(metadata.get("provider_name")), _upstream_text(metadata.get("raw")))))
    if upstream:
        message = f"{message} ({upstream})" if message else upstream
    return Problem(message=bounded(message) if message else None, type=bounded(kind) if kind else None, status=status)


def _status_of(names: list[str]) -> int | None:
    """The HTTP status that the names of an error, from the general to the particular, stand for."""
    known = [name.lower() for name in reversed(names)]
    exact = (STATUS_OF_TYPE.get(name) for name in known)
    said = (status for name in known for part, status in STATUS_IN_TYPE.items() if part in name)
    return next(filter(None, chain(exact, said)), None)


def _upstream_text(raw: object) -> str | None:
    """The message in OpenRouter's `metadata.raw`: an object or a text, which is often JSON itself."""
    body = mapping(jsontext.parse_object(raw) if isinstance(raw, str) else raw)
    error = body.get("error")
    return text(error) or text(mapping(error).get("message")) or text(body.get("message")) or text(raw)


def _detail_text(detail: object) -> str | None:
    """FastAPI's `detail`: a text, or a list of validation errors with the place (`loc`) of each."""
    if isinstance(detail, str):
        return detail
    lines = []
    for error in objects(detail):
        place = ".".join(str(step) for step in items(error.get("loc")) if isinstance(step, str | int))
        lines.append(": ".join(filter(None, (place, text(error.get("msg"))))))
    return "; ".join(filter(None, lines)) or None


_MARKUP = re.compile(r"<(?P<tag>/?[a-zA-Z]*)[^<>]*>|(?P<shown>[^<]+|<)")


def _visible_text(page: str) -> str:
    """The title and text of an HTML page in their order; a line that repeats an earlier one (as headings do) once."""
    lines: dict[str, None] = {}
    hidden_by = ""
    for token in _MARKUP.finditer(page):
        tag = (token["tag"] or "").lower()
        if hidden_by:
            if tag == f"/{hidden_by}":
                hidden_by = ""
        elif tag in ("script", "style"):
            hidden_by = tag
        elif shown := " ".join(html.unescape(token["shown"] or "").split()):
            lines[shown] = None
    return " ".join(lines)
