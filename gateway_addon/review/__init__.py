"""Findings over what a database holds: which secrets left the machine, where they came from, and what else
stands out.

Nothing is kept of a review but the key of its fingerprints: findings follow from what is stored, with today's detectors
and today's environment, and each text is scanned once per review, however often it was sent.
"""

from collections.abc import Mapping

from gateway_addon.review import secrets, traffic
from gateway_addon.review.findings import SEVERITIES, Finding
from gateway_addon.store.database import Database


def review(db: Database, environment: Mapping[str, str]) -> list[Finding]:
    """The findings, the gravest first and among equals the earliest; reads only.

    `environment`: variables, whose secret values are looked for besides what looks like a secret by itself.
    """
    known = secrets.find(db, environment)
    findings = [
        *secrets.findings(db, known),
        *traffic.stray_credentials(db),
        *traffic.refused_bodies(db),
        *traffic.tool_uses(db, secrets.masker(known)),
    ]
    return sorted(findings, key=lambda found: (-SEVERITIES.index(found.severity), found.first_seen.started_at))
