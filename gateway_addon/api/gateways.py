"""What a gateway adds to an answer, the same way in every kind."""

from gateway_addon.api.base import Answer, Json
from gateway_addon.api.values import mapping, text


def read_gateway(answer: Answer, holder: Json) -> None:
    """Take Vercel's metadata and generation id from where they may stand, under either name.

    `holder`: an event, a whole answer, or the object inside that holds them for the kind.
    """
    for name in ("provider_metadata", "providerMetadata"):
        answer.gateway = mapping(mapping(holder.get(name)).get("gateway")) or answer.gateway
    answer.generation_id = text(holder.get("generationId")) or answer.generation_id


def read_own_cost(answer: Answer, holder: Json) -> None:
    """Take a gateway's own figure that stands outside of the usage, as reported.

    OpenCode Zen sends the price in a frame of its own, before or after `[DONE]` and not always named as such, and what
    is charged for it (nothing in a subscription) in another, later one. `holder`: an event or a whole answer.
    """
    cost = holder.get("cost")
    if cost is None:
        return
    if holder.get("x-opencode-type") == "inference-cost":
        if answer.own_cost is not None:
            answer.own_charge = answer.own_cost
        answer.own_cost = cost
    elif answer.own_cost is None or not answer.ended:
        answer.own_cost = cost
    else:
        answer.own_charge = cost
