"""Anthropic Messages: what requests and answers say, told as tables of (body or events) → expected fields."""

import copy
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway_addon.api import messages
from gateway_addon.api.base import Answer, Json, Pass, Problem, Refusal, RequestFacts, ToolCall, ToolResult, Usage
from gateway_addon.gateway.answers import AnswerChange
from gateway_addon.wire import jsontext


def start(usage: Json | None = None, **message: Any) -> Json:
    opening = {"id": "msg_1", "type": "message", "role": "assistant", "model": "claude-x", "content": []}
    return {"type": "message_start", "message": opening | {"stop_reason": None, "usage": usage} | message}


def block(index: int, **fields: Any) -> Json:
    return {"type": "content_block_start", "index": index, "content_block": fields}


def tool_use(index: int, call_id: str = "toolu_1", name: str = "look", **fields: Any) -> Json:
    return block(index, **{"type": "tool_use", "id": call_id, "name": name, "input": {}} | fields)


def delta(index: int, **fields: Any) -> Json:
    return {"type": "content_block_delta", "index": index, "delta": fields}


def says(index: int, piece: str) -> Json:
    return delta(index, type="text_delta", text=piece)


def thinks(index: int, piece: str) -> Json:
    return delta(index, type="thinking_delta", thinking=piece)


def types(index: int, piece: str) -> Json:
    return delta(index, type="input_json_delta", partial_json=piece)


def ends(usage: Json | None = None, stop_reason: str | None = "end_turn", **fields: Any) -> Json:
    return {"type": "message_delta", "delta": {"stop_reason": stop_reason} | fields, "usage": usage}


def stops(index: int) -> Json:
    return {"type": "content_block_stop", "index": index}


STOP: Json = {"type": "message_stop"}


def call(arguments: str, call_id: str = "toolu_1", name: str = "look") -> ToolCall:
    return ToolCall(call_id, name, "tool_use", "client", arguments)


def read(*events: Json) -> Answer:
    reader = messages.reader(RequestFacts())
    for event in events:
        reader.event(event)
    return reader.finish()


def read_body(body: Json) -> Answer:
    reader = messages.reader(RequestFacts())
    reader.body(body)
    return reader.finish()


def fields_of(value: object, expected: dict[str, object]) -> dict[str, object]:
    return {name: getattr(value, name) for name in expected}


# ---- Which bodies ----


def test_a_request_is_known_by_its_messages() -> None:
    assert messages.is_request({"messages": []})
    assert not messages.is_request({"input": "Hi."})


@pytest.mark.parametrize(
    ("answer", "named"),
    [
        ({"type": "message"}, True),
        (start(), True),
        (says(0, "Hi."), True),
        (STOP, True),
        ({"type": "error", "error": {}}, False),
        ({"type": "ping"}, False),
        ({"type": ["message"]}, False),
        ({"object": "chat.completion"}, False),
    ],
)
def test_an_answer_names_itself_by_its_type(answer: Json, named: bool) -> None:
    assert messages.is_answer(answer) is named


# ---- Streams: content ----

PLAIN = (start({"input_tokens": 10, "output_tokens": 1}), block(0, type="text", text=""), says(0, "Hel"), says(0, "lo"))

CONTENT = [
    pytest.param(
        [*PLAIN, ends({"output_tokens": 5}), STOP],
        {"response_id": "msg_1", "model": "claude-x", "text": "Hello", "finish_reason": "end_turn", "tool_calls": []},
        id="text",
    ),
    pytest.param(
        [
            start(),
            block(0, type="thinking", thinking="", signature=""),
            thinks(0, "Per"),
            thinks(0, "haps."),
            delta(0, type="signature_delta", signature="c2ln"),
            block(1, type="text", text=""),
            says(1, "Yes."),
            delta(1, type="citations_delta", citation={"cited_text": "elsewhere"}),
        ],
        {"reasoning": "Perhaps.", "text": "Yes."},
        id="thinking is kept apart from text; signatures and citations are not kept",
    ),
    pytest.param(
        [start(), block(0, type="text", text=""), says(0, "One."), tool_use(1), block(2, type="text"), says(2, "Two.")],
        {"text": "One.\nTwo."},
        id="texts of several blocks",
    ),
    pytest.param(
        [start(), tool_use(0), types(0, ""), types(0, '{"at":'), types(0, '"top"}')],
        {"tool_calls": [call('{"at":"top"}')]},
        id="a call's arguments come in pieces",
    ),
    pytest.param([start(), tool_use(0)], {"tool_calls": [call("{}")]}, id="a call without arguments"),
    pytest.param(
        [start(), tool_use(0), types(0, "")], {"tool_calls": [call("{}")]}, id="a call whose only piece is empty"
    ),
    pytest.param(
        [start(), tool_use(0), types(0, '{"at":"to'), ends({"output_tokens": 9}, "max_tokens")],
        {"tool_calls": [call('{"at":"to')], "finish_reason": "max_tokens"},
        id="arguments cut off",
    ),
    pytest.param(
        [
            start(),
            tool_use(0),
            tool_use(1, "toolu_2", "list"),
            types(0, '{"a"'),
            types(1, '{"b"'),
            types(0, ":1}"),
            types(1, ":2}"),
        ],
        {"tool_calls": [call('{"a":1}'), call('{"b":2}', "toolu_2", "list")]},
        id="two calls whose pieces come by turns",
    ),
    pytest.param(
        [start(), tool_use(0, input={"n": Decimal("1.10"), "s": "é"})],
        {"tool_calls": [call('{"n":1.10,"s":"é"}')]},
        id="the whole input is announced, without pieces",
    ),
    pytest.param(
        [start(), tool_use(0, input={"at": "top"}), types(0, '{"at":"end"}')],
        {"tool_calls": [call('{"at":"end"}')]},
        id="pieces count more than an input announced before",
    ),
    pytest.param(
        [start(), tool_use(7, "toolu_2"), tool_use(3), types(7, '{"b":2}'), types(3, '{"a":1}')],
        {"tool_calls": [call('{"a":1}'), call('{"b":2}', "toolu_2")]},
        id="indices with gaps and out of order",
    ),
    pytest.param(
        [start(), says(0, "a\0b\ud83d"), says(0, "\ude00c\ud800")],
        {"text": "ab😀c\ufffd"},
        id="NUL and halves of surrogate pairs in text",
    ),
    pytest.param(
        [start(), tool_use(0), types(0, '{"a":"\0"}')], {"tool_calls": [call('{"a":""}')]}, id="NUL in arguments"
    ),
    pytest.param([start(), says(0, "Hi.")], {"text": "Hi."}, id="a delta of a block nobody announced"),
    pytest.param(
        [{"type": "content_block_delta", "delta": {"type": "text_delta", "text": "Hi."}}],
        {"text": "Hi."},
        id="no index",
    ),
    pytest.param(
        [
            start(),
            {"type": "message_applause", "text": "?"},
            block(0, type="hologram", text=None, beams=4),
            delta(0, type="hologram_delta", text="?", beams=2),
            delta(0, type=["text_delta"], text="?"),
            stops(0),
        ],
        {"text": "", "tool_calls": [], "error": None},
        id="types that nobody knows",
    ),
    pytest.param(
        [
            start(),
            block(0, type="server_tool_use", id="srvtoolu_1", name="web_search", input={}),
            types(0, '{"query":"tides"}'),
            block(
                1,
                type="web_search_tool_result",
                tool_use_id="srvtoolu_1",
                content=[
                    {"type": "web_search_result", "title": "Tides", "url": "https://a.test", "encrypted_content": "x"}
                ],
            ),
            block(2, type="mcp_tool_use", id="mcptoolu_1", name="fetch", server_name="shelf", input={}),
            block(3, type="mcp_tool_result", tool_use_id="mcptoolu_1", is_error=True, content="Shut."),
        ],
        {
            "tool_calls": [
                ToolCall("srvtoolu_1", "web_search", "server_tool_use", "server", '{"query":"tides"}'),
                ToolCall("mcptoolu_1", "fetch", "mcp_tool_use", "server", "{}"),
            ],
            "tool_results": [
                ToolResult("srvtoolu_1", "web_search", "Tides\nhttps://a.test", False),
                ToolResult("mcptoolu_1", "fetch", "Shut.", True),
            ],
            "error": None,
        },
        id="the server's calls, with their results in the same answer",
    ),
    pytest.param(
        [
            start(),
            block(0, type="server_tool_use", id="s1", name="web_search", input={}),
            types(0, '{"query":"tides"}'),
            stops(0),
            block(1, type="web_search_tool_result", tool_use_id="s1", content=[{"title": "Tides"}]),
            stops(1),
            block(1, type="text", text=""),
            says(1, "High "),
            says(1, "tide."),
            stops(1),
            tool_use(0),
            types(0, '{"at":"top"}'),
            stops(0),
        ],
        {
            "text": "High tide.",
            "tool_calls": [
                ToolCall("s1", "web_search", "server_tool_use", "server", '{"query":"tides"}'),
                call('{"at":"top"}'),
            ],
            "tool_results": [ToolResult("s1", "web_search", "Tides", False)],
        },
        id="an index used again after its stop is another block",
    ),
    pytest.param(
        [
            *(start(), tool_use(0), types(0, '{"a":1}'), stops(0)),
            *(tool_use(0, name="list"), types(0, '{"b":2}'), stops(0)),
        ],
        {"tool_calls": [call('{"a":1}'), call('{"b":2}', name="list")]},
        id="an index and an id used again after a stop",
    ),
    pytest.param(
        [
            start(),
            tool_use(0),
            types(0, '{"a":1}'),
            tool_use(0, "toolu_2", "list"),
            types(0, '{"b":2}'),
            block(0, type="text", text="Done"),
            says(0, "."),
        ],
        {"tool_calls": [call('{"a":1}'), call('{"b":2}', "toolu_2", "list")], "text": "Done."},
        id="an index used again without a stop",
    ),
    pytest.param(
        [
            *(start(), tool_use(0), tool_use(1, "toolu_2", "list"), stops(1)),
            *(tool_use(1, "toolu_3", "draw"), types(0, '{"a":1}'), types(1, '{"c":3}')),
        ],
        {"tool_calls": [call('{"a":1}'), call("{}", "toolu_2", "list"), call('{"c":3}', "toolu_3", "draw")]},
        id="a block that is still open goes on while another index is used again",
    ),
    pytest.param(
        [start(), tool_use(0, name=""), types(0, '{"a"'), tool_use(0), types(0, ":1}")],
        {"tool_calls": [call('{"a":1}')]},
        id="a call announced again by its id is the same call",
    ),
    pytest.param(
        [start(), tool_use(0), types(0, '{"a":1}'), tool_use(0, name="", input=None)],
        {"tool_calls": [call('{"a":1}')]},
        id="a call announced again with less",
    ),
    pytest.param(
        [
            *(start(), block(0, type="text", text="One."), block(1, type="text", text="Two.")),
            *(stops(0), block(0, type="text", text="Three."), block(1, type="text", text="Four.")),
        ],
        {"text": "One.\nTwo.\nThree.\nFour."},
        id="blocks whose index came again stand behind the others",
    ),
    pytest.param(
        [
            start(),
            {"type": "content_block_start", "content_block": {"type": "text", "text": ""}},
            {"type": "content_block_delta", "delta": {"type": "text_delta", "text": "Look:"}},
            {"type": "content_block_stop"},
            {"type": "content_block_start", "content_block": {"type": "tool_use", "id": "toolu_1", "name": "look"}},
            {"type": "content_block_delta", "delta": {"type": "input_json_delta", "partial_json": '{"a":1}'}},
            {"type": "content_block_stop"},
        ],
        {"text": "Look:", "tool_calls": [call('{"a":1}')]},
        id="blocks without an index follow each other",
    ),
    pytest.param(
        [start(), block(5, type="text", text="Hi"), {"type": "content_block_delta", "delta": says(0, ".")["delta"]}],
        {"text": "Hi."},
        id="a piece without an index belongs to the last block",
    ),
    pytest.param(
        [start(), types(0, '{"a":'), tool_use(0), types(0, "1}")],
        {"tool_calls": [call('{"a":1}')]},
        id="a piece that comes before its block is announced",
    ),
    pytest.param(
        [start(), tool_use(0, input='{"at": "top"}')],
        {"tool_calls": [call('{"at": "top"}')]},
        id="an input that is a string is kept as sent",
    ),
    pytest.param([start(), tool_use(0, input="")], {"tool_calls": [call("{}")]}, id="an input that is an empty string"),
    pytest.param([start(), tool_use(0, input=None)], {"tool_calls": [call("{}")]}, id="an input of null"),
    pytest.param([start(), tool_use(0, input=[1])], {"tool_calls": [call("[1]")]}, id="an input that is a list"),
    pytest.param(
        [start(), tool_use(0), delta(0, type="input_json_delta", partial_json={"at": "top", "n": [1]})],
        {"tool_calls": [call('{"at":"top","n":[1]}')]},
        id="arguments that come as an object",
    ),
    pytest.param(
        [start(), tool_use(0, name="left_click", toolset_name="computer", input={"x": 1})],
        {"tool_calls": [call('{"x":1}', name="computer.left_click")]},
        id="a toolset's call is named with its toolset",
    ),
    pytest.param(
        [start(), block(0, type="dream_tool_use", id="d1", name="dream", input={})],
        {"tool_calls": [ToolCall("d1", "dream", "dream_tool_use", "server", "{}")]},
        id="a call of a kind that nobody knows yet",
    ),
    pytest.param(
        [
            start(),
            block(0, type="compaction", content=None),
            delta(0, type="compaction_delta", content="They spoke ", encrypted_content=None),
            delta(0, type="compaction_delta", content="of tides."),
            stops(0),
            block(1, type="text", text=""),
            says(1, "Go on."),
        ],
        {"text": "They spoke of tides.\nGo on.", "started": True},
        id="a summary that the server made the model write is text",
    ),
    pytest.param(
        [
            start(),
            block(0, type="server_tool_use", id="s1", name="bash_code_execution", input={}),
            block(
                1,
                type="bash_code_execution_tool_result",
                tool_use_id="s1",
                content={"type": "bash_code_execution_result", "stdout": "", "stderr": "", "return_code": 0},
            ),
        ],
        {"tool_results": []},
        id="a call that the server ran without a word and without failure has no result",
    ),
    pytest.param(
        [
            start(
                {"input_tokens": 0, "output_tokens": 0},
                content=[{"type": "tool_use", "id": "toolu_1", "name": "look", "input": {"at": "top"}}],
                stop_reason="tool_use",
            ),
            STOP,
        ],
        {
            "tool_calls": [call('{"at":"top"}')],
            "finish_reason": "tool_use",
            "usage": Usage(input_tokens=0, output_tokens=0),
            "started": True,
            "ended": True,
            "usage_final": True,
        },
        id="the start is the whole answer, as for calls made from code",
    ),
    pytest.param(
        [*PLAIN, start({"input_tokens": 99}), says(0, "!"), ends({"output_tokens": 5})],
        {"response_id": "msg_1", "text": "Hello!", "usage": Usage(input_tokens=10, output_tokens=5)},
        id="the same message announced twice",
    ),
    pytest.param(
        [
            start({"input_tokens": 10, "cache_read_input_tokens": 4}),
            block(0, type="text", text=""),
            says(0, "Let me see."),
            tool_use(1, "toolu_lost"),
            types(1, '{"at":'),
            start({"input_tokens": 12}, id="msg_2", model="claude-y"),
            tool_use(0, "toolu_2"),
            types(0, '{"at":"end"}'),
            ends({"output_tokens": 7}, "tool_use"),
            STOP,
        ],
        {
            "response_id": "msg_2",
            "model": "claude-y",
            "text": "",
            "tool_calls": [call('{"at":"end"}', "toolu_2")],
            "usage": Usage(input_tokens=12, output_tokens=7),
            "started": True,
            "ended": True,
        },
        id="another message takes the place of the first",
    ),
    pytest.param(
        [*PLAIN, {"type": "error", "error": {"message": "Lost it."}}, start(id="msg_2")],
        {"response_id": "msg_2", "text": "", "started": True, "error": Problem("Lost it."), "usage": Usage()},
        id="another message: what the client has already got of the first stays true",
    ),
    pytest.param(
        [*PLAIN, start(id="msg_2"), says(0, "Again.")],
        {"text": "Again."},
        id="another message, whose block nobody announced",
    ),
    pytest.param(
        [start(), block(0, type="fallback", **{"from": {"model": "claude-x"}, "to": {"model": "claude-y"}})],
        {"model": "claude-y", "response_id": "msg_1"},
        id="a fallback says which model speaks from here",
    ),
    pytest.param(
        [
            start(),
            ends(
                {"output_tokens": 3, "iterations": [{"type": "message"}, {"type": "fallback_message", "model": "m2"}]}
            ),
        ],
        {"model": "m2", "extra_passes": []},
        id="a pass says that a fallback model served",
    ),
]


@pytest.mark.parametrize(("events", "expected"), CONTENT)
def test_content_of_a_stream(events: list[Json], expected: dict[str, object]) -> None:
    assert fields_of(read(*events), expected) == expected


@pytest.mark.parametrize(
    ("events", "started"),
    [
        pytest.param([{"type": "ping"}, start(), block(0, type="text", text="")], False, id="an empty block"),
        pytest.param([start(), says(0, "")], False, id="an empty piece"),
        pytest.param([start(), delta(0, type="signature_delta", signature="c2ln")], False, id="a signature"),
        pytest.param([start(), says(0, "H")], True, id="text"),
        pytest.param([start(), thinks(0, "H")], True, id="thinking"),
        pytest.param([start(), types(0, "{")], True, id="arguments"),
        pytest.param([start(), tool_use(0)], True, id="the name of a tool"),
        pytest.param([start(content=[{"type": "text", "text": "Hi."}])], True, id="a filled start"),
    ],
)
def test_an_answer_starts_with_its_first_token(events: list[Json], started: bool) -> None:
    reader = messages.reader(RequestFacts())
    for event in events:
        reader.event(event)
    assert reader.answer.started is started


# ---- Streams: how they end ----

ENDS = [
    pytest.param([*PLAIN], {"ended": False, "finish_reason": None, "recognised": True}, id="cut off"),
    pytest.param([*PLAIN, ends()], {"ended": True, "finish_reason": "end_turn"}, id="a stop reason"),
    pytest.param([*PLAIN, STOP], {"ended": True, "finish_reason": None}, id="message_stop alone"),
    pytest.param([{"type": "ping"}], {"ended": False, "recognised": True, "reported_usage": None}, id="only a ping"),
    pytest.param([{"type": "chunk"}, {}], {"ended": False, "recognised": False}, id="nothing of this kind"),
    pytest.param([*PLAIN, ends(), ends(stop_reason=None)], {"finish_reason": "end_turn"}, id="null takes nothing back"),
    pytest.param(
        [
            *PLAIN,
            ends(
                {"output_tokens": 2},
                "refusal",
                stop_details={"type": "refusal", "category": "bio", "explanation": "A reason in words."},
            ),
        ],
        {
            "finish_reason": "refusal",
            "finish_detail": "bio",
            "error": None,
            "ended": True,
            "usage": Usage(input_tokens=10, output_tokens=2),
        },
        id="a refusal is no error",
    ),
    pytest.param(
        [*PLAIN, {"type": "error", "error": {"type": "overloaded_error", "message": "Too busy."}}],
        {
            "error": Problem("Too busy.", "overloaded_error", 529),
            "ended": False,
            "text": "Hello",
            "usage": Usage(input_tokens=10),
            "usage_final": False,
        },
        id="an error after the start",
    ),
    pytest.param(
        [{"error": {"message": "No credit.", "code": 402}, "generationId": "gen_1"}],
        {"error": Problem("No credit.", None, 402), "generation_id": "gen_1", "ended": False, "recognised": True},
        id="an error instead of a start",
    ),
    pytest.param([*PLAIN, ends() | {"error": None}], {"error": None, "ended": True}, id="an error of null is none"),
]


@pytest.mark.parametrize(("events", "expected"), ENDS)
def test_the_end_of_a_stream(events: list[Json], expected: dict[str, object]) -> None:
    assert fields_of(read(*events), expected) == expected


def test_the_name_of_an_event_stands_in_for_a_missing_type_only() -> None:
    reader = messages.reader(RequestFacts())
    reader.event({"message": {"id": "msg_1"}}, "message_start")
    reader.event(says(0, "Hi."), "message_stop")
    assert fields_of(reader.finish(), {"response_id": "", "text": "", "ended": ""}) == {
        "response_id": "msg_1",
        "text": "Hi.",
        "ended": False,
    }


@pytest.mark.parametrize(
    ("events", "cost"),
    [
        pytest.param(
            [start(), ends(), STOP, {"type": "ping", "cost": "0.00042"}], "0.00042", id="a ping after the stop"
        ),
        pytest.param([{"type": "ping", "cost": "0.1"}, start()], "0.1", id="a ping before the start"),
        pytest.param([start(), {"choices": [], "cost": Decimal("0.2")}, STOP], Decimal("0.2"), id="a frame of its own"),
        pytest.param(
            [start(), STOP, {"type": "ping", "cost": "0.00042"}, {"type": "ping", "cost": "0"}],
            "0.00042",
            id="a later one after the stop is what is charged",
        ),
        pytest.param([start(cost="0.3"), {"type": "ping", "cost": None}], "0.3", id="null says nothing"),
        pytest.param(
            [{"type": "ping", "cost": "0.1"}, {"type": "ping", "cost": "0.2"}], "0.2", id="a later figure is the truer"
        ),
        pytest.param([start(), {"type": "ping"}], None, id="none"),
    ],
)
def test_a_gateways_own_figure_in_a_stream(events: list[Json], cost: object) -> None:
    answer = read(*events)
    assert answer.own_cost == cost
    assert answer.recognised


def test_what_follows_done_is_still_read() -> None:
    reader = messages.reader(RequestFacts())
    reader.event(start({"input_tokens": 3}))
    reader.done()
    for event in (ends({"output_tokens": 2}), STOP, {"type": "ping", "cost": "0.00042"}, {"type": "ping", "cost": "0"}):
        reader.event(event)
    answer = reader.finish()
    assert (answer.usage, answer.usage_final) == (Usage(3, output_tokens=2), True)
    assert (answer.own_cost, answer.own_charge) == ("0.00042", "0")


def test_a_call_announced_again_changes_no_event() -> None:
    first = tool_use(0, name="")
    read(start(), first, tool_use(0))
    assert first == tool_use(0, name="")


def test_done_is_not_the_end_of_a_message() -> None:
    reader = messages.reader(RequestFacts())
    reader.event(start())
    reader.done()
    assert not reader.finish().ended


# ---- Streams: usage ----

FULL_START: Json = {
    "input_tokens": 10,
    "cache_creation_input_tokens": 200,
    "cache_read_input_tokens": 3000,
    "cache_creation": {"ephemeral_5m_input_tokens": 0, "ephemeral_1h_input_tokens": 200},
    "output_tokens": 1,
    "service_tier": "standard",
    "speed": "fast",
    "inference_geo": "us",
}
ZEROS: Json = {"input_tokens": 0, "cache_creation_input_tokens": 0, "cache_read_input_tokens": None, "output_tokens": 0}

USAGE_OF_A_STREAM = [
    pytest.param(
        FULL_START, [{"output_tokens": 25}], Usage(3210, 3000, 200, 200, 25), id="only the output is counted at the end"
    ),
    pytest.param(
        {"input_tokens": 1200},
        [ZEROS | {"output_tokens": 8}],
        Usage(1200, output_tokens=8),
        id="zeros at the end replace no count of the input",
    ),
    pytest.param(
        ZEROS,
        [{"input_tokens": 1200, "output_tokens": 80}],
        Usage(1200, None, 0, None, 80),
        id="zeros at the start, counts at the end",
    ),
    pytest.param(
        {"input_tokens": 5},
        [{"output_tokens": 9}, {"output_tokens": 30}],
        Usage(5, output_tokens=30),
        id="counts are cumulative",
    ),
    pytest.param(
        {"input_tokens": 3, "cache_read_input_tokens": 40000},
        [{"output_tokens": 1}],
        Usage(40003, 40000, output_tokens=1),
        id="what is read from the cache is part of the input",
    ),
    pytest.param(
        FULL_START, [{"output_tokens": 25}, None], Usage(3210, 3000, 200, 200, 25), id="no usage replaces nothing"
    ),
    pytest.param(
        {"input_tokens": 100, "cache_read_input_tokens": 55096},
        [{"input_tokens": 181, "cache_read_input_tokens": 0, "output_tokens": 6}],
        Usage(181, 0, output_tokens=6),
        id="a zero next to a count is true",
    ),
    pytest.param(
        {"input_tokens": 10, "cache_read_input_tokens": 30},
        [{"input_tokens": None, "cache_read_input_tokens": 90, "output_tokens": 6}],
        Usage(100, 90, output_tokens=6),
        id="null next to a count replaces nothing",
    ),
    pytest.param(
        FULL_START | {"output_tokens_details": {"thinking_tokens": 0}},
        [],
        Usage(3210, 3000, 200, 200),
        id="the start counts no output",
    ),
    pytest.param(ZEROS, [], Usage(), id="zeros at the start say nothing"),
    pytest.param(None, [], Usage(), id="no usage at all"),
    pytest.param({"input_tokens": 7, "output_tokens": 1}, [{"input_tokens": 9}], Usage(9), id="output never counted"),
    pytest.param(
        None, [{"input_tokens": 9, "output_tokens": 2}], Usage(9, output_tokens=2), id="no usage in the start"
    ),
    pytest.param(
        {"cache_read_input_tokens": 30}, [{"output_tokens": 2}], Usage(None, 30, output_tokens=2), id="no input_tokens"
    ),
    pytest.param(
        {"input_tokens": 9, "output_tokens_details": {"thinking_tokens": 0}},
        [{"output_tokens": 20, "output_tokens_details": {"thinking_tokens": 15}}],
        Usage(9, output_tokens=20, reasoning_tokens=15),
        id="thinking is part of the output",
    ),
    pytest.param(
        {"input_tokens": 9},
        [{"output_tokens": 20, "output_tokens_details": None}],
        Usage(9, output_tokens=20),
        id="null details",
    ),
    pytest.param(
        {"input_tokens": Decimal("12.0")},
        [{"output_tokens": "12"}],
        Usage(12, output_tokens=12),
        id="counts as a fraction or a string",
    ),
    pytest.param(
        {"input_tokens": True, "cache_read_input_tokens": -1},
        [{"output_tokens": 2}],
        Usage(output_tokens=2),
        id="counts that are none",
    ),
    pytest.param(
        {"input_tokens": 9},
        [{"output_tokens": 20}, {"input_tokens": "many", "output_tokens": {}}],
        Usage(9, output_tokens=20),
        id="nonsense replaces nothing",
    ),
    pytest.param(
        FULL_START,
        [{"cache_creation_input_tokens": 300, "output_tokens": 5}],
        Usage(3310, 3000, 300, 200, 5),
        id="writes that no split tells apart are short-lived",
    ),
    pytest.param(
        FULL_START | {"cache_creation": {"ephemeral_5m_input_tokens": 50, "ephemeral_1h_input_tokens": 150}},
        [{"cache_creation_input_tokens": 160, "output_tokens": 5}],
        Usage(3170, 3000, 160, None, 5),
        id="a split of more than was written is of another pass",
    ),
    pytest.param(
        {"input_tokens": 1, "cache_creation_input_tokens": 20},
        [{"output_tokens": 5}],
        Usage(21, None, 20, None, 5),
        id="no split",
    ),
    pytest.param(ZEROS, [{"output_tokens": 80}], Usage(None, None, 0, None, 80), id="an input of 0 is no count"),
    pytest.param(
        {"input_tokens": 900, "cache_read_input_tokens": 300},
        [{"output_tokens": 5, "total_tokens": 905}],
        Usage(900, 300, output_tokens=5),
        id="the total tells that the input includes what was cached",
    ),
    pytest.param(
        {"input_tokens": 900, "cache_read_input_tokens": 300, "total_tokens": 905},
        [{"output_tokens": 5}],
        Usage(1200, 300, output_tokens=5),
        id="a total that was given before the output was counted tells nothing",
    ),
    pytest.param({"input_tokens": 2**63 - 1, "cache_read_input_tokens": 1}, [], Usage(None, 1), id="beyond SQLite"),
]


@pytest.mark.parametrize(("opening", "deltas", "usage"), USAGE_OF_A_STREAM)
def test_usage_of_a_stream(opening: Json | None, deltas: list[Json | None], usage: Usage) -> None:
    assert read(start(opening), *(ends(counts, None) for counts in deltas)).usage == usage


@pytest.mark.parametrize(
    "end",
    [
        ends({"output_tokens": 2, "input_tokens": 3}),
        ends(usage={"output_tokens": 2, "input_tokens": 3}, stop_reason=None),
        {"type": "message_delta", "delta": {"usage": {"output_tokens": 2, "input_tokens": 3}}},
        STOP | {"usage": {"output_tokens": 2, "input_tokens": 3}},
    ],
    ids=["beside the reason", "without a reason", "inside the delta", "in message_stop"],
)
def test_where_the_counts_may_stand(end: Json) -> None:
    assert read(start({"input_tokens": 1}), end, STOP).usage == Usage(3, output_tokens=2)


@pytest.mark.parametrize(
    ("events", "final"),
    [
        pytest.param([start(FULL_START)], False, id="only the start"),
        pytest.param([start(FULL_START), ends({"output_tokens": 5}, None)], False, id="no end"),
        pytest.param([start(FULL_START), ends()], False, id="no count of the output"),
        pytest.param([start(FULL_START), STOP], False, id="message_stop, but no count of the output"),
        pytest.param([start(FULL_START), ends({"output_tokens": 5})], True, id="count and stop reason together"),
        pytest.param([start(FULL_START), ends({"output_tokens": 5}, None), STOP], True, id="count, then message_stop"),
    ],
)
def test_usage_is_final_once_the_output_is_counted_and_the_end_seen(events: list[Json], final: bool) -> None:
    assert read(*events).usage_final is final


def test_usage_is_reported_as_the_stream_left_it() -> None:
    cost = {"cost": Decimal("0.00420"), "is_byok": False, "cost_details": {"upstream_inference_cost": None}}
    answer = read(
        start(FULL_START | {"server_tool_use": {"web_search_requests": 0}}),
        ends({"output_tokens": 5, "server_tool_use": {"web_search_requests": 2}, "service_tier": None} | cost),
    )
    assert (
        answer.reported_usage == FULL_START | {"output_tokens": 5, "server_tool_use": {"web_search_requests": 2}} | cost
    )
    assert str(answer.reported_usage["cost"]) == "0.00420"
    assert answer.service_tier == "standard"
    assert answer.price_context == {"speed": "fast", "inference_geo": "us"}


def test_passes_that_the_counts_leave_out_are_listed_with_their_models() -> None:
    iterations = [
        {"type": "compaction", "input_tokens": 70, "output_tokens": 9},
        {"type": "message", "input_tokens": 10, "output_tokens": 5},
        {
            "type": "advisor_message",
            "model": "claude-o",
            "input_tokens": 3,
            "cache_read_input_tokens": 4,
            "output_tokens": 2,
        },
        "pass",
    ]
    answer = read(start({"input_tokens": 10}), ends({"output_tokens": 5, "iterations": iterations}))
    assert answer.usage == Usage(10, output_tokens=5)
    assert answer.extra_passes == [
        Pass(None, Usage(70, output_tokens=9)),
        Pass("claude-o", Usage(7, 4, output_tokens=2)),
    ]


LOOP: list[Json] = [
    {"type": "message", "input_tokens": 7, "cache_creation_input_tokens": 20, "output_tokens": 2},
    {"type": "message", "input_tokens": 9, "cache_read_input_tokens": 20, "output_tokens": 3},
]
LOOP_USAGE: Json = {
    "input_tokens": 16,
    "cache_creation_input_tokens": 20,
    "cache_read_input_tokens": 20,
    "output_tokens": 5,
}
LOOP_PASSES = [Pass(None, Usage(27, None, 20, output_tokens=2)), Pass(None, Usage(29, 20, output_tokens=3))]


@pytest.mark.parametrize(
    ("usage", "passes"),
    [
        pytest.param(LOOP_USAGE | {"iterations": LOOP}, LOOP_PASSES, id="a loop of server tools"),
        pytest.param(
            LOOP_USAGE | {"iterations": [{"type": "compaction", "input_tokens": 70, "output_tokens": 9}, *LOOP]},
            LOOP_PASSES,
            id="beside a pass that the counts leave out",
        ),
        pytest.param(
            LOOP_USAGE
            | {
                "iterations": [
                    {"type": "message", "model": "claude-w", "input_tokens": 7, "output_tokens": 0},
                    LOOP[1] | {"model": "claude-y", "type": "fallback_message"},
                ]
            },
            [Pass("claude-w", Usage(7, output_tokens=0)), Pass("claude-y", LOOP_PASSES[1].usage)],
            id="a model that declined, and the one that served",
        ),
        pytest.param(LOOP_USAGE | {"iterations": LOOP[:1]}, LOOP_PASSES[:1], id="whether or not they add up"),
        pytest.param({"iterations": [{"type": "message"}]}, [Pass(None, Usage())], id="a pass without counts"),
        pytest.param(LOOP_USAGE | {"iterations": None}, [], id="null"),
        pytest.param(LOOP_USAGE, [], id="no passes"),
    ],
)
def test_the_passes_that_an_answer_was_made_in(usage: Json, passes: list[Pass]) -> None:
    assert read(start({"input_tokens": 7}), ends(usage)).passes == passes
    assert read_body({"type": "message", "content": [], "usage": usage}).passes == passes


@pytest.mark.parametrize(
    ("used", "fees"),
    [
        ({"web_search_requests": 5, "web_fetch_requests": 0}, {"web_searches": 5}),
        ({"web_search_requests": 0}, {}),
        ({"code_execution_requests": 2}, {"code_executions": 2}),
        ({"web_fetch_requests": 3, "tool_search_requests": 2}, {}),
        ({"dream_requests": 1, "bad": "many", "worse": None}, {"dream_requests": 1}),
        (None, {}),
        (["web_search_requests"], {}),
    ],
    ids=["searches", "none", "code", "free of charge", "unknown", "null", "wrong type"],
)
def test_fees_are_named_as_the_price_table_does(used: object, fees: dict[str, int]) -> None:
    usage = {"input_tokens": 9, "output_tokens": 5, "server_tool_use": used}
    assert read(start({"server_tool_use": {"web_search_requests": 0}}), ends(usage)).fees == fees
    assert read_body({"type": "message", "content": [], "usage": usage}).fees == fees


@pytest.mark.parametrize(
    ("credit", "context"),
    [
        ({"status": {"type": "redeemed"}}, {"fallback_credit": "redeemed"}),
        ({"status": {"type": "not_applied", "reason": "expired"}}, {}),
        ({"status": {"type": "dreamt"}}, {"fallback_credit": "dreamt"}),
        ({"status": None}, {}),
        (None, {}),
    ],
    ids=["redeemed", "not applied", "unknown", "no status", "null"],
)
def test_a_fallback_credit_changes_prices_where_it_was_redeemed(credit: object, context: dict[str, str]) -> None:
    usage = {"input_tokens": 9, "output_tokens": 5, "fallback_credit": credit}
    assert read(start({"input_tokens": 9}), ends(usage)).price_context == context
    assert read_body({"type": "message", "content": [], "usage": usage}).price_context == context


@pytest.mark.parametrize(
    ("usage", "hidden", "warnings"),
    [
        pytest.param({"total_tokens": 1275}, False, [], id="the total is the sum"),
        pytest.param({"total_tokens": 1015}, False, [], id="the total is the sum without what was cached"),
        pytest.param({"total_tokens": 1300}, True, [], id="the total has more than the counts"),
        pytest.param({"total_tokens": 1100}, False, ["usage_ambiguous"], id="the total fits neither reading"),
        pytest.param({"total_tokens": 7}, False, [], id="a total that cannot be"),
        pytest.param({"output_tokens_details": {"thinking_tokens": 40}}, True, [], id="more thinking than output"),
        pytest.param({"output_tokens_details": {"thinking_tokens": 15}}, False, [], id="thinking is all of the output"),
        pytest.param({}, False, [], id="no total"),
    ],
)
def test_tokens_that_the_counts_hide(usage: Json, hidden: bool, warnings: list[str]) -> None:
    usage = {"input_tokens": 1000, "cache_read_input_tokens": 260, "output_tokens": 15} | usage
    for answer in (read(start({"input_tokens": 3}), ends(usage)), read_body({"type": "message", "usage": usage})):
        assert (answer.hidden_tokens, answer.warnings) == (hidden, warnings)


@pytest.mark.parametrize("key", ["provider_metadata", "providerMetadata"])
def test_the_metadata_of_vercels_gateway(key: str) -> None:
    gateway = {"cost": "0", "marketCost": "0.0123", "generationId": "gen_1"}
    beside = {key: {"gateway": gateway, "anthropic": {"cacheCreationInputTokens": 0}}, "generationId": "gen_1"}
    for answer in (
        read(start(ZEROS), ends({"input_tokens": 12, "output_tokens": 3}) | beside, STOP),
        read(start(ZEROS, **beside), STOP),
        read_body({"type": "message", "content": []} | beside),
    ):
        assert (answer.gateway, answer.generation_id) == (gateway, "gen_1")


# ---- Whole answers ----

BODIES = [
    pytest.param(
        {
            "id": "msg_1",
            "type": "message",
            "role": "assistant",
            "model": "claude-x",
            "stop_reason": "tool_use",
            "content": [
                {"type": "thinking", "thinking": "Where?", "signature": "c2ln"},
                {"type": "text", "text": "I look."},
                {"type": "tool_use", "id": "toolu_1", "name": "look", "input": {"at": "top"}},
            ],
            "usage": FULL_START | {"output_tokens": 25, "output_tokens_details": {"thinking_tokens": 5}},
        },
        {
            "response_id": "msg_1",
            "model": "claude-x",
            "finish_reason": "tool_use",
            "text": "I look.",
            "reasoning": "Where?",
            "tool_calls": [call('{"at":"top"}')],
            "usage": Usage(3210, 3000, 200, 200, 25, 5),
            "service_tier": "standard",
            "recognised": True,
            "ended": True,
            "usage_final": True,
        },
        id="message",
    ),
    pytest.param(
        {"type": "message", "content": None, "usage": None},
        {"text": "", "ended": True, "usage": Usage(), "reported_usage": None, "usage_final": False},
        id="no content",
    ),
    pytest.param(
        {"type": "message", "content": [], "usage": {"input_tokens": 0, "output_tokens": 0}},
        {"usage": Usage(0, output_tokens=0), "usage_final": True},
        id="zeros of a whole answer are counts",
    ),
    pytest.param(
        {
            "type": "message",
            "model": "claude-x",
            "content": [{"type": "fallback", "from": {"model": "claude-x"}, "to": {"model": "claude-y"}}],
        },
        {"model": "claude-y"},
        id="a fallback in the content",
    ),
    pytest.param(
        {"type": "error", "error": {"type": "not_found_error", "message": "Which model?"}, "request_id": "req_1"},
        {"error": Problem("Which model?", "not_found_error", 404), "recognised": True, "ended": False},
        id="an error instead of a message",
    ),
    pytest.param({"input_tokens": 12}, {"recognised": False, "ended": False, "usage": Usage()}, id="another kind"),
    pytest.param(
        {"content": [{"type": "text", "text": "Hi."}], "provider": "Bedrock", "stop_reason": "end_turn"},
        {"text": "Hi.", "inference_provider": "Bedrock", "recognised": True, "ended": True},
        id="a compatible back end without `type`",
    ),
    pytest.param(
        {
            "type": "message",
            "content": [
                {"type": "server_tool_use", "id": "s1", "name": "bash_code_execution", "input": {}},
                {
                    "type": "bash_code_execution_tool_result",
                    "tool_use_id": "s1",
                    "content": {
                        "type": "bash_code_execution_result",
                        "stdout": "a line",
                        "stderr": "no such file",
                        "return_code": 2,
                        "content": [{"type": "bash_code_execution_output", "file_id": "file_1"}],
                    },
                },
                {
                    "type": "web_fetch_tool_result",
                    "tool_use_id": "s2",
                    "content": {"type": "web_fetch_tool_result_error", "error_code": "url_not_accessible"},
                },
                {
                    "type": "code_execution_tool_result",
                    "tool_use_id": "s3",
                    "content": {"type": "code_execution_result", "stdout": "fine", "stderr": "", "return_code": 0},
                },
            ],
        },
        {
            "tool_results": [
                ToolResult("s1", "bash_code_execution", "a line\nno such file", True),
                ToolResult("s2", None, "url_not_accessible", True),
                ToolResult("s3", None, "fine", False),
            ]
        },
        id="how server tools fail",
    ),
    pytest.param(
        {"type": "message", "content": [{"type": "tool_use", "id": "toolu_1", "name": "look", "input": '{"at": 1}'}]},
        {"tool_calls": [call('{"at": 1}')]},
        id="an input that is a string",
    ),
    pytest.param(
        {"type": "message", "content": "Hi.", "cost": "0.00042"},
        {"text": "Hi.", "own_cost": "0.00042", "started": True},
        id="a content that is a string, and a gateway's own figure",
    ),
    pytest.param(
        {"type": "message", "content": [], "usage": {"input_tokens": 0, "output_tokens": 7}},
        {"usage": Usage(None, output_tokens=7)},
        id="an input of 0 is no count",
    ),
]


def file(**source: Any) -> Json:
    return {"type": "document", "title": "X", "context": "of a house", "source": source}


RESULTS = [
    pytest.param(
        "tool_search_tool_result",
        {
            "type": "tool_search_tool_search_result",
            "tool_references": [
                {"type": "tool_reference", "tool_name": "git_log"},
                {"type": "tool_reference", "tool_name": "git_show"},
            ],
        },
        "git_log\ngit_show",
        False,
        id="tools that a search found",
    ),
    pytest.param(
        "web_fetch_tool_result",
        {
            "type": "web_fetch_result",
            "url": "https://a.test",
            "content": file(type="text", media_type="text/plain", data="a page"),
        },
        "https://a.test\nX\nof a house\na page",
        False,
        id="a page",
    ),
    pytest.param(
        "web_fetch_tool_result",
        {
            "type": "web_fetch_result",
            "url": "https://a.test",
            "content": file(type="base64", media_type="application/pdf", data="aGVsbG8="),
        },
        "https://a.test\nX\nof a house",
        False,
        id="a file",
    ),
    pytest.param(
        "mcp_tool_result",
        [file(type="content", content=[{"type": "text", "text": "one"}, {"type": "text", "text": "two"}])],
        "X\nof a house\none\ntwo",
        False,
        id="a document of blocks",
    ),
    pytest.param("mcp_tool_result", [file(type="content", content="one")], "X\nof a house\none", False, id="of text"),
    pytest.param(
        "text_editor_code_execution_tool_result",
        {"type": "text_editor_code_execution_view_result", "content": "line 1\nline 2", "file_type": "text"},
        "line 1\nline 2",
        False,
        id="a file's lines",
    ),
    pytest.param(
        "text_editor_code_execution_tool_result",
        {"type": "text_editor_code_execution_str_replace_result", "lines": ["-old", "+new"], "old_start": 1},
        "-old\n+new",
        False,
        id="an edit",
    ),
    pytest.param(
        "text_editor_code_execution_tool_result",
        {"type": "text_editor_code_execution_create_result", "is_file_update": False},
        None,
        None,
        id="a file created",
    ),
    pytest.param(
        "text_editor_code_execution_tool_result",
        {
            "type": "text_editor_code_execution_tool_result_error",
            "error_code": "file_not_found",
            "error_message": "No x.",
        },
        "file_not_found\nNo x.",
        True,
        id="an error with a message",
    ),
    pytest.param(
        "code_execution_tool_result",
        {"type": "encrypted_code_execution_result", "encrypted_stdout": "eA==", "stderr": "careful", "return_code": 0},
        "careful",
        False,
        id="an output that is encrypted but for the errors",
    ),
    pytest.param(
        "code_execution_tool_result",
        {"type": "code_execution_result", "stdout": "", "stderr": "", "return_code": 1, "content": []},
        "",
        True,
        id="a failure without words",
    ),
    pytest.param(
        "code_execution_tool_result",
        {"type": "code_execution_result", "stdout": "", "stderr": "", "return_code": Decimal("-9.0")},
        "",
        True,
        id="killed",
    ),
    pytest.param(
        "web_search_tool_result",
        [{"type": "web_search_tool_result_error", "error_code": "max_uses_exceeded"}],
        "max_uses_exceeded",
        True,
        id="an error in a list",
    ),
    pytest.param("dream_tool_result", {"error_code": "woken"}, "woken", True, id="an error of a tool nobody knows"),
    pytest.param("web_search_tool_result", [], None, None, id="nothing found"),
    pytest.param("advisor_tool_result", {"type": "advisor_result", "text": "Stop."}, "Stop.", False, id="advice"),
    pytest.param(
        "advisor_tool_result",
        {"type": "advisor_redacted_result", "encrypted_content": "eA=="},
        None,
        None,
        id="advice that nobody may read",
    ),
]


@pytest.mark.parametrize(("kind", "content", "words", "is_error"), RESULTS)
def test_results_of_server_tools(kind: str, content: object, words: str | None, is_error: bool | None) -> None:
    """A tool that the server ran has a result if it brought text or failed."""
    result = {"type": kind, "tool_use_id": "s1", "content": content}
    expected = [] if words is None else [ToolResult("s1", None, words, is_error)]
    assert read(start(), block(0, **result)).tool_results == expected
    assert read_body({"type": "message", "content": [result]}).tool_results == expected


@pytest.mark.parametrize(("body", "expected"), BODIES)
def test_a_whole_answer(body: Json, expected: dict[str, object]) -> None:
    assert fields_of(read_body(body), expected) == expected


# ---- Requests ----


def user(content: object) -> Json:
    return {"role": "user", "content": content}


def assistant(*blocks: Json) -> Json:
    return {"role": "assistant", "content": list(blocks)}


def said(words: str) -> Json:
    return {"type": "text", "text": words}


LOOK: Json = {"type": "tool_use", "id": "toolu_1", "name": "look", "input": {"at": "top"}}
FOUND: Json = {"type": "tool_result", "tool_use_id": "toolu_1", "content": "a file"}


def changes(how: str, **tool: Any) -> Json:
    return {"type": f"tool_{how}", "tool": tool}


REQUESTS = [
    pytest.param(
        {"model": "claude-x", "max_tokens": 4096, "stream": True, "messages": [user("Hi.")]},
        {"model": "claude-x", "max_tokens": 4096, "streamed": True, "user_prompt": "Hi.", "side_request": None},
        id="plain",
    ),
    pytest.param(
        {"model": 5, "max_tokens": True, "stream": "yes", "system": 1, "tools": {}, "thread": [], "messages": None},
        {
            "model": None,
            "max_tokens": None,
            "streamed": False,
            "system_prompt": None,
            "user_prompt": None,
            "tools": [],
            "previous_id": None,
        },
        id="wrong types",
    ),
    pytest.param(
        {"messages": ["Hi.", None, user(3), user([7, said("Well?")]), {"role": ["user"], "content": "No."}]},
        {"user_prompt": "Well?"},
        id="elements that are no objects",
    ),
    pytest.param({"system": "Be brief.", "messages": []}, {"system_prompt": "Be brief."}, id="system string"),
    pytest.param(
        {
            "system": [said("x-anthropic-billing-header: cc_version=1; cch=abc;"), said("Be brief."), said("Be kind.")],
            "messages": [],
        },
        {"system_prompt": "Be brief.\nBe kind."},
        id="system blocks without the billing line, which changes with every call",
    ),
    pytest.param(
        {
            "system": "Be brief.",
            "messages": [user("Hi."), {"role": "system", "content": "It is late."}, user("Bye.")],
        },
        {"system_prompt": "Be brief.\nIt is late.", "user_prompt": "Bye."},
        id="a system message in mid-conversation",
    ),
    pytest.param(
        {
            "system": "Be brief.",
            "messages": [
                user("<system-reminder>Rain.</system-reminder>"),
                user("Hi."),
                {"role": "system", "content": "It is late."},
                user("Bye."),
            ],
        },
        {"opening_system": "Be brief.", "first_prompt": "Hi."},
        id="what a conversation began with is in all of its requests",
    ),
    pytest.param(
        {"thread": {"type": "continue", "previous_message_id": "msg_1"}, "messages": [user("Bye.")]},
        {"previous_id": "msg_1", "first_prompt": None},
        id="a continued thread began before",
    ),
    pytest.param(
        {"messages": [user("Where is it?"), assistant(LOOK), user([FOUND])]},
        {"user_prompt": "Where is it?"},
        id="a turn of results only",
    ),
    pytest.param(
        {"messages": [user("Where?"), assistant(LOOK), user([FOUND, said("And quickly, please.")])]},
        {"user_prompt": "And quickly, please."},
        id="words beside a result",
    ),
    pytest.param(
        {"messages": [user("Where?"), user([said("<system-reminder>Mind the list.</system-reminder>")])]},
        {"user_prompt": "Where?"},
        id="a turn of reminders only",
    ),
    pytest.param(
        {
            "messages": [
                user("What is this?"),
                user([{"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "aGVsbG8="}}]),
                user([{"type": "document", "title": "A deed", "context": "of a house", "source": {"type": "file"}}]),
            ]
        },
        {"user_prompt": "What is this?"},
        id="images and documents are no words",
    ),
    pytest.param(
        {
            "messages": [
                user("Go on."),
                assistant(LOOK, LOOK | {"id": "toolu_2"}, LOOK | {"id": "toolu_3", "name": "list"}),
                user(
                    [
                        {"type": "tool_result", "tool_use_id": "toolu_1"},
                        {
                            "type": "tool_result",
                            "tool_use_id": "toolu_2",
                            "content": [
                                said("one"),
                                {"type": "image", "source": {"type": "base64", "data": "aGVsbG8="}},
                                {
                                    "type": "search_result",
                                    "title": "A page",
                                    "source": "shelf",
                                    "content": [said("two")],
                                },
                            ],
                        },
                        {"type": "tool_result", "tool_use_id": "toolu_3", "content": "Shut.", "is_error": True},
                        {"type": "tool_result", "tool_use_id": "toolu_9", "content": 5, "is_error": "no"},
                    ]
                ),
            ]
        },
        {
            "tool_results": [
                ToolResult("toolu_1", "look", "", False),
                ToolResult("toolu_2", "look", "one\nA page\ntwo", False),
                ToolResult("toolu_3", "list", "Shut.", True),
                ToolResult("toolu_9", None, "", False),
            ],
        },
        id="results: without content, nested, failed",
    ),
    pytest.param(
        {
            "messages": [
                user("Go on."),
                assistant(LOOK),
                user([FOUND]),
                assistant(LOOK | {"id": "toolu_2"}),
                user([FOUND | {"tool_use_id": "toolu_2"}]),
                user("Thanks."),
            ]
        },
        {"tool_results": [ToolResult("toolu_2", "look", "a file", False)]},
        id="only results since the last answer are new",
    ),
    pytest.param(
        {"messages": [user("Go on."), assistant(LOOK), user([FOUND]), assistant(said("There."))]},
        {"tool_results": []},
        id="nothing is new before the last answer",
    ),
    pytest.param(
        {
            "tools": [
                {"name": "look", "description": "Looks.", "input_schema": {"type": "object"}},
                {"type": "web_search_20250305", "name": "web_search"},
                {"type": "mcp_toolset", "mcp_server_name": "shelf"},
                {"type": "openrouter:datetime"},
                {"name": "look"},
                {"name": ""},
                "look",
            ],
            "messages": [
                {
                    "role": "system",
                    "content": [
                        {"type": "tool_addition", "tool": {"type": "tool_reference", "name": "list"}},
                        {"type": "tool_addition", "tool": {"type": "mcp_toolset_reference", "server_name": "attic"}},
                        {
                            "type": "tool_addition",
                            "tool": {"type": "tool_definition", "definition": {"name": "draw", "input_schema": {}}},
                        },
                        {"type": "tool_addition", "tool": None},
                    ],
                }
            ],
        },
        {"tools": ["look", "web_search", "shelf", "openrouter:datetime", "list", "attic", "draw"]},
        id="what tools are known by",
    ),
    pytest.param(
        {
            "tools": [{"name": "ls"}, {"name": "rm"}, {"name": "mv"}],
            "messages": [
                user([said("Hi."), changes("removal", name="rm"), changes("removal", name="mv")]),
                {"role": "system", "content": [changes("addition", name="mv"), changes("removal", name="cp")]},
            ],
        },
        {"tools": ["ls", "mv"]},
        id="tools withdrawn, and given back, in mid-conversation",
    ),
    pytest.param(
        {
            "tools": [
                {
                    "type": "mcp_toolset",
                    "mcp_server_name": "shelf",
                    "tools": [{"name": "fetch"}, {"name": "burn"}, {"name": "ls"}],
                    "configs": {"burn": {"enabled": False}},
                },
                {"type": "mcp_toolset", "mcp_server_name": "attic", "default_config": {"enabled": False}},
                {"type": "mcp_toolset", "mcp_server_name": "cellar"},
                {"name": "ls"},
            ],
            "messages": [
                assistant(
                    {
                        "type": "mcp_tool_listing",
                        "mcp_server_name": "attic",
                        "tools": [{"name": "climb"}, {"name": "sweep"}],
                    },
                    {"type": "mcp_tool_listing", "mcp_server_name": "cellar", "tools": [{"name": "dig"}]},
                    {"type": "mcp_tool_listing", "mcp_server_name": "loft", "tools": [{"name": "open"}]},
                ),
                {
                    "role": "system",
                    "content": [
                        changes("addition", server_name="attic", name="sweep"),
                        changes("removal", server_name="shelf", name="fetch"),
                        changes("addition", server_name="shelf"),
                        changes("removal", server_name="cellar"),
                        changes("removal", server_name="shelf", name="ls"),
                    ],
                },
            ],
        },
        {"tools": ["shelf", "fetch", "attic", "ls", "sweep"]},
        id="the tools of MCP servers, as far as they are listed and not withdrawn",
    ),
    pytest.param(
        {
            "tools": [{"name": "ls"}, {"name": "rm"}],
            "messages": [
                assistant(
                    {
                        "type": "compaction",
                        "content": "They spoke.",
                        "tool_changes": [changes("removal", name="rm"), changes("addition", definition={"name": "cp"})],
                    }
                )
            ],
        },
        {"tools": ["ls", "cp"]},
        id="changes that a compaction sums up",
    ),
    pytest.param(
        {
            "tools": [
                {"type": "computer_toolset_20260801", "configs": {"zoom": {"enabled": False}}},
                {"type": "web_search_20250305"},
            ],
            "messages": [
                user("Go on."),
                assistant(LOOK | {"name": "left_click", "toolset_name": "computer"}),
                user([FOUND | {"toolset_name": "computer"}]),
            ],
        },
        {
            "tools": ["computer", "web_search"],
            "tool_results": [ToolResult("toolu_1", "computer.left_click", "a file", False)],
        },
        id="tools without a name are known by their type without its date",
    ),
    pytest.param(
        {
            "messages": [
                user("Go on."),
                assistant(LOOK),
                user(
                    [
                        FOUND
                        | {
                            "content": [
                                {
                                    "type": "browser_state",
                                    "tabs": [{"tab_id": "t1", "title": "Tides", "url": "https://a.test"}],
                                    "state_changes": [{"type": "download_failed", "url": "", "error": "Lost it."}],
                                },
                                {"type": "tool_reference", "tool_name": "git_log"},
                            ]
                        }
                    ]
                ),
            ]
        },
        {"tool_results": [ToolResult("toolu_1", "look", "Tides\nhttps://a.test\nLost it.\ngit_log", False)]},
        id="what a browser shows",
    ),
    pytest.param(
        {"thread": {"type": "continue", "previous_message_id": "msg_0"}, "messages": [user([FOUND])]},
        {"previous_id": "msg_0", "user_prompt": None, "tool_results": [ToolResult("toolu_1", None, "a file", False)]},
        id="a continued thread sends the new turn only",
    ),
    pytest.param({"thread": {"type": "create"}, "messages": []}, {"previous_id": None}, id="a new thread"),
    pytest.param(
        {"max_tokens": 0, "messages": [user("Hi.")]}, {"side_request": "warmup", "max_tokens": 0}, id="a warm-up"
    ),
    pytest.param({"max_tokens": 1, "messages": [user("quota")]}, {"side_request": "quota_probe"}, id="quota probe"),
    pytest.param(
        {"compaction": {"type": "summarize"}, "messages": [user("Hi.")]},
        {"side_request": "compaction"},
        id="compaction",
    ),
]


@pytest.mark.parametrize(("body", "expected"), REQUESTS)
def test_a_request(body: Json, expected: dict[str, object]) -> None:
    assert fields_of(messages.read_request(body), expected) == expected


# ---- What the gateway refuses and sets ----

FALLBACK: Json = {"type": "fallback", "from": {"model": "claude-x"}, "to": {"model": "claude-y"}}


@pytest.mark.parametrize(
    "answer",
    [
        {"type": "message", "model": "claude-x", "content": [said("Hi."), FALLBACK]},
        start(),
        block(0, **FALLBACK),
    ],
    ids=["body", "message_start", "fallback"],
)
def test_a_free_model_shows_no_other_name(answer: Json) -> None:
    edits = AnswerChange(messages, public_model="acme/free").operations(answer)
    assert b"claude-" not in jsontext.apply(jsontext.dumps(answer).encode(), edits or [])


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        pytest.param(None, 400, "invalid_body", id="unreadable"),
        pytest.param([], 400, "invalid_body", id="no object"),
        pytest.param({"model": "claude-x"}, 400, "invalid_body", id="no messages"),
        pytest.param({"model": "claude-x", "messages": "Hi."}, 400, "invalid_body", id="messages are no list"),
        pytest.param({"model": 5, "messages": []}, 400, "invalid_body", id="model is no string"),
        pytest.param({"messages": []}, 404, "model_not_found", id="no model"),
        pytest.param({"model": " ", "messages": []}, 404, "model_not_found", id="blank model"),
    ],
)
def test_refused(body: object, status: int, code: str) -> None:
    refusal = messages.validate(body)
    assert refusal is not None
    assert (refusal.status, refusal.code) == (status, code)


def test_everything_else_is_left_for_the_provider_to_judge() -> None:
    assert messages.validate({"model": "claude-x", "messages": [], "max_tokens": "many", "tools": 5}) is None


def test_an_error_reply_has_the_shape_of_anthropics() -> None:
    assert messages.error_body(Refusal(404, "No such model.", "model_not_found")) == {
        "type": "error",
        "error": {"type": "not_found_error", "message": "No such model."},
    }


ADAPTIVE = {"op": "add", "path": "/thinking", "value": {"type": "adaptive"}}
HIGH = {"op": "add", "path": "/output_config", "value": {"effort": "high"}}


@pytest.mark.parametrize(
    ("body", "operations"),
    [
        pytest.param({}, [ADAPTIVE, HIGH], id="no wish"),
        pytest.param({"thinking": None, "output_config": None}, [ADAPTIVE, HIGH], id="null is no wish"),
        pytest.param(
            {"output_config": {"format": {"type": "json_schema"}}},
            [ADAPTIVE, {"op": "add", "path": "/output_config/effort", "value": "high"}],
            id="an output format stays",
        ),
        pytest.param({"output_config": {"effort": "low"}}, [], id="effort"),
        pytest.param({"thinking": {"type": "disabled"}}, [], id="thinking"),
        pytest.param({"thinking": {"type": "enabled", "budget_tokens": 2048}, "output_config": {}}, [], id="budget"),
    ],
)
def test_effort_is_set_unless_the_client_wishes_otherwise(body: Json, operations: list[Json]) -> None:
    assert messages.effort_operations(body, "high") == operations


# ---- Whatever comes ----

# fmt: off
KEYS = st.sampled_from([
    "configs", "content", "content_block", "cost", "default_config", "definition", "delta", "enabled", "error",
    "fallback_credit", "id", "index", "input", "input_tokens", "iterations", "lines", "mcp_server_name", "message",
    "messages", "model", "name", "output_tokens", "output_tokens_details", "partial_json", "return_code", "role",
    "server_name", "server_tool_use", "shelf", "source", "status", "stop_details", "stop_reason", "system", "text",
    "thinking_tokens", "thread", "to", "tool", "tool_changes", "tool_use_id", "tools", "toolset_name", "total_tokens",
    "type", "usage", "web_search_requests"
])
WORDS = st.sampled_from([
    "assistant", "compaction", "compaction_delta", "content_block_delta", "content_block_start",
    "content_block_stop", "error", "fallback", "fallback_message", "input_json_delta", "mcp_tool_listing",
    "mcp_tool_result", "mcp_toolset", "message", "message_delta", "message_start", "message_stop", "shelf", "system",
    "text", "text_delta", "thinking", "tool_addition", "tool_removal", "tool_result", "tool_use", "user"
])
# fmt: on
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.decimals() | WORDS | st.text(max_size=4),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=6),
    max_leaves=20,
)
OBJECTS = st.dictionaries(KEYS, JSON)
EVENTS = st.builds(lambda kind, event: event | {"type": kind}, WORDS, OBJECTS) | OBJECTS


@given(st.lists(EVENTS, max_size=6), st.sampled_from(["", "error", "message_start"]))
def test_no_event_raises(events: list[Json], name: str) -> None:
    reader = messages.reader(RequestFacts())
    for event in events:
        reader.event(event, name)
    reader.finish()


@given(EVENTS)
def test_no_body_raises(body: Json) -> None:
    read_body(body)
    messages.read_request(body)
    messages.validate(body)
    messages.is_answer(body)
    messages.effort_operations(body, "high")


def test_no_depth_raises() -> None:
    deep: Any = "bottom"
    for _ in range(3000):
        deep = {"content": [deep]}
    assert read(start(), tool_use(0, input=deep)).tool_calls[0].arguments is None
    facts = messages.read_request({"messages": [user([FOUND | {"content": deep}])]})
    assert facts.tool_results[0].content == "bottom"


FIRST, SECOND = '{"path":"a b.txt","n":[1,2]}', '{"q":"{}"}'


def cut(draw: st.DrawFn, words: str) -> list[str]:
    cuts = sorted(draw(st.lists(st.integers(0, len(words)), max_size=4)))
    return [words[i:j] for i, j in zip([0, *cuts], [*cuts, len(words)], strict=True)]


@st.composite
def interleaved_calls(draw: st.DrawFn) -> list[Json]:
    """The deltas of two calls, each cut anywhere and in its own order, shuffled together anyhow."""
    streams = [[types(index, piece) for piece in cut(draw, words)] for index, words in ((1, FIRST), (2, SECOND))]
    order = draw(st.permutations([n for n, stream in enumerate(streams) for _ in stream]))
    rest = [iter(stream) for stream in streams]
    return [next(rest[n]) for n in order]


@given(interleaved_calls())
def test_calls_are_the_same_however_their_deltas_are_cut_and_interleaved(deltas: list[Json]) -> None:
    answer = read(start(), tool_use(1), tool_use(2, "toolu_2", "list"), *deltas)
    assert answer.tool_calls == [call(FIRST), call(SECOND, "toolu_2", "list")]


WHOLE_STREAM = [
    start(FULL_START),
    {"type": "ping"},
    block(0, type="thinking", thinking=""),
    thinks(0, "Where "),
    thinks(0, "then?"),
    stops(0),
    block(1, type="text", text=""),
    says(1, "I "),
    says(1, "look."),
    tool_use(2),
    types(2, '{"at":'),
    types(2, '"top"}'),
    ends({"output_tokens": 40}, None),
    ends({"output_tokens": 44}, "tool_use"),
    STOP,
]


@pytest.mark.parametrize("length", range(len(WHOLE_STREAM) + 1))
def test_a_stream_cut_anywhere_gives_the_beginning_of_the_whole_answer(length: int) -> None:
    """Nothing that a part of the stream told turns out wrong in the end, but for counts that had not been made."""
    events = copy.deepcopy(WHOLE_STREAM)
    whole, part = read(*events), read(*events[:length])
    assert whole.text.startswith(part.text)
    assert whole.reasoning.startswith(part.reasoning)
    for begun, final in zip(part.tool_calls, whole.tool_calls, strict=False):
        assert begun.name == final.name
        assert begun.arguments == "{}" or (final.arguments or "").startswith(begun.arguments or "")
    assert part.response_id in (None, whole.response_id)
    assert part.finish_reason in (None, whole.finish_reason)
    assert part.usage.input_tokens in (None, whole.usage.input_tokens)
    assert (part.usage.output_tokens or 0) <= 44
    assert part.usage_final is part.ended is (length >= len(WHOLE_STREAM) - 1)
    assert events == WHOLE_STREAM, "a reader changes no event"


PIECES = st.fixed_dictionaries(
    {"type": st.just("content_block_delta"), "index": st.sampled_from([0, 1, True, None])},
    optional={
        "delta": st.fixed_dictionaries(
            {"type": st.sampled_from(["text_delta", "thinking_delta", "input_json_delta", "other", None])},
            optional={key: st.sampled_from(["a", "b", "", None]) for key in ("text", "thinking", "partial_json")},
        ),
        "cost": st.just("0.1"),
        "error": st.just({"message": "no"}),
    },
)
OTHERS = st.sampled_from(
    [
        {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}},
        {"type": "content_block_start", "index": 0, "content_block": {"type": "tool_use", "id": "t", "name": "n"}},
        {"type": "content_block_stop", "index": 0},
        {"type": "message_start", "message": {"id": "m"}},
    ]
)


@given(st.lists(PIECES | OTHERS, max_size=12))
def test_an_event_that_only_goes_on_with_a_block_is_read_as_any_other(events: list[Json]) -> None:
    quick, full = (messages.reader(RequestFacts()) for _ in range(2))
    for event in events:
        quick.event(event)
        full.event(event)
        full._last_place = None
    assert quick.finish() == full.finish()
