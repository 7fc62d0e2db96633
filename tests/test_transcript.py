"""How a conversation reads."""

from typing import Any

import pytest

from gateway_addon.conversation import Turn, turn_of_row
from gateway_addon.record import as_row
from gateway_addon.transcript import MAX_CHARACTERS, MAX_LINES, Part, shortened, transcript
from tests.store.calls import make_record


def turn(*calls: dict[str, Any], **texts: Any) -> Turn:
    none = dict.fromkeys(("system_prompt", "user_prompt", "reasoning_text", "answer_text"))
    record = texts.pop("record", make_record())
    return turn_of_row(as_row(record) | none | texts | {"tool_calls": list(calls)})


def call(arguments: str | None, result: str | None = None, *, answered: bool = True, **more: Any) -> dict[str, Any]:
    of = {"name": "bash", "is_error": None, "result_request_id": "call-2" if answered else None}
    return of | {"arguments": arguments, "result": result} | more


def said(*turns: Turn, full: bool = False) -> list[Part]:
    """All but the facts."""
    return [part for part in transcript(turns, full=full) if part.style != "facts"]


def text_of(*turns: Turn, full: bool = False) -> str:
    return "\n".join(part.text for part in said(*turns, full=full))


def test_a_turn_in_the_order_in_which_it_came_about():
    turns = [
        turn(call("{}", "done"), system_prompt="Be brief.", user_prompt="Why?", reasoning_text="Hm.", answer_text="So.")
    ]
    assert said(*turns) == [
        ("heading", "system prompt"),
        ("text", "Be brief."),
        ("heading", "user"),
        ("text", "Why?"),
        ("heading", "assistant"),
        ("aside", "(thinking) Hm."),
        ("text", "So."),
        ("text", "▸ bash"),
        ("aside", "  │ done"),
    ]


def test_every_turn_ends_with_its_facts():
    record = make_record(outcome="http_error", http_status=529, error_type="overloaded", error_message="Come back.")
    *_, facts = transcript([turn(record=record)], full=False)
    assert facts == (
        "facts",
        "[call-1 2026-11-22T10:00:00.000Z] messages acme/model · http_error 529 overloaded · $?: Come back.",
    )


def test_prompts_are_shown_where_they_are_new():
    turns = [
        turn(system_prompt="Be brief.", user_prompt=prompt) for prompt in ("Why?", "Why?", None, "And now?", "Why?")
    ]
    assert text_of(*turns).split("\n") == [
        *("system prompt", "Be brief.", "user", "Why?", "assistant", "assistant", "assistant"),
        *("user", "And now?", "assistant", "user", "Why?", "assistant"),
    ]


@pytest.mark.parametrize(
    ("arguments", "shown"),
    [
        (None, "▸ bash"),
        ("{}", "▸ bash"),
        ('{"cmd": "ls -l"}', "▸ bash cmd: ls -l"),
        ('{"path": ".", "depth": 1.50}', "▸ bash path: ., depth: 1.50"),
        ('{"path": "a.py", "old": "x\\n y\\n"}', "▸ bash\n    path: a.py\n    old:\n        x\n         y"),
        ('{"cmd', '▸ bash {"cmd'),
        ("free\ntext", "▸ bash\n    free\n    text"),
        ('{"deep": ' + "[" * 900 + "]" * 900 + "}", "▸ bash"),
    ],
)
def test_arguments(arguments: str | None, shown: str):
    assert text_of(turn(call(arguments, answered=False))).removeprefix("assistant\n").startswith(shown)


@pytest.mark.parametrize(
    ("made", "shown"),
    [
        (call("{}", "a\nb\n"), "  │ a\n  │ b"),
        (call("{}", "no such file", is_error=1), "  │ failed: no such file"),
        (call("{}", ""), "  │  "),
        (call("{}", None), "  │  "),
    ],
)
def test_results(made: dict[str, Any], shown: str):
    assert said(turn(made))[-1] == ("aside", shown)


def test_a_call_without_a_result_has_none():
    assert said(turn(call("{}", answered=False)))[-1] == ("text", "▸ bash")


LINES = "\n".join(f"line {number}" for number in range(MAX_LINES + 1))


@pytest.mark.parametrize(
    ("long", "is_cut"),
    [
        (turn(system_prompt=LINES), True),
        (turn(reasoning_text=LINES), True),
        (turn(call(LINES)), True),
        (turn(call("{}", LINES)), True),
        (turn(user_prompt=LINES), False),
        (turn(answer_text=LINES), False),
    ],
)
def test_only_what_a_person_waits_for_is_shown_whole_unless_all_is_asked_for(long: Turn, is_cut: bool):
    assert (f"line {MAX_LINES}" not in text_of(long)) is is_cut
    assert f"line {MAX_LINES}" in text_of(long, full=True)


@pytest.mark.parametrize(
    ("words", "short"),
    [
        ("", ""),
        ("one\ntwo\n\n", "one\ntwo\n\n"),
        (LINES, f"{LINES[: LINES.rindex('\n')]}\n… 8 more characters"),
        ("x" * MAX_CHARACTERS, "x" * MAX_CHARACTERS),
        ("x" * (MAX_CHARACTERS + 5), "x" * MAX_CHARACTERS + "\n… 5 more characters"),
    ],
)
def test_shortened(words: str, short: str):
    assert shortened(words) == short
