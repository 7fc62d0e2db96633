"""Finding secrets in texts, and the placeholders that take their place. No I/O.

Texts are taken apart as they are: JSON, also where it is packed in strings (`MAX_DEPTH`); the deltas of a stream, over
which a secret may be spread. What secrets look like, `gateway_addon.credentials` knows.
"""

import hashlib
import hmac
import re
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator, Mapping
from functools import lru_cache
from typing import Any, NamedTuple
from urllib.parse import unquote

from gateway_addon import detectors
from gateway_addon.api import KINDS
from gateway_addon.captures.escapes import LITERAL, Span, Unescaped, merged, replaced, strings, unescaped
from gateway_addon.captures.known import Known, spellings
from gateway_addon.credentials import (
    CREDENTIAL,
    ENVIRONMENT,
    HEADER_SECRETS,
    MIN_LENGTH,
    NO_SECRET,
    SCHEME,
    SecretRule,
    are_digits,
    basic_password,
    holds_secret,
    is_value,
    kind_of,
    may_be_credential,
    secrets_in,
)
from gateway_addon.wire import jsontext
from gateway_addon.wire.packed import MIN_BASE64, runs

CACHED_STRINGS = 4096
"""How many strings are known to have been searched, of at most `CACHED_LENGTH` characters each."""
CACHED_LENGTH = 32 * 1024

MAX_DEPTH = 8
"""How deep JSON may be packed in strings. Each time is a further look at the text, and a hostile one has no end."""


def read_rules(document: Mapping[str, Any]) -> list[SecretRule]:
    """The rules of a parsed rule file: `[[rules]]` tables with a `name` (it becomes the kind) and a `regex`.

    A group `(?P<secret>...)` narrows a match down to the secret in it. Raises ValueError, one line, for anything else.
    """
    tables = document.get("rules")
    if not isinstance(tables, list) or document.keys() != {"rules"}:
        raise ValueError("a rule file holds [[rules]] tables and nothing else")
    return [_read_rule(number, table) for number, table in enumerate(tables, start=1)]


def _read_rule(number: int, table: object) -> SecretRule:
    match table:
        case {"name": str(name), "regex": str(regex), **others} if not others:
            if not re.fullmatch(r"[\w.-]+", name):
                raise ValueError(f"rule {number}: a name has letters, digits, '.', '_' and '-' only, not {name!r}")
            try:
                compiled = re.compile(regex)
            except re.error as error:
                raise ValueError(f"rule {name!r}: bad regex: {error}") from error
            if compiled.search(""):
                raise ValueError(f"rule {name!r}: the regex matches the empty text")
            return SecretRule(name, compiled)
    raise ValueError(f"rule {number}: expected a table with the strings `name` and `regex`")


class Finder:
    """Finds secrets in texts and replaces them by `[redacted:KIND:8 hex digits]`.

    `key` makes the digits: the same key and secret give the same placeholder, and nobody without the key can check a
    guess. `rules` are looked for besides the built-in ones, and `known` secrets (`environment_secrets`) everywhere. A
    credential that was found in one text is looked for in all that come after `prepare`.
    """

    def __init__(self, key: bytes, rules: Iterable[SecretRule] = (), known: Iterable[str] = ()) -> None:
        self._key = key
        self._rules = tuple(rules)
        # what a user's rule finds may be a word
        self._own_kinds = {rule.kind for rule in self._rules}
        self._shortest = 1 if self._rules else MIN_LENGTH
        self._kinds: dict[str, str] = {}  # by secret; the kind it was first found as stays
        self._placeholders: dict[str, str] = {}
        self._spellings: dict[str, str] = {}  # the secrets that are looked for everywhere, by each way to write them
        self._looked_for: set[str] = set()
        self._prepared_for = -1
        self.tokens: dict[str, str] = {}
        """What the detectors of the extra have found, with their kinds for it."""
        for secret in known:
            self._look_for(secret)
            self._kinds[secret] = ENVIRONMENT
        self.prepare()

    @property
    def kinds(self) -> dict[str, str]:
        """The secrets found so far: the kind each was first found as."""
        return {secret: self._kinds[secret] for secret in self._placeholders}

    def prepare(self) -> None:
        """Look everywhere for what was found so far."""
        if self._prepared_for == len(self._spellings):
            return
        self._prepared_for = len(self._spellings)
        self._anywhere = Known(self._spellings)
        # agents send their whole conversation again with every call
        self._find_in_string_again = lru_cache(CACHED_STRINGS)(self._find_in_string)

    def text(self, text: str) -> str:
        """A text without its secrets."""
        return replaced(text, self.find(text))

    def header(self, name: str, value: str) -> str:
        """The value of a header (name in lower case) without its secrets."""
        if not holds_secret(name, value):
            return self.text(value)
        if (password := basic_password(value)) and is_value(password, CREDENTIAL):
            self._look_for(password)
        where = HEADER_SECRETS.get(name, SCHEME)
        return replaced(value, [*self._credentials(value, where), *self.find(value)])

    def whole(self, text: str, kind: str) -> str:
        """The placeholder for something that nobody can look into."""
        return self._placeholder(text, kind)

    def events(self, texts: list[str]) -> list[str]:
        """The texts of consecutive events, also without the secrets that are spread over the deltas of one block."""
        spans: list[list[Span]] = [[] for _ in texts]
        for pieces in deltas(texts):
            if len(pieces) > 1:
                for number, span in self._find_across(pieces):
                    spans[number].append(span)
        return [replaced(text, [*across, *self.find(text)]) for text, across in zip(texts, spans, strict=True)]

    def _find_across(self, pieces: list["Piece"]) -> Iterator[tuple[int, Span]]:
        """Secrets in the joined text of the pieces: number of the event, and what to replace there."""
        starts = [0]
        for piece in pieces:
            starts.append(starts[-1] + len(piece.inside.text))
        for span in merged(self.find("".join(piece.inside.text for piece in pieces))):
            for n in range(bisect_right(starts, span.start) - 1, bisect_right(starts, span.end - 1)):
                piece, begin = pieces[n], starts[n]
                start, end = max(span.start, begin), min(span.end, starts[n + 1])
                if start < end:
                    # the first piece gets the placeholder, the others only lose their part
                    new = span.new if start == span.start else ""
                    inside = piece.inside
                    yield piece.event, Span(inside.position(start - begin), inside.position(end - begin), new)

    def find(self, text: str, depth: int = MAX_DEPTH) -> list[Span]:
        """What to replace in a text; spans may overlap. JSON is taken apart, up to `depth` times packed in strings."""
        if _is_json(text):
            return list(self._find_in_json(text, depth))
        spans = list(self._search(text, depth))
        if depth and "\\" in text:
            inside = unescaped(text)
            if len(inside.text) < len(text):
                spans += (inside.outside(span) for span in self.find(inside.text, depth - 1))
        return spans

    def _find_in_json(self, text: str, depth: int) -> Iterator[Span]:
        name, value_at = "", 0
        for literal in LITERAL.finditer(text):
            start, source = literal.start("string"), literal["string"]
            if name and may_be_credential(name) and not text[value_at : literal.start()].strip():
                inside = unescaped(source)
                if holds_secret(name, inside.text):
                    yield from (inside.outside(span).moved(start) for span in self._credentials(inside.text, SCHEME))
            if len(source) >= self._shortest:
                find = self._find_in_string_again if len(source) <= CACHED_LENGTH else self._find_in_string
                yield from [span.moved(start) for span in find(source, depth)]
            name, value_at = (source, literal.end()) if literal["colon"] else ("", 0)

    def _find_in_string(self, source: str, depth: int) -> list[Span]:
        """`find` for a JSON string, as it is written between its quotes."""
        if "\\" not in source:
            return self.find(source, depth - 1) if depth else list(self._search(source, 0))
        inside = unescaped(source)
        found = self.find(inside.text, depth - 1) if depth else self._search(inside.text, 0)
        return [inside.outside(span) for span in found]

    def _search(self, text: str, depth: int) -> Iterator[Span]:
        yield from (plain := list(self._search_plain(text)))
        if depth and len(text) >= MIN_BASE64:
            yield from self._search_packed(text, plain, depth - 1)

    def _search_packed(self, text: str, plain: list[Span], depth: int) -> Iterator[Span]:
        """In what base64 and percent-encoding stand for, which is packed again without its secrets."""
        starts = sorted(span.start for span in plain)
        for run in runs(text):
            found = self.find(run.text, depth)
            # what was found as it stands there keeps its neighbours as they are
            if found and bisect_left(starts, run.start) == bisect_left(starts, run.end):
                yield Span(run.start, run.end, run.packed(replaced(run.text, found)))

    def _search_plain(self, text: str) -> Iterator[Span]:
        for kind, regex in self._rules:
            for found in regex.finditer(text):
                group = "secret" if "secret" in regex.groupindex else 0
                yield from self._spans(text, *found.span(group), kind)
        for kind, start, end in secrets_in(text):
            yield from self._spans(text, start, end, kind)
        if tokens := detectors.tokens(text):
            self.tokens |= tokens
            for start, end, token in Known({token: token for token in tokens}).finditer(text):
                yield from self._spans(text, start, end, tokens[token])
        for start, end, secret in self._anywhere.finditer(text):
            yield Span(start, end, self._placeholder(secret, CREDENTIAL))

    def _credentials(self, text: str, where: re.Pattern[str]) -> Iterator[Span]:
        for found in where.finditer(text):
            yield from self._spans(text, *found.span("secret"), CREDENTIAL)

    def _spans(self, text: str, start: int, end: int, kind: str) -> Iterator[Span]:
        found = text[start:end]
        if not found or NO_SECRET.fullmatch(found) or are_digits(text, start):
            return
        # in a URL it may be written in another way than elsewhere
        secret = unquote(found)
        if is_value(secret, kind) and kind not in self._own_kinds:
            self._look_for(secret)
        yield Span(start, end, self._placeholder(secret, kind))

    def _look_for(self, secret: str) -> None:
        if secret not in self._looked_for:
            self._looked_for.add(secret)
            # what is a secret itself stays one
            for spelling in spellings(secret):
                self._spellings.setdefault(spelling, secret)
            # what is a secret itself is no other's spelling
            self._spellings[secret] = secret

    def _placeholder(self, secret: str, kind: str) -> str:
        if secret not in self._placeholders:
            kind = self._kinds.setdefault(secret, kind)
            digest = hmac.new(self._key, secret.encode("utf-8", "surrogatepass"), hashlib.sha256)
            self._placeholders[secret] = f"[redacted:{kind_of(secret, kind)}:{digest.hexdigest()[:8]}]"
        return self._placeholders[secret]


class Piece(NamedTuple):
    """A string in an event that continues the one of an earlier event."""

    event: int
    inside: Unescaped


def deltas(texts: list[str]) -> Iterable[list[Piece]]:
    """The strings that go on where an earlier event's ended, in any kind's events, by the block they belong to."""
    delta_members = {name for kind in KINDS.values() for name in kind.DELTA_MEMBERS}
    block_members = sorted({name for kind in KINDS.values() for name in kind.BLOCK_MEMBERS})
    blocks: dict[tuple[str, ...], list[Piece]] = {}
    for number, text in enumerate(texts):
        has_delta = any(f'"{name}"' in text for name in delta_members)
        if has_delta and (event := jsontext.parse_object(text)) is not None:
            block = tuple(str(event.get(name)) for name in block_members)
            for place, start, end in strings(text, 0, ()):
                if not delta_members.isdisjoint(place):
                    blocks.setdefault(block + place, []).append(Piece(number, unescaped(text, start, end)))
    return blocks.values()


_JSON_BEGINS = re.compile(r"[\ufeff \t\r\n]*+[{\[\"]")


def _is_json(text: str) -> bool:
    if not _JSON_BEGINS.match(text):
        return False
    try:
        jsontext.parse(text)
    except ValueError:
        return False
    return True
