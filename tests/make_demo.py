"""Record `flows/demo.flow`: `python -m tests.make_demo` (some seconds, no network).

A coding agent on the real SDKs hunts a bug through a real mitmdump with our addon, in front of the fake provider: a
tool loop on Messages with a growing prompt cache, one on Chat Completions with OpenRouter's costs, a turn on Responses,
an error inside a 200 stream, and an answer that the user stops.

The calls are addressed to the real hosts, so that their list prices apply, but the proxy is told to dial the fake
provider instead: nothing leaves the machine.
"""

import argparse
import os
from pathlib import Path
from typing import Any

import anthropic
import openai

from tests.detour import recording
from tests.mitmdump import ADDON
from tests.provider import Provider, agent

HOSTS = ("api.anthropic.com", "openrouter.ai", "api.openai.com")

DEMO = Path(__file__).parents[1] / "flows" / "demo.flow"
KEY = "sk-demo-not-a-key"
PROMPT = "Two players with equal points get different ranks. Please find out why and fix it."
QUESTION = "In one sentence: should the rank after a tie be skipped?"
CLAUDE, CLAUDE_ON_OPENROUTER, GPT = "claude-sonnet-4-6", "anthropic/claude-sonnet-4.6", "gpt-5.1"


def record(addon: Path, flow_file: Path) -> None:
    """Write the session to `flow_file`, replacing it; its folder is made if need be."""
    flow_file.parent.mkdir(parents=True, exist_ok=True)
    flow_file.unlink(missing_ok=True)
    with recording(HOSTS, flow_file, addon=addon) as (provider, urls):
        work(provider, *urls)


def work(provider: Provider, at_anthropic: str, at_openrouter: str, at_openai: str) -> None:
    """The session, through a proxy that stands for the three hosts at these URLs."""
    same: Any = {"api_key": KEY, "max_retries": 0, "default_headers": {"x-session-id": "demo-bug-hunt"}}
    with anthropic.Anthropic(base_url=at_anthropic, **same) as claude:
        agent.messages(claude, CLAUDE, PROMPT, stream=True)
    provider.default = "agent-openrouter"
    with openai.OpenAI(base_url=f"{at_openrouter}/api/v1", **same) as openrouter:
        agent.chat_completions(openrouter, CLAUDE_ON_OPENROUTER, PROMPT, stream=True)

    provider.script("reasoning", "error-midway", "held")
    openai.OpenAI(base_url=f"{at_openai}/v1", **same).responses.create(model=GPT, input=QUESTION)
    claude = anthropic.Anthropic(base_url=at_anthropic, **same)
    try:
        with claude.messages.stream(model=CLAUDE, max_tokens=1024, messages=_asking()) as answer:
            answer.get_final_message()
    except anthropic.APIStatusError:
        pass  # an agent would try again
    openrouter = openai.OpenAI(base_url=f"{at_openrouter}/api/v1", **same)
    stopped = openrouter.chat.completions.create(model=CLAUDE_ON_OPENROUTER, messages=_asking(), stream=True)
    next(iter(stopped))
    stopped.close()
    request = provider.requests[-1]
    assert request.ended.wait(30)
    assert request.client_left


def _asking() -> Any:
    return [{"role": "user", "content": QUESTION}]


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.make_demo", description=__doc__)
    parser.add_argument("--addon", type=Path, default=ADDON)
    parser.add_argument("--out", type=Path, default=DEMO)
    arguments = parser.parse_args()
    for name in list(os.environ):
        if name.startswith(("OPENAI_", "ANTHROPIC_")):  # the SDKs would send the developer's organisation and tokens
            del os.environ[name]
    record(arguments.addon, arguments.out)


if __name__ == "__main__":
    main()
