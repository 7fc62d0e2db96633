"""What credentials look like: names of headers, members and variables that hold one, shapes of tokens, and what stands
in front of a secret. The one place that knows; configuration, errors, redaction and review ask here."""

import re
from collections.abc import Mapping
from functools import lru_cache
from typing import NamedTuple

CREDENTIAL = "credential"
"""Kind of a secret that is known by the place it was found in."""
ENVIRONMENT = "environment"
"""Kind of a value of an environment variable."""
ENV_LINE = "env_line"
"""Kind of what a line of a `.env` file assigns."""

MIN_LENGTH = 8
"""Characters below which a value is replaced in its own place only: wherever else it stands, it may be a plain word."""


class SecretRule(NamedTuple):
    """A kind of secret and how to find it."""

    kind: str
    regex: re.Pattern[str]
    """The secret is its group `secret`, or the whole match if it has none."""


def _rule(kind: str, regex: str) -> SecretRule:
    return SecretRule(kind, re.compile(regex, re.ASCII))


SHAPES = {
    "anthropic_key": r"sk-ant-[\w-]{16,}",
    "openrouter_key": r"sk-or-[\w-]{16,}",
    "openai_key": r"sk-[\w-]{16,}",
    "github_token": r"gh[pousr]_[A-Za-z0-9]{16,}|github_pat_\w{16,}",
    "gitlab_token": r"glpat-[\w-]{16,}",
    "aws_key_id": r"(?:AKIA|ASIA)[A-Z0-9]{16}",
    "slack_token": r"xox[a-z]-[\w-]{10,}",
    "google_key": r"AIza[\w-]{30,}",
    "vercel_key": r"vc[kp]_\w{16,}",
    "huggingface_token": r"hf_[A-Za-z0-9]{16,}",
    "groq_key": r"gsk_\w{16,}",
    "stripe_key": r"[rs]k_(?:live|test)_\w{10,}",
    "jwt": r"eyJ[\w-]{8,}\.eyJ[\w-]{8,}\.[\w-]*",
}
"""Tokens that are known by their shape, by kind; the first that fits counts."""

_PRIVATE_KEY = (
    # cut off, it is secret to the end of the text
    r"(?P<private_key>-----BEGIN [A-Z0-9 ]*PRIVATE KEY-----(?s:.*?-----END [A-Z0-9 ]*PRIVATE KEY-----|.*))"
)
# one regex for all, which finds them several times faster than one each
SHAPE = re.compile(
    rf"\b(?:{'|'.join(f'(?P<{kind}>{shape})' for kind, shape in SHAPES.items())})|{_PRIVATE_KEY}", re.ASCII
)

ENV_LINES = _rule(
    ENV_LINE,
    r"(?<![\w.$-])(?:[A-Z][A-Z0-9_]*_)?(?:API_?KEY|ACCESS_?KEY|KEY|TOKEN|SECRET|PASSWORD|PASSWD|PASS)"
    r"=[\"']?(?P<secret>[^\s\"'`\\$<>(){}]{8,})",
)
"""`NAME=value` as in a `.env` file, also behind a line number, a file name or `export`. Where the value is another
variable, or the result of a command, there is no secret."""

_NAME = r"(?:[\w.-]*(?:api[_-]?key|token|secret|password|passwd|auth|signature)|key|sig)"
CONTEXTS = (
    _rule(CREDENTIAL, rf"(?i)(?:^|[?&]){_NAME}=(?P<secret>[^&#\s\"'<>\\]+)"),
    # ... but HOST:PORT@HOST:PORT is how mitmproxy writes a mode
    _rule(CREDENTIAL, r"://[^/\s:@\"']*:(?!\d{1,5}@)(?P<secret>[^/\s:@\"']+)@"),
    # Source code assigns as well: what holds no digit is rather an expression than a secret
    _rule(
        "assigned",
        r"(?i)(?:api[_-]?key|access[_-]?key|token|secret|password|passwd|authorization)"
        r"[\"']?\s*[:=]\s*[\"']?(?:(?:bearer|basic|token)\s+)?(?P<secret>(?=[^\s\d]*\d)[\w+/=.~-]{8,})",
    ),
    _rule("assigned", r"(?i)\bbearer\s+(?P<secret>(?=[^\s\d]*\d)[\w+/=.~-]{8,})"),
)
"""Secrets that are known by what stands in front of them."""

_CREDENTIAL_NAME = re.compile(
    r".*(?:authorization|apikey|cookie2?|password|passwd|passphrase|secret|secretkey|accesskey|privatekey"
    r"|(?:access|refresh|id|auth|api|session|security|bearer|client|authorization)token"
    r"|chatgptaccountid|openaiorganization|openaiproject|anthropicorganizationid)"
)
_SECRET_VARIABLE = re.compile(r".*(?:_KEY|_TOKEN|_SECRET|PASSWORD|PASSWD)|API_?KEY|TOKEN|SECRET")

SCHEME = re.compile(r"\s*(?:(?:bearer|basic|token)\s+)?(?P<secret>.*\S)", re.IGNORECASE | re.DOTALL)
HEADER_SECRETS = {"cookie": re.compile(r"=(?P<secret>[^;]+)"), "set-cookie": re.compile(r"^[^=;]*=(?P<secret>[^;]+)")}
"""Where the secrets are in a credential header's value, if they are not all of it behind the scheme."""

REDACTED = re.compile(r"\[redacted:[^\[\]]+\]")
"""What a redaction has left in the place of a secret."""
NO_SECRET = re.compile(rf"\{{gateway:[^{{}}]+\}}|{REDACTED.pattern}")
"""What has already taken the place of a secret: `gateway.patch.placeholder`, or an earlier redaction."""


_DIGITS = re.compile(r"\[redacted:[\w.-]{1,100}:(?P<digits>[0-9a-f]{8})\]")


@lru_cache(1024)
def is_credential(name: str) -> bool:
    """Whether a header or JSON member of this name holds a credential: `x-api-key`, `client_secret`, `accessToken`."""
    return _CREDENTIAL_NAME.fullmatch(re.sub(r"[-_]", "", name.lower())) is not None


def credential_kind(headers: Mapping[str, str]) -> str | None:
    """The kind of the credential that request headers (names in lower case) show: of `SHAPES`, or `CREDENTIAL`.

    None if they show none, a word that stands for none (`lm-studio`), or only what has taken a credential's place.
    """
    kind = None
    for name, value in headers.items():
        found = SCHEME.match(value) if is_credential(name) and name not in HEADER_SECRETS else None
        if found and is_no_word(found["secret"]) and not NO_SECRET.fullmatch(found["secret"]):
            if shape := SHAPE.match(found["secret"]):
                return shape.lastgroup
            kind = CREDENTIAL
    return kind


def are_digits(text: str, at: int) -> bool:
    """Whether the digits of a placeholder stand here: they are no secret, although `token:` may stand before them."""
    found = _DIGITS.match(text, max(0, text.rfind("[", 0, at)))
    return found is not None and found.start("digits") == at


def environment_secrets(environment: Mapping[str, str]) -> list[str]:
    """The values of the variables whose names tell that they are secret (`*_KEY`, `*_TOKEN`, `*PASSWORD`, ...)."""
    return [
        value
        for name, value in environment.items()
        if _SECRET_VARIABLE.fullmatch(name.upper()) and len(value) >= MIN_LENGTH
    ]


def is_no_word(secret: str) -> bool:
    """Whether a credential may be replaced wherever it stands: `lm-studio` and `not-needed` are keys as well."""
    return len(secret) >= 2 * MIN_LENGTH or (len(secret) >= MIN_LENGTH and any(map(str.isdigit, secret)))


LOOKS_LIKE_A_KEY = re.compile(
    r"""(?i:bearer\s+) \S{8}                                              # an authorization header
      | \b (?: sk | pk | rk | gsk | vck | xai | ghp ) [-_] [\w-]{12}       # the vendors' prefixes
      | \b AIza [\w-]{20} | \b eyJ [\w-]{12}                              # Google; a JSON web token
      | ^ (?= \S*\d) (?= \S*[a-z]) [A-Za-z0-9+=]{32,} $                   # 32 letters and digits in one word
    """,
    re.VERBOSE,
)
"""A value in a configuration file that looks like a key."""

ECHOED = re.compile(
    r"""
    (?P<label>
        (?: key | token | secret | password ) ["']? \s*+ = \s*+ ["']?
      | (?: api[-_ ]?key (?: \ provided )? | authorization ) ["']? \s*+ : \s*+ ["']? (?: (?: bearer | basic ) \s++ )?+
      | \b bearer \s++
    )
    [^\s"'`,;&<>]+
    # keys that are known by how they begin
    | \b (?: sk- | xai- | pplx- | gsk_ | vck_ | hf_ | gh[a-z]_ | AIza | eyJ ) [\w*.-]{5,}[\w*]
    """,
    re.VERBOSE | re.IGNORECASE | re.ASCII,
)
"""A credential in an error text: servers quote what they refuse. The group `label` is what stands in front of it."""
