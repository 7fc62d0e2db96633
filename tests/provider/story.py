"""What the model does in the agent loop: it hunts a bug in the toy project of `toy_project.py`, one step per call."""

import json
from dataclasses import replace

from tests.provider.answer import Answer, Asked, ToolCall, Usage, tokens
from tests.provider.toy_project import FIX


def _call(name: str, **arguments: str) -> ToolCall:
    return ToolCall(name, json.dumps(arguments))


STEPS = (
    Answer(
        reasoning="A tie is ranked wrongly. I need to see what is there before I guess.",
        text="I will look at the project and run its tests first.",
        tool_calls=(_call("list_files", path="."), ToolCall("run_tests")),
    ),
    Answer(
        text="One test fails: two players with equal points get different ranks.",
        tool_calls=(_call("read_file", path="scores/ranking.py"), _call("read_file", path="tests/test_ranking.py")),
    ),
    Answer(
        reasoning="enumerate() counts every player. Equal points have to share the rank of the first of them.",
        text="`ranks` numbers the players one by one, so a tie never shares a rank. I will fix that.",
        tool_calls=(_call("edit_file", path="scores/ranking.py", **FIX),),
    ),
    Answer(tool_calls=(ToolCall("run_tests"),)),
)
END = Answer(
    text="Fixed. `ranks` in `scores/ranking.py` gave each player a rank of their own; players with equal points now "
    "share the better one and the next rank is skipped. All tests pass."
)


def next_answer(asked: Asked) -> Answer:
    """The step that follows from the results so far; tools that the client does not offer are not called.

    Usage looks like that of a prompt cache: what the previous call carried is read, the rest is written.
    """
    answer, results = END, asked.results
    for step in STEPS:
        calls = tuple(call for call in step.tool_calls if call.name in asked.tools)
        if results < len(calls):
            answer = replace(step, tool_calls=calls, finish="tool_calls")
            break
        results -= len(calls)
    said = [answer.text, *(call.arguments for call in answer.tool_calls)]
    reasoning = tokens(answer.reasoning) if answer.reasoning else 0
    usage = Usage(
        input=asked.known_tokens + asked.new_tokens,
        cache_read=asked.known_tokens,
        cache_write=asked.new_tokens - asked.new_tokens // 20,
        output=tokens(said) + reasoning,
        reasoning=reasoning,
    )
    return replace(answer, usage=usage)


def with_openrouter_cost(asked: Asked) -> Answer:
    """The same, with OpenRouter's cost fields at 3 and 15 USD per million tokens."""
    answer = next_answer(asked)
    usage = answer.usage
    assert isinstance(usage, Usage)
    uncached = usage.input - usage.cache_read - usage.cache_write
    micro = 3 * uncached + 0.3 * usage.cache_read + 3.75 * usage.cache_write + 15 * usage.output
    cost = round(micro / 1e6, 8)
    billing = {"cost": cost, "is_byok": False, "cost_details": {"upstream_inference_cost": cost}}
    return replace(answer, billing=billing, inference_provider="Toy Inference")
