"""The dialects of the providers. A fifth is one more module and one more entry in the tuple below."""

from collections.abc import Mapping

from gateway_addon.api.base import Answer
from gateway_addon.dialects import anthropic, openai, openrouter, reported, vercel
from gateway_addon.dialects.base import Bill, Dialect

_MODULES: tuple[Dialect, ...] = (vercel, openrouter, openai, anthropic)
DIALECTS = {dialect.NAME: dialect for dialect in _MODULES}
"""By name, in the order in which an answer is asked whose it is: Vercel's may carry OpenRouter's `usage.cost` too.

Looked up when a call comes, never copied: a script may add a dialect of its own.
"""


def detect(configured: str | None, answer: Answer, vendor: str) -> Dialect:
    """The dialect of an answer, as the column `dialect` names it.

    `configured`: the provider's, by name, None where no provider is configured for the host. Otherwise the answer tells
    a gateway; if it tells none, it is the kind's `vendor`. Raises `KeyError` for a name that is not in `DIALECTS`.
    """
    if configured is not None:
        return DIALECTS[configured]
    return next((dialect for dialect in DIALECTS.values() if dialect.is_spoken(answer)), DIALECTS[vendor])


def read_bill(answer: Answer, headers: Mapping[str, str], dialect: Dialect) -> Bill:
    """What the answer says it cost, whoever was asked: a gateway may send a call anywhere, through other gateways too.

    A figure outside of the usage is by whoever stands in front of all others. Else the fields that only one dialect
    writes tell whose bill it is; what is left, such as a bare `usage.cost`, is read as `dialect` means it. `headers`
    are the answer's, names in lower case. Never raises.
    """
    if reported.is_announced(answer, headers):
        return reported.read_bill(answer, headers)
    writer = next((one for one in DIALECTS.values() if one.has_bill(answer, headers)), dialect)
    return writer.read_bill(answer, headers)
