"""The smallest capture that still shows a bug: seeded bugs of readers, each found again in a few hundred bytes."""

import json
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st
from mitmproxy.flow import Flow
from mitmproxy.http import HTTPFlow, Request, Response
from mitmproxy.io import FlowWriter
from mitmproxy.test import tflow

from gateway_addon.captures import trials
from gateway_addon.captures.flowfile import body_bytes
from gateway_addon.captures.minimize import State, fewer, smaller_capture, smaller_json, smaller_text, text_of
from gateway_addon.captures.notes import PACE
from gateway_addon.cli import main
from gateway_addon.wire import encodings
from tests.mitmdump import http_flows

# ---- What is taken apart ----


@pytest.mark.parametrize(
    ("items", "needed"), [(range(100), {3, 50, 99}), (range(7), set()), (range(1), {0}), ((), set())]
)
def test_a_list_keeps_what_is_needed(items: Sequence[int], needed: set[int]):
    assert fewer(list(items), lambda some: needed <= set(some)) == sorted(needed)


def test_many_items_take_few_questions():
    asked: list[int] = []

    def keeps(some: list[int]) -> bool:
        asked.append(len(some))
        return 1234 in some

    fewer(list(range(4096)), keeps)
    assert len(asked) < 40


def test_json_keeps_the_way_to_what_is_needed():
    value = {"a": [{"b": "x", "c": [1, 2, {"d": 7.50}]}, 3, "y"], "e": {}}
    assert smaller_json(value, lambda some: some["a"][-1] == "y" if some.get("a") else False) == {"a": ["y"]}
    assert smaller_json(value, lambda some: "7.5" in str(some)) == {"a": [{"c": [{"d": 7.50}]}]}


def test_numbers_become_nothing_where_they_do_not_matter():
    assert smaller_json({"a": 12, "b": True}, lambda some: "a" in some and some.get("b") is True) == {"a": 0, "b": True}


def test_json_in_a_string_in_json_is_taken_apart_too():
    inner = json.dumps({"path": "x" * 500, "lines": list(range(100))})
    text = json.dumps({"arguments": inner, "more": "y" * 500})
    left = text_of(smaller_text(text, lambda node: "77" in text_of(node)))
    assert json.loads(json.loads(left)["arguments"])["lines"] == [77]


def test_a_stream_loses_events_lines_and_members():
    events = [f'event: delta\ndata: {{"n": {n}, "text": "{"abc" * 9}"}}' for n in range(50)]
    text = "\n\n".join([*events, ""])
    assert text_of(smaller_text(text, lambda node: '"n":33' in text_of(node).replace(" ", ""))) == 'data: {"n":33}'


def test_bytes_that_are_no_unicode_stay_bytes():
    text = b'{"a": "\xff\xfe", "b": 1}'.decode("utf-8", "surrogateescape")
    left = text_of(smaller_text(text, lambda node: b"\xff" in text_of(node).encode("utf-8", "surrogateescape")))
    assert left.encode("utf-8", "surrogateescape") == b'{"a":"\xff\xfe"}'


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(),
        lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=3), inner, max_size=4),
        max_leaves=12,
    )
)
def test_any_json_can_be_made_smaller(value: Any):
    text = json.dumps(value)
    assert text_of(smaller_text(text, lambda node: True)) == ""
    assert text_of(smaller_text(text, lambda node: text_of(node) == text)) == text


def test_json_that_is_nested_too_deeply_is_a_text():
    deep = "[" * 100_000 + "]" * 100_000
    assert text_of(smaller_text(deep, lambda node: "[" in text_of(node))) == "["


# ---- Seeded bugs ----

WORDS = "Why is the last page counted twice? It is the rounding in page_count. "


def call(answer: bytes, *messages: Any, **headers: str) -> HTTPFlow:
    """A call with a long history, dozens of tools, and everything else that flows are full of."""
    history = [
        turn
        for n in range(60)
        for turn in (
            {"role": "assistant", "content": [{"type": "tool_use", "id": f"t{n}", "name": "read", "input": {"n": n}}]},
            {"role": "user", "content": [{"type": "tool_result", "tool_use_id": f"t{n}", "content": WORDS * 20}]},
        )
    ]
    tools = [{"name": f"tool_{n}", "description": WORDS * 10, "input_schema": {"type": "object"}} for n in range(40)]
    body = {"model": "toy/large", "system": WORDS * 100, "messages": [*history, *messages], "tools": tools}
    flow: HTTPFlow = tflow.tflow()
    flow.request = Request.make("POST", "http://provider/v1/messages?beta=true", json.dumps(body))
    flow.request.headers["user-agent"] = "toy/1.0"
    flow.response = Response.make(200, b"", {"content-type": "text/event-stream"} | headers)
    flow.response.raw_content = answer
    flow.response.headers["content-length"] = str(len(answer))
    flow.metadata["gateway"] = {"outcome": "complete", "api_kind": "messages"}
    flow.comment = WORDS
    flow.backup()
    return flow


def stream(*events: dict[str, Any], filler: int = 400) -> bytes:
    """A long answer, with `events` behind the text."""
    start: dict[str, Any] = {"type": "message_start", "message": {"usage": {"input_tokens": 12345}}}
    deltas = [{"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": WORDS}}] * filler
    sent = [start, *deltas, *events, {"type": "message_stop"}]
    return "".join(
        f"event: {event['type']}\ndata: {json.dumps(event, ensure_ascii=False)}\n\n" for event in sent
    ).encode()


def plain(message: State) -> bytes:
    headers = {name.lower(): value for name, value in message["headers"]}
    return encodings.decode(message["content"], headers.get(b"content-encoding", b"").decode(), 10_000_000)


def events_of(flow: State) -> Iterator[Any]:
    for line in plain(flow["response"]).split(b"\n") if flow["response"] else ():
        if line.startswith(b"data: "):
            yield json.loads(line[6:])


def loses_usage_before_a_ping(flow: State) -> bool:
    """Bug: the reader thinks that a message is over when a ping follows its usage."""
    types = [event.get("type") for event in events_of(flow) if isinstance(event, dict)]
    return ("message_delta", "ping") in pairwise(types)


def splits_characters(flow: State) -> bool:
    """Bug: each chunk is decoded by itself."""
    content, start = flow["response"]["content"], 0
    for _, end in flow["metadata"][PACE]:
        try:
            content[start:end].decode()
        except UnicodeDecodeError:
            return True
        start = end
    return False


def takes_an_image_for_a_prompt(flow: State) -> bool:
    """Bug: a tool's result that holds an image counts as what the user said."""
    for turn in json.loads(flow["request"]["content"])["messages"]:
        for part in turn["content"]:
            inside = part["content"] if part["type"] == "tool_result" else []
            if isinstance(inside, list) and any(item["type"] == "image" for item in inside):
                return True
    return False


def ignores_the_encoding(flow: State) -> bool:
    """Bug: a body is searched for its usage as it was received."""
    return b"output_tokens" in plain(flow["response"]) and b"output_tokens" not in flow["response"]["content"]


def joins_arguments_in_order_of_arrival(flow: State) -> bool:
    """Bug: arguments of parallel tool calls are joined as they come."""
    parts = [(e["index"], e["delta"]["partial_json"]) for e in events_of(flow) if "partial_json" in e.get("delta", {})]
    indexes = [index for index, _ in parts]
    return indexes != sorted(indexes)


DELTA = {"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": {"output_tokens": 70}}
IMAGE = {"type": "image", "source": {"type": "base64", "data": "iVBOR" * 9000}}
BUGS: dict[Callable[[State], bool], HTTPFlow] = {
    loses_usage_before_a_ping: call(stream(DELTA, {"type": "ping"})),
    splits_characters: call(stream({"type": "content_block_delta", "delta": {"text": "Ränge"}})),
    takes_an_image_for_a_prompt: call(
        stream(), {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "t7", "content": [IMAGE]}]}
    ),
    ignores_the_encoding: call(encodings.encode(stream(DELTA), "gzip"), **{"content-encoding": "gzip"}),
    joins_arguments_in_order_of_arrival: call(
        stream(
            *(
                {"type": "content_block_delta", "index": n % 2, "delta": {"partial_json": f'{{"n": {n}, '}}
                for n in range(40)
            )
        )
    ),
}


def halves_of_characters(flow: HTTPFlow) -> HTTPFlow:
    """The answer came in chunks of seven bytes, and one ended in a character."""
    assert flow.response
    content = flow.response.raw_content or b""
    inside = content.index("ä".encode()) + 1
    flow.metadata[PACE] = [[n, end] for n, end in enumerate(sorted({*range(7, len(content), 7), inside}), start=1)]
    flow.metadata[PACE].append([60_000, len(content)])
    return flow


BUGS[splits_characters] = halves_of_characters(BUGS[splits_characters])


def has(bug: Callable[[State], bool], flows: list[State]) -> bool:
    try:
        return any(map(bug, flows))
    except (KeyError, ValueError, TypeError, AttributeError, IndexError):
        # a crash is another bug
        return False


@pytest.mark.parametrize("bug", BUGS, ids=lambda bug: bug.__name__)
def test_a_bug_of_a_reader_is_shown_in_few_bytes(bug: Callable[[State], bool]):
    flows = [call(stream()), BUGS[bug], call(stream())]
    states = [flow.get_state() for flow in flows]
    assert body_bytes(states) > 300_000
    tried: list[int] = []

    def still(some: list[State]) -> bool:
        tried.append(1)
        return has(bug, some)

    (left,) = smaller_capture(states, still)
    assert has(bug, [left])
    assert body_bytes([left]) < 500
    assert len(tried) < 1000
    # a whole flow, with lengths that are right and nothing that is not needed
    flow = Flow.from_state(left.copy())
    assert isinstance(flow, HTTPFlow)
    for message in filter(None, (flow.request, flow.response)):
        assert message.headers.get("content-length") in (None, str(len(message.raw_content or b"")))
    assert (flow.comment, left.get("backup")) == ("", None)
    assert flow.metadata.keys() <= {PACE}


def test_borders_of_chunks_go_but_for_the_one_that_matters():
    tried: list[int] = []

    def still(some: list[State]) -> bool:
        tried.append(1)
        return has(splits_characters, some)

    (left,) = smaller_capture([BUGS[splits_characters].get_state()], still)
    assert len(tried) < 150
    (first, last), content = left["metadata"][PACE], left["response"]["content"]
    assert content[: first[1]].endswith("ä".encode()[:1])
    assert last[1] == len(content)
    assert content == 'data: {"delta":{"text":"Ränge"}}'.encode()


def test_lengths_follow():
    def still(some: list[State]) -> bool:
        answer = some[0]["response"] or NOTHING
        return b"content-length" in dict(answer["headers"]) and b"ping" in answer["content"]

    (left,) = smaller_capture([call(stream({"type": "ping"})).get_state()], still)
    content, headers = left["response"]["content"], left["response"]["headers"]
    assert headers == ((b"content-length", b"%d" % len(content)),)
    assert len(content) < 30


def test_an_encoding_goes_where_it_does_not_matter():
    flow = call(encodings.encode(stream(DELTA), "br"), **{"content-encoding": "br"})
    (left,) = smaller_capture([flow.get_state()], lambda some: b"end_turn" in plain(some[0]["response"] or NOTHING))
    assert left["response"]["content"].startswith(b'data: {"delta":')
    assert left["response"]["headers"] == ()


NOTHING: State = {"content": b"", "headers": ()}


# ---- The command ----


@pytest.fixture
def capture(tmp_path: Path) -> Path:
    path = tmp_path / "capture.flow"
    with path.open("wb") as file:
        writer = FlowWriter(file)
        for flow in (call(stream()), call(stream(DELTA)), call(stream())):
            writer.add(flow)
    return path


NEEDLE = ("grep", "-q", "end_turn", "{}")


def run(*arguments: object) -> tuple[int, str, str]:
    result = CliRunner().invoke(main, ["minimize", *map(str, arguments)])
    return result.exit_code, result.stdout, result.stderr


def test_the_smallest_capture_lies_beside_the_original(capture: Path, tmp_path: Path):
    before = capture.read_bytes()
    code, said, errors = run(capture, "--", *NEEDLE)
    target = tmp_path / "capture.min.flow"
    assert (code, errors) == (0, "")
    assert said.startswith(f"{target}: 1 flow with ")
    assert "of 3 flows with " in said
    (flow,) = http_flows(target)
    assert flow.response
    assert flow.response.raw_content == b'data: {"delta":{"stop_reason":"end_turn"}}'
    assert capture.read_bytes() == before
    assert oct(target.stat().st_mode & 0o777) == "0o600"


def test_the_same_question_gives_the_same_answer(capture: Path, tmp_path: Path):
    targets = [tmp_path / name for name in ("one", "two")]
    for target in targets:
        assert run(capture, "--out", target, "--", *NEEDLE)[0] == 0
    assert targets[0].read_bytes() == targets[1].read_bytes()


def test_an_exit_code_is_kept_whatever_it_is(capture: Path, tmp_path: Path):
    command = ("sh", "-c", "grep -q end_turn {} && exit 7; exit 3")
    assert "; exit code 7, " in run(capture, "--", *command)[1]


def test_the_number_of_runs_is_bounded_and_the_best_so_far_is_kept(capture: Path, tmp_path: Path):
    log = tmp_path / "log"
    code, said, _ = run(capture, "--runs", 9, "--", "sh", "-c", f"echo >> {log}; grep -q end_turn {{}}")
    assert (code, said.rstrip().rpartition("; ")[2]) == (0, "exit code 0, 9 runs, ended by --runs 9")
    assert log.read_text().count("\n") == 9
    assert 0 < (tmp_path / "capture.min.flow").stat().st_size < capture.stat().st_size


def test_it_can_be_interrupted_and_the_best_so_far_is_kept(capture: Path, tmp_path: Path):
    log = tmp_path / "log"
    script = f"echo >> {log}; [ $(wc -l < {log}) = 9 ] && kill -INT $PPID && sleep 60; grep -q end_turn {{}}"
    command = [sys.executable, "-m", "gateway_addon", "minimize", str(capture), "--", "sh", "-c", script]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.endswith(", 9 runs, ended by Ctrl-C\n")
    assert len(http_flows(tmp_path / "capture.min.flow")) == 1


def test_a_candidate_that_hangs_the_command_is_none(capture: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(trials, "PATIENCE", 0.5)
    # without the needle it waits, in a process of its own, for what never comes
    script = "grep -q end_turn {} || sleep 600"
    assert run(capture, "--runs", 6, "--", "sh", "-c", script)[0] == 0
    assert b"end_turn" in (tmp_path / "capture.min.flow").read_bytes()


@pytest.mark.parametrize(
    ("command", "message"),
    [
        (("true",), "CMD must say where the file goes: {}"),
        (("no-such-command", "{}"), "no-such-command: No such file or directory"),
        (("sh", "-c", ": {}; [ -e SEEN ] || { touch SEEN; exit 1; }"), "the command exits with 1, and then with 0"),
    ],
)
def test_what_cannot_be_minimized_is_one_line(
    command: tuple[str, ...], message: str, capture: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.chdir(capture.parent)
    assert run(capture, "--", *command) == (2, "", f"gateway-addon: {message}\n")
    assert not (capture.parent / "capture.min.flow").exists()


def test_nothing_that_is_there_is_lost(capture: Path, tmp_path: Path):
    (tmp_path / "capture.min.flow").write_text("mine")
    assert run(capture, "--", *NEEDLE)[0] == 2
    assert run(capture, "--out", capture, "--force", "--", *NEEDLE)[0] == 2
    assert (tmp_path / "capture.min.flow").read_text() == "mine"
    assert run(capture, "--force", "--", *NEEDLE)[0] == 0
