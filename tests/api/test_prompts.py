"""What a person said, told from what a harness wrapped around it (wire-formats §6), and what cleaning does."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway_addon.api.prompts import (
    DROPPED_TAGS,
    KEPT_TAGS,
    clean,
    is_volatile,
    join_texts,
    real_prompt,
    side_request,
    strip_wrappers,
)

PIECES = st.lists(
    st.sampled_from(
        [f"<{tag}>" for tag in (*DROPPED_TAGS, *KEPT_TAGS)]
        + [f"</{tag}>" for tag in (*DROPPED_TAGS, *KEPT_TAGS)]
        + ["\n", " ", "words", "<", ">", "<system-reminder ", "# AGENTS.md instructions for x\n<INSTRUCTIONS>"]
        + ["[read_file for 'x'] Result:", "[Request interrupted by user]", "\0", "\ud800"]
    )
).map("".join)


@pytest.mark.parametrize("tag", DROPPED_TAGS)
def test_an_element_of_a_harness_is_dropped_whole(tag: str):
    assert strip_wrappers(f"<{tag}>\nnoise\n</{tag}>") == ""
    assert strip_wrappers(f"<{tag}>noise</{tag}>\nfix it") == "fix it"
    assert strip_wrappers(f"fix it\n  <{tag}>noise</{tag}>") == "fix it"


@pytest.mark.parametrize("tag", KEPT_TAGS)
def test_of_an_element_with_a_persons_words_only_the_tags_go(tag: str):
    assert strip_wrappers(f"<{tag}>\nfix it\n</{tag}>") == "fix it"
    assert strip_wrappers(f"<{tag}>fix it</{tag}>\n\n<environment_details>noise</environment_details>") == "fix it"
    assert strip_wrappers(f"<{tag}>\nfix it\n<system-reminder>noise</system-reminder>") == "fix it"


@pytest.mark.parametrize(
    ("text", "left"),
    [
        pytest.param("<system-reminder>noise</system-reminder>", "", id="trap-80"),
        pytest.param("fix it\n<system-reminder>cut of", "fix it", id="unclosed"),
        pytest.param(
            "<system-reminder>\n<task>noise</task>\n<skill>x</skill>\n</system-reminder>\nfix it", "fix it", id="nested"
        ),
        pytest.param("what does <skill> mean?", "what does <skill> mean?", id="a tag amid a line is the person's"),
        pytest.param("how do I close </task>?", "how do I close </task>?", id="a stray end tag is the person's"),
        pytest.param("<b>bold</b>", "<b>bold</b>", id="an unknown tag is the person's"),
        pytest.param("<skillful>x</skillful>", "<skillful>x</skillful>", id="a tag that only begins alike"),
        pytest.param('<skill name="x">noise</skill>fix it', "fix it", id="attributes"),
        pytest.param(
            "<bash-stdout>noise</bash-stdout><bash-stderr></bash-stderr>", "", id="one element right after another"
        ),
        pytest.param("a\n<turn_aborted>x</turn_aborted>\nb", "a\n\nb", id="words before and after"),
        pytest.param(
            "# AGENTS.md instructions for a project\n\n<INSTRUCTIONS>\nnoise\n</INSTRUCTIONS>\nfix it",
            "fix it",
            id="Codex's project instructions",
        ),
        pytest.param("<INSTRUCTIONS>fix it</INSTRUCTIONS>", "<INSTRUCTIONS>fix it</INSTRUCTIONS>", id="no heading"),
        pytest.param("[Request interrupted by user for tool use]", "", id="interrupted"),
        pytest.param("[Request interrupted by user]\nfix it", "fix it", id="interrupted, then words"),
        pytest.param("This session is being continued from a previous conversation that ...", "", id="continued"),
        pytest.param("This is the Qwen Code. We are setting up the context for ...", "", id="Qwen Code's first turn"),
        pytest.param("fix it\n\nTo suggest changes to a file you MUST ...", "fix it", id="Aider's format rules"),
        pytest.param("[read_file for 'a.py'] Result:\nprint()", "", id="Cline's tool result"),
        pytest.param(
            "[write_file for 'a.py'] Result:\nDenied:\n<feedback>\nnot there\n</feedback>\nmore",
            "not there",
            id="feedback inside a tool result",
        ),
        pytest.param("  indented\n", "  indented\n", id="nothing to drop: as sent"),
    ],
)
def test_strip_wrappers(text: str, left: str):
    assert strip_wrappers(text) == left


@pytest.mark.parametrize(
    ("turns", "prompt"),
    [
        ([["fix it"]], "fix it"),
        pytest.param([[], ["fix it"]], "fix it", id="trap-78"),
        pytest.param([["<system-reminder>noise</system-reminder>"], ["fix it"]], "fix it", id="trap-80"),
        pytest.param([["<environment_context>x", "fix it", "today"]], "fix it\ntoday", id="one part of several"),
        pytest.param(
            [["[read_file for 'a'] Result:", "print()"], ["fix it"]], "fix it", id="result in a part of its own"
        ),
        pytest.param([["[read_file for 'a'] Result:", "print()", "and this"]], "and this", id="words after a result"),
        ([["  "], ["\n"]], None),
        ([["newer"], ["older"]], "newer"),
        ([], None),
    ],
)
def test_the_real_prompt_is_that_of_the_first_turn_that_says_something(turns: list[list[str]], prompt: str | None):
    assert real_prompt(turns) == prompt


def test_turns_are_not_walked_further_than_needed():
    turns = iter([["<skill>x</skill>"], ["fix it"], ["older"]])
    assert real_prompt(turns) == "fix it"
    assert list(turns) == [["older"]]


@pytest.mark.parametrize(
    ("expected", "system", "last_user_text", "max_tokens", "n_tools"),
    [
        ("quota_probe", None, "quota", 1, 0),
        ("quota_probe", None, "test", 1, 0),
        pytest.param("warmup", None, "hello", 0, 0, id="trap-57"),
        ("warmup", "You are an agent.", "Warmup", 1000, 9),
        ("suggestion", "You are an agent.", "[SUGGESTION MODE: guess what comes next]", 1000, 9),
        ("suggestion", None, "<system-reminder>x</system-reminder>\n[SUGGESTION MODE: guess]", 1000, 9),
        ("transcript", None, "<transcript>\nuser: hello\n</transcript>", 1000, 0),
        ("title", "You are a title generator. Answer with one line.", "hello", None, 0),
        ("title", None, "Generate a title for this conversation:\nhello", None, 0),
        ("title", "Write the title of this session.", "<session>hello</session>", 1000, 0),
        ("title", None, "<session>hello</session>\nWrite the title", 1000, 0),
        ("compaction", None, "Your task is to create a detailed summary of the conversation so far", 1000, 0),
        (
            "compaction",
            None,
            "Use no tools.\n\nYour task is to create a detailed summary of this conversation",
            None,
            9,
        ),
        ("compaction", None, "You are performing a CONTEXT CHECKPOINT COMPACTION. Write", None, 9),
    ],
)
def test_a_request_that_is_no_turn_is_named(
    expected: str, system: str | None, last_user_text: str, max_tokens: int | None, n_tools: int
):
    assert side_request(system, last_user_text, max_tokens, n_tools) == expected


@pytest.mark.parametrize(
    ("system", "last_user_text", "max_tokens", "n_tools"),
    [
        pytest.param(None, "quota", 1000, 0, id="a question of one word"),
        pytest.param(None, "what is my quota?", 1, 0, id="a question with a tiny limit"),
        pytest.param(
            "You are an agent.", "Generate a title for this conversation:", 1000, 9, id="tools: a person asks"
        ),
        pytest.param("You are an agent.", "<transcript>summarise this</transcript>", 1000, 9, id="a pasted transcript"),
        pytest.param(None, "Write the title of my book in bold", None, 0, id="a title of one's own"),
        pytest.param(None, "what does [SUGGESTION MODE: x] do?", None, 9, id="amid the text"),
        pytest.param(None, "Your task is to create a detailed summary of chapter 3", None, 0, id="another summary"),
        pytest.param(None, None, None, 0, id="nothing known"),
    ],
)
def test_a_persons_words_are_not_taken_for_a_side_request(
    system: str | None, last_user_text: str | None, max_tokens: int | None, n_tools: int
):
    assert side_request(system, last_user_text, max_tokens, n_tools) is None


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("x-anthropic-billing-header: cc_version=1; cch=00000;", True),
        ("x-anthropic-billing-header: cc_version=1;\n", True),
        ("x-anthropic-billing-header: cc_version=1;\nYou are an agent.", False),
        ("You are an agent.", False),
        ("", False),
    ],
)
def test_only_a_part_that_is_nothing_but_the_billing_line_is_volatile(text: str, expected: bool):
    assert is_volatile(text) is expected


@pytest.mark.parametrize(
    ("text", "cleaned"),
    [
        pytest.param("a\0b", "ab", id="trap-99-nul"),
        pytest.param("a\ud800b", "a\ufffdb", id="trap-99-high"),
        pytest.param("a\udc00", "a\ufffd", id="trap-99-low"),
        pytest.param("a\ud83d\ude00", "a😀", id="halves that arrived apart"),
        pytest.param(
            "see data:image/png;base64,iVBORw0KGgo= here",
            "see [image/png, 12 characters of base64] here",
            id="trap-98",
        ),
        pytest.param(
            "data:text/plain;charset=utf-8;base64,YQ==", "[text/plain, 4 characters of base64]", id="parameter"
        ),
        pytest.param("data:;base64,YQ==", "[data, 4 characters of base64]", id="no type"),
        pytest.param(
            '{"url":"data:image/gif;base64,R0lG"}', '{"url":"[image/gif, 4 characters of base64]"}', id="JSON"
        ),
        pytest.param("data:text/plain,words", "data:text/plain,words", id="no base64"),
        pytest.param("ordinary — text 😀", "ordinary — text 😀", id="as it is"),
    ],
)
def test_clean(text: str, cleaned: str):
    assert clean(text) == cleaned


@pytest.mark.parametrize(
    ("parts", "joined"),
    [(["a", "", "b"], "a\nb"), ([" "], " "), ([""], None), ([], None), (["\0"], None), (["a\0"], "a")],
)
def test_join_texts(parts: list[str], joined: str | None):
    assert join_texts(parts) == joined


@given(PIECES | st.text())
def test_stripping_never_raises_nor_invents_text(text: str):
    left = strip_wrappers(text)
    assert len(left) <= len(text)
    assert set(left) <= set(text)


@given(st.text(alphabet=st.characters(exclude_characters="<[#T")))
def test_text_without_a_sign_of_a_wrapper_stays_as_sent(text: str):
    assert strip_wrappers(text) == text


@given(PIECES | st.text(st.characters(categories=["Cs", "L", "Cc"])))
def test_cleaned_text_is_valid_unicode_without_nul(text: str):
    assert "\0" not in clean(text)
    clean(text).encode()
    assert clean(clean(text)) == clean(text)
