"""Text in a tool's result that addresses the model as an instruction, also where a reader would not see it. What it
finds is what was seen: documents about agents may say the same. Time is linear in the text's length."""

import re
from collections.abc import Iterator
from html import unescape
from itertools import islice
from typing import NamedTuple

AROUND = 400
"""Characters on either side of an instruction that may tell what is to be done."""
MAX_SHOWN = 160
_SAME = 40
"""Characters at its beginning by which an instruction is known again within another."""
MAX_FOUND = 20
"""Instructions of one text that are told."""

_MODEL = (
    r"(?:(?:ai |llm |coding )?(?:assistant|agent|chatbot|model)|ai|llm|language model|claude|chatgpt|gpt|gemini|copilot"
    r"|codex|cursor)s?"
)
_DO = (
    r"(?:please|you (?:must|should|need|have|will)|now|must|run|execute|fetch|send|ignore|open|read|call|post|install)"
)
_MODELS = (
    *(
        "assistant",
        "agent",
        "language model",
        "chatbot",
        "claude",
        "gpt",
        "gemini",
        "copilot",
        "codex",
        "cursor",
        "llm",
    ),
    *("ai:", "ai,", "ai ", "ais"),
)
_PATTERNS = tuple(
    (signs, re.compile(regex))
    for signs, regex in (
        (
            ("ignore", "disregard", "forget", "override"),
            r"\b(?:ignore|disregard|forget|override)\b"
            r"(?=[^.\n(){}=;]{0,40}\b(?:previous|prior|above|earlier|preceding|your|system)\b)"
            r"(?=[^.\n(){}=;]{0,80}\b(?:instruction|prompt|rule|guideline|direction|message|order)s?\b)",
        ),
        (
            _MODELS,
            rf"\b(?:note|attention|important|message|instructions?|notice|warning|task)(?: ?:)? (?:to|for) "
            rf"(?:any |the |all |every )?{_MODEL}\b(?!['\w])"
            rf"|(?:^|[\n.!>:*#-])\s{{0,8}}(?:dear |hey |hello |attention,? )?{_MODEL} ?[,:] ?{_DO}\b"
            rf"|\bif you (?:a|')re an? {_MODEL}\b"
            rf"|\bwhen(?:ever)? an? {_MODEL} (?:reads?|sees?|process(?:es)?|summari[sz]es?|loads?) this\b",
        ),
        (
            ("the user", "your user"),
            r"\b(?:do not|don't|never|without) (?:tell|mention|inform|reveal|alert|ask|notify)(?:ing)? "
            r"(?:(?:this|it|anything|about this) )?(?:to )?(?:the|your) user\b",
        ),
        (("<|im_", "inst]", "sys>>"), r"<\|im_(?:start|end)\|>|\[/?inst\]|<</?sys>>"),
        (
            ("instruction",),
            r"\b(?:new|updated|real|hidden|additional) (?:system )?instructions?(?: ?:| from\b| for you\b)",
        ),
        (("you read this", "you see this"), r"\bwhen(?:ever)? you (?:read|see) this\b"),
        ((" is now",), r"\byour (?:new )?(?:task|goal|objective|mission|priority) is now\b"),
    )
)
"""How an instruction is worded, in lower case, and words of which each has one: looking for these costs next to
nothing."""
_REACH = 120
"""Characters on either side of such a word that a pattern is shown."""

_INVISIBLE = {
    **dict.fromkeys(
        (0xAD, 0x34F, 0x61C, 0x180E, *range(0x200B, 0x2010), *range(0x202A, 0x202F), *range(0x2060, 0x2070))
    ),
    0xFEFF: None,
    # tags, which spell ASCII
    **{0xE0000 + code: chr(code) if 0x20 <= code < 0x7F else None for code in range(0x80)},
}
_HAS_INVISIBLE = re.compile(
    "[\xad\u034f\u061c\u180e\u200b-\u200f\u202a-\u202e\u2060-\u206f\ufeff\U000e0000-\U000e007f]"
)
_ASIDE = re.compile(r"^\[//\]:\s{0,8}#\s{0,8}[(\"'](?P<said>[^\n]{1,2000})", re.MULTILINE)
_STYLED = re.compile(
    r"""<(?P<tag>[a-z][a-z0-9]{0,15})\b[^<>]{0,400}?(?:\bhidden\b|
        (?:display\s*:\s*none|visibility\s*:\s*hidden|opacity\s*:\s*0(?![.\d])|font-size\s*:\s*[01](?:px|pt|em)?\s*[;"']
        |(?<![\w-])color\s*:\s*(?:white|\#fff(?:fff)?|rgb\(\s*255\s*,\s*255\s*,\s*255\s*\)|transparent)\b))
        [^<>]{0,400}>(?P<said>[^<]{1,20000})""",
    re.VERBOSE | re.IGNORECASE,
)
_REMINDER = "<system-reminder>", "</system-reminder>"
"""Around what harnesses glue to results."""


class Instruction(NamedTuple):
    said: str
    """The line, or as much of it as is shown."""
    hidden: str | None
    """How it is kept from a reader's eyes; None: it is not."""
    around: str
    """The text around it, in which stands what is to be done."""
    is_reminder: bool = False
    """It stands in a tag that harnesses use."""


def visible(text: str) -> str:
    """A text without characters that nobody sees; those that spell ASCII (tags) spelled out."""
    return text.translate(_INVISIBLE) if _HAS_INVISIBLE.search(text) else text


def instructions_in(text: str) -> list[Instruction]:
    """The instructions in a result."""
    found: dict[str, Instruction] = {}
    for one in _all(text):
        # what is hidden is found as a part of the whole text as well
        if not any(other in one.said or one.said[:_SAME] in other for other in found):
            found[one.said] = one
        if len(found) == MAX_FOUND:
            break
    return list(found.values())


def _all(text: str) -> Iterator[Instruction]:
    seen = visible(text)
    if seen is not text:
        before = {one.said for one in _plain(text, None)}
        yield from (one for one in _plain(seen, "between characters that nobody sees") if one.said not in before)
    for start, end in _between(text, "<!--", "-->"):
        yield from _plain(text[start:end], "in a comment")
    if "[//]:" in text:
        for aside in _ASIDE.finditer(text):
            yield from _plain(aside["said"], "in a comment")
    if "<" in text and ("style" in text or "hidden" in text):
        for element in _STYLED.finditer(text):
            yield from _plain(element["said"], "in an element that is not shown")
    yield from _plain(text, None)


def _between(text: str, opening: str, closing: str) -> Iterator[tuple[int, int]]:
    """Where what stands between two marks begins and ends; without the second one, to the end of the text."""
    start = text.find(opening)
    while start >= 0:
        end = text.find(closing, start + len(opening))
        yield start + len(opening), len(text) if end < 0 else end
        start = text.find(opening, end) if end >= 0 else -1


def _plain(text: str, hidden: str | None) -> Iterator[Instruction]:
    text = unescape(text) if "&" in text else text
    lower = text.lower()
    # of a few letters the lower case is longer
    text = text if len(lower) == len(text) else lower
    reminders = list(_between(text, *_REMINDER))
    covered = 0
    for at, to in sorted(_spans(lower)):
        if at < covered:
            # the same line says it in several ways
            continue
        start = max(text.rfind("\n", 0, at + 1) + 1, at - MAX_SHOWN // 4)
        end = text.find("\n", to)
        covered = min(end if end >= 0 else len(text), start + MAX_SHOWN)
        said = text[start:covered].strip()
        around = text[max(0, at - AROUND) : to + AROUND]
        yield Instruction(said, hidden, around, any(first <= at < last for first, last in reminders))


def _spans(lower: str) -> Iterator[tuple[int, int]]:
    """Where patterns match."""
    for signs, regex in _PATTERNS:
        for start, end in _windows(lower, signs):
            yield from (match.span() for match in islice(regex.finditer(lower, start, end), MAX_FOUND))


def _windows(lower: str, signs: tuple[str, ...]) -> list[tuple[int, int]]:
    """What stands around the signs; those that overlap are one."""
    places = set()
    for sign in signs:
        at = lower.find(sign)
        while at >= 0:
            places.add(at)
            at = lower.find(sign, at + _REACH // 2)
    windows: list[tuple[int, int]] = []
    for at in sorted(places):
        start, end = max(0, at - _REACH), min(len(lower), at + 2 * _REACH)
        if windows and start <= windows[-1][1]:
            windows[-1] = windows[-1][0], end
        else:
            windows.append((start, end))
    return windows
