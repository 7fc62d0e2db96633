"""How a value reads in a table of the page."""

import pytest

from gateway_addon.page.cells import cell


@pytest.mark.parametrize(
    ("column", "value", "shown"),
    [
        ("cost_microdollars", 1530, '<span title="1530 millionths">$0.0015</span>'),
        ("cost_microdollars", None, "–"),
        ("usd", 0.00153, "$0.0015"),
        ("input_tokens", 12345, "12,345"),
        ("calls", 12345, None),
        ("seconds", 1.5, None),
        ("model", "a<b>", '<span class="short">a&lt;b&gt;</span>'),
        ("user_prompt", "two words & more", "two words &amp; more"),
        ("text", "\u202eturned", '<span class="short">\\u202eturned</span>'),
        (
            "started_at",
            "2026-11-22T23:43:02.907Z",
            '<span class="short" title="2026-11-22T23:43:02.907Z">2026-11-22 23:43:02</span>',
        ),
        (
            "session_id",
            "a\"'/?<&",
            '<a class="short" title="a&quot;&#x27;/?&lt;&amp;"'
            ' href="/gateway/conversation?id=a%22%27%2F%3F%3C%26">a&quot;&#x27;/?&lt;&amp;</a>',
        ),
        (
            "request_id",
            "db8753da-14cd-499d-a01d-b22a689cb1e9/2",
            '<a class="short" title="db8753da-14cd-499d-a01d-b22a689cb1e9/2"'
            ' href="/gateway/conversation?id=db8753da-14cd-499d-a01d-b22a689cb1e9%2F2">db8753da/2</a>',
        ),
        ("all_columns", "x/1", '<a href="/gateway/requests/x~2F1">all columns</a>'),
    ],
)
def test_a_value(column: str, value: object, shown: str | None):
    assert cell(column, value) == shown


def test_a_long_text_is_folded_whole():
    text = "<script>" + "long " * 1000
    shown = cell("answer_text", text)
    assert shown is not None
    assert shown.startswith("<details><summary>&lt;script&gt;long ")
    assert "4,808 more characters</summary>" in shown
    assert shown.count("long") >= 1000
    assert "<script" not in shown
