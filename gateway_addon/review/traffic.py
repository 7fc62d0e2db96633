"""What stands out in the calls themselves: stray credentials, and bodies sent for nothing."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

from gateway_addon.credentials import CREDENTIAL, kind_of
from gateway_addon.review.findings import Finding, Link, Place, fingerprint
from gateway_addon.review.timeline import Timeline
from gateway_addon.store import evidence
from gateway_addon.store.database import Database
from gateway_addon.store.passages import Passages

if TYPE_CHECKING:
    from gateway_addon.review.secrets import Known

HOMES = {
    "anthropic_key": ("anthropic.com",),
    "openrouter_key": ("openrouter.ai",),
    "vercel_key": ("vercel.sh", "vercel.com"),
    "google_key": ("googleapis.com",),
    "groq_key": ("groq.com",),
    "huggingface_token": ("huggingface.co",),
    "github_token": ("github.com", "githubcopilot.com"),
}
"""Where a credential belongs whose shape tells who has issued it. `sk-…` is the shape of many an issuer's."""


def stray_credentials(db: Database, timeline: Timeline) -> Iterator[Finding]:
    """The client's credentials at hosts that are not their issuer's, or of which no provider is known."""
    calls = defaultdict(list)
    for call in evidence.calls_with_credentials(db):
        kind, host = call["client_credential"], call["upstream_host"]
        homes = HOMES.get(kind)
        if not _is_at(host, homes) if homes else call["provider"] is None:
            calls[kind, host].append(call)
    for (kind, host), sent in calls.items():
        yield Finding(
            rule="stray_credential",
            severity="high" if kind in HOMES else "medium",
            what=f"{kind} sent to {host}",
            fingerprint=fingerprint("stray_credential", kind, host),
            first_seen=timeline.place(sent[0], "headers"),
            count=len(sent),
            hosts={host: len(sent)},
        )


def shown_credentials(passages: Passages, known: "Known") -> Iterator[Finding]:
    """Credentials in the heads of flows that are no calls: at hosts that did not issue them, or that are of another
    site than others which were shown the same; and, as no more than a note, which hosts were shown any.

    Calls have their own rule (`stray_credentials`).
    """
    notes: dict[str, list[evidence.Row]] = defaultdict(list)
    for secret, texts in known.shown.items():
        kind, flows = kind_of(secret, CREDENTIAL), [row for row in passages.holders(texts) if row["was_sent"]]
        others = [row for row in flows if not row["is_call"]]
        homes, sites = HOMES.get(kind), {_site(row["host"] or "") for row in flows}
        strays = [row for row in others if not _is_at(row["host"] or "", homes)] if homes else []
        if not homes and len(sites) > 1:
            strays = others
        for host, count in Counter(row["host"] for row in strays).items():
            first = next(row for row in strays if row["host"] == host)
            other = sorted(sites - {_site(host or "")})
            yield Finding(
                rule="stray_credential",
                severity="high",
                what=f"{kind} sent to {host}" + (f", and to {', '.join(other)}" if other else ""),
                fingerprint=fingerprint("stray_credential", kind, host or ""),
                first_seen=_flow_place(first),
                count=count,
                hosts={host or "": count},
                chain=tuple(
                    Link(step="sent", place=_flow_place(row), hosts={row["host"] or "": 1})
                    for row in {row["host"]: row for row in reversed(flows)}.values()
                ),
            )
        for row in others if not strays else ():
            notes[row["host"] or ""].append(row)
    for host, flows in notes.items():
        yield Finding(
            rule="credential_head",
            severity="info",
            what=f"heads with credentials sent to {host}",
            fingerprint=fingerprint("credential_head", host),
            first_seen=_flow_place(min(flows, key=lambda row: row["started_at"])),
            count=len({row["id"] for row in flows}),
            hosts={host: len({row["id"] for row in flows})},
        )


def refused_bodies(db: Database, timeline: Timeline) -> Iterator[Finding]:
    """Bodies that a host was sent in full, only to refuse them."""
    calls = defaultdict(list)
    for call in evidence.refused_calls(db):
        calls[call["upstream_host"], call["http_status"]].append(call)
    for (host, status), refused in calls.items():
        size = sum(call["request_bytes"] or 0 for call in refused)
        yield Finding(
            rule="refused_body",
            severity="low",
            what=f"{size} bytes answered with {status}",
            fingerprint=fingerprint("refused_body", host, str(status)),
            first_seen=timeline.place(refused[0], "request"),
            count=len(refused),
            hosts={host: len(refused)},
        )


def _is_at(host: str, homes: Iterable[str]) -> bool:
    return any(host == home or host.endswith(f".{home}") for home in homes)


def _site(host: str) -> str:
    """Roughly whose a host is: its last two names; of an address, all of it."""
    return host if host.replace(".", "").isdigit() or ":" in host else ".".join(host.split(".")[-2:])


def _flow_place(row: evidence.Row) -> Place:
    return Place(row["id"], row["started_at"], None, "headers")
