"""The gateway's own secrets masked, at equal length, wherever they stand and however they are written. No I/O.

An upstream may echo the key it was sent, in any place and any spelling, and a client may show its token where nobody
looks for it. What goes to disk or console passes a `Mask` last.
"""

import re
from base64 import b64encode
from collections.abc import Collection, Iterable, Sequence
from dataclasses import fields, is_dataclass, replace
from itertools import groupby
from operator import is_, itemgetter
from typing import Any, NamedTuple

from gateway_addon.credentials import is_no_word

LONG = 16 * 1024
"""Bytes from which on they are worth being remembered."""


class Mask:
    """Replaces secrets by as many asterisks: in texts, in bytes, and in values made of them.

    Every method returns what it was given, the same object, where there is no secret in it. A secret that may be a
    plain word (`credentials.is_no_word`) is left alone: to mask it everywhere would damage what is stored.

    Known spellings: as it is; with any of its characters escaped as in JSON, however deep that is packed in strings,
    percent-encoded, or as a numeric HTML entity; in base64, as Basic credentials are; bytes also in UTF-16.
    """

    def __init__(self, secrets: Iterable[str] = ()) -> None:
        known = sorted({secret for secret in secrets if is_no_word(secret)}, key=len, reverse=True)
        self._literals = list(dict.fromkeys(spelling for one in known for spelling in (one, *in_base64(one.encode()))))
        wide = [(one.encode(code), "*".encode(code)) for code in _WIDE for one in known]
        self._literals_bytes = [*((spelling.encode(), b"*") for spelling in self._literals), *wide]
        self._spellings = _Spellings.of(known)
        self._spellings_bytes = self._spellings.in_bytes()
        self._clean = b""
        """The last long bytes without a secret: a request's body comes again with its flow, and the flow's backup."""

    def __bool__(self) -> bool:
        """Whether there is anything to mask."""
        return bool(self._literals)

    def text(self, text: str) -> str:
        # a plain search for each is many times faster than one regex for all
        for spelling in self._literals:
            if spelling in text:
                text = text.replace(spelling, "*" * len(spelling))
        return self._spellings.masked(text, "*", "\\")

    def data(self, data: bytes) -> bytes:
        if data is self._clean:
            return data
        masked = data
        for spelling, mask in self._literals_bytes:
            if spelling in masked:
                masked = masked.replace(spelling, mask * (len(spelling) // len(mask)))
        masked = self._spellings_bytes.masked(masked, b"*", b"\\")
        if masked is data and len(data) > LONG:
            self._clean = data
        return masked

    def spans(self, text: str) -> list[tuple[int, int]]:
        """Where secrets stand in a text, from left to right."""
        masked = self.text(text)
        runs = [found.span() for found in re.finditer(r"\*+", masked)]
        return [(start, end) for start, end in runs if masked[start:end] != text[start:end]]

    def value[T](self, value: T) -> T:
        """Any value: what is no text, no bytes and no collection or dataclass of such is returned as it is."""
        return self._value(value) if self else value

    def _value(self, value: Any) -> Any:
        match value:
            case str():
                return self.text(value)
            case bytes():
                return self.data(value)
            case dict():
                members = {self._value(name): self._value(member) for name, member in value.items()}
                return value if _same(members.items(), value.items()) else members
            case list() | tuple():
                elements = type(value)(map(self._value, value))
                return value if all(map(is_, elements, value)) else elements
            case _ if is_dataclass(value) and not isinstance(value, type):
                members = {member.name: getattr(value, member.name) for member in fields(value)}
                changed = {name: new for name, old in members.items() if (new := self._value(old)) is not old}
                return replace(value, **changed) if changed else value
        return value


class _Spellings[T: (str, bytes)](NamedTuple):
    """Regexes for secrets of which any character may be escaped. Each begins with literals, by which Python's engine is
    fast: it looks no closer at what is something else."""

    plain: list[re.Pattern[T]]
    """Any secret, in any spelling that begins with no backslash."""
    escaped: list[re.Pattern[T]]
    """The others, from the last backslash of those at the beginning."""
    escapes: list[tuple[T, re.Pattern[T]]]
    """One of these is found wherever a character of theirs is escaped: most texts are done with here. In front of each,
    the character with which it begins: to look for one alone costs next to nothing."""

    @staticmethod
    def of(secrets: Sequence[str]) -> "_Spellings[str]":
        characters = sorted(set("".join(secrets)))
        codes = _any_code(characters)
        escapes = [("\\", rf"\\u00{codes}"), ("%", f"%(?:25)*{codes}"), ("&", "&#[xX0-9]")] if characters else []
        escapes += [("\\", rf"\\{re.escape(one)}") for one in characters if one in _SHORT_ESCAPES]
        plain, escaped = [], []
        for first, rest in ((one[0], "".join(map(_any_character, one[1:]))) for one in secrets):
            begins = re.escape(first), f"%{_code(first)}", f"%25(?:25)*{_code(first)}", _entity(first)
            plain += [begin + rest for begin in begins]
            escaped.append(rf"\\u00{_code(first)}" + rest)
            if first in _SHORT_ESCAPES:
                escaped.append(rf"\\{re.escape(first)}" + rest)
        signs = [(sign, re.compile(regex)) for sign, regex in escapes]
        return _Spellings(list(map(re.compile, plain)), list(map(re.compile, escaped)), signs)

    def in_bytes(self) -> "_Spellings[bytes]":
        def compiled(regex: re.Pattern[T]) -> re.Pattern[bytes]:
            return re.compile(str(regex.pattern).encode())

        escapes = [(str(sign).encode(), compiled(escape)) for sign, escape in self.escapes]
        return _Spellings(list(map(compiled, self.plain)), list(map(compiled, self.escaped)), escapes)

    def masked(self, text: T, mask: T, backslash: T) -> T:
        """`text` with each secret replaced by as many `mask`; `text` itself if there is none."""
        if not any(sign in text and escape.search(text) for sign, escape in self.escapes):
            return text
        for secret in self.escaped:
            pieces: list[T] = []
            done = 0
            for found in secret.finditer(text):
                before = text[done : found.start()].rstrip(backslash)
                pieces += before, mask * (found.end() - done - len(before))
                done = found.end()
            if pieces:
                pieces.append(text[done:])
                text = mask[:0].join(pieces)
        for secret in self.plain:
            text = secret.sub(lambda found: mask * len(found[0]), text)
        return text


_WIDE = ("utf-16-le", "utf-16-be")

_SHORT_ESCAPES = '"\\/'
"""Characters that JSON escapes by a backslash alone."""


def _any_character(character: str) -> str:
    code = _code(character)
    short = rf"|\\+{re.escape(character)}" if character in _SHORT_ESCAPES else ""
    return rf"(?:{re.escape(character)}|\\+u00{code}|%(?:25)*{code}|{_entity(character)}{short})"


def _entity(character: str) -> str:
    return f"&#(?:0*{ord(character)}|[xX]0*{_code(character)});"


def _code(character: str) -> str:
    """A regex for an ASCII character's code in two hexadecimal digits, which may be capitals."""
    return "".join(f"[{digit}{digit.upper()}]" if digit.isalpha() else digit for digit in f"{ord(character):02x}")


def _any_code(characters: Iterable[str]) -> str:
    """A regex for the code of any of these, by its first digit: most of what is no such code fails there."""
    codes = sorted(f"{ord(character):02x}" for character in characters)
    found = [(first, "".join(code[1] for code in some)) for first, some in groupby(codes, itemgetter(0))]
    return f"(?:{'|'.join(f'{first}[{last}{last.upper()}]' for first, last in found)})"


def in_base64(secret: bytes) -> Iterable[str]:
    """What a secret alone decides of the base64 of a text it stands in, for each place it may have there."""
    for before in range(3):
        data = b"\0" * before + secret
        core = b64encode(data).decode()[(0, 2, 3)[before] : len(data) * 8 // 6]
        yield core
        yield core.replace("+", "-").replace("/", "_")


def _same(a: Collection[tuple[object, object]], b: Collection[tuple[object, object]]) -> bool:
    """Whether two objects have the same members, one by one."""
    return len(a) == len(b) and all(
        x is y for one, other in zip(a, b, strict=True) for x, y in zip(one, other, strict=True)
    )
