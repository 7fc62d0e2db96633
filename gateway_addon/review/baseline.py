"""Findings that somebody has accepted, in a file: a second review shows what is new. No I/O.

The file has a key of its own for the fingerprints of secrets, so that they are the same for every database and capture
that is reviewed with it, and worth nothing to whom they are shown without it.
"""

import json
import secrets
from collections.abc import Iterable
from typing import NamedTuple

from gateway_addon.review.findings import Finding
from gateway_addon.wire import jsontext


class Baseline(NamedTuple):
    key: bytes
    accepted: frozenset[str]
    """Fingerprints."""


def new() -> Baseline:
    return Baseline(secrets.token_bytes(32), frozenset())


def read(text: str) -> Baseline:
    """What `written` wrote. Raises `ValueError`, one line, for anything else."""
    match jsontext.parse_object(text):
        case {"key": str(key), "accepted": [*accepted]}:
            fingerprints = {one["fingerprint"] for one in accepted if isinstance(one, dict) and "fingerprint" in one}
            return Baseline(bytes.fromhex(key), frozenset(map(str, fingerprints)))
    raise ValueError("no baseline of a review")


def written(baseline: Baseline, findings: Iterable[Finding]) -> str:
    """A baseline that also accepts these findings; a person can see which they are."""
    rows = {one: {"fingerprint": one} for one in sorted(baseline.accepted)}
    rows |= {
        found.fingerprint: {"fingerprint": found.fingerprint, "rule": found.rule, "what": found.what}
        for found in findings
    }
    return json.dumps({"key": baseline.key.hex(), "accepted": list(rows.values())}, indent=1) + "\n"
