"""What fills the context of a call: its input, divided among all that the request holds. No I/O.

A provider tells only how many tokens it read in all. Texts share these by their size in bytes, pictures take what the
provider's formula says; so the parts add up to the provider's own figure, and none needs a tokenizer. What a part cost
follows from its place: a cache holds the beginning of a prompt, so the first tokens are those that were read from it.
"""

import math
import re
from base64 import b64decode
from binascii import Error as NoBase64
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from fractions import Fraction
from functools import partial
from typing import Literal, NamedTuple

from gateway_addon.api import KINDS
from gateway_addon.api.base import HistoryItem, Json, ToolCall, ToolResult, Usage
from gateway_addon.api.prompts import strip_wrappers
from gateway_addon.api.values import items, mapping, objects, text
from gateway_addon.cost import ORDINARY, ListPrice, NoPrice, PriceTable, Seller, billed_model, microdollars
from gateway_addon.record import Record
from gateway_addon.wire import jsontext, pictures
from gateway_addon.wire.cut import CONVERSATION, TOOLS

type Category = Literal[
    "tool schema",
    "MCP server",
    "system prompt",
    "earlier",
    "person",
    "harness",
    "answer",
    "reasoning",
    "tool call",
    "tool result",
    "file read",
    "image",
    "document",
    "audio",
    "other",
]
"""What a part is. `MCP server`: the schemas of all tools of one. `earlier`: what the provider keeps of a conversation,
so that the request leaves it out. `person`: a user's own words; `harness`: what an agent adds to them. `tool call`:
what the model wrote as arguments. `other`: what no kind of request is known to hold."""

BYTES_PER_TOKEN = 4
"""Of text, roughly; counted with only where the total does not say how much of it the text is."""

READERS = frozenset({"read", "readfile", "readtextfile", "readmanyfiles", "view", "viewfile", "openfile", "fsread"})
"""Tools that read files, by their names in small letters without anything else."""

PATHS = ("file_path", "filePath", "absolute_path", "target_file", "path", "filename")
"""The arguments by which such a tool is told which file."""

MEDIA: Mapping[str, Category] = {
    "image": "image",
    "image_url": "image",
    "input_image": "image",
    "computer_screenshot": "image",
    "input_audio": "audio",
    "document": "document",
    "file": "document",
    "input_file": "document",
}
"""By the type of a part: what it is if it is no text."""

SEALED = {"reasoning": "encrypted_content", "redacted_thinking": "data", "reasoning.encrypted": "data"}
"""By the type of a part: where it has reasoning that only its provider can read."""

UNSIZED = "size unknown"
"""The name of a part of whose tokens nothing is known."""

MAX_HEAD = 256 * 1024
"""Characters of base64 in which the size of a picture must stand."""


@dataclass(slots=True, kw_only=True)
class Part:
    """All of one sort that a request holds."""

    category: Category
    name: str | None
    """Of the tool, the MCP server, or the file; None where there is one part of the category only."""
    bytes: int = 0
    """Of text as UTF-8, of a picture as a file."""
    tokens: int | None = None
    """None: nothing tells how many."""
    usd: Decimal | None = None
    """By list price; None: unknown."""


@dataclass(slots=True, kw_only=True)
class Sum(Part):
    """The parts of one sort in several calls."""

    sent: int = 0
    """How many of the calls sent it."""
    unknown_costs: int = 0
    """In how many of them its cost is unknown, and left out of `usd`."""


def compose(api_kind: str, body: Json, usage: Usage, price: ListPrice | None = None, model: str = "") -> list[Part]:
    """The parts of a request, in the order in which a prompt has them. Never raises for any JSON.

    Those whose tokens are known add up to `usage.input_tokens`; all are unknown where that is. A picture or file of
    which nobody says how many tokens it takes has None, and what it took is among those of the others. `price`: what
    the call costs where it went; `model`: by which pictures are counted.
    """
    things = list(_things(api_kind, body, model))
    if not any(thing.is_sized for thing in things):
        things.append(_Thing("other", None, 0))
    counts = _counted(things, usage.input_tokens)
    costs = _costs(counts, usage, price)
    parts: dict[tuple[Category, str | None], Part] = {}
    for thing, tokens, usd in zip(things, counts, costs, strict=True):
        key = (thing.category, thing.name)
        if part := parts.get(key):
            part.bytes += thing.bytes
            part.tokens, part.usd = _plus(part.tokens, tokens), _plus(part.usd, usd)
        else:
            parts[key] = Part(category=thing.category, name=thing.name, bytes=thing.bytes, tokens=tokens, usd=usd)
    return list(parts.values())


def price_of(record: Record, table: PriceTable) -> ListPrice | None:
    """What a recorded call costs where it went; None if no list says that."""
    model = billed_model(record.response_model, record.upstream_model, record.upstream_host)
    seller = Seller(record.provider, record.upstream_host, datetime.fromtimestamp(record.started_at, UTC))
    usage = record.usage or {}
    named = {name: text(usage.get(name)) for name in ORDINARY} | {"service_tier": record.service_tier}
    modifiers = {name: value for name, value in named.items() if value and value not in ORDINARY[name]}
    # a redeemed credit changes what cache writes cost
    if not model or not seller.may_have_a_list or mapping(usage.get("fallback_credit")):
        return None
    with suppress(NoPrice):
        return table.find(model, seller, modifiers)
    return None


def composed(record: Record, body: Json, table: PriceTable) -> list[Part]:
    """The parts of a recorded call, `body` being its request."""
    usage = Usage(
        input_tokens=record.input_tokens,
        cache_read_tokens=record.cache_read_tokens,
        cache_write_tokens=record.cache_write_tokens,
        cache_write_1h_tokens=record.cache_write_1h_tokens,
    )
    model = record.response_model or record.upstream_model or record.request_model or ""
    return compose(record.api_kind, body, usage, price_of(record, table), model)


def summed_up(calls: Iterable[Iterable[Part]]) -> list[Sum]:
    """The parts of calls, each sort once: what took the most tokens first, all times it was sent together."""
    sums: dict[tuple[Category, str | None], Sum] = {}
    for part in (part for call in calls for part in call):
        total = sums.setdefault((part.category, part.name), Sum(category=part.category, name=part.name))
        total.sent += 1
        total.bytes += part.bytes
        total.tokens = _known_plus(total.tokens, part.tokens)
        total.usd = _known_plus(total.usd, part.usd)
        # what an unsized part cost is among the costs of the others
        total.unknown_costs += part.usd is None and part.tokens is not None
    return sorted(sums.values(), key=lambda total: (-(total.tokens or 0), total.tokens is None))


def in_microdollars(parts: Sequence[Part]) -> list[int | None]:
    """What each part cost, rounded so that they add up to what they cost together."""
    known = [part.usd for part in parts if part.usd is not None]
    rounded = iter(apportioned(microdollars(sum(known, Decimal(0))), [Fraction(usd) for usd in known]))
    return [None if part.usd is None else next(rounded) for part in parts]


def apportioned(total: int, weights: Sequence[int | Fraction]) -> list[int]:
    """A total divided by weights, none negative, so that the shares add up to it: what is left over when all have been
    rounded down goes to those who lost most. Without any weight it is divided equally."""
    whole = sum(weights)
    if not whole:
        weights, whole = [1] * len(weights), len(weights)
    shares = [int(total * weight // whole) for weight in weights]
    lost = sorted(range(len(weights)), key=lambda at: -(total * weights[at] % whole))
    for at in lost[: total - sum(shares)]:
        shares[at] += 1
    return shares


class Tool(NamedTuple):
    """A tool that a request offers."""

    name: str
    definition: Json


def tools_offered(api_kind: str, body: Json) -> Iterator[Tool]:
    """The tools that stand in a request's own list; those of a namespace one by one. Never raises."""
    kind = KINDS[api_kind]
    for member in (name for name, part in kind.MEMBERS.items() if part == TOOLS):
        for tool in objects(body.get(member)):
            names = kind.read_request({member: [tool]}).tools
            inner = list(objects(tool.get("tools")))
            if len(names) == len(inner) and inner:
                yield from map(Tool, names, inner)
            else:
                yield Tool(names[0] if names else text(tool.get("type")) or "?", tool)


class _Thing(NamedTuple):
    """One piece of a prompt."""

    category: Category
    name: str | None
    bytes: int
    tokens: int | None = None
    """As a formula says."""
    is_sized: bool = True
    """False: nothing tells how many tokens it takes."""

    @property
    def is_text(self) -> bool:
        return self.tokens is None and self.is_sized


def _things(api_kind: str, body: Json, model: str) -> Iterator[_Thing]:
    """All that a request holds, in the order in which a prompt has it: tools, system prompt, conversation."""
    for tool in tools_offered(api_kind, body):
        server = _server(tool)
        size = _size(_json(tool.definition))
        yield _Thing("MCP server", server, size) if server else _Thing("tool schema", tool.name, size)
    kind = KINDS[api_kind]
    members = [items(body.get(name)) for name, part in kind.MEMBERS.items() if part == CONVERSATION]
    elements = next(filter(None, members), [])
    calls: dict[str | None, ToolCall] = {}
    is_continued = kind.read_request(body).previous_id is not None
    seen = -1
    for item in kind.history(body):
        if item.message > seen:
            if is_continued:
                yield _Thing("earlier", None, 0)
                is_continued = False
            # of one message, pictures before its words: of few it is told what they stand between
            for element in elements[seen + 1 : item.message + 1]:
                yield from _unwritten(element, model)
            seen = item.message
        if item.tool_call:
            calls[item.tool_call.call_id] = item.tool_call
        element = elements[item.message] if 0 <= item.message < len(elements) else {}
        yield from _written(item, calls, element)


def _written(item: HistoryItem, calls: Mapping[str | None, ToolCall], element: object) -> Iterator[_Thing]:
    """The texts that an item of a history holds."""
    match item:
        case HistoryItem(tool_call=ToolCall() as call):
            yield _Thing("tool call", call.name, _size(call.arguments))
        case HistoryItem(tool_result=ToolResult() as result):
            path = _path_read(calls.get(result.call_id))
            yield _Thing(*(("file read", path) if path else ("tool result", result.name)), _size(result.content))
        case HistoryItem(reasoning=str(thoughts)) if not _sealed(mapping(element)):
            yield _Thing("reasoning", None, _size(thoughts))
        case HistoryItem(role="system", text=str(words)):
            yield _Thing("system prompt", None, _size(words))
        case HistoryItem(role="user", text=str(words)):
            own = min(_size(strip_wrappers(words)), _size(words))
            if own:
                yield _Thing("person", None, own)
            if own < _size(words):
                yield _Thing("harness", None, _size(words) - own)
        case HistoryItem(text=str(words)):
            yield _Thing("answer", None, _size(words))
        # what is no text has been found in the element itself
        case HistoryItem(note=str(note)) if not any(_unwritten(element, "")):
            yield _Thing("other", None, _size(note))


def _unwritten(element: object, model: str) -> Iterator[_Thing]:
    """What an element of a conversation holds that is no text: pictures, files, reasoning that is encrypted."""
    pending = [element]  # no recursion: how deep it goes is the sender's choice
    while pending:
        value = pending.pop()
        if isinstance(value, list):
            pending += reversed(value)
        if not isinstance(value, dict):
            continue
        kind = text(value.get("type")) or ""
        if sealed := _sealed(value):
            # a summary beside it is no part of what the model reads
            yield _Thing("reasoning", None, len(sealed) * 3 // 4)
        elif kind in MEDIA and not _is_text(value):
            data = _data(value)
            tokens = _picture_tokens(model, value, data) if MEDIA[kind] == "image" else None
            size, is_sized = len(data) * 3 // 4, tokens is not None
            yield _Thing(MEDIA[kind], None if is_sized else UNSIZED, size, tokens, is_sized)
        else:
            # what a model has written as arguments is text, whatever it looks like
            pending += reversed([inner for name, inner in value.items() if name != "input"])


def _sealed(part: Json) -> str | None:
    """Reasoning that only its provider can read, in base64."""
    return text(part.get(SEALED.get(text(part.get("type")) or "", "")))


def _is_text(part: Json) -> bool:
    """A document may be text, which a history has as such."""
    return text(mapping(part.get("source")).get("type")) in ("text", "content")


def _data(part: Json) -> str:
    """The base64 of a picture or file, "" if it is somewhere else."""
    for holder in (part, *(mapping(part.get(name)) for name in ("source", "image_url", "input_audio", "file"))):
        for name in ("data", "image_url", "url", "file_data"):
            if data := text(holder.get(name)):
                return data.partition(";base64,")[2] if data.startswith("data:") else data if name == "data" else ""
    return ""


def _server(tool: Tool) -> str | None:
    named = re.match(r"mcp__(.+?)(?:__|\.|$)", tool.name)
    places = ("mcp_server_name", "server_label")
    return named[1] if named else next((label for name in places if (label := text(tool.definition.get(name)))), None)


def _path_read(call: ToolCall | None) -> str | None:
    """The file that a call has read; None if it did something else."""
    if call is None or re.sub(r"[^a-z]", "", (call.name or "").rpartition("__")[2].lower()) not in READERS:
        return None
    arguments = jsontext.parse_object(call.arguments or "") or {}
    return next((path for name in PATHS if (path := text(arguments.get(name)))), None)


def _size(words: str | None) -> int:
    return len((words or "").encode("utf-8", "surrogatepass"))


def _json(value: Json) -> str:
    try:
        return jsontext.dumps(value)
    except ValueError:  # nested too deeply
        return ""


# ---- Tokens and costs ----


def _counted(things: Sequence[_Thing], total: int | None) -> list[int | None]:
    """How many tokens each thing has."""
    known = [at for at, thing in enumerate(things) if thing.is_sized]
    counts: list[int | None] = [None] * len(things)
    if total is None:
        return counts
    in_pictures = sum(things[at].tokens or 0 for at in known)
    in_texts = sum(things[at].bytes for at in known if things[at].is_text)
    earlier = [at for at in known if things[at].category == "earlier"]
    a_byte = Fraction(1, BYTES_PER_TOKEN)
    if not earlier and in_texts and in_pictures < total:
        a_byte = Fraction(total - in_pictures, in_texts)
    weights = [
        thing.bytes * a_byte if thing.is_text else Fraction(thing.tokens or 0) for thing in (things[at] for at in known)
    ]
    for at, place in enumerate(known):
        if place in earlier:
            weights[at] = max(Fraction(0), total - sum(weights, Fraction(0)))
    for at, share in zip(known, apportioned(total, weights), strict=True):
        counts[at] = share
    return counts


def _costs(counts: Sequence[int | None], usage: Usage, price: ListPrice | None) -> list[Decimal | None]:
    """What each thing cost, in USD: the things stand in the prompt as the stretches of different prices do."""
    stretches = price.of_input(usage) if price else []
    left, rate = 0, None
    waiting = iter(stretches)
    costs: list[Decimal | None] = []
    for count in counts:
        usd: Decimal | None = None if count is None or not price else Decimal(0)
        missing = count or 0
        while missing and price:
            if not left:
                left, rate = next(waiting, (missing, None))
            taken = min(left, missing)
            left, missing = left - taken, missing - taken
            usd = _plus(usd, None if rate is None else rate * taken)
        costs.append(usd)
    return costs


def _plus[N: (int, Decimal)](one: N | None, other: N | None) -> N | None:
    """A sum that is unknown where anything of it is."""
    return None if one is None or other is None else one + other


def _known_plus[N: (int, Decimal)](one: N | None, other: N | None) -> N | None:
    """The sum of what is known."""
    return other if one is None else one if other is None else one + other


# ---- Pictures ----


def _picture_tokens(model: str, part: Json, data: str) -> int | None:
    """By the formula of the model's vendor; None: it has published none, or the size of the picture is not there."""
    name = model.lower().rpartition("/")[2]
    formula = next((formula for pattern, formula in FORMULAS.items() if re.match(pattern, name)), None)
    if formula is None:
        return None
    try:
        head = b64decode(data[: min(MAX_HEAD, len(data) // 4 * 4)])
    except (NoBase64, ValueError):
        return None
    size = pictures.size(head)
    detail = text(part.get("detail")) or text(mapping(part.get("image_url")).get("detail")) or "auto"
    return formula(size, detail) if size else None


def _by_area(longest: int, most: int, size: pictures.Size, detail: str) -> int:
    """A token for 750 pixels, once it has been made small enough."""
    scale = min(1.0, longest / max(size))
    return min(most, math.ceil(size.width * scale * size.height * scale / 750))


def _by_tiles(base: int, tile: int, size: pictures.Size, detail: str) -> int:
    """A sum for each tile of 512 pixels, once it fits into 2048 and its shorter side into 768."""
    if detail == "low":
        return base
    scale = min(1.0, 2048 / max(size))
    scale *= min(1.0, 768 / (min(size) * scale))
    return base + tile * math.prod(math.ceil(round(side * scale, 6) / 512) for side in size)


def _by_patches(factor: Fraction, size: pictures.Size, detail: str) -> int:
    """A sum for each patch of 32 pixels, of which there are so many at most."""
    most = 1536
    patches = math.prod(math.ceil(side / 32) for side in size)
    if patches > most:
        scale = math.sqrt(32**2 * most / (size.width * size.height))
        scale *= min(math.floor(side * scale / 32) / (side * scale / 32) for side in size)
        patches = min(most, math.prod(math.ceil(round(side * scale / 32, 6)) for side in size))
    return math.ceil(patches * factor)


FORMULAS = {
    # Anthropic, "Vision": https://platform.claude.com/docs/en/build-with-claude/vision
    r"claude-(3|(opus|sonnet|haiku)-4(?![.-]?[7-9]))": partial(_by_area, 1568, 1600),
    r"claude-opus-4[.-]7": partial(_by_area, 2576, 4784),
    # OpenAI, "Images and vision": https://developers.openai.com/api/docs/guides/images-vision
    r"gpt-(4\.1|5)-mini": partial(_by_patches, Fraction("1.62")),
    r"gpt-(4\.1|5)-nano": partial(_by_patches, Fraction("2.46")),
    r"o4-mini": partial(_by_patches, Fraction("1.72")),
    r"gpt-4o-mini": partial(_by_tiles, 2833, 5667),
    r"gpt-4(o|\.1|\.5|-turbo)": partial(_by_tiles, 85, 170),
    r"gpt-5(?![.\d])": partial(_by_tiles, 70, 140),
    r"o[13](?!-mini)": partial(_by_tiles, 75, 150),
}
"""By the beginning of a model's name: how many tokens a picture takes."""
