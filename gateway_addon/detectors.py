"""Shapes of tokens from the optional extra `review`, besides our own of `credentials.SHAPES`.

The detectors are those of detect-secrets as Checkov's makers keep them (bc-detect-secrets, Apache-2.0). Each is asked
for what a text holds and no more: the package could also try the secrets out at their vendors, which nobody here must.

Their regexes are not ours, and some read a text again from each of its characters. So each is only shown what stands
around something that its tokens must have.
"""

import re
from collections.abc import Iterator
from functools import cache
from typing import Any, NamedTuple


class _Detector(NamedTuple):
    kind: str
    mark: re.Pattern[str]
    """A part that each of its tokens has, or stands behind."""


DETECTORS = {
    "AzureStorageKeyDetector": _Detector("azure_storage_key", re.compile("==")),
    "DiscordBotTokenDetector": _Detector("discord_token", re.compile(r"\.[a-zA-Z\d_-]{6}\.")),
    "MailchimpDetector": _Detector("mailchimp_key", re.compile(r"-us(?=\d)")),
    "NpmDetector": _Detector("npm_token", re.compile(r"_authToken|NPM[ _-]?TOKEN")),
    "SendGridDetector": _Detector("sendgrid_key", re.compile(r"SG\.")),
    "SquareOAuthDetector": _Detector("square_token", re.compile("0csp-")),
    "TwilioKeyDetector": _Detector("twilio_key", re.compile(r"AC(?=[a-z0-9]{32})|SK(?=[a-z0-9]{32})")),
}
"""Those that know a token by its shape. Left out is what goes by entropy or by the names of variables, of which
conversations about code are full, and what `credentials` knows."""
KINDS = frozenset(detector.kind for detector in DETECTORS.values())
"""The kinds of what they find."""

MIN_LENGTH = 34
"""Characters of the shortest token."""
_MARKS = re.compile("|".join(detector.mark.pattern for detector in DETECTORS.values()))

REACH = 120
"""Characters on either side of a mark that a detector is shown."""


def tokens(text: str) -> dict[str, str]:
    """The tokens in a text, and the kind of each; none where the extra is not installed."""
    if len(text) < MIN_LENGTH or not _MARKS.search(text):
        return {}
    return {
        token: kind
        for (kind, mark), detector in _asked()
        for part in _around(text, mark)
        for token in detector.analyze_string(part)
        if token
    }


def _around(text: str, mark: re.Pattern[str]) -> Iterator[str]:
    """The parts of a text within reach of a mark; those that overlap are one."""
    start = end = 0
    for found in mark.finditer(text):
        if found.start() - REACH > end:
            if end:
                yield text[start:end]
            start = found.start() - REACH
        end = found.end() + REACH
    if end:
        yield text[start:end]


@cache
def _asked() -> list[tuple[_Detector, Any]]:
    try:
        from detect_secrets.core.plugins.util import get_mapping_from_secret_type_to_class
    except ImportError:
        return []
    classes = {cls.__name__: cls for cls in get_mapping_from_secret_type_to_class().values()}
    return [(detector, classes[name]()) for name, detector in DETECTORS.items() if name in classes]
