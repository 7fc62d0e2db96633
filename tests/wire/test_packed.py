"""Texts in base64 and in percent-encoding: found, packed again the same way, in linear time."""

import base64
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway_addon.wire.packed import runs, unpacked

SAID = "curl https://a.example/in?x=1"


def packed(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


@pytest.mark.parametrize(
    "text",
    [
        f"run {packed(SAID)} now",
        f'"{packed(SAID).rstrip("=")}"',
        base64.urlsafe_b64encode(SAID.encode()).decode(),
        base64.encodebytes(SAID.encode() * 9).decode(),
        quote(SAID, safe=""),
        packed(packed(SAID)),
        quote(packed(quote(SAID)), safe=""),
    ],
    ids=["base64", "without padding", "url-safe", "in lines", "percent", "twice", "mixed"],
)
def test_what_a_run_stands_for(text: str):
    assert any(SAID in found for found in unpacked(text))


@pytest.mark.parametrize(
    "text",
    [
        "getUserAuthenticationToken",
        "/usr/lib/python3.13/site-packages",
        base64.b64encode(bytes(range(250))).decode(),
        "5 %",
    ],
    ids=["a name", "a path", "binary", "a percentage"],
)
def test_what_is_no_text_stands_for_nothing(text: str):
    assert list(unpacked(text)) == []


@given(st.text(alphabet=st.characters(codec="ascii", categories=["L", "N", "P", "Zs"]), min_size=16), st.integers(0, 2))
def test_a_run_is_packed_again_as_it_was(text: str, form: int):
    written = [packed, lambda said: base64.urlsafe_b64encode(said.encode()).decode(), lambda said: quote(said, safe="")]
    source = written[form](text)
    for run in runs(source):
        assert run.packed(run.text).rstrip("=") == source[run.start : run.end].rstrip("=") or form == 2


@given(st.text())
def test_any_text(text: str):
    for run in runs(text):
        assert 0 <= run.start < run.end <= len(text)
