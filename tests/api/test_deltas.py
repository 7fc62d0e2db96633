"""What only goes on with a text is read by a road of its own: it is taken, and nothing else comes of it."""

import json
from collections.abc import Iterator
from copy import deepcopy
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from gateway_addon.api import KINDS
from gateway_addon.api.base import Json, Reader, RequestFacts
from gateway_addon.wire import jsontext
from tests.marks import quick


def chunk(delta: Json, index: int = 0, **more: Any) -> Json:
    choice = {"index": index, "delta": delta, "logprobs": None, "finish_reason": None}
    return {"id": "c1", "object": "chat.completion.chunk", "created": 1, "model": "m", "choices": [choice]} | more


def call(**more: Any) -> Json:
    return chunk({"tool_calls": [{"index": 0, **more}]})


def piece(family: str, **more: Any) -> Json:
    return {"type": f"response.{family}.delta", "sequence_number": 3, "output_index": 0, "delta": "a"} | more


def added(index: int, **item: Any) -> Json:
    return {"type": "response.output_item.added", "output_index": index, "item": item}


def block(index: int, **start: Any) -> Json:
    return {"type": "content_block_start", "index": index, "content_block": start}


def says(index: int, kind: str, **said: Any) -> Json:
    return {"type": "content_block_delta", "index": index, "delta": {"type": kind, **said}}


BEGINNINGS: dict[str, list[Json]] = {
    "chat_completions": [
        chunk({"role": "assistant", "content": "", "refusal": None}),
        call(id="call_1", type="function", function={"name": "read", "arguments": ""}),
    ],
    "responses": [
        added(0, type="message", id="x"),
        added(1, type="function_call", id="y", call_id="call_1", name="read"),
        {"type": "response.output_item.done", "output_index": 0, "item": {"type": "message", "id": "x"}},
    ],
    "messages": [
        {"type": "message_start", "message": {"id": "m1", "model": "m", "usage": {"input_tokens": 3}}},
        block(0, type="text", text=""),
        block(1, type="tool_use", id="call_1", name="read", input={}),
        {"type": "content_block_stop", "index": 0},
    ],
}
DELTAS: dict[str, list[Json]] = {
    "chat_completions": [
        chunk({"content": "a"}),
        chunk({"role": "assistant", "content": "a"}, obfuscation="xyz", usage=None),
        chunk({"content": "a"}, p="abcdef"),
        chunk({"content": None, "reasoning_content": "a"}),
        chunk({"content": "", "reasoning": "a"}, provider="P", service_tier="flex"),
        chunk({"reasoning": "a", "reasoning_details": [{"type": "reasoning.text", "text": "a", "index": 0}]}),
        call(function={"arguments": "a"}),
    ],
    "responses": [
        piece("output_text", item_id="x", content_index=0, logprobs=[], obfuscation="xyz"),
        piece("reasoning_summary_text", item_id="r", summary_index=0),
        piece("function_call_arguments", item_id="y", output_index=1),
        {"type": "response.output_text.delta", "delta": "a"},
    ],
    "messages": [
        says(0, "text_delta", text="a"),
        says(0, "thinking_delta", thinking="a"),
        says(1, "input_json_delta", partial_json='{"a'),
        says(2, "compaction_delta", content="a"),
    ],
}


def source(event: Json) -> bytes:
    return json.dumps(event, separators=(",", ":")).encode()


def reader(kind: str, *events: Json) -> Reader:
    """A reader of an answer that has begun, and has said this."""
    made = KINDS[kind].reader(RequestFacts(tools=["read"]))
    for event in (*BEGINNINGS[kind], *events):
        made.event(jsontext.parse(source(event)))
    return made


@pytest.mark.parametrize(("kind", "event"), [(kind, event) for kind, events in DELTAS.items() for event in events])
def test_a_usual_delta_is_taken_from_the_second_on(kind: str, event: Json):
    quick, full = reader(kind, event), reader(kind, event)
    for _ in range(3):
        assert quick.goes_on(source(event), "")
        full.event(event)
    assert quick.answer == full.answer
    assert quick.finish() == full.finish()


@pytest.mark.parametrize("kind", KINDS)
def test_nothing_goes_on_where_nothing_has_begun(kind: str):
    made = KINDS[kind].reader(RequestFacts())
    assert not any(made.goes_on(source(event), "") for event in DELTAS[kind])


NAMES = [
    *(
        "error",
        "usage",
        "cost",
        "type",
        "name",
        "id",
        "call_id",
        "object",
        "model",
        "provider",
        "service_tier",
        "index",
    ),
    *("output_index", "item_id", "content", "text", "refusal", "finish_reason", "tool_calls", "reasoning", "logprobs"),
    *("provider_metadata", "reasoning_details", "message", "audio", "function", "arguments", "delta", "anything"),
]
VALUES: list[Any] = [
    *(None, True, False, 0, 1, -1, 2.0, 10**30, "", "a", "b", "error", "\ud83d", "é\x00", [], {}, ["a"], [[]]),
    *({"message": "no"}, {"prompt_tokens": 1, "output_tokens": 1}, {"gateway": {"cost": "1"}}),
    *([{"index": 0, "function": {"arguments": "a"}}], [{"index": 0, "delta": {"content": "b"}}]),
    *("text_delta", "response.output_text.delta", "response.output_text.done", "content_block_delta"),
]


def objects_in(value: object) -> Iterator[Json]:
    if isinstance(value, dict):
        yield value
    for inner in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        yield from objects_in(inner)


def changes(event: Json) -> Iterator[Json]:
    """The event with any one member taken away, added or given another value."""
    for number, holder in enumerate(objects_in(event)):
        for name in {**holder, **dict.fromkeys(NAMES)}:
            for value in ("gone", *VALUES):
                changed = deepcopy(event)
                there = list(objects_in(changed))[number]
                there[name] = value
                if value == "gone":
                    del there[name]
                yield changed


# chat events have many times as many members
@pytest.mark.parametrize("kind", quick(KINDS, "messages", "responses"))
def test_any_one_change_takes_the_full_road_or_says_nothing(kind: str):
    for usual in DELTAS[kind]:
        for changed in changes(usual):
            for before, event in ((usual, changed), (changed, usual)):
                quick = reader(kind, before)
                if quick.goes_on(source(event), ""):
                    full = reader(kind, before)
                    full.event(jsontext.parse(source(event)))
                    assert quick.finish() == full.finish(), (before, event)


@st.composite
def nearly_usual(draw: st.DrawFn, kind: str) -> tuple[bytes, str]:
    """A delta as usual, or with a thing or two changed in it, as text; or another event; and its name."""
    event = deepcopy(draw(st.sampled_from(DELTAS[kind] * 3 + BEGINNINGS[kind])))
    for _ in range(draw(st.sampled_from([0, 0, 0, 1, 1, 2]))):
        holder = draw(st.sampled_from(list(objects_in(event))))
        name = draw(st.sampled_from([*holder, *NAMES]))
        if draw(st.integers(0, 3)):
            holder[name] = deepcopy(draw(st.sampled_from(VALUES)))
        else:
            holder.pop(name, None)
    text = json.dumps(event, ensure_ascii=draw(st.booleans())).encode(errors="surrogatepass")
    if draw(st.integers(0, 9)) == 0:
        # a member that is there twice
        name, value = draw(st.sampled_from(NAMES)), json.dumps(draw(st.sampled_from(VALUES))).encode()
        text = text[:-1] + b', "%b": %b}' % (name.encode(), value)
    return text, draw(st.sampled_from(["", "", "", "error", "message"]))


@pytest.mark.parametrize("kind", KINDS)
@given(data=st.data())
def test_nothing_else_comes_of_it_than_by_the_full_road(kind: str, data: st.DataObject):
    quick, full = reader(kind), reader(kind)
    for text, name in data.draw(st.lists(nearly_usual(kind), max_size=12)):
        event = jsontext.parse_object(text)
        if not quick.goes_on(text, name) and event is not None:
            quick.event(event, name)
        if event is not None:
            full.event(event, name)
        assert quick.answer == full.answer
    quick.done()
    full.done()
    assert quick.finish() == full.finish()


@pytest.mark.parametrize("kind", KINDS)
@given(text=st.binary(max_size=40), at=st.integers(0, 200), event=st.integers(0, 9))
@example(text=b"\xff", at=0, event=0)
def test_what_is_no_json_does_not_go_on(kind: str, text: bytes, at: int, event: int):
    usual = DELTAS[kind][event % len(DELTAS[kind])]
    made = reader(kind, usual)
    spoilt = source(usual)[:at] + text + source(usual)[at:]
    assert not made.goes_on(spoilt, "") or jsontext.parse_object(spoilt) is not None
