"""Vercel's bill in all its shapes and places."""

from decimal import Decimal
from typing import Any

import pytest

from gateway_addon.api.base import Answer
from gateway_addon.dialects import vercel
from tests.dialects.answers import reported


def gateway(usage: str = "{}", **metadata: Any) -> Answer:
    return reported(usage, gateway=metadata)


@pytest.mark.parametrize(
    ("answer", "cost", "charged"),
    [
        pytest.param(gateway(cost="0", marketCost="0.0123"), "0.0123", "0", id="list-price"),
        pytest.param(gateway(cost="0.02", marketCost="0.0123"), "0.02", "0.02", id="debited"),
        pytest.param(gateway(cost=Decimal("0.02")), "0.02", "0.02", id="a-number"),
        pytest.param(gateway(marketCost="0.0123"), "0.0123", None, id="list-price-only"),
        pytest.param(gateway(cost="0"), None, "0", id="nothing-debited-and-no-list-price"),
        pytest.param(reported('{"cost": 0.03, "market_cost": 0.03}'), "0.03", "0.03", id="without-metadata"),
        pytest.param(reported('{"cost": 0, "market_cost": 0.04}'), "0.04", "0", id="usage-list-price"),
        pytest.param(
            gateway('{"cost": 0.03, "market_cost": 0.03}', cost="0.03", marketCost="0.03"),
            "0.03",
            "0.03",
            id="with-metadata-used-once",
        ),
        pytest.param(
            gateway('{"cost": 0.05, "market_cost": 0.04}', cost="0"), "0.04", "0", id="metadata-first-for-each-amount"
        ),
        pytest.param(gateway(), None, None, id="metadata-without-amounts"),
        pytest.param(Answer(), None, None, id="nothing-reported"),
    ],
)
def test_amounts(answer, cost, charged):
    bill = vercel.read_bill(answer, {})
    assert (bill.source, bill.flags, bill.final) == ("vercel", (), False)
    assert (bill.cost, bill.charged) == (cost and Decimal(cost), charged and Decimal(charged))


@pytest.mark.parametrize(
    ("answer", "cost", "flags", "final"),
    [
        pytest.param(gateway(cost="abc", marketCost="0.01"), None, ("invalid_cost",), True, id="no-number"),
        pytest.param(gateway(cost="1e9", marketCost="0.01"), None, ("implausible_cost",), True, id="implausible"),
        pytest.param(gateway(cost="0", marketCost=True), None, ("invalid_cost",), True, id="list-price-refused"),
        pytest.param(gateway(cost="0.01", marketCost=-1), Decimal("0.01"), (), False, id="list-price-not-needed"),
    ],
)
def test_refused_amounts(answer, cost, flags, final):
    bill = vercel.read_bill(answer, {})
    assert (bill.cost, bill.flags, bill.final) == (cost, flags, final)


def test_no_fee_is_checked_as_there_is_none():
    bill = vercel.read_bill(reported('{"cost": 0.01, "market_cost": 0.01, "is_byok": true}'), {})
    assert (bill.is_byok, bill.flags) == (True, ())


def routing(*attempts: dict[str, Any]) -> dict[str, Any]:
    return {"modelAttempts": [{"success": True, "providerAttempts": list(attempts)}]}


BYOK = {"credentialType": "byok", "success": True}
SYSTEM = {"credentialType": "system", "success": True}
FAILED_SYSTEM = SYSTEM | {"success": False}


@pytest.mark.parametrize(
    ("route", "is_byok"),
    [
        pytest.param(routing(BYOK), True, id="byok"),
        pytest.param(routing(SYSTEM), False, id="system"),
        pytest.param(routing(FAILED_SYSTEM, BYOK), True, id="the-successful-attempt"),
        pytest.param(routing(BYOK, FAILED_SYSTEM), True, id="the-successful-attempt-not-the-last"),
        pytest.param(
            routing({"credentialType": "byok"}, {"credentialType": "system"}), False, id="none-marked-so-the-last"
        ),
        pytest.param(
            {
                "modelAttempts": [
                    {"success": False, "providerAttempts": [FAILED_SYSTEM]},
                    *routing(BYOK)["modelAttempts"],
                ]
            },
            True,
            id="the-successful-model",
        ),
        pytest.param({"attempts": [FAILED_SYSTEM, BYOK]}, True, id="older-shape"),
        pytest.param(routing({"credentialType": "oauth", "success": True}), None, id="another-type"),
        pytest.param(routing({"credentialType": ["byok"], "success": True}), None, id="no-string"),
        pytest.param({}, None, id="not-told-by-a-cost-of-zero"),
    ],
)
def test_whose_key_paid(route, is_byok):
    assert vercel.read_bill(gateway(cost="0", marketCost="0.01", routing=route), {}).is_byok is is_byok


def test_usage_tells_whose_key_paid_where_the_metadata_does_not():
    assert vercel.read_bill(gateway('{"is_byok": false}', cost="0.01"), {}).is_byok is False
    assert vercel.read_bill(gateway('{"is_byok": false}', routing=routing(BYOK)), {}).is_byok is True


def test_who_served_after_a_fallback():
    bill = vercel.read_bill(
        gateway(
            routing={
                "originalModelId": "anthropic/claude-x",
                "resolvedProvider": "anthropic",
                "finalProvider": "bedrock",
                "modelAttempts": [
                    {"canonicalSlug": "anthropic/claude-x", "success": False},
                    {"canonicalSlug": "anthropic/claude-y", "success": True},
                ],
            }
        ),
        {},
    )
    assert (bill.inference_provider, bill.model) == ("bedrock", "anthropic/claude-y")
