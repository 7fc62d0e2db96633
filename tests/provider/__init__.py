"""A fake model provider that speaks Chat Completions, Responses and Messages; README.md says how to use it."""

from tests.provider.scenarios import SCENARIOS, Scenario
from tests.provider.server import Provider, Received

__all__ = ["SCENARIOS", "Provider", "Received", "Scenario"]
