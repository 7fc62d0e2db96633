"""Shapes of tokens from the optional extra `review`, besides our own of `credentials.SHAPES`.

The detectors are those of detect-secrets as Checkov's makers keep them (bc-detect-secrets, Apache-2.0). Each is asked
for what a text holds and no more: the package could also try the secrets out at their vendors, which nobody here must.
"""

from functools import cache
from typing import Any

DETECTORS = {
    "AWSKeyDetector": "aws_secret_key",
    "AzureStorageKeyDetector": "azure_storage_key",
    "DiscordBotTokenDetector": "discord_token",
    "MailchimpDetector": "mailchimp_key",
    "NpmDetector": "npm_token",
    "SendGridDetector": "sendgrid_key",
    "SquareOAuthDetector": "square_token",
    "TwilioKeyDetector": "twilio_key",
}
"""Those that know a token by its shape, and the kind each finds. Left out is what goes by entropy or by the names of
variables, of which conversations about code are full, and what `credentials` knows."""


def tokens(text: str) -> dict[str, str]:
    """The tokens in a text, and the kind of each; none where the extra is not installed."""
    return {token: kind for kind, detector in _asked() for token in detector.analyze_string(text)}


@cache
def _asked() -> list[tuple[str, Any]]:
    try:
        from detect_secrets.core.plugins.util import get_mapping_from_secret_type_to_class
    except ImportError:
        return []
    detectors = {cls.__name__: cls for cls in get_mapping_from_secret_type_to_class().values()}
    return [(kind, detectors[name]()) for name, kind in DETECTORS.items() if name in detectors]
