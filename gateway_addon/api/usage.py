"""The counts in OpenAI's `usage` object: those of Chat Completions and of Responses differ in their names only.

Field names: OpenAI API reference, "Chat" and "Responses"; other providers add names of their own and count otherwise.
"""

from itertools import product

from gateway_addon.api.base import Answer, Json, Usage
from gateway_addon.api.values import count, is_implausible, items, mapping

COUNTED = ("_tokens", "_requests", "_sessions")
"""How the names of counts end, in the usage objects of all kinds."""

DEEPEST = 4
"""Objects and lists within each other in which counts are looked for."""


def has_implausible_count(usage: object, depth: int = DEEPEST) -> bool:
    """Whether a count in a usage object of any kind is more than a call can have, and so unknown."""
    if depth == 0:
        return False
    if isinstance(usage, dict):
        return any(
            is_implausible(value) if name.endswith(COUNTED) else has_implausible_count(value, depth - 1)
            for name, value in usage.items()
        )
    return any(has_implausible_count(item, depth - 1) for item in items(usage))


def take_usage(answer: Answer, usage: Json, given: str, made: str) -> None:
    """Take `usage` as the newest an answer has reported: its counts, what they hide, and whether they are in doubt.

    `given` and `made` are the kind's words for input and output: "prompt" and "completion", or "input" and "output".
    Sets `reported_usage`, `usage`, `fees`, `hidden_tokens` and the warnings `usage_ambiguous` and `usage_implausible`;
    an empty object changes nothing.

    The output of OpenAI's own answers includes reasoning, and the input what was cached. Only `total_tokens` tells
    where that is not so: xAI leaves the reasoning out of the output, and some proxies write Anthropic's cache counts
    beside an input that may be Anthropic's too, without them. A total above everything that was counted (Google does
    not count thinking otherwise) means hidden tokens; no number is ever derived from it.
    """
    if not usage:
        return
    input_tokens, input_details = count(usage.get(f"{given}_tokens")), mapping(usage.get(f"{given}_tokens_details"))
    output_tokens, output_details = count(usage.get(f"{made}_tokens")), mapping(usage.get(f"{made}_tokens_details"))
    reasoning = count(output_details.get("reasoning_tokens"))
    total = count(usage.get("total_tokens"))
    beside = (count(usage.get("cache_read_input_tokens")) or 0) + (count(usage.get("cache_creation_input_tokens")) or 0)

    counted = (input_tokens or 0) + (output_tokens or 0)
    readings = set(product((0, beside), (0, reasoning or 0)))
    fitting = [reading for reading in readings if counted + sum(reading) == total]
    cached_apart, reasoned_apart = fitting[0] if len(fitting) == 1 else (0, 0)
    if input_tokens is not None:
        # z.ai says 0 where it does not know
        input_tokens = count(input_tokens + cached_apart) or None
    if output_tokens is not None:
        output_tokens = count(output_tokens + reasoned_apart)

    answer.reported_usage = usage
    answer.usage = Usage(
        input_tokens=input_tokens,
        cache_read_tokens=_reported(
            input_details.get("cached_tokens"),
            usage.get("cache_read_input_tokens"),
            usage.get("prompt_cache_hit_tokens"),  # DeepSeek
            usage.get("cached_tokens"),  # Moonshot
        ),
        cache_write_tokens=_reported(
            input_details.get("cache_write_tokens"),
            input_details.get("cache_creation_input_tokens"),  # Alibaba
            usage.get("cache_creation_input_tokens"),
        ),
        output_tokens=output_tokens,
        reasoning_tokens=reasoning,
        input_audio_tokens=count(input_details.get("audio_tokens")),
        output_audio_tokens=count(output_details.get("audio_tokens")),
    )
    searches = mapping(usage.get("server_tool_use")).get("web_search_requests")  # OpenRouter, LiteLLM
    fees = {"web_searches": count(searches), "output_image_tokens": count(output_details.get("image_tokens"))}
    answer.fees |= {unit: number for unit, number in fees.items() if number}
    is_known = input_tokens is not None and output_tokens is not None and total is not None
    answer.hidden_tokens = is_known and (total or 0) > counted + cached_apart + reasoned_apart
    own = ("usage_ambiguous", "usage_implausible")
    answer.warnings = [warning for warning in answer.warnings if warning not in own]
    if has_implausible_count(usage) or is_implausible(max(counted + cached_apart + reasoned_apart, total or 0)):
        answer.warnings.append("usage_implausible")
    if beside and input_tokens is not None and len(fitting) != 1:
        answer.warnings.append("usage_ambiguous")


def _reported(*values: object) -> int | None:
    """The first count that is not 0, as a name that a provider does not use may be there with 0; else 0, or None."""
    counts = [number for number in map(count, values) if number is not None]
    return next(filter(None, counts), 0 if counts else None)
