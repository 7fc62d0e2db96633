"""A conversation as a person reads it: who said what in turn, each tool call with its result below it."""

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise
from textwrap import indent
from typing import NamedTuple

from gateway_addon.conversation import Said, ToolUse, Turn
from gateway_addon.record import Record
from gateway_addon.sinks import console
from gateway_addon.terms import Role
from gateway_addon.times import timestamp
from gateway_addon.wire import jsontext

MAX_LINES = 12
MAX_CHARACTERS = 1_000
"""What is shown at most of a text that no person is waiting to read."""

MAX_ARGUMENTS = 100
"""Characters of arguments, as JSON, that go on one line."""

HEADINGS: dict[Role, str] = {"system": "system prompt", "user": "user", "assistant": "assistant", "tool": "tool"}

ARGUMENT, RESULT = "    ", "  │ "
"""What the lines of a tool call's arguments and of its result begin with."""


class Part(NamedTuple):
    style: str
    """`heading`, `text`, `aside` for what nobody said aloud, `facts` for a line of figures."""
    text: str


def transcript(turns: Sequence[Turn], *, full: bool, clock: Callable[[float], str] = timestamp) -> Iterator[Part]:
    """The turns as parts, each to be printed on lines of its own. A prompt is shown where it is new.

    `full`: system prompts, reasoning, tool arguments and results are not shortened. `clock` writes times.
    """
    cut: Callable[[str], str] = str if full else shortened
    shown: dict[str, str] = {}
    rules: set[str] = set()
    missing: str | None = None
    for turn in turns:
        if turn.missing and turn.missing != missing:
            missing = turn.missing
            yield Part("aside", f"… {missing}")
        if turn.history is not None:
            # each request of a history that is kept on the server repeats the system prompt
            new = [said for said in turn.history if not (said.role == "system" and said.text in rules)]
            rules |= {said.text for said in new if said.role == "system" and said.text}
            yield from history(new, cut, clock)
            yield from _answer(turn, cut, clock)
            continue
        for heading, text, words in (
            ("system prompt", turn.system_prompt, cut(turn.system_prompt or "")),
            ("user", turn.user_prompt, turn.user_prompt or ""),
        ):
            if text and text != shown.get(heading):
                shown[heading] = text
                yield Part("heading", heading)
                yield Part("text", words)
        yield from _answer(turn, cut, clock)


def history(
    told: Sequence[Said], cut: Callable[[str], str], clock: Callable[[float], str] = timestamp
) -> Iterator[Part]:
    """What a request says, with the facts of the calls that gave the answers in it."""
    speaker = None
    tools: Counter[str] = Counter()
    for said, next_said in pairwise((*told, None)):
        assert said is not None
        if said.answered:
            # of calls with the same request, all but the last had failed
            is_last = next_said is None or next_said.answered is None
            yield Part("facts", _facts(said.answered, tools if is_last else Counter(), clock))
            speaker, tools = None, Counter() if is_last else tools
            continue
        if said.role != speaker:
            speaker = said.role
            yield Part("heading", HEADINGS[speaker])
        if said.reasoning:
            yield Part("aside", f"(thinking) {cut(said.reasoning)}")
        if said.text:
            yield Part("text", cut(said.text) if speaker == "system" else said.text)
        if said.note:
            yield Part("aside", f"[{cut(said.note)}]")
        if said.tool_use:
            tools[said.tool_use.name or "?"] += said.role == "assistant"
            yield from _tool_use(said.tool_use, cut)


def _answer(turn: Turn, cut: Callable[[str], str], clock: Callable[[float], str]) -> Iterator[Part]:
    yield Part("heading", "assistant")
    if turn.reasoning_text:
        yield Part("aside", f"(thinking) {cut(turn.reasoning_text)}")
    if turn.answer_text:
        yield Part("text", turn.answer_text)
    for use in turn.tool_uses:
        yield from _tool_use(use, cut)
    yield Part("facts", _facts(turn.record, Counter(use.name or "?" for use in turn.tool_uses), clock))


def _tool_use(use: ToolUse, cut: Callable[[str], str]) -> Iterator[Part]:
    yield Part("text", f"▸ {use.name or '?'}{_behind(cut(_readable(use.arguments or '')))}")
    if use.is_answered:
        result = ("failed: " if use.is_error else "") + cut(use.result or "")
        yield Part("aside", _lines(result, RESULT))


def shortened(words: str, lines: int = MAX_LINES, characters: int = MAX_CHARACTERS) -> str:
    """The beginning of a text, and how much is left out."""
    kept = "\n".join(words[: characters + 1].splitlines()[:lines])[:characters]
    left = len(words.rstrip()) - len(kept)
    return f"{kept}\n… {left} more characters" if left > 0 else words[:characters]


def _readable(arguments: str) -> str:
    """A JSON object as `name: value` on one line or several; anything else as it is."""
    values = jsontext.parse_object(arguments)
    if values is None:
        return arguments
    try:
        lines = [_argument(name, value) for name, value in values.items()]
    except ValueError:  # nested too deeply to be written again
        return arguments
    is_short = len(arguments) <= MAX_ARGUMENTS and not any("\n" in line for line in lines)
    return (", " if is_short else "\n").join(lines)


def _argument(name: str, value: object) -> str:
    words = value if isinstance(value, str) else jsontext.dumps(value)
    return f"{name}:\n{_lines(words, ARGUMENT)}" if "\n" in words else f"{name}: {words}"


def _behind(arguments: str) -> str:
    """The arguments as they follow the tool's name: on its line, or below it."""
    if "\n" in arguments:
        return f"\n{_lines(arguments, ARGUMENT)}"
    return f" {arguments}" if arguments else ""


def _lines(words: str, beginning: str) -> str:
    return indent(words.rstrip() or " ", beginning, lambda line: True)


def _facts(record: Record, tools: Counter[str], clock: Callable[[float], str]) -> str:
    line = console.line(record, tools)
    message = f": {record.error_message}" if record.error_message else ""
    return f"[{record.id} {clock(record.started_at)}] {line}{message}"
