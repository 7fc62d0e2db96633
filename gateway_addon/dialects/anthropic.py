"""Anthropic, and what speaks like it: no gateway's bill, at most a figure of the provider's own."""

from gateway_addon.dialects import reported

NAME = "anthropic"
SENDS_USAGE = False
IS_STRICT = True
TAKES_WEBSOCKETS = False
BETA_HEADERS = ("anthropic-beta",)
PROVIDERS = {
    "anthropic": {
        "api_url": "https://api.anthropic.com/v1",
        "api_kinds": ["messages"],
        "dialect": NAME,
        "api_key_env": "ANTHROPIC_API_KEY",
    }
}
HIDDEN_MEMBERS = reported.HIDDEN_MEMBERS

is_spoken = reported.is_spoken
has_bill = reported.has_bill
read_bill = reported.read_bill


def key_headers(kind: str, key: str) -> dict[str, str]:
    """Anthropic takes a key in a header of its own, and refuses a request that names no version of the API."""
    return {"x-api-key": key, "anthropic-version": "2023-06-01"}
