"""What a person said, told from what a harness wrapped around it, and what cleaning does."""

from collections.abc import Callable
from functools import partial

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway_addon.api import prompts
from gateway_addon.api.base import RequestFacts
from gateway_addon.api.prompts import (
    DROPPED_TAGS,
    ENVELOPES,
    KEPT_TAGS,
    MARKUP,
    PLAIN_TAGS,
    clean,
    for_known_client,
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
        + ["# Context", "\n## My request for Codex:", "\nTo suggest changes to a file you MUST ", "<skill/>"]
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
        pytest.param("<system-reminder>noise</system-reminder>", "", id="one element"),
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
        pytest.param(
            "[ask_followup_question for 'Blue?\nOr red?'] Result:\n<answer>\nblue\n</answer>",
            "blue",
            id="an answer to a question of several lines",
        ),
        pytest.param(
            "# Context from my IDE setup:\n\n## Open tabs:\n- a.py\n\n## My request for Codex:\nfix it\n",
            "fix it",
            id="Codex: what the editor shows, then the words",
        ),
        pytest.param(
            "what does this mean?\n## My request for Codex:\nfix it",
            "what does this mean?\n## My request for Codex:\nfix it",
            id="the heading amid a person's words",
        ),
        pytest.param("# How is\nthe ## My request for Codex: read?", None, id="the heading amid a line"),
        pytest.param("Base directory for this skill: /w/skills/x\n\nnoise", "", id="a skill's body"),
        pytest.param("Stop hook feedback:\nnoise", "", id="what a hook said"),
        pytest.param("My hook feedback: it is slow", None, id="what a person says of hooks"),
        pytest.param("<mcp-resource-update server='a'/>\nfix it", "fix it", id="an element without content"),
        pytest.param("<hook_prompt hook_run_id='h'>noise</hook_prompt>", "", id="Codex's hooks"),
        pytest.param(
            "Summarize the task tool output above and continue with your task.", "", id="OpenCode, after a task"
        ),
        pytest.param(
            "Files were too large.\n\nContinue if you have next steps, or stop and ask for clarification if unsure.",
            "",
            id="OpenCode, after a compaction",
        ),
        pytest.param(
            "Summarize the task tool output above and continue with your task. But be brief.",
            None,
            id="a sentence of OpenCode's, then a person's",
        ),
        pytest.param("  indented\n", None, id="nothing to drop: as sent"),
    ],
)
def test_strip_wrappers(text: str, left: str | None):
    assert strip_wrappers(text) == (text if left is None else left)


@pytest.mark.parametrize("tag", ENVELOPES)
@pytest.mark.parametrize(
    "part",
    [
        "<{0}>fix it</{0}>",
        '<{0} mode="plan">\nfix it\n</{0}>',
        "<context>noise</context>\n<other>noise</other>\n<{0}>\nfix it\n</{0}>\nnoise",
        "<context>noise</context><{0}>fix it</{0}>",
        "<environment_details>noise</environment_details>\nnoise\n<{0}>fix it",
        "<{0}>fix </{0}>\n<{0}>it</{0}>",
        "<{0}><feedback>fix it</feedback></{0}>",
    ],
)
def test_of_a_part_with_an_envelope_only_what_it_holds_is_a_persons(tag: str, part: str):
    assert strip_wrappers(part.format(tag)) == "fix it"


def test_a_person_may_write_an_envelopes_tag_after_words():
    assert strip_wrappers("explain\n<user_query>\nto me") == "explain\n\nto me"


@pytest.mark.parametrize(
    ("turns", "prompt"),
    [
        ([["fix it"]], "fix it"),
        pytest.param([[], ["fix it"]], "fix it", id="a turn of tool results only"),
        pytest.param([["<system-reminder>noise</system-reminder>"], ["fix it"]], "fix it", id="a turn of noise only"),
        pytest.param([["<environment_context>x", "fix it", "today"]], "fix it\ntoday", id="one part of several"),
        pytest.param(
            [["[read_file for 'a'] Result:", "print()"], ["fix it"]], "fix it", id="result in a part of its own"
        ),
        pytest.param([["[read_file for 'a'] Result:", "print()", "and this"]], "and this", id="words after a result"),
        pytest.param([["<answer>blue</answer>"]], "blue", id="an answer in a part of its own"),
        pytest.param(
            [["[ask_followup_question for 'Blue?'] Result:", "<answer>\nblue\n</answer>"], ["fix it"]],
            "blue",
            id="an answer after its question",
        ),
        pytest.param([["<terminal>noise</terminal>", "fix it"]], "fix it", id="an element with a plain name"),
        pytest.param(
            [["<terminal>noise</terminal>\n<channel>noise</channel>"], ["fix it"]], "fix it", id="nothing but elements"
        ),
        pytest.param([["<terminal>ls</terminal>\nfix it"]], "<terminal>ls</terminal>\nfix it", id="and words"),
        pytest.param([["<other>fix it</other>"]], "<other>fix it</other>", id="an element of no client"),
        pytest.param([["[SUGGESTION MODE: guess]"], ["fix it"]], "fix it", id="an order of the harness"),
        pytest.param(
            [["<next_prompt_suggestion>\n[SUGGESTION MODE: guess]\n</next_prompt_suggestion>"], ["fix it"]],
            "fix it",
            id="the same in an element",
        ),
        pytest.param(
            [["Here is the conversation so far:\n\n<conversation>\nx\n</conversation>\nCreate a new anchored summary"]],
            None,
            id="an order with the conversation in it",
        ),
        pytest.param([["<task>[SUGGESTION MODE: what is it?</task>"]], "[SUGGESTION MODE: what is it?", id="asked"),
        ([["  "], ["\n"]], None),
        ([["newer"], ["older"]], "newer"),
        ([], None),
    ],
)
def test_the_real_prompt_is_that_of_the_first_turn_that_says_something(turns: list[list[str]], prompt: str | None):
    assert real_prompt(turns) == prompt


@pytest.mark.parametrize("tag", sorted(PLAIN_TAGS))
def test_an_element_with_a_plain_name_goes_only_as_a_whole_part(tag: str):
    assert real_prompt([[f'<{tag} id="1">noise</{tag}>']]) is None
    assert real_prompt([[f"fix it\n<{tag}>words</{tag}>"]]) == f"fix it\n<{tag}>words</{tag}>"


@pytest.mark.parametrize(
    ("turns", "prompt"),
    [
        pytest.param([["<other-thing a='1'>noise</other-thing>"], ["fix it"]], "fix it", id="an element of no list"),
        pytest.param([["<other>noise</other>", "fix it"]], "fix it", id="beside words"),
        pytest.param([["<other/>"], ["fix it"]], "fix it", id="without content"),
        pytest.param(
            [["<skill>noise</skill>\n<other>noise</other>\n"], ["fix it"]], "fix it", id="after one of the lists"
        ),
        pytest.param([["<other>x</other> fix it"]], "<other>x</other> fix it", id="in one part with words"),
        pytest.param([["<other>x"]], "<other>x", id="unclosed"),
        pytest.param(
            [["<other>x</other> <task>fix it</task>"]],
            "<other>x</other> <task>fix it</task>",
            id="before words' element",
        ),
        pytest.param([["<Other>x</Other>"]], "<Other>x</Other>", id="no lower-case name"),
        pytest.param([["<user_wish>fix it</user_wish>"]], "<user_wish>fix it</user_wish>", id="may wrap words"),
        pytest.param([["<task><other>x</other></task>"]], "<other>x</other>", id="what a person sent in an element"),
        *(
            pytest.param([[f"<{tag}>fix it</{tag}>"]], "fix it", id=f"<{tag}> wraps a person's words")
            for tag in KEPT_TAGS
        ),
        *(
            pytest.param([[f"<{tag}>fix it</{tag}>"]], f"<{tag}>fix it</{tag}>", id=f"<{tag}> is pasted markup")
            for tag in sorted(MARKUP)
        ),
    ],
)
def test_of_a_known_client_a_part_that_is_one_element_is_the_harnesss(turns: list[list[str]], prompt: str | None):
    assert real_prompt(turns, known_client=True) == prompt


@pytest.mark.parametrize("first", [None, "<other>noise</other>"])
def test_the_prompts_of_a_request_from_a_known_client(first: str | None):
    turns = [["<other>noise</other>"], ["fix it"], ["make it"], ["<other>noise</other>"]]
    facts = RequestFacts(user_turns=turns, user_prompt="<other>noise</other>", first_prompt=first, model="m")
    assert for_known_client(facts) == RequestFacts(
        user_turns=turns, user_prompt="fix it", first_prompt=first and "make it", model="m"
    )


def test_the_prompts_of_a_known_client_without_an_element_stay():
    facts = RequestFacts(user_prompt="fix it", first_prompt="make it")
    assert for_known_client(facts) is facts


def test_turns_are_not_walked_further_than_needed():
    turns = iter([["<skill>x</skill>"], ["fix it"], ["older"]])
    assert real_prompt(turns) == "fix it"
    assert list(turns) == [["older"]]


@pytest.mark.parametrize(
    ("expected", "system", "last_user_text", "max_tokens", "n_tools"),
    [
        ("quota_probe", None, "quota", 1, 0),
        ("quota_probe", None, "test", 1, 0),
        ("warmup", None, "hello", 0, 0),
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
        ("compaction", "You are a context summarization agent. Write", "hello", None, 0),
        pytest.param("compaction", "You are a context summarization agent.", "hello", None, 1, id="with a tool"),
        ("compaction", None, "<conversation>\nx\n</conversation>\n\nCreate a new anchored summary of it", None, 0),
        ("compaction", None, "Update the anchored summary below", None, 0),
        pytest.param(
            "suggestion",
            None,
            "<next_prompt_suggestion>\n[SUGGESTION MODE: guess]\n</next_prompt_suggestion>",
            None,
            9,
            id="Codex's suggestion",
        ),
        ("memory", None, "You are now acting as the memory extraction subagent. Look at", 1000, 9),
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
        pytest.param(None, "what is a context summarization agent?", None, 0, id="asking for an agent"),
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
        pytest.param("a\0b", "ab", id="NUL"),
        pytest.param("a\ud800b", "a\ufffdb", id="a lone high surrogate"),
        pytest.param("a\udc00", "a\ufffd", id="a lone low surrogate"),
        pytest.param("a\ud83d\ude00", "a😀", id="halves that arrived apart"),
        pytest.param(
            "see data:image/png;base64,iVBORw0KGgo= here",
            "see [image/png, 12 characters of base64] here",
            id="base64",
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
    characters = iter(text)
    assert all(character in characters for character in strip_wrappers(text)), "not what was sent, in its order"


@given(st.text(alphabet=st.characters(exclude_characters="<[#T")))
def test_text_without_a_sign_of_a_wrapper_stays_as_sent(text: str):
    assert strip_wrappers(text) == text


@given(PIECES | st.text(st.characters(categories=["Cs", "L", "Cc"])))
def test_cleaned_text_is_valid_unicode_without_nul(text: str):
    assert "\0" not in clean(text)
    clean(text).encode()
    assert clean(clean(text)) == clean(text)


@pytest.mark.parametrize(
    "sign",
    [
        *("<", " ", "\n \t", "<skill ", "<skill>", "\n <skill>x</skill> ", "<task>", "</task>", "<task></task>"),
        *("<user_query>", "<user_query></user_query>", "<other>", "<other></other>", "<other ", "<other/>"),
        *("# AGENTS.md instructions\n", "# AGENTS.md instructions\n<INSTRUCTIONS>", "\n## My request for Codex:"),
        *("[Request interrupted by user", "[read_file for '", "[read_", "\nTo suggest changes to a file you MUST "),
        *("<conversation>", "<conversation>anchored ", "Your task is to create a detailed summary of "),
        *("\nContinue if you have next steps, or stop and ask for clarification ", "data:a;b=c", "data:;base64,"),
    ],
)
def test_a_text_made_of_signs_takes_no_longer_than_it_is_long(sign: str):
    """With time that grew as the square of its length, 200 kB would take this test minutes."""
    text = sign * (200_000 // len(sign))
    for part in (text, f"#{text}", f"<other>{text}"):
        real_prompt([[part]], known_client=True)
        side_request(part, part, None, 0)


def test_a_prompt_that_is_the_first_and_the_last_is_looked_into_and_cleaned_once(monkeypatch: pytest.MonkeyPatch):
    looked: list[str] = []
    cleaning, passages = prompts.clean, prompts._without_passages

    def noted[T](function: Callable[[str], T], text: str) -> T:
        looked.append(text)
        return function(text)

    monkeypatch.setattr(prompts, "clean", partial(noted, cleaning))
    monkeypatch.setattr(prompts, "_without_passages", partial(noted, passages))
    turns = [["a prompt — of nobody else's"]]
    assert real_prompt(turns) == real_prompt(reversed(turns)) == turns[0][0]
    assert side_request(None, turns[0][0], None, 1) is None
    assert looked == turns[0] * 2
