"""Shapes of tokens from the optional extra `review`, besides our own of `credentials.SHAPES`.

The detectors are those of detect-secrets as Checkov's makers keep them (bc-detect-secrets, Apache-2.0). Each is asked
for what a text holds and no more: the package could also try the secrets out at their vendors, which a review must not.
"""

from collections.abc import Iterator

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
variables, of which conversations about code are full, and what `redaction` knows."""


def tokens(texts: Iterator[str]) -> dict[str, str]:
    """The tokens in texts, and the kind of each; none where the extra is not installed."""
    try:
        from detect_secrets.core.plugins.util import get_mapping_from_secret_type_to_class
    except ImportError:
        return {}
    detectors = {cls.__name__: cls for cls in get_mapping_from_secret_type_to_class().values()}
    asked = [(kind, detectors[name]()) for name, kind in DETECTORS.items() if name in detectors]
    return {token: kind for text in texts for kind, detector in asked for token in detector.analyze_string(text)}
