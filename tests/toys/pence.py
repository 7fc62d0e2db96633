"""A fifth dialect, which no provider speaks: the proof that a dialect is one module (`dialects.base.Dialect`)."""

from collections.abc import Mapping
from typing import Any

from gateway_addon.api.base import Answer
from gateway_addon.api.values import mapping
from gateway_addon.dialects.amounts import amount
from gateway_addon.dialects.base import Bill

NAME = "pence"
SENDS_USAGE = True
TAKES_WEBSOCKETS = False
IS_STRICT = True
BETA_HEADERS = ()
PROVIDERS: Mapping[str, Mapping[str, Any]] = {}
HIDDEN_MEMBERS = ("till",)


def is_spoken(answer: Answer) -> bool:
    return "pence" in mapping(answer.reported_usage)


def has_bill(answer: Answer, headers: Mapping[str, str]) -> bool:
    return is_spoken(answer)


def read_bill(answer: Answer, headers: Mapping[str, str]) -> Bill:
    pence = amount(mapping(answer.reported_usage).get("pence"))
    return Bill(source="reported", cost=pence.usd / 100 if pence.usd is not None else None)


def key_headers(kind: str, key: str) -> dict[str, str]:
    return {"x-api-key": key}
