"""What fills a context: that the parts add up, what they are in each kind, and what they cost."""

import struct
from base64 import b64encode
from decimal import Decimal
from fractions import Fraction
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway_addon.api import KINDS
from gateway_addon.api.base import Usage
from gateway_addon.composition import UNSIZED, Part, apportioned, compose, in_microdollars, summed_up
from gateway_addon.cost import ListPrice
from tests.test_comparison import BODIES

RESULT = "x" * 300
SEALED = "c2VhbGVk" * 10
PRICE = ListPrice(
    {
        "input_mtok": Decimal(3),
        "cache_read_mtok": Decimal("0.3"),
        "cache_write_mtok": Decimal("3.75"),
        "cache_write_1h_mtok": Decimal(6),
    }
)


def png(width: int, height: int) -> str:
    return b64encode(b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR" + struct.pack(">II", width, height) + b"\x08\x06\0\0\0").decode()


MESSAGES = {
    "system": "Be careful.",
    "tools": [
        {"name": "Bash", "input_schema": {}},
        {"name": "mcp__docs__find", "input_schema": {}},
        {"name": "mcp__docs__read", "input_schema": {}},
    ],
    "messages": [
        {"role": "user", "content": "<system-reminder>Be kind.</system-reminder>Why?"},
        {
            "role": "assistant",
            "content": [
                {"type": "thinking", "thinking": "Let me see.", "signature": "s"},
                {"type": "text", "text": "I look."},
                {"type": "tool_use", "id": "1", "name": "Read", "input": {"file_path": "/a.py"}},
                {"type": "tool_use", "id": "2", "name": "Bash", "input": {"command": "ls"}},
            ],
        },
        {
            "role": "user",
            "content": [
                {"type": "tool_result", "tool_use_id": "1", "content": RESULT},
                {"type": "tool_result", "tool_use_id": "2", "content": RESULT},
                {
                    "type": "image",
                    "source": {"type": "base64", "media_type": "image/png", "data": png(750, 100)},
                },
            ],
        },
    ],
}
CHAT = {
    "tools": [{"type": "function", "function": {"name": "read_file", "parameters": {}}}],
    "messages": [
        {"role": "system", "content": "Be careful."},
        {"role": "user", "content": "Why?"},
        {
            "role": "assistant",
            "content": "I look.",
            "reasoning": "Let me see.",
            "tool_calls": [
                {"id": "1", "type": "function", "function": {"name": "read_file", "arguments": '{"path": "a.py"}'}}
            ],
        },
        {"role": "tool", "tool_call_id": "1", "content": RESULT},
        {
            "role": "user",
            "content": [{"type": "image_url", "image_url": {"url": f"data:image/png;base64,{png(512, 512)}"}}],
        },
    ],
}
RESPONSES = {
    "instructions": "Be careful.",
    "tools": [
        {"type": "function", "name": "shell", "parameters": {}},
        {"type": "namespace", "name": "mcp__docs__", "tools": [{"type": "function", "name": "find"}]},
    ],
    "input": [
        {"role": "user", "content": [{"type": "input_text", "text": "Why?"}]},
        {
            "type": "reasoning",
            "summary": [{"type": "summary_text", "text": "Seeing."}],
            "encrypted_content": SEALED,
        },
        {"type": "function_call", "call_id": "1", "name": "shell", "arguments": "{}"},
        {"type": "function_call_output", "call_id": "1", "output": RESULT},
        {"role": "user", "content": [{"type": "input_image", "image_url": "https://example.com/a.png"}]},
    ],
}
PARTS = {
    "messages": [
        ("tool schema", "Bash"),
        ("MCP server", "docs"),
        ("system prompt", None),
        ("person", None),
        ("harness", None),
        ("reasoning", None),
        ("answer", None),
        ("tool call", "Read"),
        ("tool call", "Bash"),
        ("image", None),
        ("file read", "/a.py"),
        ("tool result", "Bash"),
    ],
    "chat_completions": [
        ("tool schema", "read_file"),
        ("system prompt", None),
        ("person", None),
        ("reasoning", None),
        ("answer", None),
        ("tool call", "read_file"),
        ("file read", "a.py"),
        ("image", None),
    ],
    "responses": [
        ("tool schema", "shell"),
        ("MCP server", "docs"),
        ("system prompt", None),
        ("person", None),
        ("reasoning", None),
        ("tool call", "shell"),
        ("tool result", "shell"),
        ("image", UNSIZED),
    ],
}
BODY: dict[str, dict[str, Any]] = {"messages": MESSAGES, "chat_completions": CHAT, "responses": RESPONSES}
MODELS = {"messages": "claude-sonnet-4-6", "chat_completions": "openai/gpt-4o", "responses": "gpt-5.1"}
PICTURES = {"messages": 100, "chat_completions": 85 + 170, "responses": None}


def composition(kind: str, body: dict[str, Any] | None = None, tokens: int | None = 1_000, **usage: Any) -> list[Part]:
    body = BODY[kind] if body is None else body
    return compose(kind, body, Usage(input_tokens=tokens, **usage), PRICE, MODELS[kind])


def tokens_of(parts: list[Part]) -> dict[tuple[str, str | None], int | None]:
    return {(part.category, part.name): part.tokens for part in parts}


@pytest.mark.parametrize("kind", BODY)
class TestKinds:
    def test_parts_in_the_order_of_the_prompt(self, kind: str):
        assert [(part.category, part.name) for part in composition(kind)] == PARTS[kind]

    def test_they_add_up(self, kind: str):
        assert sum(part.tokens or 0 for part in composition(kind)) == 1_000

    def test_a_picture_by_the_formula_of_its_vendor(self, kind: str):
        (picture,) = [part for part in composition(kind) if part.category == "image"]
        assert picture.tokens == PICTURES[kind]

    def test_of_unknown_input_all_parts_are_unknown(self, kind: str):
        parts = composition(kind, tokens=None)
        assert {part.tokens for part in parts} == {None}
        assert {part.usd for part in parts} == {None}
        assert all(part.bytes for part in parts if part.name != UNSIZED)

    def test_without_a_price_no_part_has_a_cost(self, kind: str):
        parts = compose(kind, BODY[kind], Usage(input_tokens=9), None, MODELS[kind])
        assert {part.usd for part in parts} == {None}


def test_texts_share_by_their_size():
    shares = tokens_of(
        composition("messages", {"system": "a" * 30, "messages": [{"role": "user", "content": "b" * 10}]})
    )
    assert shares == {("system prompt", None): 750, ("person", None): 250}


def test_sealed_reasoning_counts_without_its_summary():
    (reasoning,) = [part for part in composition("responses") if part.category == "reasoning"]
    assert reasoning.bytes == len(SEALED) * 3 // 4


def test_what_the_provider_keeps_takes_what_the_request_does_not():
    body = {"previous_response_id": "r-1", "input": "x" * 400}
    assert tokens_of(composition("responses", body)) == {("earlier", None): 900, ("person", None): 100}


def test_a_request_of_nothing_that_is_known():
    assert tokens_of(composition("messages", {})) == {("other", None): 1_000}


def test_a_file_may_be_called_anything():
    call = {"type": "tool_use", "id": "1", "name": "Read", "input": {"path": UNSIZED, "x": {"type": "image"}}}
    result = {"type": "tool_result", "tool_use_id": "1", "content": RESULT}
    turns = [{"role": "assistant", "content": [call]}, {"role": "user", "content": [result]}]
    parts = composition("messages", {"messages": turns})
    assert [(part.category, part.name) for part in parts] == [("tool call", "Read"), ("file read", UNSIZED)]
    assert sum(part.tokens or 0 for part in parts) == 1_000


def test_what_is_of_unknown_size_is_no_unknown_cost():
    (image,) = [each for each in summed_up([composition("responses")]) if each.category == "image"]
    assert (image.tokens, image.usd, image.unknown_costs, image.sent) == (None, None, 0, 1)


def test_a_harness_alone_is_no_person():
    reminder = {"role": "user", "content": "<system-reminder>Be kind.</system-reminder>"}
    assert tokens_of(composition("messages", {"messages": [reminder]})) == {("harness", None): 1_000}


# ---- Costs ----

HALVES: dict[str, Any] = {"system": "a" * 10, "messages": [{"role": "user", "content": "b" * 10}]}


@pytest.mark.parametrize(
    ("usage", "dollars"),
    [
        ({}, ("0.0015", "0.0015")),
        ({"cache_read_tokens": 500}, ("0.00015", "0.0015")),
        ({"cache_read_tokens": 600}, ("0.00015", "0.00123")),
        ({"cache_read_tokens": 500, "cache_write_tokens": 500}, ("0.00015", "0.001875")),
        ({"cache_write_tokens": 1_000, "cache_write_1h_tokens": 500}, ("0.003", "0.001875")),
        ({"cache_read_tokens": 5_000}, ("0.00015", "0.00015")),
    ],
)
def test_cached_tokens_come_first(usage: dict[str, int], dollars: tuple[str, str]):
    assert [part.usd for part in composition("messages", HALVES, **usage)] == [Decimal(usd) for usd in dollars]


def test_what_has_no_price_costs_nobody_knows_what():
    price = ListPrice({"cache_read_mtok": Decimal(1)})
    parts = compose("messages", HALVES, Usage(input_tokens=1_000, cache_read_tokens=500), price)
    assert [part.usd for part in parts] == [Decimal("0.0005"), None]
    assert in_microdollars(parts) == [500, None]


def test_microdollars_add_up():
    parts = [Part(category="person", name=str(n), usd=Decimal("0.0000005")) for n in range(5)]
    assert in_microdollars(parts) == [1, 1, 1, 0, 0]


def test_what_is_sent_again_and_again_is_on_top():
    once = {"system": "a" * 10, "messages": [{"role": "user", "content": "b" * 30}]}
    first, *more = summed_up([composition("messages", once), *([composition("messages", HALVES)] * 3)])
    assert (first.category, first.tokens, first.sent) == ("person", 2_250, 4)
    assert [(each.category, each.tokens, each.sent) for each in more] == [("system prompt", 1_750, 4)]


# ---- Pictures ----


@pytest.mark.parametrize(
    ("model", "size", "detail", "tokens"),
    [
        ("claude-sonnet-4-6", (750, 1000), "auto", 1_000),
        ("claude-sonnet-4-6", (4_000, 4_000), "auto", 1_600),
        ("anthropic/claude-opus-4.7", (2_000, 1_500), "auto", 4_000),
        ("claude-sonnet-9", (750, 1000), "auto", None),
        ("gpt-4o", (512, 512), "auto", 255),
        ("gpt-4o", (2048, 4096), "high", 1_105),
        ("gpt-4o", (2048, 4096), "low", 85),
        ("gpt-4o-mini-2024-07-18", (512, 512), "auto", 8_500),
        ("gpt-5-mini", (1024, 1024), "auto", 1_659),
        ("gpt-4.1-mini", (1800, 2400), "auto", 2_353),
        ("gpt-5.9", (512, 512), "auto", None),
        ("mystery", (512, 512), "auto", None),
    ],
)
def test_formulas(model: str, size: tuple[int, int], detail: str, tokens: int | None):
    picture = {"type": "input_image", "image_url": f"data:image/png;base64,{png(*size)}", "detail": detail}
    body = {"input": [{"role": "user", "content": [picture]}], "instructions": "x"}
    parts = compose("responses", body, Usage(input_tokens=100_000), None, model)
    assert [part.tokens for part in parts if part.category == "image"] == [tokens]


def test_pictures_that_would_exceed_the_input_share_it():
    image = {"type": "image", "source": {"type": "base64", "data": png(750, 1_000)}}
    parts = composition(
        "messages", {"messages": [{"role": "user", "content": [image, {"type": "text", "text": "?"}]}]}, 500
    )
    assert sum(part.tokens or 0 for part in parts) == 500


# ---- Whatever comes ----

COUNTS = st.integers(0, 3_000_000)


@given(st.integers(0, 10**12), st.lists(st.integers(0, 10**9) | st.fractions(0, 10**6), min_size=1, max_size=40))
def test_shares_add_up_and_none_is_off_by_one(total: int, weights: list[int | Fraction]):
    shares = apportioned(total, weights)
    assert sum(shares) == total
    if whole := sum(weights):
        assert all(
            abs(share - total * weight / Fraction(whole)) < 1 for share, weight in zip(shares, weights, strict=True)
        )


@given(st.sampled_from(list(KINDS)), BODIES, COUNTS, COUNTS, COUNTS)
def test_parts_and_costs_add_up_for_any_request(kind: str, body: dict[str, Any], given: int, read: int, written: int):
    usage = Usage(input_tokens=given, cache_read_tokens=read, cache_write_tokens=written)
    parts = compose(kind, body, usage, PRICE, "claude-sonnet-4-6")
    assert sum(part.tokens or 0 for part in parts) == given
    whole = sum(count * (rate or 0) for count, rate in PRICE.of_input(usage))
    assert sum(part.usd or 0 for part in parts) == whole


@given(
    st.sampled_from(list(BODY)),
    st.lists(st.text(min_size=1, max_size=30), min_size=1, max_size=6),
    st.integers(0, 10**6),
)
def test_parts_add_up_whatever_is_said(kind: str, words: list[str], given: int):
    member = "input" if kind == "responses" else "messages"
    said = [{"role": "user" if n % 2 else "assistant", "content": text} for n, text in enumerate(words)]
    parts = composition(kind, BODY[kind] | {member: [*BODY[kind][member], *said]}, given)
    assert sum(part.tokens or 0 for part in parts) == given
