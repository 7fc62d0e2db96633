"""What the providers' dialects have in common: what a bill is, and the shape of a dialect's module."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Protocol

from gateway_addon.api.base import Answer
from gateway_addon.terms import CostFlag, CostSource


@dataclass(slots=True, frozen=True)
class Bill:
    """What a provider says a call cost, exact, in USD. None is unknown."""

    source: CostSource | None = None
    """The value of `cost_source` if `cost` is taken: `openrouter`, `vercel`, `reported`."""
    cost: Decimal | None = None
    """Price of the inference, whoever pays."""
    charged: Decimal | None = None
    """What the gateway billed."""
    is_byok: bool | None = None
    flags: tuple[CostFlag, ...] = ()
    """What the figures gave rise to."""
    final: bool = False
    """True: no estimate may take the place of a missing `cost` (the reported one was refused, or is known to be
    unknown, as with BYOK without an upstream price). `flags` then says why."""
    inference_provider: str | None = None
    model: str | None = None
    """The model that really served, where the gateway's metadata names it."""


class Dialect(Protocol):
    """The shape of a dialect's module. Whoever handles calls looks the dialect up in `dialects.DIALECTS`."""

    NAME: str
    SENDS_USAGE: bool
    """Whether streams tell their usage without being asked (`ApiKind.USAGE_ON_REQUEST`)."""
    IS_STRICT: bool
    """Whether requests with members that it does not know are refused (`ApiKind.FIELDS`)."""
    TAKES_WEBSOCKETS: bool
    """Whether Responses may be spoken over a WebSocket."""

    @property
    def PROVIDERS(self) -> Mapping[str, Mapping[str, Any]]:
        """The built-in providers that speak it: tables as `[providers.ID]` of `gateway.toml`, by id."""

    @property
    def BETA_HEADERS(self) -> Sequence[str]:
        """The request headers (lower case) in which it takes the names of Anthropic's betas."""

    @property
    def HIDDEN_MEMBERS(self) -> Collection[str]:
        """Members with which the gateway tells money, or which model really served, without a cost in their name."""

    def is_spoken(self, answer: Answer) -> bool:
        """Whether an answer from a provider that nobody has configured can only be of this dialect."""

    def has_bill(self, answer: Answer, headers: Mapping[str, str]) -> bool:
        """Whether cost fields stand in an answer that only this dialect writes. `headers` as for `read_bill`."""

    def read_bill(self, answer: Answer, headers: Mapping[str, str]) -> Bill:
        """Read the cost fields that this dialect puts into an answer.

        `headers` are the answer's, names in lower case. Never raises, whatever the types.
        """

    def key_headers(self, kind: str, key: str) -> dict[str, str]:
        """The request headers (lower case) that carry a provider key for calls of an API kind."""
