"""Findings as SARIF 2.1.0 (https://docs.oasis-open.org/sarif/sarif/v2.1.0/sarif-v2.1.0.html), which code scanners and
their viewers read. No I/O."""

from collections.abc import Sequence
from typing import Any
from urllib.parse import quote

from gateway_addon import __version__
from gateway_addon.review.coverage import Coverage
from gateway_addon.review.findings import Finding, Link, Place

type Json = dict[str, Any]

_LEVELS = {"high": "error", "medium": "warning", "low": "note", "info": "none"}
_RANKS = {"high": 90.0, "medium": 60.0, "low": 30.0, "info": 0.0}
"""Of 100, by which viewers sort."""


def log(findings: Sequence[Finding], looked: Coverage, source: str) -> Json:
    """A log of one run. `source`: the name of the file that was reviewed."""
    rules = sorted({found.rule for found in findings})
    run = {
        "tool": {
            "driver": {
                "name": "gateway-addon",
                "version": __version__,
                "rules": [{"id": rule, "shortDescription": {"text": rule.replace("_", " ")}} for rule in rules],
            }
        },
        "artifacts": [{"location": {"uri": _uri(source)}}],
        "invocations": [
            {
                "executionSuccessful": True,
                "toolExecutionNotifications": [
                    {"level": "warning", "message": {"text": f"not looked at: {missed}"}} for missed in looked.missed
                ],
            }
        ],
        "results": [_result(found, rules.index(found.rule), source) for found in findings],
        "properties": {"lookedAt": looked.looked_at},
    }
    return {
        "$schema": "https://docs.oasis-open.org/sarif/sarif/v2.1.0/errata01/os/schemas/sarif-schema-2.1.0.json",
        "version": "2.1.0",
        "runs": [run],
    }


def _result(found: Finding, rule: int, source: str) -> Json:
    told = found.what + (f" ({found.name})" if found.name else "") + (f", opens {found.opens}" if found.opens else "")
    result = {
        "ruleId": found.rule,
        "ruleIndex": rule,
        # a note of what was seen is no failure
        "kind": "informational" if found.severity == "info" else "fail",
        "level": _LEVELS[found.severity],
        "rank": _RANKS[found.severity],
        "message": {"text": f"{told}: {_where(found.first_seen)}"},
        "locations": [_location(found.first_seen, source)],
        "occurrenceCount": max(1, found.count),
        "partialFingerprints": {"gatewayAddon/v1": found.fingerprint},
        "properties": {"severity": found.severity, "hosts": found.hosts}
        | ({"context": found.context} if found.context else {}),
    }
    if found.chain:
        steps = [{"location": _location(link.place, source, _told(link)), "kinds": [link.step]} for link in found.chain]
        result["codeFlows"] = [{"threadFlows": [{"locations": steps}]}]
    return result


def _told(link: Link) -> str:
    hosts = ", ".join(f"{host} ×{times}" for host, times in link.hosts.items())
    return " ".join(filter(None, (link.step, _where(link.place), f"to {hosts}" if hosts else "", link.what)))


def _location(place: Place, source: str, told: str = "") -> Json:
    location: Json = {
        "physicalLocation": {"artifactLocation": {"uri": _uri(source), "index": 0}},
        "logicalLocations": [
            {
                "name": place.place,
                "fullyQualifiedName": "/".join(filter(None, (place.request_id, place.place, place.tool))),
                "kind": "member",
            }
        ],
        "properties": {"turn": place.turn, "agent": place.agent, "startedAt": place.started_at},
    }
    return location | ({"message": {"text": told}} if told else {})


def _where(place: Place) -> str:
    turn = f" of turn {place.turn}" if place.turn is not None else ""
    agent = f" of agent {place.agent}" if place.agent else ""
    return f"{place.place}{f' of {place.tool}' if place.tool else ''}{turn}{agent}, call {place.request_id}"


def _uri(name: str) -> str:
    return quote(name)
