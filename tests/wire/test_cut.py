"""How a body is taken apart and joined again: what the pieces are, and that no byte is ever lost."""

import json
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from gateway_addon import api
from gateway_addon.wire import cut as wire_cut
from gateway_addon.wire.cut import MIN_TEXT, Cut, Edit, cut, fill_texts, join, split_texts
from gateway_addon.wire.elements import MAX_ELEMENTS, MAX_TAKEN_APART, Element

MEMBERS = api.members()
LONG = "word " * MIN_TEXT
MARKER = {"cache_control": {"type": "ephemeral"}}
MARKED = ',"cache_control":{"type":"ephemeral"}'


def compact(value: object) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


class TestParts:
    @pytest.mark.parametrize(
        ("body", "envelope", "parts"),
        [
            pytest.param(
                '{"model":"m","system":[{"type":"text"}],"tools":[1],"messages":[{"role":"user"},2,3],"stream":true}',
                '{"model":"m","system":[null],"tools":[null],"messages":[null,null],"stream":true}',
                {"system": ['{"type":"text"}'], "tools": ["1"], "conversation": ['{"role":"user"}', "2", "3"]},
                id="messages",
            ),
            pytest.param(
                '{"messages":[{"role":"system"},{"role":"user"}],"model":"m"}',
                '{"messages":[null,null],"model":"m"}',
                {"conversation": ['{"role":"system"}', '{"role":"user"}']},
                id="chat completions",
            ),
            pytest.param(
                '{"instructions":"be brief","input":[{"role":"user"}],"tools":[{"name":"x"}]}',
                '{"instructions":null,"input":[null],"tools":[null]}',
                {"system": ['"be brief"'], "conversation": ['{"role":"user"}'], "tools": ['{"name":"x"}']},
                id="responses",
            ),
            pytest.param(
                '{"system": "be brief", "input": "hello"}',
                '{"system": null, "input": null}',
                {"system": ['"be brief"'], "conversation": ['"hello"']},
                id="texts instead of arrays",
            ),
            pytest.param(
                '\ufeff { "messages" : [ 1 ,\n 2 ,\n 3\t] }\r\n',
                '\ufeff { "messages" : [ null ,\n null\t] }\r\n',
                {"conversation": ["1", "2", "3"]},
                id="white space and a byte order mark",
            ),
            pytest.param('{"messages":[],"tools":[ ]}', '{"messages":[],"tools":[ ]}', {}, id="empty arrays"),
            pytest.param('{"model":"m"}', '{"model":"m"}', {}, id="no part at all"),
            pytest.param(
                '{"messages":[1],"messages":[2,3],"input":"x"}',
                '{"messages":[null],"messages":[2,3],"input":"x"}',
                {"conversation": ["1"]},
                id="a part that is there again stays where it is",
            ),
            pytest.param(
                f'{{"input":[{",".join(["1"] * MAX_ELEMENTS)}]}}',
                '{"input":[null,null]}',
                {"conversation": ["1"] * MAX_ELEMENTS},
                id="many items",
            ),
            pytest.param('{"messages":null}', '{"messages":null}', {"conversation": ["null"]}, id="wrong types"),
            pytest.param(
                '{"tools":{"a":[1]},"system":7}',
                '{"tools":null,"system":null}',
                {"tools": ['{"a":[1]}'], "system": ["7"]},
                id="more wrong types",
            ),
            pytest.param(
                '{"a":{"messages":[1]},"x":[{"tools":[2]}]}',
                '{"a":{"messages":[1]},"x":[{"tools":[2]}]}',
                {},
                id="members of the body itself only",
            ),
        ],
    )
    def test_what_goes_where(self, body: str, envelope: str, parts: dict[str, list[str]]):
        assert cut(body.encode(), MEMBERS) == Cut(envelope, parts, [])

    @pytest.mark.parametrize(
        "body",
        [
            b"",
            b"no JSON",
            b'{"messages":[1',
            b'{"messages":[1]',
            b'{"messages":["\xff"]}',
            b'{"messages":["a\nb"]}',
            b'["messages"]',
            b'"messages"',
            b'{"messages":[1, 2,3]}',
            b'{"messages":[%s]}' % (b"[" * 100_000 + b"]" * 100_000),
            b'{"messages":[%s]}' % (b"9" * 5000),
            b'{"tools":[%s]}' % b",".join([b"1"] * (MAX_ELEMENTS + 1)),
        ],
        ids=lambda body: repr(body[:30]),
    )
    def test_what_must_be_kept_whole(self, body: bytes):
        with pytest.raises(ValueError):  # noqa: PT011 (they are of many origins)
            cut(body, MEMBERS)

    def test_what_does_not_come_back_as_it_was(self, monkeypatch: pytest.MonkeyPatch):
        """Should all else fail: nothing is taken for exact that was not compared."""
        monkeypatch.setattr(wire_cut, "join", lambda pieces, members: b"something else")
        with pytest.raises(ValueError, match="exactly"):
            # the answer for another envelope may be remembered
            cut(b'{"messages":[1],"never":"asked before"}', MEMBERS)


SAID_NOT_MEANT = [
    '{"args":["curl","-H","x-anthropic-billing-header: v"]}',
    '{"command":["curl","-H","x-anthropic-billing-header: v","' + LONG + '"]}',
    r'{"a\"cache_control":{"x":1}}',
    r'{"a\"prompt_cache_breakpoint":{"x":1}}',
]
"""What is written like a marker, within something else."""


def element(text: str) -> tuple[str, list[tuple[int, str]]]:
    """A message without what passes, and that."""
    result = cut(f'{{"messages":[0,{text}]}}'.encode(), MEMBERS)
    assert [(edit.part, edit.element) for edit in result.edits] == [("conversation", 1)] * len(result.edits)
    return result.parts["conversation"][1], [(edit.offset, edit.text) for edit in result.edits]


class TestEdits:
    @pytest.mark.parametrize(
        ("text", "settled", "edits"),
        [
            pytest.param('{"a":1,"cache_control":{"type":"ephemeral"}}', '{"a":1}', [(6, MARKED)], id="last"),
            pytest.param(
                '{"cache_control":{"type":"ephemeral"},"a":1}',
                '{"a":1}',
                [(1, '"cache_control":{"type":"ephemeral"},')],
                id="first",
            ),
            pytest.param(
                '{"a": 1, "cache_control": {"ttl": "1h"}, "b": 2}',
                '{"a": 1, "b": 2}',
                [(7, ', "cache_control": {"ttl": "1h"}')],
                id="between",
            ),
            pytest.param(
                '{"a":1,\n  "cache_control" : {}\n}', '{"a":1\n}', [(6, ',\n  "cache_control" : {}')], id="on lines"
            ),
            pytest.param(
                '[{"a":1,"cache_control":{"x":1}},{"a":2,"cache_control":{"x":2}}]',
                '[{"a":1},{"a":2}]',
                [(7, ',"cache_control":{"x":1}'), (39, ',"cache_control":{"x":2}')],
                id="several",
            ),
            pytest.param(
                '{"prompt_cache_breakpoint":{"mode":"explicit"},"cache_control":{},"a":1}',
                '{"cache_control":{},"a":1}',
                [(1, '"prompt_cache_breakpoint":{"mode":"explicit"},')],
                id="neighbours that share a comma",
            ),
            pytest.param('{"cache_control":{}}', "{}", [(1, '"cache_control":{}')], id="alone"),
            pytest.param('{"cache_control":null}', '{"cache_control":null}', [], id="null is no marker"),
            pytest.param(
                r'{"text":"a \"cache_control\":{} b"}', r'{"text":"a \"cache_control\":{} b"}', [], id="in a text"
            ),
            pytest.param(
                r'{"text":"x-anthropic-billing-header: cc_version=2; cch=9f;\nHello"}',
                r'{"text":"\nHello"}',
                [(9, "x-anthropic-billing-header: cc_version=2; cch=9f;")],
                id="billing line",
            ),
            pytest.param(
                '{"text":"see x-anthropic-billing-header: y"}',
                '{"text":"see x-anthropic-billing-header: y"}',
                [],
                id="a billing line that is talked about",
            ),
        ],
    )
    def test_what_passes_is_taken_out(self, text: str, settled: str, edits: list[tuple[int, str]]):
        assert element(text) == (settled, edits)

    def test_a_marker_that_moves_changes_no_element(self):
        def body(marked: int) -> bytes:
            turns = [{"role": "user", "content": [{"type": "text", "text": str(number)}]} for number in range(4)]
            turns[marked]["content"][0] |= MARKER  # type: ignore[index, operator]
            return compact({"messages": turns}).encode()

        first, second = cut(body(1), MEMBERS), cut(body(3), MEMBERS)
        assert (first.envelope, first.parts) == (second.envelope, second.parts)
        assert first.edits == [Edit("conversation", 1, 51, MARKED)]
        assert second.edits == [Edit("conversation", 3, 51, MARKED)]


def test_a_huge_element_stays_in_one_piece():
    element = compact({"role": "user", "content": "x" * MAX_TAKEN_APART, **MARKER})
    body = f'{{"model":"m","messages":[{element}]}}'.encode()
    pieces = cut(body, MEMBERS)
    assert (pieces.parts["conversation"], pieces.edits) == ([element], [])
    assert split_texts(element) == (element, [])
    assert join(pieces, MEMBERS) == body


class TestKindsThatCameLater:
    """What was cut before a kind had its members still comes back."""

    @pytest.mark.parametrize(
        "body",
        [
            b'{"lines":[1,2],"messages":[3,4]}',
            b'{"lines":[3],"messages":[3,4]}',
            b'{"lines":"x","messages":[3,4]}',
            b'{"lines":[],"messages":[3,4]}',
            b'{"lines":{"a":[null]},"messages":[3]}',
            b'{"lines":[%s],"messages":[3]}' % b",".join([b"1"] * (MAX_ELEMENTS + 1)),
            b'{"lines":[1, 2,3],"messages":[3]}',
        ],
        ids=lambda body: repr(body[:20]),
    )
    def test_a_member_that_was_not_cut_is_left_alone(self, body: bytes):
        assert join(cut(body, MEMBERS), {"lines": "conversation"} | MEMBERS) == body

    def test_a_new_member_is_cut(self):
        members = MEMBERS | {"lines": "conversation"}
        pieces = cut(b'{"lines":[1,2]}', members)
        assert pieces == Cut('{"lines":[null,null]}', {"conversation": ["1", "2"]}, [])
        assert join(pieces, members) == b'{"lines":[1,2]}'


class TestTexts:
    @pytest.mark.parametrize(
        ("element", "template", "texts"),
        [
            pytest.param('{"a":"short"}', '{"a":"short"}', [], id="a short one stays"),
            pytest.param(compact(LONG), r'"\u001a0"', [LONG], id="a text alone"),
            pytest.param(
                compact({"a": LONG, "b": ["x", LONG + "\n\"'\\ü—"], "c": {}}),
                r'{"a":"\u001a0","b":["x","\u001a1"],"c":{}}',
                [LONG, LONG + "\n\"'\\ü—"],
                id="with characters that are escaped",
            ),
            pytest.param(f'"{LONG}\\u0007"', r'"\u001a0"', [f"{LONG}\a"], id="with one that is escaped by its number"),
            pytest.param(f'"{LONG}\\u001F"', f'"{LONG}\\u001F"', [], id="by its number in capitals"),
            pytest.param(f'"{LONG}\\\\u00fc"', r'"\u001a0"', [f"{LONG}\\u00fc"], id="with what looks like an escape"),
            pytest.param(f'"{LONG}\\u00fc"', f'"{LONG}\\u00fc"', [], id="needlessly escaped"),
            pytest.param(f'"{LONG}ü\\u00fc"', f'"{LONG}ü\\u00fc"', [], id="needlessly escaped in part"),
            pytest.param(f'"{LONG}\\/"', f'"{LONG}\\/"', [], id="escaped otherwise"),
            pytest.param(f'"{LONG}\\ud800"', f'"{LONG}\\ud800"', [], id="a lone surrogate"),
            pytest.param(f'"{LONG}\\u0000"', f'"{LONG}\\u0000"', [], id="NUL"),
            pytest.param(
                rf'["\u001a0","{LONG}"]', rf'["\u001a0","{LONG}"]', [], id="nothing where a text looks like a hole"
            ),
        ],
    )
    def test_long_texts_are_taken_out(self, element: str, template: str, texts: list[str]):
        assert split_texts(element) == (template, texts)
        assert fill_texts(template, texts) == element

    @pytest.mark.parametrize("element", SAID_NOT_MEANT)
    def test_nothing_is_taken_out_of_what_is_no_json_any_more(self, element: str):
        settled, _ = Element(element.encode(), None).settled
        with pytest.raises(json.JSONDecodeError):
            json.loads(settled)
        assert fill_texts(*split_texts(settled)) == settled

    def test_each_is_scanned_once_and_none_is_written_again_to_compare_it(self, monkeypatch: pytest.MonkeyPatch):
        scanned: list[int] = []
        scan = wire_cut.scan

        def counted(text: str, at: int) -> tuple[Any, int]:
            value, end = scan(text, at)
            scanned.append(end - at)
            return value, end

        monkeypatch.setattr(wire_cut, "scan", counted)
        monkeypatch.delattr(wire_cut, "encode_basestring")
        element = compact({"content": [{"text": 'a "line" — \\\n\t' * 1000}, {"text": LONG}, {"text": "short"}]})
        assert len(split_texts(element)[1]) == 2
        # what is left over stands between them
        assert 0.99 * len(element) < sum(scanned) < len(element)

    def test_a_template_is_json(self):
        template, _ = split_texts(compact({"role": "user", "content": LONG}))
        assert json.loads(template) == {"role": "user", "content": "\x1a0"}

    def test_the_text_is_the_same_wherever_it_stands(self):
        message, block = compact({"content": LONG}), compact([{"type": "tool_result", "content": LONG}])
        assert split_texts(message)[1] == split_texts(block)[1] == [LONG]

    def test_a_missing_text_is_an_error(self):
        with pytest.raises(IndexError):
            fill_texts(r'["\u001a0","\u001a1"]', ["one"])


scalars = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text()
names = st.sampled_from(["cache_control", "messages", "system", "text", "\x1a0"]) | st.text(max_size=5)
# long texts are rare when Hypothesis is left to itself
texts = st.text(max_size=20).map(lambda text: (text + "·") * 40)
values = st.recursive(
    scalars | texts,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(names, inner, max_size=4),
    max_leaves=20,
)
members = st.sampled_from(["system", "instructions", "tools", "messages", "input", "model"])
bodies = st.dictionaries(members, values | st.lists(values, max_size=5))


def written(value: Any, ascii_only: bool, separators: tuple[str, str], indent: int | None) -> bytes:
    text = json.dumps(value, ensure_ascii=ascii_only, separators=separators, indent=indent)
    return text.encode("utf-8", "replace")


@given(bodies, st.booleans(), st.sampled_from([(",", ":"), (", ", ": "), (" ,\t", " :\n")]), st.sampled_from([None, 2]))
def test_no_byte_is_lost(body: Any, ascii_only: bool, separators: tuple[str, str], indent: int | None):
    data = written(body, ascii_only, separators, indent)
    result = cut(data, MEMBERS)
    assert join(result, MEMBERS) == data
    for elements in result.parts.values():
        assert [fill_texts(*split_texts(element)) for element in elements] == elements


@given(st.binary())
@example(b'{"messages":[1,2]}{"messages":[3]}')
@example(b'{"messages":[1,2]}\x00')
def test_any_bytes_are_joined_exactly_or_refused(data: bytes):
    try:
        result = cut(data, MEMBERS)
    except ValueError:
        return
    assert join(result, MEMBERS) == data


@given(
    st.sampled_from(['{"messages":[]}', '{"messages":[null,null]}', "{}", "[", ""]),
    st.dictionaries(st.sampled_from(["conversation", "tools"]), st.lists(st.text(), max_size=3)),
    st.lists(st.builds(Edit, st.just("conversation"), st.integers(0, 4), st.integers(0, 9), st.text()), max_size=2),
)
def test_pieces_that_do_not_fit_raise_nothing_unexpected(envelope: str, parts: dict[str, list[str]], edits: list[Edit]):
    """What a damaged database may hold."""
    with suppress(ValueError, LookupError):
        join(Cut(envelope, parts, edits), MEMBERS)
