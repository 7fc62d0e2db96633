"""What a gateway adds to an answer, the same way in every kind."""

from gateway_addon.api.base import Answer, Json
from gateway_addon.api.values import mapping, text


def read_gateway(answer: Answer, holder: Json) -> None:
    """Take Vercel's metadata and generation id from where they may stand, under either name (wire-formats §10.2).

    `holder`: an event, a whole answer, or the object inside that holds them for the kind.
    """
    for name in ("provider_metadata", "providerMetadata"):
        answer.gateway = mapping(mapping(holder.get(name)).get("gateway")) or answer.gateway
    answer.generation_id = text(holder.get("generationId")) or answer.generation_id
