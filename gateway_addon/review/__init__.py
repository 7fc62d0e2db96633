"""Findings over what a database holds, and over all that a flow file does: which secrets left the machine, where they
came from and went, what in a tool's result led to what, which tools reach out, and what else stands out.

Nothing is kept of a review but the key of its fingerprints: findings follow from what is stored, with today's detectors
and today's environment, and each text is looked at a fixed number of times per review, however often it was sent.
"""

from collections.abc import Callable, Mapping
from typing import NamedTuple

from gateway_addon.review import coverage, influence, reach, secrets, traffic
from gateway_addon.review.findings import SEVERITIES, Finding
from gateway_addon.review.timeline import Timeline
from gateway_addon.store import evidence
from gateway_addon.store.database import Database
from gateway_addon.store.passages import Passages

__all__ = ["coverage", "review"]


class Review(NamedTuple):
    findings: list[Finding]
    """The gravest first and among equals the earliest."""
    timeline: Timeline
    masked: Callable[[str], str]
    """Takes the secrets out of a text."""


def review(
    db: Database, environment: Mapping[str, str], passages: Passages | None = None, key: bytes | None = None
) -> Review:
    """Reads only.

    `environment`: variables, whose secret values are looked for besides what looks like a secret by itself. `passages`:
    what the flows of a file say beside their calls. `key`: of the secrets' fingerprints, if not the database's own.
    """
    passages = passages or Passages()
    timeline = Timeline(db)
    known = secrets.find(db, passages, environment)
    masked = secrets.masker([*known.kinds, *known.shown])
    findings = [
        *secrets.findings(db, passages, timeline, known, key or evidence.review_key(db)),
        *traffic.stray_credentials(db, timeline),
        *traffic.shown_credentials(passages, known),
        *traffic.refused_bodies(db, timeline),
        *influence.findings(timeline, masked),
        *reach.findings(timeline, masked),
    ]
    findings.sort(key=lambda found: (-SEVERITIES.index(found.severity), found.first_seen.started_at))
    return Review(findings, timeline, masked)
