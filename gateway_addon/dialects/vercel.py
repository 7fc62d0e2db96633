"""Vercel AI Gateway: the bill is in a metadata object, in newer chat answers in `usage` too.

https://vercel.com/docs/ai-gateway
"""

from collections.abc import Mapping

from gateway_addon.api.base import Answer, Json
from gateway_addon.api.values import mapping, objects, text
from gateway_addon.dialects.amounts import amount, flags_of
from gateway_addon.dialects.base import Bill

NAME = "vercel"
SENDS_USAGE = False
IS_STRICT = False
TAKES_WEBSOCKETS = False
BETA_HEADERS = ("anthropic-beta",)
PROVIDERS = {
    "vercel": {
        "api_url": "https://ai-gateway.vercel.sh/v1",
        "api_kinds": ["chat_completions", "responses", "messages"],
        "dialect": NAME,
        "api_key_env": "AI_GATEWAY_API_KEY",
    }
}
HIDDEN_MEMBERS = ("provider_metadata", "providerMetadata")

CREDENTIALS = {"byok": True, "system": False}
"""`credentialType` of an attempt: whose key paid."""


def is_spoken(answer: Answer) -> bool:
    """Whether an answer from an unknown provider is Vercel's: its metadata, its amounts in `usage`, or its id."""
    return has_bill(answer, {}) or any(
        each is not None and each.startswith("gen_") for each in (answer.generation_id, answer.response_id)
    )


def has_bill(answer: Answer, headers: Mapping[str, str]) -> bool:
    """Whether Vercel's metadata, or an amount of its own in `usage`, stands in the answer."""
    return answer.gateway is not None or not {"market_cost", "gateway_cost"}.isdisjoint(mapping(answer.reported_usage))


def read_bill(answer: Answer, headers: Mapping[str, str]) -> Bill:
    """The price is what was debited, or the list price where nothing was (a key of the caller's, credit, promotions).

    Each amount is taken once: from the metadata, or from `usage` where the metadata lacks it.
    """
    metadata = mapping(answer.gateway)
    usage = mapping(answer.reported_usage)
    routing = mapping(metadata.get("routing"))
    model_attempt = _successful(routing.get("modelAttempts"))
    attempt = _successful(model_attempt.get("providerAttempts") or routing.get("attempts"))
    is_byok = CREDENTIALS.get(text(attempt.get("credentialType")) or "")
    if is_byok is None and isinstance(usage.get("is_byok"), bool):
        is_byok = usage["is_byok"]

    charged = amount(_first(metadata.get("cost"), usage.get("cost")))
    market = amount(_first(metadata.get("marketCost"), usage.get("market_cost")))
    cost = charged if charged.usd or charged.flag else market
    return Bill(
        source="vercel",
        cost=cost.usd,
        charged=charged.usd,
        is_byok=is_byok,
        flags=flags_of(charged, cost),
        final=cost.flag is not None,
        inference_provider=text(routing.get("finalProvider")),
        model=text(model_attempt.get("canonicalSlug")),
    )


def key_headers(kind: str, key: str) -> dict[str, str]:
    """Vercel takes a bearer token for every kind, Messages included."""
    return {"authorization": f"Bearer {key}"}


def _successful(attempts: object) -> Json:
    """The attempt marked successful; the last one where none is marked."""
    last: Json = {}
    for last in objects(attempts):
        if last.get("success") is True:
            break
    return last


def _first(*values: object) -> object:
    return next((value for value in values if value is not None), None)
