"""Reading bodies as elements: the same whatever is remembered, and at the cost of what is new."""

import hashlib
import json
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from gateway_addon import api
from gateway_addon.wire import elements, jsontext
from gateway_addon.wire.cut import edits, envelope
from gateway_addon.wire.elements import MAX_BODIES, Body, Memory, read
from tests.sessions import session

KINDS = ("chat_completions", "messages", "responses")


def described(body: Body) -> tuple[Any, ...]:
    """All that a body says, as values."""
    parts = [(part.name, part.start, part.end, part.separators, [e.sent for e in part.elements]) for part in body.parts]
    # `repr` tells 1 from True and 1.0, and the order of members
    return repr(body.json), parts, [repr(e.value) for part in body.parts for e in part.elements]


class Counted(Memory):
    """A memory that counts the bytes which are decoded to be scanned."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        super().__init__(api.members)
        self.scanned = 0
        decode = elements.utf_8_decode

        def counted(data: bytes, errors: str, final: bool) -> tuple[str, int]:
            self.scanned += len(data)
            return decode(data, errors, final)

        monkeypatch.setattr(elements, "utf_8_decode", counted)


# -- results -------------------------------------------------------------------------------------------------------

messages: st.SearchStrategy[Any] = st.one_of(
    st.integers(-3, 30),
    st.text(max_size=3),
    st.sampled_from(["é" * 9000, "word " * 5000, "—", [], {}, None, 1.5, 12, 123, "\ud800"]),
    st.dictionaries(st.sampled_from("ab"), st.integers() | st.text(max_size=4), max_size=2),
)
bodies = st.fixed_dictionaries(
    {},
    optional={
        "model": st.sampled_from(["m", "—", 1]),
        "messages": st.lists(messages, max_size=8),
        "system": messages | st.lists(messages, max_size=3),
        "tools": st.lists(messages, max_size=3),
        "stream": st.booleans(),
    },
)


@settings(deadline=None)
@given(st.lists(bodies, min_size=2, max_size=4), st.booleans(), st.sampled_from([None, 1]), st.data())
def test_what_is_remembered_changes_no_result(given: list[Any], ascii_only: bool, indent: int | None, data: Any):
    memory = Memory(api.members)
    for base in given:
        # each goes on with something of the one before, as a conversation does
        texts = [json.dumps(body, ensure_ascii=ascii_only, indent=indent) for body in (given[0] | base, base)]
        for text in texts:
            sent = text.encode("utf-8", "replace")
            found = memory.read(sent) if len(sent) > 1 else read(sent, api.members())
            assert described(found) == described(read(sent, api.members()))
            assert repr(found.json) == repr(jsontext.parse(sent))


@settings(deadline=None)
@given(st.lists(bodies.map(dict.items).map(list), max_size=3), st.sampled_from([None, 1]))
def test_a_frame_has_the_members_of_its_body(some: list[list[Any]], indent: int | None):
    # also such as occur twice
    pairs = [f"{json.dumps(name)}:{json.dumps(value, indent=indent)}" for body in some for name, value in body]
    body = read(("\ufeff{" + ",".join(pairs) + "}").encode(), api.members())
    assert names(body.frame) == names(body.sent)
    assert len(body.frame) <= len(body.sent) - sum(len(part.elements) - 1 for part in body.parts) + 3 * len(body.parts)


def names(data: bytes) -> list[str]:
    """Of the members of an object."""
    found: list[str] = json.loads(data, object_pairs_hook=lambda pairs: [name for name, _ in pairs])
    return found


@given(
    st.lists(messages, min_size=elements.LAST, max_size=elements.LAST + 4),
    st.lists(st.tuples(st.lists(messages, max_size=4), st.binary(max_size=2)), min_size=2, max_size=4),
)
@example([{}] * 8, [([], b""), ([{}] * 7, b""), ([{}] * 20, b""), ([1], b"")])
@example([{}] * 5 + [1], [([{}] * 6, b""), ([], b"2"), ([], b"]}")])
def test_a_beginning_that_is_known_changes_no_result(begun: list[Any], ends: list[tuple[list[Any], bytes]]):
    memory = Memory(api.members)
    head = json.dumps({"model": "x" * elements.MIN_REMEMBERED, "messages": begun})[:-2].encode("utf-8", "replace")
    for more, damage in ends:
        goes_on = "".join(f", {json.dumps(message)}" for message in more)
        sent = head + damage + goes_on.encode("utf-8", "replace") + b'], "tools": []}'
        try:
            expected = read(sent, api.members())
        except ValueError:
            with pytest.raises(ValueError):  # noqa: PT011 (they are of many origins)
                memory.read(sent)
            continue
        found = memory.read(sent)
        assert described(found) == described(expected)
        assert found.sha256 == hashlib.sha256(sent).hexdigest()


def test_what_stands_behind_the_only_element_of_a_beginning_is_not_in_it(remembered: Memory):
    elements_of = ['{"role":"user","content":"' + "x" * elements.MIN_REMEMBERED + '"}', *["{}"] * elements.LAST]
    for separator in (", ", ","):
        sent = b'{"messages":[' + separator.join(elements_of).encode() + b"]}"
        assert described(remembered.read(sent)) == described(read(sent, api.members()))


def test_a_beginning_is_not_read_again(remembered: Memory):
    first, second = list(session("messages", 40))[-2:]
    remembered.read(first.request)
    assert remembered.recognised(second.request) > len(first.request) / 2
    assert remembered.recognised(b" " + second.request) == 0
    beginning = remembered._known[0].beginning
    assert beginning
    found = remembered.read(second.request)
    shared = found.part(beginning.part)[: len(beginning.elements)]
    assert [id(element) for element in shared] == [id(element) for element in beginning.elements]


@pytest.mark.parametrize(
    "text",
    [
        '{"messages":[1,2],"messages":[3],"model":"a","model":"b"}',
        '\ufeff {"messages" : [ {} , [] ] } \n',
        '{"mess\\u0061ges":[1],"a\\"b":2}',
        '{"messages":[0.10,1e5,-0,NaN,12345678901234567890123]}',
        '{"input":"text","instructions":null}',
    ],
)
def test_unusual_bodies_read_as_they_parse(text: str):
    body = read(text.encode(), api.members())
    assert repr(body.json) == repr(jsontext.parse(text))


@given(st.binary(max_size=30))
@example(b'{"messages":[1')
@example(b'{"messages":[{}]}x')
@example(b'{"messages":["\xff"]}')
def test_what_is_read_is_what_parses(data: bytes):
    try:
        body = read(data, api.members())
    except ValueError:
        return
    assert repr(body.json) == repr(jsontext.parse(data))


def test_a_known_element_is_not_taken_for_the_beginning_of_a_longer_one(remembered: Memory):
    head = b'{"messages":["' + b"x" * elements.MIN_REMEMBERED + b'",'
    remembered.read(head + b"1]}")
    assert remembered.read(head + b"12]}").json["messages"][1] == 12


def test_damage_behind_what_is_known_is_seen(remembered: Memory):
    head = b'{"messages":["' + b"x" * elements.MIN_REMEMBERED + b'"'
    remembered.read(head + b"]}")
    for damaged in (b"", b"]", b"}", b'"]}', b",]}", b"]}x", b',"\xff"]}'):
        with pytest.raises(ValueError):  # noqa: PT011 (they are of many origins)
            remembered.read(head + damaged)


@pytest.fixture
def remembered() -> Memory:
    return Memory(api.members)


# -- cost ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_a_turn_scans_what_is_new_however_long_the_history(kind: str, monkeypatch: pytest.MonkeyPatch):
    memory = Counted(monkeypatch)
    scanned = []
    for turn in session(kind, 60):
        before = memory.scanned
        memory.read(turn.request)
        scanned.append(memory.scanned - before)
    # a few windows: the new elements, what is between the parts, and markers that have moved
    assert max(scanned[1:]) <= 2 * 16 * elements._WINDOW
    assert sum(scanned[-10:]) <= 1.2 * sum(scanned[5:15])


@pytest.mark.parametrize("character", ["x", "\n", "ü", "—", "😀"])
def test_a_large_message_is_scanned_once_and_its_end_in_bytes_is_found(character: str, monkeypatch: pytest.MonkeyPatch):
    memory = Counted(monkeypatch)
    said = [{"role": "user", "content": character * 500_000}, {"role": "assistant", "content": character}]
    body = memory.read(json.dumps({"messages": said, "model": "m"}, ensure_ascii=False).encode())
    # it does not fit into the first two windows, which were in vain
    assert memory.scanned <= len(body.sent) + elements._WINDOW + elements._LARGER[0]
    assert [json.loads(element.sent) for element in body.part("conversation")] == said


def test_behind_a_large_message_no_more_is_scanned_than_anywhere(monkeypatch: pytest.MonkeyPatch):
    memory = Counted(monkeypatch)
    monkeypatch.setattr(elements, "_LARGER", [4 * elements._WINDOW, 16 * elements._WINDOW])
    large, others, new = {"content": "x" * 5 * elements._WINDOW}, [{"content": "x" * 2000}] * 400, {"content": "new"}
    memory.read(json.dumps({"messages": others}).encode())
    before = memory.scanned
    memory.read(json.dumps({"messages": [large, *others[:200], new, *others[200:]]}).encode())
    # three windows until the large one fits, one for what is new far behind it, one for the end
    assert memory.scanned - before <= (1 + 4 + 16 + 1 + 1) * elements._WINDOW


@pytest.mark.parametrize("character", ["x", "—", ","])
@pytest.mark.parametrize("size", [3_000, 17_000, 70_000])
def test_new_elements_between_known_ones_are_each_scanned_once(
    size: int, character: str, monkeypatch: pytest.MonkeyPatch
):
    def body(new: str) -> bytes:
        messages = [{"content": str(number) + "known" * 500} for number in range(12)]
        messages[1::2] = [{"content": f"{new} {number} {character * size}"} for number in range(6)]
        return json.dumps({"model": "m", "messages": messages}, ensure_ascii=False).encode()

    sent = body("another")
    monkeypatch.setattr(jsontext, "MAX_VALUES", jsontext.count_values(sent) + 100)
    memory = Counted(monkeypatch)
    memory.read(body("one"))
    before = memory.scanned
    assert described(memory.read(sent)) == described(read(sent, api.members()))
    # by the memory, and by the one that knows nothing
    assert memory.scanned - before <= 2 * (len(sent) + 6 * (elements._WINDOW + elements._LARGER[0]))


def test_a_body_that_comes_again_and_again_takes_no_more_room(remembered: Memory):
    sent = list(session("messages", 20))[-1].request
    for _ in range(3):
        remembered.read(sent)
    pieces = [known.beginning.pieces for known in remembered._known if known.beginning]
    assert [len(each) for each in pieces] == [1]


def test_a_long_conversation_is_compared_in_a_bounded_number_of_pieces(
    remembered: Memory, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(elements, "MAX_PIECES", 5)
    for turn in session("chat_completions", 40):
        assert described(remembered.read(turn.request)) == described(read(turn.request, api.members()))
        assert all(len(known.beginning.pieces) <= 5 for known in remembered._known if known.beginning)


def test_an_element_is_hashed_without_what_passes():
    sent = '{"content":"—"}'.encode()
    element = elements.Element(sent, json.loads(sent))
    assert element.digest == hashlib.blake2b(sent, digest_size=16).digest()
    marked = sent[:-1] + b',"cache_control":{"type":"ephemeral"}}'
    assert elements.Element(marked, json.loads(marked)).digest == element.digest


def test_conversations_that_take_turns_are_each_remembered(monkeypatch: pytest.MonkeyPatch):
    memory = Counted(monkeypatch)
    conversations = [session("chat_completions", 20, seed=seed) for seed in range(MAX_BODIES)]
    for turns in zip(*conversations, strict=True):
        before = memory.scanned
        sent = [memory.read(turn.request) for turn in turns]
    assert memory.scanned - before < sum(len(body.sent) for body in sent) / 2


def test_no_more_than_a_bound_is_remembered(remembered: Memory, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(elements, "MAX_REMEMBERED", 500_000)
    for seed in range(20):
        for turn in session("messages", 12, seed=seed):
            remembered.read(turn.request)
    assert len(remembered._known) <= MAX_BODIES
    assert sum(known.size for known in remembered._known) <= 500_000


def test_a_conversation_takes_one_place(remembered: Memory):
    for kind in KINDS:
        for turn in session(kind, 30):
            remembered.read(turn.request)
    assert len(remembered._known) <= 2 * len(KINDS)


# -- facts ---------------------------------------------------------------------------------------------------------


def test_what_is_made_of_an_element_is_made_once(remembered: Memory):
    made = []

    def name(message: Any) -> str:
        made.append(message)
        return str(message["role"])

    for turn in session("messages", 3):
        body = remembered.read(turn.request)
        assert body.of(name, body.json["messages"]) == [message["role"] for message in body.json["messages"]]
    assert len(made) <= len(body.json["messages"]) + 4


@pytest.mark.parametrize("kind", KINDS)
def test_known_elements_are_stored_as_they_would_be_alone(kind: str, remembered: Memory):
    for turn in session(kind, 20):
        body, alone = remembered.read(turn.request), read(turn.request, api.members())
        assert envelope(body, api.members()) == envelope(alone, api.members())
        assert list(map(edits, body.parts)) == list(map(edits, alone.parts))
        assert [e.digest for part in body.parts for e in part.elements] == [
            e.digest for part in alone.parts for e in part.elements
        ]
