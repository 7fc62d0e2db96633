"""The dialects of the providers. A fifth is one more module and one more entry in the tuple below."""

from collections.abc import Mapping

from gateway_addon.api.base import Answer
from gateway_addon.dialects import anthropic, openai, openrouter, vercel
from gateway_addon.dialects.base import Bill, Dialect

DIALECTS: dict[str, Dialect] = {dialect.NAME: dialect for dialect in (openrouter, vercel, openai, anthropic)}


def detect(configured: str | None, answer: Answer, vendor: str) -> Dialect:
    """The dialect to read an answer with (design 2.4, column `dialect`).

    `configured`: the provider's, by name, None where no provider is configured for the host. Otherwise the answer
    tells a gateway, Vercel first: its answers may carry `usage.cost` too (trap 63). If none, the kind's `vendor`.
    Raises `KeyError` for a name that is not in `DIALECTS`.
    """
    if configured is not None:
        return DIALECTS[configured]
    if vercel.is_spoken(answer):
        return vercel
    if openrouter.is_spoken(answer):
        return openrouter
    return DIALECTS[vendor]


def read_bill(answer: Answer, headers: Mapping[str, str], dialect: Dialect) -> Bill:
    """What the answer says it cost."""
    return dialect.read_bill(answer, headers)
