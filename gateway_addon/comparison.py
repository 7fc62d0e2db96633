"""In what two requests differ, apart from what was said: prompt, tools, cache markers, betas, parameters. No I/O."""

import difflib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from gateway_addon.api import KINDS, members
from gateway_addon.api.base import Json
from gateway_addon.api.values import items, mapping, objects, text
from gateway_addon.composition import Tool, tools_offered
from gateway_addon.wire.cut import CONVERSATION, TOOLS

MARKER = "cache_control"

BETAS = ("betas", "anthropic_beta")
"""Where a body names the betas that it wants, as it does where there is no header for them."""

HOLDERS = ("function",)
"""Types of tools that may be described in a member of that name."""

SCHEMA = "input_schema"
"""What describes a tool's arguments, here; elsewhere they are `parameters`."""

OF_ONE_CONVERSATION = frozenset({"previous_response_id", "conversation", "thread", "container", "client_metadata"})
"""Members that say which conversation a request belongs to, besides those by which somebody is tracked."""

CONTEXT = 1
"""Lines around a change of the system prompt that are told with it."""


@dataclass(slots=True, frozen=True, kw_only=True)
class Change:
    """One value that is not the same; None: it is not there."""

    name: str
    """Members joined by dots; list elements by their number in brackets."""
    before: Any
    after: Any


@dataclass(slots=True, frozen=True, kw_only=True)
class Names:
    """What one list has and the other has not."""

    added: list[str]
    removed: list[str]


@dataclass(slots=True, frozen=True, kw_only=True)
class ChangedTool:
    name: str
    changes: list[Change]


@dataclass(slots=True, frozen=True, kw_only=True)
class Comparison:
    """All differences; empty where there are none."""

    api_kind: list[Change]
    parameters: list[Change]
    """With the model. Not what names a conversation or a person."""
    betas: Names | None
    """None: what either asked for is not known."""
    cache_markers: Names
    """Each as its place and, where one is given, how long it lives; turns are counted from the last, which is -1."""
    tools: Names
    changed_tools: list[ChangedTool]
    system_prompt: list[str]
    """A unified diff, as lines, without its two lines of file names."""

    @property
    def is_empty(self) -> bool:
        names = [self.tools, self.cache_markers, *([self.betas] if self.betas else [])]
        changes = (self.api_kind, self.parameters, self.changed_tools, self.system_prompt)
        return not any(changes) and not any(each.added or each.removed for each in names)


@dataclass(slots=True, frozen=True, kw_only=True)
class Asked:
    """A request that is compared."""

    api_kind: str
    body: Json
    betas: frozenset[str] | None = None
    """That its headers ask for; None: unknown."""


def compare(before: Asked, after: Asked) -> Comparison:
    """In what a request differs from another one. Never raises for any JSON."""
    both = (before, after)
    tools_before, tools_after = (_tools(each) for each in both)
    return Comparison(
        api_kind=list(_changes({"api_kind": before.api_kind}, {"api_kind": after.api_kind})),
        parameters=list(_changes(*map(_parameters, both))),
        betas=_compared_betas(before, after),
        cache_markers=_names(*(list(_markers(each)) for each in both)),
        tools=_names(tools_before, tools_after),
        changed_tools=[
            ChangedTool(name=name, changes=changes)
            for name in tools_before
            if name in tools_after and (changes := list(_changes(tools_before[name], tools_after[name])))
        ],
        system_prompt=_text_diff(*map(_system_prompt, both)),
    )


def _names(before: Iterable[str], after: Iterable[str]) -> Names:
    was, now = list(before), list(after)
    added, removed = set(now) - set(was), set(was) - set(now)
    return Names(
        added=[name for name in dict.fromkeys(now) if name in added],
        removed=[name for name in dict.fromkeys(was) if name in removed],
    )


def _changes(before: Json, after: Json) -> Iterator[Change]:
    """Leaf by leaf, in their order."""
    was, now = dict(_leaves(before)), dict(_leaves(after))
    for name in dict.fromkeys((*was, *now)):
        if was.get(name) != now.get(name):
            yield Change(name=name, before=was.get(name), after=now.get(name))


def _leaves(value: object) -> Iterator[tuple[str, object]]:
    """The values that have no others in them, each with its place, without cache markers."""
    pending: list[tuple[str, object]] = [("", value)]  # no recursion: how deep it goes is the sender's choice
    while pending:
        name, value = pending.pop()
        match value:
            case dict() if value:
                inner = [(f"{name}.{key}" if name else key, item) for key, item in value.items() if key != MARKER]
                pending += reversed(inner)
            case list() if value:
                pending += reversed([(f"{name}[{at}]", item) for at, item in enumerate(value)])
            case _:
                yield name, value


def _parameters(asked: Asked) -> Json:
    tracking = {place.split("/")[1] for place in KINDS[asked.api_kind].TRACKING_PLACES}
    left_out = {*members(), *OF_ONE_CONVERSATION, *BETAS, *tracking}
    return {name: value for name, value in asked.body.items() if name not in left_out}


def _tools(asked: Asked) -> dict[str, Json]:
    return {tool.name: _described(tool) for tool in tools_offered(asked.api_kind, asked.body)}


def _described(tool: Tool) -> Json:
    """A tool in the words of one kind, so that those of another do not count as changes."""
    definition = dict(tool.definition)
    for holder in HOLDERS:
        definition |= mapping(definition.pop(holder, None))
    if SCHEMA in definition or definition.get("type") in HOLDERS:
        definition.pop("type", None)
    schema = definition.pop(SCHEMA, definition.pop("parameters", None))
    # its name tells which one is compared with it
    definition.pop("name", None)
    return definition if schema is None else definition | {SCHEMA: schema}


def _system_prompt(asked: Asked) -> list[str]:
    """What a harness says before anybody else does, as lines; without what changes from call to call."""
    return (KINDS[asked.api_kind].read_request(asked.body).opening_system or "").splitlines()


def _text_diff(before: list[str], after: list[str]) -> list[str]:
    return list(difflib.unified_diff(before, after, n=CONTEXT, lineterm=""))[2:]


def _compared_betas(before: Asked, after: Asked) -> Names | None:
    was, now = _betas(before), _betas(after)
    return None if was is None or now is None else _names(was, now)


def _betas(asked: Asked) -> list[str] | None:
    """Those of the headers and of the body, if either is there."""
    given = [name for member in BETAS for name in items(asked.body.get(member)) if isinstance(name, str)]
    return sorted({*given, *(asked.betas or ())}) if given or asked.betas is not None else None


def _markers(asked: Asked) -> Iterator[str]:
    """The place of each cache marker, such as `tools Bash`, `system[1] 1h` or `messages[-1]`."""
    if marker := mapping(asked.body.get(MARKER)):
        yield _marker("request", marker)
    for tool in tools_offered(asked.api_kind, asked.body):
        if marker := _marker_of(tool.definition):
            yield _marker(f"tools {tool.name}", marker)
    kind = KINDS[asked.api_kind]
    for member, part in kind.MEMBERS.items():
        elements = items(asked.body.get(member)) if part != TOOLS else []
        for at, element in enumerate(elements):
            blocks = [mapping(element), *objects(mapping(element).get("content"))]
            is_turn = part == CONVERSATION and mapping(element).get("role") not in kind.SYSTEM_ROLES
            number = at - len(elements) if is_turn else at
            yield from (_marker(f"{member}[{number}]", found) for block in blocks if (found := _marker_of(block)))


def _marker_of(holder: Json) -> Json:
    # where tools are functions it stands in either place
    return mapping(holder.get(MARKER)) or mapping(mapping(holder.get("function")).get(MARKER))


def _marker(place: str, marker: Json) -> str:
    lifetime = text(marker.get("ttl"))
    return f"{place} {lifetime}" if lifetime else place
