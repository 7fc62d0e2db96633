"""Why a prompt cache was not read: where a request first differs from the turn before it. No I/O.

A provider's cache holds a prompt from its start up to a point. It is read up to the first difference, and not at all by
another model (Anthropic and OpenAI API guides, "Prompt caching").
"""

import os.path
from collections.abc import Iterator
from dataclasses import dataclass

from gateway_addon.api import KINDS, members
from gateway_addon.api.base import Json
from gateway_addon.api.values import mapping, text
from gateway_addon.wire import jsontext
from gateway_addon.wire.cut import CONVERSATION, SYSTEM, TOOLS, Cut, cut

LOOKBACK = 20
"""Blocks before a cache marker in which Anthropic looks for a prefix that it knows."""

EXCERPT = 40
"""Characters."""


@dataclass(slots=True, frozen=True)
class Difference:
    """The first thing for which a cached prefix of the request before is no prefix of this one."""

    segment: str
    """`model`, `tools`, `system`, `message 3` (from 0), or the member of the request, such as `thinking`."""
    where: str
    """What was there before and what is there now, shortened; of a message, also the character from which on."""
    cause: str
    """`other model`, `changed text`, `added`, `removed`, `moved marker`, or as in `ApiKind.CACHE_SETTINGS`."""


def first_difference(before: bytes, after: bytes) -> Difference | None:
    """Compare the content-decoded bodies of two requests, of which the second should go on where the first ended.

    None if it does, or if a body cannot be taken apart. Never raises.
    """
    try:
        known = members()
        old, new = cut(before, known), cut(after, known)
        return next(_differences(old, new), None)
    except ValueError:
        return None


def _differences(old: Cut, new: Cut) -> Iterator[Difference]:
    """In the order in which they count: tools come before the system prompt, and settings before the conversation."""
    was, now = (mapping(jsontext.parse(pieces.envelope)) for pieces in (old, new))
    yield from _changed_members({"model": "other model"}, was, now)
    yield from _changed_elements(TOOLS, old, new)
    yield from _changed_elements(SYSTEM, old, new)
    settings = {name: cause for kind in KINDS.values() for name, cause in kind.CACHE_SETTINGS.items()}
    yield from _changed_members(settings, was, now)
    yield from _changed_elements(CONVERSATION, old, new)
    yield from _moved_marker(old, new)


def _changed_members(causes: dict[str, str], was: Json, now: Json) -> Iterator[Difference]:
    for name, cause in causes.items():
        if was.get(name) != now.get(name):
            yield Difference(name, f"{_short(was.get(name))} → {_short(now.get(name))}", cause)


def _changed_elements(part: str, old: Cut, new: Cut) -> Iterator[Difference]:
    olds, news = old.parts.get(part, []), new.parts.get(part, [])
    for index, (was, now) in enumerate(zip(olds, news, strict=False)):
        if was != now and (before := _content(was)) != (after := _content(now)):
            yield Difference(_segment(part, index, was), _change(before, after), "changed text")
    if len(news) < len(olds):
        yield Difference(_segment(part, len(news), olds[len(news)]), _short_text(olds[len(news)]), "removed")
    elif len(news) > len(olds) and part != CONVERSATION:
        yield Difference(_segment(part, len(olds), news[len(olds)]), _short_text(news[len(olds)]), "added")


def _segment(part: str, index: int, element: str) -> str:
    if part != CONVERSATION:
        return part
    # where the format has no other place for it, the system prompt is a message
    role = mapping(jsontext.parse(element)).get("role")
    is_system = any(role in kind.SYSTEM_ROLES for kind in KINDS.values())
    return SYSTEM if is_system else f"message {index}"


def _content(element: str) -> str:
    """An element's JSON in one spelling: to mark a text that was a plain string, clients send it as a block."""
    value = jsontext.parse(element)
    if isinstance(value, str):
        value = _block(value)
    elif isinstance(value, dict) and (content := text(value.get("content"))):
        value = value | {"content": [_block(content)]}
    return jsontext.dumps(value)


def _block(content: str) -> Json:
    return {"type": "text", "text": content}


def _change(before: str, after: str) -> str:
    start = len(os.path.commonprefix([before, after]))  # noqa: RUF071 (no path)
    # some characters before it, by which a person finds the place
    shown = slice(max(0, start - EXCERPT // 2), start + EXCERPT)
    return f"character {start}: {before[shown]} → {after[shown]}"


def _short(value: object) -> str:
    return _short_text(jsontext.dumps(value))


def _short_text(words: str) -> str:
    return words if len(words) <= EXCERPT else words[: EXCERPT - 1] + "…"


def _moved_marker(old: Cut, new: Cut) -> Iterator[Difference]:
    was, now = _last_marked(old), _last_marked(new)
    if was is None:
        return  # the provider finds out itself what to look for
    if now is None or not was <= now <= was + LOOKBACK:
        there = "none" if now is None else f"message {now}"
        yield Difference(f"message {was}", f"last marker: message {was} → {there}", "moved marker")


def _last_marked(pieces: Cut) -> int | None:
    """The last message with a cache marker."""
    marked = [edit.element for edit in pieces.edits if edit.part == CONVERSATION and '"cache_control"' in edit.text]
    return max(marked, default=None)
