"""Secrets in what was sent and received: where each was first seen, what brought it, to which hosts it went how often,
and which tool arguments carried it out."""

import hashlib
import hmac
import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from gateway_addon.api import KINDS, conversation_members
from gateway_addon.api.base import ApiKind, Json
from gateway_addon.captures.escapes import Span, replaced
from gateway_addon.captures.finder import Finder
from gateway_addon.captures.known import Known as Spellings
from gateway_addon.captures.known import spellings
from gateway_addon.credentials import (
    ASSIGNED,
    CREDENTIAL,
    ENVIRONMENT,
    SHAPES,
    assigned_name,
    environment_secrets,
    holds_secret,
    is_no_word,
)
from gateway_addon.review import reach
from gateway_addon.review.findings import Finding, Link, Place, short
from gateway_addon.review.timeline import Step, Timeline
from gateway_addon.review.worth import gravity, worth
from gateway_addon.store import bodies, evidence
from gateway_addon.store.database import Database
from gateway_addon.store.evidence import Row, TextId
from gateway_addon.store.passages import Passages
from gateway_addon.wire import jsontext
from gateway_addon.wire.packed import unpacked

# in documentation and examples
_STAND_IN = re.compile(
    r"(?i)^[<{$%]|example|your[_-]|change_?me|placeholder|dummy|redacted|x{4}|\*{3}|\.{3}|1234567|abcdefg"
)
_MIN_CHARACTERS = 5

PASSAGES = "passages"
"""The table, in a `TextId`, of what is in no database."""

_MAX_CALLS = 20
"""Calls that a link names."""
_AROUND = 60
"""Characters of a line on either side of a secret."""


class Known(NamedTuple):
    """The secrets that were found."""

    kinds: dict[str, str]
    """In texts, with the kind of each."""
    shown: dict[str, list[int]]
    """Those that stand nowhere but in heads, in the fields that are made for them; and the texts they are in."""


def find(db: Database, passages: Passages, environment: Mapping[str, str]) -> Known:
    """The secrets in all that is stored."""
    heads = list(passages.texts(heads=True))
    # what stands in a field that is not made for credentials is a text like others
    others = ("\n".join(line for line, is_shown in _lines(head) if not is_shown) for _, head in heads)
    kinds = find_in((text for texts in (_texts(db, passages), others) for text in texts), environment)
    shown: defaultdict[str, list[int]] = defaultdict(list)
    for text_id, head in heads:
        for line, is_shown in _lines(head):
            if is_shown:
                name, _, value = line.partition(": ")
                finder = Finder(b"")
                finder.header(name.lower(), value)
                for secret in finder.kinds:
                    if secret not in kinds and _is_real(secret, CREDENTIAL):
                        shown[secret].append(text_id)
    return Known(kinds, dict(shown))


def find_in(texts: Iterable[str], environment: Mapping[str, str]) -> dict[str, str]:
    """The secrets in these texts, and the kind of each; of two kinds the graver. Each text is looked through once."""
    finder = Finder(b"", known=environment_secrets(environment))
    for text in texts:
        finder.find(text)
    found = finder.kinds
    for token, kind in finder.tokens.items():
        found[token] = max(found.get(token, kind), kind, key=gravity)
    return _distinct({secret: kind for secret, kind in found.items() if _is_real(secret, kind)})


def findings(db: Database, passages: Passages, timeline: Timeline, known: Known, key: bytes) -> Iterator[Finding]:
    """A finding per secret that `find` has found in texts. `key`: of the fingerprints."""
    traces = _traces(db, passages, known.kinds)
    _follow(timeline, traces)
    masked = masker(known.kinds)
    for secret, kind in known.kinds.items():
        trace = traces[secret]
        calls = evidence.calls_with(db, [place for place in trace.texts if place[0] != PASSAGES])
        flows = passages.holders([int(row) for table, row in trace.texts if table == PASSAGES])
        # what a call's own flow says as well is the call's
        ids = {re.split("[/~]", call["id"])[0] for call in calls}
        others = [flow for flow in flows if flow["id"] not in ids]
        if not calls and not others:
            continue
        sent = [(row["started_at"], row["id"], row["upstream_host"]) for row in calls if row["was_sent"]]
        sent += sorted({(row["started_at"], row["id"], row["host"] or "") for row in others if row["was_sent"]})
        hosts = Counter(host for _, _, host in sent)
        severity, opens = worth(kind, trace.name)
        carried_out = any(step.action and reach.reaches_out(step.action) for step in trace.carried)
        yield Finding(
            rule=kind,
            severity=_severity(severity, was_sent=bool(hosts), carried_out=carried_out),
            what=mask(secret),
            fingerprint=hmac.new(key, secret.encode("utf-8", "replace"), hashlib.sha256).hexdigest()[:16],
            first_seen=_first_seen(db, timeline, calls, others, secret),
            count=hosts.total(),
            hosts=dict(hosts),
            name=trace.name,
            opens=opens,
            context=trace.context and masked(trace.context),
            chain=tuple(_chain(trace, sorted(sent), hosts, timeline, masked)),
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


def _severity(by_worth: str, *, was_sent: bool, carried_out: bool) -> str:
    if carried_out:
        return "high"
    return by_worth if was_sent else "info"


def _is_real(secret: str, kind: str) -> bool:
    if kind == ENVIRONMENT:
        return True
    # a detector takes the end of any text in base64 for a key, wherever it begins in it
    if kind == "azure_storage_key" and any(any(unpacked(secret[start:])) for start in range(4)):
        return False
    if not is_no_word(secret) or len(set(secret)) < _MIN_CHARACTERS or _STAND_IN.search(secret):
        return False
    # where code assigns, a word is a name
    return kind != ASSIGNED or any(map(str.isdigit, secret))


def _distinct(found: Mapping[str, str]) -> dict[str, str]:
    """Each secret once: not also as a JSON string writes it, nor with what stands beside a token of known shape."""
    written = {spelling for secret in found for spelling in spellings(secret) - {secret}}
    tokens = Spellings({secret: secret for secret, kind in found.items() if kind in SHAPES})
    return {
        secret: kind
        for secret, kind in found.items()
        if secret not in written and (kind in SHAPES or not any(tokens.finditer(secret)))
    }


def _anywhere(known: Iterable[str]) -> Spellings:
    known = list(known)
    return Spellings(
        {spelling: secret for secret in known for spelling in spellings(secret)} | {one: one for one in known}
    )


def _texts(db: Database, passages: Passages) -> Iterator[str]:
    yield from (text for _, text in evidence.texts(db))
    yield from (text for _, text in passages.texts(heads=False))


def _lines(head: str) -> Iterator[tuple[str, bool]]:
    """The lines of a head, and whether each is a field that is made for a credential."""
    for number, line in enumerate(head.split("\n")):
        name, colon, value = line.partition(": ")
        yield line, bool(number and colon) and holds_secret(name.lower(), value)


@dataclass(slots=True)
class _Trace:
    """Where a secret stands."""

    texts: list[TextId] = field(default_factory=list)
    name: str | None = None
    context: str | None = None
    brought: Step | None = None
    """What was said first with it."""
    carried: list[Step] = field(default_factory=list)
    """Tool calls with it in their arguments."""


def _traces(db: Database, passages: Passages, known: Iterable[str]) -> dict[str, _Trace]:
    """The texts each secret is in, whatever gave it away there or elsewhere."""
    anywhere = _anywhere(known)
    traces = {secret: _Trace() for secret in known}
    for text_id, text in evidence.texts(db):
        _note(traces, anywhere, text_id, text)
    for heads in (True, False):
        for number, text in passages.texts(heads=heads):
            _note(traces, anywhere, (PASSAGES, number), text)
    return traces


def _note(traces: Mapping[str, _Trace], anywhere: Spellings, text_id: TextId, text: str) -> None:
    seen = set()
    for piece in (text, *unpacked(text)):
        for start, end, secret in anywhere.finditer(piece):
            trace = traces[secret]
            if secret not in seen:
                seen.add(secret)
                trace.texts.append(text_id)
            if trace.name is None:
                trace.name = assigned_name(piece, start)
                # the line that names it tells most
                if trace.context is None or trace.name:
                    trace.context = _line(piece, start, end)


def _line(text: str, start: int, end: int) -> str:
    first = max(text.rfind("\n", 0, start) + 1, start - _AROUND)
    last = text.find("\n", end, end + _AROUND)
    return text[first : last if last >= 0 else end + _AROUND].strip()


def _follow(timeline: Timeline, traces: Mapping[str, _Trace]) -> None:
    """Find what said each secret first, and the tools whose arguments have it."""
    if not traces:
        return
    anywhere = _anywhere(traces)
    for step in timeline.steps():
        pieces = (step.text, *unpacked(step.text))
        for secret in {found.secret for piece in pieces for found in anywhere.finditer(piece)}:
            trace = traces[secret]
            if trace.brought is None or step.place.started_at < trace.brought.place.started_at:
                trace.brought = step
            if step.action and not step.is_result:
                trace.carried.append(step)


def _chain(
    trace: _Trace,
    sent: Sequence[tuple[str, str, str]],
    hosts: Mapping[str, int],
    timeline: Timeline,
    masked: Callable[[str], str],
) -> Iterator[Link]:
    if step := trace.brought:
        yield Link(step="brought", place=step.place, what=short(masked(step.action.arguments if step.action else "")))
    if sent:
        started_at, call, _ = sent[0]
        yield Link(
            step="sent",
            place=Place(call, started_at, timeline.turns.get(call), "request"),
            count=len(sent),
            hosts=dict(hosts),
            calls=tuple(call for _, call, _ in sent[:_MAX_CALLS]),
        )
    for step in trace.carried:
        assert step.action
        text = reach.command_of(step.action.arguments) or step.action.arguments
        yield Link(step="carried", place=step.place, what=short(masked(text)), hosts=dict(reach.hosts_in(text)))


def _first_seen(db: Database, timeline: Timeline, calls: Sequence[Row], flows: Sequence[Row], secret: str) -> Place:
    first = next(iter(flows), None)
    if first and (not calls or first["started_at"] < calls[0]["started_at"]):
        return Place(first["id"], first["started_at"], None, first["place"])
    call = calls[0]
    body = _body(db, call["id"]) if call["in_request"] else None
    if body is not None:
        before = bodies.elements(db, call["conversation_tip_id"]) if call["conversation_tip_id"] else []
        return timeline.place(call, *_place_in_request(KINDS[call["api_kind"]], body, before, secret))
    for text in evidence.texts_of(db, call["id"]):
        if _holds(text["text"], secret):
            return timeline.place(call, text["place"], text["tool"], text["call_id"])
    return timeline.place(call, "request")


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
