"""OpenAI's usage objects, and those that others make after them: a table of (usage) → counts, for both kinds' names."""

from datetime import UTC, datetime
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway_addon.answer import AnswerReader
from gateway_addon.api import KINDS
from gateway_addon.api.base import Answer, Json, RequestFacts, Usage
from gateway_addon.api.usage import take_usage
from gateway_addon.api.values import MAX_COUNT
from gateway_addon.cost import PriceTable, Seller, estimate


def chat(usage: Json) -> Answer:
    answer = Answer()
    take_usage(answer, usage, "prompt", "completion")
    return answer


def responses(usage: Json) -> Answer:
    """The same usage under the names of Responses."""
    words = {"prompt": "input", "completion": "output"}
    renamed = {}
    for name, value in usage.items():
        side, _, rest = name.partition("_")
        renamed[f"{words[side]}_{rest}" if side in words and rest.startswith("tokens") else name] = value
    answer = Answer()
    take_usage(answer, renamed, "input", "output")
    return answer


@pytest.mark.parametrize("read", [chat, responses])
@pytest.mark.parametrize(
    ("usage", "expected"),
    [
        pytest.param(
            {"prompt_tokens": 100, "prompt_tokens_details": {"cached_tokens": 64}},
            Usage(input_tokens=100, cache_read_tokens=64),
            id="the input includes what was cached",
        ),
        pytest.param(
            {"prompt_tokens": 2168, "prompt_tokens_details": {"cached_tokens": 2161, "cache_write_tokens": 2161}},
            Usage(input_tokens=2168, cache_read_tokens=2161, cache_write_tokens=2161),
            id="nothing is guessed from counts that do not add up",
        ),
        pytest.param(
            {"prompt_tokens": 1, "prompt_tokens_details": None, "completion_tokens_details": {}},
            Usage(input_tokens=1),
            id="empty details",
        ),
        pytest.param(
            {"completion_tokens": 20, "completion_tokens_details": {"reasoning_tokens": 8}},
            Usage(output_tokens=20, reasoning_tokens=8),
            id="the output includes reasoning",
        ),
        pytest.param(
            {
                "prompt_tokens": Decimal("12.0"),
                "completion_tokens": "12",
                "prompt_tokens_details": {"cached_tokens": -1},
            },
            Usage(input_tokens=12, output_tokens=12),
            id="numbers as others write them",
        ),
        pytest.param(
            {
                "prompt_tokens": 12,
                "completion_tokens": 2,
                "completion_tokens_details": {"reasoning_tokens": 340},
                "total_tokens": 354,
            },
            Usage(input_tokens=12, output_tokens=342, reasoning_tokens=340),
            id="xAI leaves the reasoning out",
        ),
        pytest.param(
            {
                "prompt_tokens": 43,
                "completion_tokens": 10,
                "completion_tokens_details": {"reasoning_tokens": 11},
                "total_tokens": 53,
            },
            Usage(input_tokens=43, output_tokens=10, reasoning_tokens=11),
            id="more reasoning than output is no sign of it",
        ),
        pytest.param(
            {"prompt_tokens": 0, "completion_tokens": 7}, Usage(output_tokens=7), id="z.ai: no input is unknown"
        ),
        pytest.param(
            {"prompt_cache_hit_tokens": 5, "prompt_cache_miss_tokens": 6}, Usage(cache_read_tokens=5), id="DeepSeek"
        ),
        pytest.param({"cached_tokens": 5}, Usage(cache_read_tokens=5), id="Moonshot"),
        pytest.param(
            {"prompt_tokens_details": {"cache_creation_input_tokens": 5}}, Usage(cache_write_tokens=5), id="Alibaba"
        ),
        pytest.param(
            {"prompt_tokens_details": {"cached_tokens": 0}}, Usage(cache_read_tokens=0), id="a reported 0 is a number"
        ),
        pytest.param(
            {"prompt_tokens_details": {"cached_tokens": 0}, "cached_tokens": 5},
            Usage(cache_read_tokens=5),
            id="but not beside another name's count",
        ),
        pytest.param(
            {"prompt_tokens_details": {"audio_tokens": 9}, "completion_tokens_details": {"audio_tokens": 0}},
            Usage(input_audio_tokens=9, output_audio_tokens=0),
            id="audio",
        ),
        pytest.param({"cost": {"total": 1}}, Usage(), id="Perplexity's cost is an object"),
    ],
)
def test_counts(read, usage: Json, expected: Usage):
    answer = read(usage)
    assert answer.usage == expected
    assert len(answer.reported_usage) == len(usage)
    assert answer.warnings == []
    assert not answer.hidden_tokens


BESIDE: Json = {"cache_read_input_tokens": 900, "cache_creation_input_tokens": 50}


@pytest.mark.parametrize("read", [chat, responses])
@pytest.mark.parametrize(
    ("usage", "input_tokens", "warnings"),
    [
        pytest.param({"prompt_tokens": 40, "total_tokens": 1000}, 990, [], id="apart"),
        pytest.param({"prompt_tokens": 990, "total_tokens": 1000}, 990, [], id="included"),
        pytest.param({"prompt_tokens": 0, "total_tokens": 960}, 950, [], id="all input was cached"),
        pytest.param({"prompt_tokens": 40, "total_tokens": 60}, 40, ["usage_ambiguous"], id="the total fits neither"),
        pytest.param({"prompt_tokens": 40}, 40, ["usage_ambiguous"], id="no total"),
        pytest.param(
            {"prompt_tokens": 40, "total_tokens": 1007, "completion_tokens_details": {"reasoning_tokens": 7}},
            990,
            [],
            id="apart, and so is the reasoning",
        ),
        pytest.param(
            {"prompt_tokens": 40, "total_tokens": 1000, "completion_tokens_details": {"reasoning_tokens": 950}},
            40,
            ["usage_ambiguous"],
            id="either the cache or the reasoning is apart",
        ),
        pytest.param(
            {
                "prompt_tokens": 40,
                "total_tokens": 60,
                "cache_read_input_tokens": 0,
                "cache_creation_input_tokens": None,
            },
            40,
            [],
            id="nothing was cached",
        ),
    ],
)
def test_the_total_tells_whether_the_input_includes_cache_counts_beside_it(
    read, usage: Json, input_tokens: int, warnings: list[str]
):
    answer = read(BESIDE | {"completion_tokens": 10} | usage)
    assert answer.usage.input_tokens == input_tokens
    assert answer.warnings == warnings
    if "cache_read_input_tokens" not in usage:
        assert (answer.usage.cache_read_tokens, answer.usage.cache_write_tokens) == (900, 50)


@pytest.mark.parametrize("read", [chat, responses])
@pytest.mark.parametrize(
    ("usage", "hidden"),
    [
        ({"prompt_tokens": 35, "completion_tokens": 12, "total_tokens": 109}, True),
        ({"prompt_tokens": 35, "completion_tokens": 12, "total_tokens": 47}, False),
        ({"prompt_tokens": 35, "completion_tokens": 12, "total_tokens": 3}, False),
        ({"prompt_tokens": 35, "completion_tokens": 12}, False),
        ({"prompt_tokens": 0, "completion_tokens": 12, "total_tokens": 109}, False),
        ({"prompt_tokens": 35, "total_tokens": 109}, False),
        ({"prompt_tokens": 35, "completion_tokens": 12, "total_tokens": 947, "cache_read_input_tokens": 900}, False),
        ({"prompt_tokens": 35, "completion_tokens": 12, "total_tokens": 999, "cache_read_input_tokens": 900}, True),
    ],
)
def test_a_total_above_all_counts_means_hidden_tokens(read, usage: Json, hidden: bool):
    answer = read(usage)
    assert answer.hidden_tokens is hidden
    assert answer.usage.output_tokens == usage.get("completion_tokens")


@pytest.mark.parametrize("read", [chat, responses])
@pytest.mark.parametrize(
    ("usage", "fees"),
    [
        ({"server_tool_use": {"web_search_requests": 2, "web_fetch_requests": 1}}, {"web_searches": 2}),
        ({"server_tool_use": {"web_search_requests": 0}}, {}),
        ({"completion_tokens_details": {"image_tokens": 1290}}, {"output_image_tokens": 1290}),
        ({"prompt_tokens_details": {"image_tokens": 1290}}, {}),
        ({"server_tool_use": None}, {}),
    ],
)
def test_what_has_a_price_of_its_own(read, usage: Json, fees: dict[str, int]):
    assert read(usage).fees == fees


def test_the_newest_usage_holds():
    answer = chat({"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 9} | BESIDE)
    answer.warnings.append("content_dropped")
    take_usage(answer, {"prompt_tokens": 1, "completion_tokens": 2, "total_tokens": 3}, "prompt", "completion")
    take_usage(answer, {}, "prompt", "completion")
    assert answer.usage == Usage(input_tokens=1, output_tokens=2)
    assert answer.warnings == ["content_dropped"]
    assert not answer.hidden_tokens


NAMES = [
    *("prompt_tokens", "completion_tokens", "total_tokens", "prompt_tokens_details", "completion_tokens_details"),
    *("cached_tokens", "reasoning_tokens", "cache_read_input_tokens", "cache_creation_input_tokens"),
]
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.decimals() | st.text(),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.sampled_from(NAMES), inner),
    max_leaves=12,
)


@given(st.dictionaries(st.sampled_from(NAMES), JSON))
def test_no_usage_raises(usage: Json):
    chat(usage)
    responses(usage)


HUGE = 2**63 - 1
"""As large as SQLite can hold: the sum of two is not."""
USAGES: dict[str, Json] = {
    "chat_completions": {"prompt_tokens": 5, "completion_tokens": 1},
    "messages": {"input_tokens": 5, "output_tokens": 1},
    "responses": {"input_tokens": 5, "output_tokens": 1},
}
LIES: list[tuple[str, Json]] = [
    *(("chat_completions", {name: HUGE}) for name in ("prompt_tokens", "completion_tokens", "total_tokens")),
    ("chat_completions", {"prompt_tokens_details": {"cached_tokens": HUGE}}),
    ("chat_completions", {"completion_tokens_details": {"reasoning_tokens": 10**30}}),
    ("chat_completions", {"server_tool_use": {"web_search_requests": HUGE}}),
    ("chat_completions", {"prompt_tokens": 10**12, "cache_read_input_tokens": 10**12, "total_tokens": 2 * 10**12 + 1}),
    *(("messages", {name: HUGE}) for name in ("input_tokens", "output_tokens", "cache_read_input_tokens")),
    ("messages", {"cache_creation_input_tokens": 10**12, "cache_read_input_tokens": 1}),
    ("messages", {"server_tool_use": {"web_search_requests": HUGE}}),
    ("messages", {"iterations": [{"type": "compaction", "input_tokens": HUGE}]}),
    *(("responses", {name: str(HUGE)}) for name in ("input_tokens", "output_tokens")),
    ("responses", {"input_tokens_details": {"cached_tokens": float(HUGE)}}),
]


def whole_body(kind: str, usage: Json) -> Json:
    match kind:
        case "chat_completions":
            choice = {"index": 0, "message": {"role": "assistant", "content": "x"}, "finish_reason": "stop"}
            return {"id": "c", "model": "gpt-4o", "choices": [choice], "usage": usage}
        case "messages":
            return {
                "type": "message",
                "id": "m",
                "model": "claude-sonnet-4-5",
                "content": [{"type": "text", "text": "x"}],
                "stop_reason": "end_turn",
                "usage": usage,
            }
    return {"object": "response", "id": "r", "model": "gpt-4o", "status": "completed", "output": [], "usage": usage}


def streamed(kind: str, usage: Json) -> list[Json]:
    body = whole_body(kind, usage)
    match kind:
        case "chat_completions":
            return [body | {"choices": [{"index": 0, "delta": {"content": "x"}, "finish_reason": "stop"}]}]
        case "messages":
            start = {"type": "message", "id": "m", "model": "claude-sonnet-4-5", "usage": USAGES[kind]}
            return [
                {"type": "message_start", "message": start},
                {"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": usage},
                {"type": "message_stop"},
            ]
    return [{"type": "response.completed", "response": body}]


def read_all(kind: str, usage: Json, *, is_stream: bool) -> Answer:
    reader = AnswerReader(KINDS[kind], RequestFacts())
    if is_stream:
        for event in streamed(kind, usage):
            reader.event(event)
    else:
        reader.body(b"", whole_body(kind, usage), is_error=False)
    return reader.finish()


@pytest.mark.parametrize("is_stream", [False, True], ids=["whole", "streamed"])
@pytest.mark.parametrize(("kind", "lie"), LIES)
def test_a_count_that_no_call_can_have_is_unknown_and_gives_no_estimate(kind: str, lie: Json, is_stream: bool):
    answer = read_all(kind, USAGES[kind] | lie, is_stream=is_stream)
    counts = [getattr(answer.usage, name) for name in Usage.__slots__]
    assert all(number is None or number <= MAX_COUNT for number in (*counts, *answer.fees.values()))
    assert "usage_implausible" in answer.warnings
    listed = estimate(answer, answer.model, Seller("openai", None, datetime(2026, 11, 1, tzinfo=UTC)), PriceTable())
    assert listed.usd is None


@pytest.mark.parametrize("is_stream", [False, True], ids=["whole", "streamed"])
@pytest.mark.parametrize("kind", USAGES)
def test_a_plausible_count_has_no_warning(kind: str, is_stream: bool):
    answer = read_all(kind, USAGES[kind] | {"cost": 10**20, "created": 10**20}, is_stream=is_stream)
    assert (answer.usage.input_tokens, answer.usage.output_tokens, answer.warnings) == (5, 1, [])


def test_uses_of_tools_are_bounded_as_well():
    reader = AnswerReader(KINDS["responses"], RequestFacts())
    body = whole_body("responses", USAGES["responses"]) | {"tool_usage": {"web_search": {"num_requests": HUGE}}}
    reader.body(b"", body, is_error=False)
    answer = reader.finish()
    assert (answer.fees, answer.warnings) == ({}, ["usage_implausible"])


def test_the_newest_usage_takes_the_warning_back():
    answer = chat({"prompt_tokens": HUGE, "completion_tokens": 1})
    assert answer.warnings == ["usage_implausible"]
    take_usage(answer, {"prompt_tokens": 1, "completion_tokens": 1}, "prompt", "completion")
    assert answer.warnings == []
