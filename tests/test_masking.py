"""Secrets are found in every spelling and masked at equal length; what holds none is given back as it was."""

import json
from base64 import b64encode, urlsafe_b64encode
from urllib.parse import quote, quote_plus

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway_addon.api.base import ToolCall
from gateway_addon.content import Content
from gateway_addon.masking import Mask
from tests.store.calls import make_record

SECRET = 'key-"of/toy\\6e1f0c+93='
MASK = Mask([SECRET, "client-token-93aa", "lm-studio"])

SPELLINGS = {
    "plain": SECRET,
    "bearer": f"Bearer {SECRET}",
    "JSON": json.dumps({"key": SECRET}),
    "JSON in JSON": json.dumps(json.dumps({"key": SECRET})),
    "slashes escaped": json.dumps(SECRET).replace("/", "\\/"),
    "all escaped": "".join(f"\\u{ord(c):04x}" for c in SECRET),
    "all escaped, in JSON": json.dumps("".join(f"\\u{ord(c):04X}" for c in SECRET)),
    "some escaped": "".join(f"\\u{ord(c):04x}" if c in "ot" else json.dumps(c)[1:-1] for c in SECRET),
    "percent": quote(SECRET),
    "percent, all reserved": quote_plus(SECRET, safe=""),
    "percent, lower case": quote(SECRET, safe="").lower(),
    "percent, twice": quote(quote(SECRET, safe=""), safe=""),
    "percent, all": "".join(f"%{ord(c):02X}" for c in SECRET),
    "entities": "".join(f"&#{ord(c)};" for c in SECRET),
    "entities, hexadecimal": "".join(f"&#x{ord(c):02X};" for c in SECRET),
    "some entities": "".join(f"&#0{ord(c)};" if c in "/oe" else c for c in SECRET),
}


@pytest.mark.parametrize("text", SPELLINGS.values(), ids=SPELLINGS)
def test_every_spelling_is_masked_at_equal_length(text: str):
    for masked in (MASK.text(f"a {text} b"), MASK.data(f"a {text} b".encode()).decode()):
        assert len(masked) == len(text) + 4
        assert set(masked.removeprefix("a ").removesuffix(" b")) <= set('*Bearer {"key: }\\')
        assert "6e1f0c" not in masked


class Searched(bytes):
    """Counts how often something is looked for in it."""

    times = 0

    def __contains__(self, key: object) -> bool:
        self.times += 1
        return super().__contains__(key)  # type: ignore[operator]


def test_a_long_body_without_a_secret_is_searched_once():
    mask, body = Mask([SECRET]), Searched(b"a word " * 10_000)
    assert mask.data(body) is body
    searched = body.times
    # as the headers of its flow are, before it comes again
    assert mask.data(SECRET.encode()) == b"*" * len(SECRET)
    assert mask.data(body) is body
    assert body.times == searched > 0
    assert mask.data(bytes(body) + SECRET.encode()).endswith(b"*" * len(SECRET))


@pytest.mark.parametrize("code", ["utf-16-le", "utf-16-be", "utf-16"])
def test_bytes_are_masked_in_utf_16(code: str):
    masked = MASK.data(f'{{"key": "{SECRET}"}}'.encode(code)).decode(code)
    assert masked == f'{{"key": "{"*" * len(SECRET)}"}}'


@given(st.binary(max_size=9), st.binary(max_size=9), st.sampled_from([b64encode, urlsafe_b64encode]))
def test_base64_is_masked_wherever_the_secret_stands_in_it(before: bytes, behind: bytes, encode):
    coded = encode(before + SECRET.encode() + behind).decode()
    masked = MASK.text(coded)
    assert len(masked) == len(coded)
    assert masked.count("*") >= len(SECRET) * 4 // 3 - 3


@pytest.mark.parametrize("text", ["", "lm-studio", "%2d \\u002d \\/ key-", "ünïcode 🚀", "a" * 10_000])
def test_what_holds_none_is_the_same_object(text: str):
    assert MASK.text(text) is text
    data = text.encode()
    assert MASK.data(data) is data
    value = make_record(error_message=text, usage={"a": [1, text, {"b": None}]}, warnings=("request_missing",))
    assert MASK.value(value) is value


def test_values_are_masked_all_the_way_down():
    call = ToolCall("1", SECRET, "function", "client", f'["{quote(SECRET)}"]')
    content = Content(tools=["a", SECRET], tool_calls=[call], body=SECRET.encode())
    record = make_record(usage={"x": {SECRET: [SECRET]}}, rewrites=({"path": SECRET},), error_message=SECRET)
    assert SECRET not in repr(MASK.value(record)) + repr(MASK.value(content))
    assert MASK.value(content).body == b"*" * len(SECRET)
    assert content.tools == ["a", SECRET]


def test_no_secrets_no_mask():
    assert not Mask()
    assert not Mask(["lm-studio", "x"])
    assert Mask().text(SECRET) is SECRET


def test_where_they_stand():
    assert MASK.spans(f"ab{SECRET}c") == [(2, 2 + len(SECRET))]
