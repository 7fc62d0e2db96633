"""Texts that not every place takes."""

import pytest

from gateway_addon.wire.text import has_surrogates, storable


@pytest.mark.parametrize(
    ("text", "stored"),
    [
        pytest.param("", None, id="nothing"),
        pytest.param("plain", None, id="ASCII"),
        pytest.param("ü", None, id="Latin-1"),
        pytest.param("ü—", None, id="in the basic plane"),
        pytest.param("ü—😀\0", None, id="beyond it"),
        pytest.param("a\ud800", "a?", id="a high surrogate"),
        pytest.param("\udfffb", "?b", id="a low one"),
        pytest.param("😀\ud83d\ude00", "😀??", id="two that never were one"),
    ],
)
def test_only_a_text_with_lone_surrogates_is_changed(text: str, stored: str | None):
    assert has_surrogates(text) is (stored is not None)
    assert storable(text) == (text if stored is None else stored)
    if stored is None:
        assert storable(text) is text
