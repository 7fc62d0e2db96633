"""Texts that stand in a text in another writing: in base64, or percent-encoded. Time is linear in the text's length."""

import re
from base64 import b64decode, b64encode
from collections.abc import Callable, Iterator
from typing import NamedTuple
from urllib.parse import quote, unquote

MIN_BASE64 = 16
"""Characters from which on a run may be base64 of something."""
MAX_BASE64 = 1_400_000
"""Characters of a run that are decoded at most: about a megabyte."""
MAX_DEPTH = 3
"""How deep one writing may stand in another."""

_BASE64 = re.compile(rf"(?<![\w+/=-])[A-Za-z0-9+/_-]{{{MIN_BASE64},}}+={{0,2}}", re.ASCII)
# as mail and PEM wrap it, in lines of one length
_LINES = re.compile(r"(?<![\w+/=-])(?:[A-Za-z0-9+/]{60,76}\r?\n)++[A-Za-z0-9+/]{0,76}+={0,2}", re.ASCII)
_PERCENT = re.compile(r"[^\s\"'<>`\\]++")
_ESCAPE = re.compile(r"%[0-9a-fA-F]{2}")
_PROBE = 64
_WORD = re.compile(r"[A-Za-z]{3}")


class Run(NamedTuple):
    """A piece of a text that stands for another text."""

    start: int
    end: int
    text: str
    """What it stands for."""
    packed: Callable[[str], str]
    """Writes another text in the same way."""


def runs(text: str) -> Iterator[Run]:
    """The runs of base64 and of percent-encoding in a text, as far as what they stand for is text."""
    for found in _BASE64.finditer(text):
        if inside := _from_base64(found[0]):
            yield Run(*found.span(), inside, _url_safe if {"-", "_"} & set(found[0]) else _base64)
    if "\n" in text:
        for found in _LINES.finditer(text):
            if inside := _from_base64(re.sub(r"\s", "", found[0])):
                yield Run(*found.span(), inside, _wrapped)
    if "%" in text:
        for found in _PERCENT.finditer(text):
            if _ESCAPE.search(found[0]) and (plain := unquote(found[0])) != found[0]:
                yield Run(*found.span(), plain, _quoted)


def unpacked(text: str, depth: int = MAX_DEPTH) -> Iterator[str]:
    """What the runs in a text stand for, and those in these."""
    for run in runs(text):
        yield run.text
        if depth > 1:
            yield from unpacked(run.text, depth - 1)


def _base64(text: str) -> str:
    return b64encode(text.encode()).decode()


def _url_safe(text: str) -> str:
    return _base64(text).translate(_TO_URL_SAFE)


def _wrapped(text: str) -> str:
    return re.sub(r"(.{76})(?=.)", r"\1\n", _base64(text))


def _quoted(text: str) -> str:
    return quote(text, safe="/:?&=#@[];,+!*()$")


_TO_URL_SAFE, _FROM_URL_SAFE = str.maketrans("+/", "-_"), str.maketrans("-_", "+/")


def _from_base64(run: str) -> str | None:
    """The text that a run is base64 of; None if it is of no text, as words and paths are."""
    run = run[:MAX_BASE64].rstrip("=").translate(_FROM_URL_SAFE)
    # most are no base64 of a text, which their beginning tells
    if not _text(run[:_PROBE], is_whole=len(run) <= _PROBE):
        return None
    found = _text(run, is_whole=True)
    return found if found and _WORD.search(found) else None


def _text(run: str, *, is_whole: bool) -> str | None:
    run = run[: len(run) - 1] if len(run) % 4 == 1 else run
    data = b64decode(run + "=" * (-len(run) % 4))
    try:
        # a part may end within a character
        text = data.decode("utf-8", "strict" if is_whole else "ignore")
    except UnicodeDecodeError:
        return None
    return text if text.translate(_SPACES).isprintable() else None


_SPACES = dict.fromkeys(map(ord, "\t\n\r\u200b\u200c\u200d\u2060\ufeff"))
