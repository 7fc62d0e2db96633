"""The dialects of the providers. A fifth is one more module and one more entry in the tuple below."""

from collections.abc import Mapping

from gateway_addon.api.base import Answer
from gateway_addon.dialects import anthropic, openai, openrouter, reported, vercel
from gateway_addon.dialects.base import Bill, Dialect

DIALECTS: dict[str, Dialect] = {dialect.NAME: dialect for dialect in (openrouter, vercel, openai, anthropic)}

BILLS = (
    (reported.is_announced, reported.read_bill),  # by whoever stands in front of all others
    (vercel.has_bill, vercel.read_bill),
    (openrouter.has_bill, openrouter.read_bill),
    (reported.has_bill, reported.read_bill),
)
"""How to tell whose bill stands in an answer, and how to read it, in the order to try."""


def detect(configured: str | None, answer: Answer, vendor: str) -> Dialect:
    """The dialect of an answer, as the column `dialect` names it.

    `configured`: the provider's, by name, None where no provider is configured for the host. Otherwise the answer
    tells a gateway, Vercel first: its answers may carry `usage.cost` too. If none, the kind's `vendor`.
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
    """What the answer says it cost, whoever was asked: a gateway may send a call anywhere, through other gateways too.

    The fields that only one of them writes tell whose bill it is, the first of `BILLS` that stands there; what is left,
    such as a bare `usage.cost`, is read as `dialect` means it. `headers` are the answer's, names in lower case. Never
    raises.
    """
    read = next((read for stands, read in BILLS if stands(answer, headers)), dialect.read_bill)
    return read(answer, headers)
