"""What a secret opens, and how grave it therefore is that somebody else may have it: by its kind, and by the name that
it was given. What was never sent is no more than `info`, whatever it opens."""

import re
from typing import NamedTuple

from gateway_addon import detectors
from gateway_addon.credentials import ASSIGNED, AWS_SECRET, CREDENTIAL, ENV_LINE, ENVIRONMENT, SHAPES
from gateway_addon.review.findings import SEVERITIES


class Worth(NamedTuple):
    severity: str
    opens: str | None
    """In a few words; None if nothing tells."""


MODELS, CODE, CLOUD = "a model provider's account", "code and packages", "a cloud account"

_BY_KIND = {
    **dict.fromkeys(detectors.KINDS, Worth("medium", None)),
    **dict.fromkeys(SHAPES, Worth("high", None)),
    **dict.fromkeys(
        (
            *(
                "anthropic_key",
                "openrouter_key",
                "openai_key",
                "vercel_key",
                "huggingface_token",
                "groq_key",
                "xai_key",
            ),
            *("perplexity_key", "cerebras_key", "fireworks_key", "replicate_token", "nvidia_key"),
        ),
        Worth("high", MODELS),
    ),
    **dict.fromkeys(("github_token", "gitlab_token", "npm_token", "pypi_token", "docker_token"), Worth("high", CODE)),
    **dict.fromkeys(("google_key", "google_token", "digitalocean_token", AWS_SECRET), Worth("high", CLOUD)),
    "azure_storage_key": Worth("high", "files in a cloud"),
    "slack_token": Worth("high", "a team's messages"),
    "discord_token": Worth("high", "a team's messages"),
    "stripe_key": Worth("high", "payments"),
    "square_token": Worth("high", "payments"),
    "shopify_token": Worth("high", "a shop"),
    "vault_token": Worth("high", "further secrets"),
    "private_key": Worth("high", "whatever trusts this key"),
    # names an account, or ends by itself after a while
    "aws_key_id": Worth("medium", None),
    "jwt": Worth("medium", "a login, until it ends"),
    ENVIRONMENT: Worth("high", None),
    ENV_LINE: Worth("high", None),
    # known by what stands in front of them: URLs and JSON members, ...
    CREDENTIAL: Worth("medium", None),
    # ... and anything that looks like an assignment
    ASSIGNED: Worth("low", None),
}

_BY_NAME = tuple(
    (re.compile(rf"(?i)(?:^|[_.-]|(?<=[a-z])(?=[A-Z]))(?:{words})"), worth)
    for words, worth in (
        ("aws", Worth("high", CLOUD)),
        ("gcp|google|azure|cloudflare|digitalocean|linode|hetzner|do_token", Worth("high", CLOUD)),
        ("vault|kms|encryption|master|signing|private", Worth("high", "further secrets")),
        ("db|database|postgres\\w*|pg|mysql|maria|mongo\\w*|redis|sql\\w*", Worth("high", "a database")),
        ("root|admin|sudo|ssh|deploy", Worth("high", "a machine")),
        ("github|gh|gitlab|npm|pypi|docker|registry|bitbucket", Worth("high", CODE)),
        ("stripe|paypal|braintree|square|payment", Worth("high", "payments")),
        ("anthropic|openai|openrouter|gemini|mistral", Worth("high", MODELS)),
        ("smtp|mail\\w*|sendgrid|postmark|twilio", Worth("medium", "mail and messages in somebody's name")),
        ("session|cookie|csrf|jwt", Worth("medium", "logins")),
    )
)


def worth(kind: str, name: str | None = None) -> Worth:
    """What a secret of a kind opens that was given a name: of both the graver."""
    severity, opens = _BY_KIND.get(kind, Worth("medium", None))
    by_name = next((by_name for regex, by_name in _BY_NAME if name and regex.search(name)), None)
    if by_name is None:
        return Worth(severity, opens)
    return Worth(max(severity, by_name.severity, key=SEVERITIES.index), opens or by_name.opens)


def gravity(kind: str) -> int:
    """Greater for the kind that is graver by itself."""
    return SEVERITIES.index(_BY_KIND.get(kind, Worth("medium", None)).severity)
