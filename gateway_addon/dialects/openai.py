"""OpenAI, and what speaks like it: no gateway's bill, at most a figure of the provider's own."""

from gateway_addon.dialects import reported

NAME = "openai"

HIDDEN_MEMBERS = reported.HIDDEN_MEMBERS

read_bill = reported.read_bill


def key_headers(kind: str, key: str) -> dict[str, str]:
    """OpenAI takes a key as a bearer token, whatever the kind."""
    return {"authorization": f"Bearer {key}"}
