"""wire/jsontext.py: exact in and out, and edits that touch nothing else."""

import math
import re
from contextlib import suppress
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway_addon.wire.jsontext import Member, apply, dumps, members, parse, parse_object

Operation = dict[str, Any]


@pytest.mark.parametrize(
    ("text", "value"),
    [
        pytest.param(b'{"a": [1, true, null]}', {"a": [1, True, None]}, id="plain"),
        pytest.param("[]", [], id="text instead of bytes"),
        pytest.param(b"12345678901234567890", 12345678901234567890, id="large integer"),
        pytest.param(b"0.1000", Decimal("0.1000"), id="every digit of a fraction"),
        pytest.param(b"1e400", Decimal("1e400"), id="beyond a double"),
        pytest.param(b" \n\r\t{} \n", {}, id="white space around"),
        pytest.param(b"\xef\xbb\xbf{}", {}, id="BOM"),
        pytest.param("\ufeff{}", {}, id="BOM in text"),
        pytest.param('"\u2028é"'.encode(), "\u2028é", id="line separator"),
        pytest.param(rb'"\ud83d"', "\ud83d", id="lone surrogate"),
        pytest.param(b"-Infinity", -math.inf, id="infinity, for readers to reject"),
    ],
)
def test_parse(text: bytes | str, value: object):
    assert parse(text) == value
    assert type(parse(text)) is type(value)


@pytest.mark.parametrize("text", [b"NaN", b"1e99999999999999999999", b"1e-99999999999999999999"])
def test_what_is_no_number_is_not_finite(text: bytes):
    assert math.isnan(parse(text))


@pytest.mark.parametrize(
    "text",
    [
        pytest.param(b"", id="empty"),
        pytest.param(b" \n", id="only spaces"),
        pytest.param(b"<html>", id="no JSON"),
        pytest.param(b"{} {}", id="two values"),
        pytest.param(b'{"a', id="cut off"),
        pytest.param(b'"\xff"', id="no UTF-8"),
        pytest.param(b"[" * 200_000, id="nested too deeply"),
        pytest.param(b"1" * 5000, id="integer too long"),
    ],
)
def test_unreadable(text: bytes):
    with pytest.raises(ValueError, match=r"."):
        parse(text)
    assert parse_object(text) is None


def test_parse_object():
    assert parse_object(b'{"a": 1.0}') == {"a": Decimal("1.0")}


@pytest.mark.parametrize("text", [pytest.param(text, id=f"{text}") for text in ["null", '"x"', "[]", "1", "[DONE]"]])
def test_not_an_object(text: str):
    assert parse_object(text) is None


@given(st.binary(max_size=20) | st.text(alphabet='{}[]",:0e-.\\u tn', max_size=20))
def test_parse_object_never_raises(text: bytes | str):
    parse_object(text)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        pytest.param({"a": [1, True, None], "b": {}}, '{"a":[1,true,null],"b":{}}', id="compact"),
        pytest.param((1, "x"), '[1,"x"]', id="tuple"),
        pytest.param(Decimal("1.50"), "1.50", id="digits kept"),
        pytest.param(Decimal("1E-7"), "1E-7", id="exponent"),
        pytest.param(2**64 + 1, "18446744073709551617", id="large integer"),
        pytest.param(0.1, "0.1", id="float"),
        pytest.param([math.nan, math.inf, -math.inf], '["NaN","Infinity","-Infinity"]', id="floats that are no JSON"),
        pytest.param([Decimal("NaN"), Decimal("-Infinity")], '["NaN","-Infinity"]', id="decimals that are no JSON"),
        pytest.param('é\u2028"\\\n\x00', '"é\u2028\\"\\\\\\n\\u0000"', id="text"),
        pytest.param({"\ud83d": "a\udc00"}, '{"\\ud83d":"a\\udc00"}', id="lone surrogates"),
        pytest.param("😀", '"😀"', id="a pair is no lone surrogate"),
    ],
)
def test_dumps(value: object, text: str):
    assert dumps(value) == text


def test_dumps_of_too_deep_a_value():
    value: list[Any] = []
    for _ in range(10_000):
        value = [value]
    with pytest.raises(ValueError, match="nested too deeply"):
        dumps(value)


numbers = st.decimals(allow_nan=False, allow_infinity=False) | st.integers(-(2**70), 2**70)
scalars = st.none() | st.booleans() | numbers | st.text(st.characters(codec=None), max_size=5)
values = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=3), inner, max_size=4)
)


@given(values)
def test_dumps_is_read_back(value: object):
    text = dumps(value)

    text.encode()
    assert dumps(parse(text)) == text
    assert parse(text) == value


def test_members_of_an_object():
    text = ' {"a" : [1, 2],\n "\\u0062": 1.50 } tail'

    assert list(members(text)) == [Member("a", 8, 14, [1, 2]), Member("b", 27, 31, Decimal("1.50"))]
    assert [text[member.start : member.end] for member in members(text)] == ["[1, 2]", "1.50"]


def test_members_of_an_array_inside():
    text = '{"a": [ {} ,"x"]}'
    assert list(members(text, 6)) == [Member(0, 8, 10, {}), Member(1, 12, 15, "x")]


@pytest.mark.parametrize(
    "text", ["", "1", '"x"', "[", "[1", "[1 2]", "[1,]", "{", '{"a"}', '{"a":}', "{1:2}", '{"a":1', "[" * 200_000]
)
def test_members_of_what_has_none(text: str):
    with pytest.raises(ValueError, match=r"."):
        list(members(text))


def add(path: str, value: object) -> Operation:
    return {"op": "add", "path": path, "value": value}


def replace(path: str, value: object) -> Operation:
    return {"op": "replace", "path": path, "value": value}


def remove(path: str) -> Operation:
    return {"op": "remove", "path": path}


@pytest.mark.parametrize(
    ("before", "operations", "after"),
    [
        pytest.param('{ "a":1.0 }', [], '{ "a":1.0 }', id="nothing"),
        pytest.param('{"a" : 1e2,"b":2}', [replace("/a", 5)], '{"a" : 5,"b":2}', id="replace"),
        pytest.param('{"a":[1, 2 ,3]}', [replace("/a/1", [])], '{"a":[1, [] ,3]}', id="replace in an array"),
        pytest.param('{"a":{"b":{"c":0}}}', [replace("/a/b/c", 1)], '{"a":{"b":{"c":1}}}', id="deep"),
        pytest.param('{"a/b":1,"m~n":2}', [replace("/a~1b", 3), remove("/m~0n")], '{"a/b":3}', id="escaped pointer"),
        pytest.param(r'{"\u0061":1}', [replace("/a", 2)], r'{"\u0061":2}', id="escaped name"),
        pytest.param('{"a":1, "b":2}', [remove("/a")], '{"b":2}', id="remove the first"),
        pytest.param('{"a":1, "b":2, "c":3}', [remove("/b")], '{"a":1, "c":3}', id="remove from the middle"),
        pytest.param('{ "a":1, "b":2 }', [remove("/b")], '{ "a":1 }', id="remove the last"),
        pytest.param('{ "a":1 }', [remove("/a")], "{  }", id="remove the only one"),
        pytest.param("[1, 2, 3]", [remove("/0"), remove("/1")], "[3]", id="remove neighbours at the start"),
        pytest.param("[1, 2, 3]", [remove("/1"), remove("/2")], "[1]", id="remove neighbours at the end"),
        pytest.param("[1, 2, 3]", [remove("/2"), remove("/0")], "[2]", id="indexes are those of the original"),
        pytest.param("[1, 2]", [remove("/0"), remove("/1")], "[]", id="remove all"),
        pytest.param("{}", [add("/a", 1)], '{"a":1}', id="add to an empty object"),
        pytest.param('{\n  "a": 1\n}', [add("/b", 2)], '{\n  "a": 1,"b":2\n}', id="a new name comes last"),
        pytest.param('{"a":1}', [add("/c", 1), add("/b", 2)], '{"a":1,"c":1,"b":2}', id="new names in order"),
        pytest.param('{"a": 1}', [add("/a", 2)], '{"a": 2}', id="add of a name there is"),
        pytest.param('{"a":1}', [remove("/a"), add("/b", 2)], '{"b":2}', id="remove the only one and add"),
        pytest.param("{}", [add("/a~1b\ud83d", 1)], r'{"a/b\ud83d":1}', id="new name that needs escapes"),
        pytest.param('{"a":1}', [add("/-", 2)], '{"a":1,"-":2}', id="a minus is a name in an object"),
        pytest.param("[]", [add("/-", 1)], "[1]", id="append to an empty array"),
        pytest.param("[]", [add("/0", 1)], "[1]", id="insert into an empty array"),
        pytest.param("[ 1 ]", [add("/-", 2), add("/-", 3)], "[ 1,2,3 ]", id="append in order"),
        pytest.param("[1]", [add("/-", 3), add("/1", 2)], "[1,2,3]", id="append by length, then by minus"),
        pytest.param("[ 1, 2]", [add("/0", 0)], "[ 0,1, 2]", id="insert in front"),
        pytest.param("[1, 4]", [add("/1", 2), add("/1", 3)], "[1,2,3, 4]", id="insert in order"),
        pytest.param("[1, 2]", [add("/0", 0), remove("/0")], "[0, 2]", id="insert in front of a removed one"),
        pytest.param("[1]", [add("/0", 0), remove("/0"), add("/1", 2)], "[0,2]", id="all at once"),
        pytest.param('[{"a":1}]', [add("/0", 0), replace("/0/a", 2)], '[0,{"a":2}]', id="insert, and edit behind"),
        pytest.param("[1, 2]", [remove("/0"), add("/1", 5)], "[5, 2]", id="insert behind a removed one"),
        pytest.param('{"a":1,"b":2,"a":3}', [replace("/a", 4)], '{"a":4,"b":2,"a":4}', id="replace a name twice there"),
        pytest.param('{"a":1,"b":2,"a":3}', [remove("/a")], '{"b":2}', id="remove a name twice there"),
        pytest.param('{"a":{"b":1},"a":{}}', [remove("/a/b")], '{"a":{},"a":{}}', id="below a name twice there"),
        pytest.param('{"a":{"b":1},"a":{}}', [add("/a/b", 2)], '{"a":{"b":2},"a":{"b":2}}', id="add below such a name"),
        pytest.param("\ufeff {} \n", [add("/a", 1)], '\ufeff {"a":1} \n', id="BOM and white space survive"),
        pytest.param("{}", [add("/a", Decimal("1.50"))], '{"a":1.50}', id="exact number"),
        pytest.param(
            '{"n": 12345678901234567890, "x": 1.0e1, "s": "\\/\\u00e9é", "m": ""}',
            [replace("/m", "µ")],
            '{"n": 12345678901234567890, "x": 1.0e1, "s": "\\/\\u00e9é", "m": "µ"}',
            id="numbers and escapes survive",
        ),
    ],
)
def test_apply(before: str, operations: list[Operation], after: str):
    assert apply(before.encode(), operations).decode() == after


@pytest.mark.parametrize(
    ("text", "operations", "message"),
    [
        pytest.param(b'{"a":1}', [replace("/b", 1)], "no such place: /b", id="no such name"),
        pytest.param(b'{"a":1}', [add("/a/b", 1)], "no such place: /a/b", id="below a number"),
        pytest.param(b"{}", [add("/a/b", 1)], "no such place: /a/b", id="below nothing"),
        pytest.param(b"[1]", [remove("/1")], "no such place: /1", id="behind the array"),
        pytest.param(b"[1]", [add("/2", 1)], "no such place: /2", id="add behind the end"),
        pytest.param(b"[1]", [add("/01", 1)], "no such place: /01", id="no index"),
        pytest.param(b"[1]", [add("/1", 2), replace("/1", 3)], "no such place: /1", id="replace what is only added"),
        pytest.param(b"[1]", [remove("/-")], "no such place: /-", id="behind the end"),
        pytest.param(b"1", [add("/a", 1)], "no such place: /a", id="document without members"),
        pytest.param(b'{"m~":1}', [remove("/m~0/x~1")], "no such place: /m~0/x~1", id="pointer as it was given"),
        pytest.param(b'{"a":1}', [replace("/a", 1), remove("/a")], "operations overlap: /a", id="twice"),
        pytest.param(b'{"a":1}', [add("/a", 1), add("/a", 2)], "operations overlap: /a", id="add twice"),
        pytest.param(b"{}", [add("/a", 1), add("/a", 2)], "operations overlap: /a", id="add a new name twice"),
        pytest.param(b'{"a":{"b":1}}', [remove("/a"), remove("/a/b")], "operations overlap: /a", id="one in the other"),
        pytest.param(b"{}", [replace("", 1)], "not supported: replace ", id="whole document"),
        pytest.param(b"{}", [add("a", 1)], "not supported: add a", id="no pointer"),
        pytest.param(b"{}", [{"op": "move", "path": "/a", "from": "/b"}], "not supported: move /a", id="move"),
        pytest.param(b'{"a" 1}', [remove("/a")], "no : at 5", id="no JSON"),
        pytest.param(b'{"a":"\xff"}', [remove("/a")], "utf-8", id="no UTF-8"),
    ],
)
def test_apply_refuses(text: bytes, operations: list[Operation], message: str):
    with pytest.raises(ValueError, match=re.escape(message)):
        apply(text, operations)


@given(st.text(alphabet='{}[]",:0ab ', max_size=20))
def test_apply_raises_nothing_but_value_errors(text: str):
    with suppress(ValueError):
        apply(text.encode(), [add("/a", 1), add("/b/0", 2)])


def test_apply_without_operations_does_not_even_read():
    assert apply(b"no JSON", []) == b"no JSON"


# Generated documents: texts with odd spellings, and where each value stands in them

TOKENS = ["null", "-0", "1.0e1", "0.10", "12345678901234567890", '""', r'"\u0041\/"', '"é\u2028"', r'"]},\""']
NAMES = [("a", '"a"'), ("b", r'"\u0062"'), ("~1/", '"~1/"'), ("", '""'), ("0", '"0"'), ("-", '"-"')]
Spans = dict[str, tuple[int, int]]
spaces = st.sampled_from(["", "", " ", "\n\t"])


def escaped(name: str) -> str:
    return name.replace("~", "~0").replace("/", "~1")


@st.composite
def documents(draw: st.DrawFn) -> tuple[str, Spans]:
    """A JSON text (an object or array), and the span of the value at each pointer."""
    pieces: list[str] = []
    spans: Spans = {}

    def position() -> int:
        return sum(map(len, pieces))

    def write(pointer: str, depth: int) -> None:
        shapes = ["object", "array"] + ["token"] * 2 * depth
        shape = draw(st.sampled_from(shapes))
        start = position()
        if shape == "token":
            pieces.append(draw(st.sampled_from(TOKENS)))
        else:
            pieces.extend("{" if shape == "object" else "[")
            keys = draw(st.lists(st.sampled_from(NAMES), max_size=4, unique=True))
            for index, (name, spelled) in enumerate(keys):
                pieces.extend(["," if index else "", draw(spaces)])
                if shape == "object":
                    pieces.extend([spelled, draw(spaces), ":", draw(spaces)])
                write(f"{pointer}/{escaped(name) if shape == 'object' else index}", depth + 1)
                pieces.append(draw(spaces))
            pieces.extend("}" if shape == "object" else "]")
        spans[pointer] = start, position()

    pieces.append(draw(spaces))
    write("", 0)
    pieces.append(draw(spaces))
    return "".join(pieces), spans


def inside(path: str, other: str) -> bool:
    return path == other or path.startswith(other + "/")


@given(st.data(), documents())
def test_replacing_changes_the_spans_and_not_a_byte_more(data: st.DataObject, document: tuple[str, Spans]):
    text, spans = document
    paths: list[str] = []
    for path in data.draw(st.lists(st.sampled_from(sorted(spans)), max_size=5)):
        if path and not any(inside(path, other) or inside(other, path) for other in paths):
            paths.append(path)
    expected = text
    for start, end in sorted((spans[path] for path in paths), reverse=True):
        expected = expected[:start] + '"new"' + expected[end:]

    assert apply(text.encode(), [replace(path, "new") for path in paths]).decode() == expected


def naive(value: Any, operations: list[Operation], pointer: str = "") -> Any:
    """The same edits on parsed values."""

    def given_at(path: str, *names: str) -> list[Operation]:
        return [operation for operation in operations if operation["path"] == path and operation["op"] in names]

    def edited(item: Any, path: str, *names: str) -> list[Any]:
        for operation in given_at(path, *names):
            return [] if operation["op"] == "remove" else [operation["value"]]
        return [naive(item, operations, path)]

    if isinstance(value, list):
        items: list[Any] = []
        for index, item in enumerate(value):
            items += [operation["value"] for operation in given_at(f"{pointer}/{index}", "add")]
            items += edited(item, f"{pointer}/{index}", "replace", "remove")
        ends = [*given_at(f"{pointer}/{len(value)}", "add"), *given_at(f"{pointer}/-", "add")]
        return items + [operation["value"] for operation in ends]
    if isinstance(value, dict):
        result = {}
        for name, item in value.items():
            for new in edited(item, f"{pointer}/{escaped(name)}", "add", "replace", "remove"):
                result[name] = new
        for operation in operations:
            parent, _, token = operation["path"].rpartition("/")
            name = token.replace("~1", "/").replace("~0", "~")
            if parent == pointer and name not in value:
                result[name] = operation["value"]
        return result
    return value


@st.composite
def operations_on(draw: st.DrawFn, text: str, spans: Spans) -> list[Operation]:
    """Operations on a document that do not overlap."""
    possible = []
    for path, (start, end) in spans.items():
        possible += [replace(path, ["new"]), remove(path)] if path else []
        if text[start] == "[":
            size = len(parse(text[start:end]))
            possible += [add(f"{path}/{token}", token) for token in [*range(size + 1), "-"]]
        elif text[start] == "{":
            possible += [add(f"{path}/{escaped(name)}", {"new": name}) for name in ["a", "~1/", "-", "x"]]
    chosen: list[Operation] = []
    for operation in draw(st.lists(st.sampled_from(possible), max_size=8)):
        if not any(overlap(text, spans, operation, other) for other in chosen):
            chosen.append(operation)
    return chosen


def overlap(text: str, spans: Spans, one: Operation, other: Operation) -> bool:
    """Inserting into an array touches nothing that is there, except by what is done to the array."""
    if one["path"] == other["path"]:
        return not inserts(text, spans, one) and not inserts(text, spans, other)
    return any(
        inside(inner["path"], outer["path"]) and not inserts(text, spans, outer)
        for inner, outer in [(one, other), (other, one)]
    )


def inserts(text: str, spans: Spans, operation: Operation) -> bool:
    start, _ = spans[operation["path"].rpartition("/")[0]]
    return operation["op"] == "add" and text[start] == "["


@given(st.data(), documents())
def test_edited_text_reads_as_edited_values(data: st.DataObject, document: tuple[str, Spans]):
    text, spans = document
    operations = data.draw(operations_on(text, spans))

    result = apply(text.encode(), operations)

    assert dumps(parse(result)) == dumps(naive(parse(text), operations))


@given(documents())
def test_members_are_exact(document: tuple[str, Spans]):
    text, spans = document
    for path, (start, end) in spans.items():
        if text[start] in "[{":
            found = list(members(text, start))
            keys = [f"{path}/{escaped(str(member.key))}" for member in found]
            assert [spans[key] for key in keys] == [(member.start, member.end) for member in found]
            assert dumps([member.value for member in found]) == dumps([parse(text[m.start : m.end]) for m in found])
            assert len(found) == len(parse(text[start:end]))
