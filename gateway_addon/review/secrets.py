"""Secrets in what was sent and received: where each was first seen, and to which hosts it went how often."""

import hashlib
import hmac
import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence

from gateway_addon import detectors
from gateway_addon.api import KINDS, conversation_members
from gateway_addon.api.base import ApiKind, Json
from gateway_addon.captures.escapes import Span, replaced
from gateway_addon.captures.finder import Finder
from gateway_addon.captures.known import Known, spellings
from gateway_addon.credentials import (
    ASSIGNED,
    AWS_SECRET,
    CREDENTIAL,
    ENV_LINE,
    ENVIRONMENT,
    SHAPES,
    environment_secrets,
    is_no_word,
)
from gateway_addon.review.findings import SEVERITIES, Finding, Place
from gateway_addon.store import bodies, evidence
from gateway_addon.store.database import Database
from gateway_addon.wire import jsontext

SEVERITY = {
    **dict.fromkeys(detectors.KINDS, "medium"),
    **dict.fromkeys(SHAPES, "high"),
    "private_key": "high",
    ENVIRONMENT: "high",
    ENV_LINE: "high",
    # names an account, or ends by itself after a while
    "aws_key_id": "medium",
    "jwt": "medium",
    # known by what stands in front of them: URLs and JSON members, ...
    CREDENTIAL: "medium",
    # ... and anything that looks like an assignment
    ASSIGNED: "low",
    AWS_SECRET: "medium",
}
"""By kind of secret. What was never sent is no more than `info`."""

# in documentation and examples
_STAND_IN = re.compile(
    r"(?i)^[<{$%]|example|your[_-]|change_?me|placeholder|dummy|redacted|x{4}|\*{3}|\.{3}|1234567|abcdefg"
)
_MIN_CHARACTERS = 5


def find(db: Database, environment: Mapping[str, str]) -> dict[str, str]:
    """The secrets in all stored texts, and the kind of each."""
    return find_in((text for _, text in evidence.texts(db)), environment)


def find_in(texts: Iterable[str], environment: Mapping[str, str]) -> dict[str, str]:
    """The secrets in these texts, and the kind of each; of two kinds the graver. Each text is looked through once."""
    finder = Finder(b"", known=environment_secrets(environment))
    for text in texts:
        finder.find(text)
    found = finder.kinds
    for token, kind in finder.tokens.items():
        found[token] = max(found.get(token, kind), kind, key=_gravity)
    return _distinct({secret: kind for secret, kind in found.items() if _is_real(secret, kind)})


def findings(db: Database, known: Mapping[str, str]) -> Iterable[Finding]:
    """A finding per secret that `find` has found."""
    key = evidence.review_key(db)
    places = _places(db, known)
    for secret, kind in known.items():
        calls = evidence.calls_with(db, places[secret])
        if not calls:
            continue
        hosts = Counter(call["upstream_host"] for call in calls if call["was_sent"])
        yield Finding(
            rule=kind,
            severity=SEVERITY[kind] if hosts else "info",
            what=mask(secret),
            fingerprint=hmac.new(key, secret.encode("utf-8", "replace"), hashlib.sha256).hexdigest()[:16],
            first_seen=_first_seen(db, calls[0], secret),
            count=hosts.total(),
            hosts=dict(hosts),
        )


def mask(secret: str) -> str:
    """Enough of a secret to know it again, for who has it: of a long one the first 4 and the last 2 characters."""
    first, last = min(4, len(secret) // 4), min(2, len(secret) // 8)
    return f"{secret[:first]}…{secret[len(secret) - last :]}"


def masker(known: Iterable[str]) -> Callable[[str], str]:
    """A function that masks the secrets in a text."""
    anywhere = _anywhere(known)
    return lambda text: replaced(
        text, (Span(start, end, mask(secret)) for start, end, secret in anywhere.finditer(text))
    )


def _gravity(kind: str) -> int:
    return SEVERITIES.index(SEVERITY[kind])


def _is_real(secret: str, kind: str) -> bool:
    if kind == ENVIRONMENT:
        return True
    if not is_no_word(secret) or len(set(secret)) < _MIN_CHARACTERS or _STAND_IN.search(secret):
        return False
    # where code assigns, a word is a name
    return kind != ASSIGNED or any(map(str.isdigit, secret))


def _distinct(found: Mapping[str, str]) -> dict[str, str]:
    """Each secret once: not also as a JSON string writes it, nor with what stands beside a token of known shape."""
    written = {spelling for secret in found for spelling in spellings(secret) - {secret}}
    tokens = Known({secret: secret for secret, kind in found.items() if kind in SHAPES})
    return {
        secret: kind
        for secret, kind in found.items()
        if secret not in written and (kind in SHAPES or not any(tokens.finditer(secret)))
    }


def _anywhere(known: Iterable[str]) -> Known:
    return Known({spelling: secret for secret in known for spelling in spellings(secret)} | {one: one for one in known})


def _places(db: Database, known: Iterable[str]) -> dict[str, list[evidence.TextId]]:
    """The texts each secret is in, whatever gave it away there or elsewhere."""
    anywhere = _anywhere(known)
    places = defaultdict(list)
    for text_id, text in evidence.texts(db):
        for secret in {found.secret for found in anywhere.finditer(text)}:
            places[secret].append(text_id)
    return places


def _first_seen(db: Database, call: evidence.Row, secret: str) -> Place:
    where = (call["id"], call["started_at"], evidence.turn(db, call["id"]))
    body = _body(db, call["id"]) if call["in_request"] else None
    if body is not None:
        before = bodies.elements(db, call["conversation_tip_id"]) if call["conversation_tip_id"] else []
        return Place(*where, *_place_in_request(KINDS[call["api_kind"]], body, before, secret))
    for text in evidence.texts_of(db, call["id"]):
        if _holds(text["text"], secret):
            return Place(*where, text["place"], text["tool"], text["call_id"])
    return Place(*where, "request")


def _body(db: Database, request_id: str) -> Json | None:
    try:
        body = bodies.load_body(db, request_id)
    except bodies.DamagedError:
        # `verify` reports it; the texts themselves have been found
        return None
    return None if body is None else jsontext.parse_object(body)


def _place_in_request(
    kind: ApiKind, body: Json, conversation: Sequence[str], secret: str
) -> tuple[str, str | None, str | None]:
    """Place, tool and call id of the first part of a request that holds a secret.

    `conversation`: the JSON texts of the body's messages or items. Of those the history is cut behind the first one
    with the secret, so that it reads as it did when that was new.
    """
    end = next((n for n, element in enumerate(conversation, start=1) if _holds(element, secret)), None)
    members = {name: body[name] for name in conversation_members() if name in body}
    facts = kind.read_request(body | {name: items[:end] for name, items in members.items() if isinstance(items, list)})
    for result in facts.tool_results:
        if _holds(result.content, secret):
            return "tool result", result.name, result.call_id
    if _holds(facts.user_prompt, secret):
        return "user prompt", None, None
    if _holds(facts.system_prompt, secret):
        return "system prompt", None, None
    return "request", None, None


def _holds(text: str | None, secret: str) -> bool:
    return text is not None and any(spelling in text for spelling in spellings(secret))
