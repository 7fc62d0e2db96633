"""What of a loaded flow's metadata is believed."""

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from mitmproxy.test import tflow
from mitmproxy.utils.emoji import emoji

from gateway_addon.captures import notes
from gateway_addon.captures.notes import Notes
from tests.store.calls import make_record


def noted(metadata: Any, *, live: bool = False) -> Notes | None:
    flow = tflow.tflow()
    flow.live = live
    flow.metadata["gateway"] = metadata
    return notes.read(flow)


def test_what_was_left_is_read_again():
    flow = tflow.tflow()
    operations = ({"op": "remove", "path": "/body/models"},)
    record = make_record(
        outcome="upstream_cut",
        error_type="timeout",
        provider="toy",
        dialect="vercel",
        rewrites=operations,
        warnings=("response_truncated",),
        duration_ms=12.5,
    )
    notes.leave(flow, record, [[1, 2]])
    flow.live = False
    assert notes.read(flow) == Notes(
        outcome="upstream_cut",
        error_type="timeout",
        provider="toy",
        dialect="vercel",
        rewrites=operations,
        warnings=("response_truncated",),
        timings={"duration_ms": 12.5},
    )
    notes.remove(flow)
    assert notes.read(flow) is None
    assert not flow.metadata


@pytest.mark.parametrize(
    "metadata",
    [
        {"outcome": "splendid"},
        {"outcome": ["complete"], "error_type": {"a": 1}},
        {"provider": "no such/name\n", "dialect": "klingon"},
        {"rewrites": '{"no": "list"}', "warnings": 5},
        {"rewrites": "[1]"},
        {"rewrites": "["},
        {"duration_ms": "fast", "time_to_first_byte_ms": [1]},
        {"duration_ms": math.nan, "time_to_first_token_ms": -1.0, "time_to_first_byte_ms": math.inf},
    ],
)
def test_what_cannot_be_is_not_believed(metadata: dict[str, Any]):
    assert noted(metadata) == Notes()


@pytest.mark.parametrize("metadata", [None, [], "x", {}, 5])
def test_without_any_of_ours_there_are_none(metadata: Any):
    assert noted(metadata) is None


def test_a_live_flow_has_none():
    assert noted({"outcome": "rejected"}, live=True) is None


JSON = st.recursive(
    st.none() | st.booleans() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=9), inner, max_size=3),
    max_leaves=5,
)


@given(
    st.dictionaries(st.sampled_from(["outcome", "provider", "dialect", "rewrites", "warnings", "duration_ms"]), JSON)
)
def test_nothing_raises(metadata: dict[str, Any]):
    noted(metadata)


@pytest.mark.parametrize(
    ("left", "mark"),
    [
        ({}, ""),
        ({"outcome": "client_aborted"}, ""),
        ({"outcome": "stream_error"}, ":warning:"),
        ({"outcome": "http_error"}, ":x:"),
        ({"outcome": "upstream_cut"}, ":scissors:"),
        ({"warnings": ("answer_withheld",)}, ":warning:"),
        ({"warnings": ("secret_masked",)}, ""),
    ],
)
def test_calls_that_need_a_look_are_marked(left: dict[str, Any], mark: str):
    flow = tflow.tflow()
    notes.leave(flow, make_record(**left), None)
    assert flow.marked == mark
    assert flow.marked in ("", *emoji)
    notes.remove(flow)
    assert flow.marked == ""


def test_one_turn_of_a_websocket_marks_its_flow():
    flow = tflow.tflow()
    notes.begin_turns(flow, 0)
    assert (notes.kind_in(flow), notes.records_of_turns(flow)) == ("responses", [])
    turns = [make_record(id="f/1"), make_record(id="f/2", outcome="stream_error"), make_record(id="f/3")]
    for turn in turns:
        notes.leave_turn(flow, turn)
    assert flow.marked == ":warning:"
    assert (notes.record_of(flow), notes.records_of_turns(flow)) == (None, turns)


def test_a_persons_mark_stays():
    flow = tflow.tflow()
    flow.marked = ":eyes:"
    notes.leave(flow, make_record(outcome="http_error"), None)
    notes.remove(flow)
    assert flow.marked == ":eyes:"


def test_a_row_that_was_left_comes_back_and_nonsense_is_none():
    flow = tflow.tflow()
    record = make_record(cost_flags=("cut",), usage={"input": 1}, input_tokens=3)
    notes.leave(flow, record, None)
    assert (notes.kind_in(flow), notes.record_of(flow)) == ("messages", record)
    for nonsense in (None, [1], "x", {"api_kind": 5}, {"started_at": "x"}):
        flow.metadata["gateway"] = nonsense
        assert (notes.kind_in(flow), notes.record_of(flow)) == (None, None)
