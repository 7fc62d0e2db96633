"""Stray credentials, and bodies sent for nothing."""

from pathlib import Path
from typing import Any

import pytest

from tests.review.planted import call, found, rules

BODY = {"model": "m", "messages": [{"role": "user", "content": "hello"}]}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "gateway.db"


class TestStrayCredentials:
    @pytest.mark.parametrize(
        ("kind", "host", "provider", "severity"),
        [
            ("anthropic_key", "api.anthropic.com", "anthropic", None),
            ("anthropic_key", "api.anthropic.com", None, None),
            ("anthropic_key", "openrouter.ai", "openrouter", "high"),
            ("anthropic_key", "notanthropic.com", None, "high"),
            ("openrouter_key", "api.anthropic.com", "anthropic", "high"),
            # `sk-` keys and keys of no known shape belong to whoever is configured
            ("openai_key", "llm.example", "in-house", None),
            ("openai_key", "llm.example", None, "medium"),
            ("credential", "llm.example", "in-house", None),
            ("credential", "llm.example", None, "medium"),
            (None, "llm.example", None, None),
        ],
    )
    def test_at_which_host(self, path: Path, kind: str | None, host: str, provider: str | None, severity: str | None):
        findings = found(path, call(BODY, client_credential=kind, upstream_host=host, provider=provider))
        assert [(finding.rule, finding.severity) for finding in findings] == [
            ("stray_credential", severity) for _ in [severity] if severity
        ]

    def test_one_finding_per_kind_and_host(self, path: Path):
        stray: dict[str, Any] = {"client_credential": "anthropic_key", "upstream_host": "llm.example"}
        (finding,) = found(path, *(call(BODY, number=number, **stray) for number in range(1, 4)))
        assert (finding.count, finding.hosts, finding.first_seen.request_id) == (3, {"llm.example": 3}, "call-1")
        assert (finding.what, finding.first_seen.place) == ("anthropic_key sent to llm.example", "headers")


class TestRefusedBodies:
    @pytest.mark.parametrize(
        ("columns", "expected"),
        [
            ({"outcome": "http_error", "http_status": 401}, ["refused_body"]),
            ({"outcome": "http_error", "http_status": 404}, ["refused_body"]),
            # it may have been read all the same
            ({"outcome": "http_error", "http_status": 500}, []),
            ({"outcome": "complete", "http_status": 200}, []),
            # by the addon: nothing was sent
            ({"outcome": "rejected", "http_status": 404, "upstream_host": None}, []),
        ],
        ids=["401", "404", "500", "200", "rejected"],
    )
    def test_what_is_a_refusal(self, path: Path, columns: dict[str, Any], expected: list[str]):
        assert rules(found(path, call(BODY, **columns))) == expected

    def test_summed_up_by_host_and_status(self, path: Path):
        refused: dict[str, Any] = {"outcome": "http_error", "http_status": 403, "request_bytes": 1000}
        (finding,) = found(path, call(BODY, **refused), call(BODY, number=2, **refused))
        assert (finding.what, finding.severity) == ("2000 bytes answered with 403", "low")
        assert (finding.count, finding.hosts) == (2, {"api.example": 2})
