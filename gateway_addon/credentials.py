"""What credentials look like: names of headers, members and variables that hold one, shapes of tokens, and what stands
in front of a secret. The one place that knows; configuration, errors, redaction and review ask here.

Everything here takes time linear in the length of what it is given: each regex begins at a character or word that is
rare in texts, from where it looks back and ahead no farther than a bound.
"""

import re
from base64 import b64decode
from collections import defaultdict
from collections.abc import Iterator, Mapping
from functools import lru_cache
from typing import NamedTuple

CREDENTIAL = "credential"
"""Kind of a secret that is known by the place it was found in."""
ENVIRONMENT = "environment"
"""Kind of a value of an environment variable."""
ENV_LINE = "env_line"
"""Kind of what a line of a `.env` file assigns."""
ASSIGNED = "assigned"
"""Kind of what is assigned to a name like `token`, in source code as well."""
AWS_SECRET = "aws_secret_key"
"""Kind of the secret that belongs to an AWS key id."""

WORD = "short"
"""Kind, in a placeholder, of what stood in a credential's place and may be a plain word: `lm-studio`."""

MIN_LENGTH = 8
"""Characters below which a value is replaced in its own place only: wherever else it stands, it may be a plain word."""


class SecretRule(NamedTuple):
    """A kind of secret and how to find it."""

    kind: str
    regex: re.Pattern[str]
    """The secret is its group `secret`, or the whole match if it has none."""


class Found(NamedTuple):
    """Where a secret stands in a text, and its kind."""

    kind: str
    start: int
    end: int


# -- shapes --------------------------------------------------------------------------------------------------------

_SHAPES = {
    "anthropic_key": [("sk-", r"ant-[\w-]{16,}")],
    "openrouter_key": [("sk-", r"or-[\w-]{16,}")],
    "openai_key": [("sk-", r"[\w-]{16,}")],
    "github_token": [("gh[pousr]_", r"[A-Za-z0-9]{16,}"), ("github_pat_", r"\w{16,}")],
    "gitlab_token": [("glpat-", r"[\w-]{16,}")],
    "aws_key_id": [("A[KS]IA", r"[A-Z0-9]{16}"), ("A(?:BI|CC)A", r"[A-Z0-9]{16}\b")],
    "slack_token": [("xox[a-z]-", r"[\w-]{10,}"), (r"xoxe\.", r"xox[a-z]-[\w-]{10,}")],
    "google_key": [("AIza", r"[\w-]{30,}")],
    "google_token": [(r"ya29\.", r"[\w-]{20,}"), ("GOCSPX-", r"[\w-]{20,}")],
    "vercel_key": [("vc[kp]_", r"\w{16,}")],
    "huggingface_token": [("hf_", r"[A-Za-z0-9]{16,}")],
    "groq_key": [("gsk_", r"\w{16,}")],
    "xai_key": [("xai-", r"[A-Za-z0-9]{20,}")],
    "perplexity_key": [("pplx-", r"[A-Za-z0-9]{20,}")],
    "cerebras_key": [("csk-", r"[A-Za-z0-9]{20,}")],
    "fireworks_key": [("fw_", r"[A-Za-z0-9]{20,}")],
    "replicate_token": [("r8_", r"[A-Za-z0-9]{20,}")],
    "nvidia_key": [("nvapi-", r"[\w-]{20,}")],
    "stripe_key": [("[rs]k_", r"(?:live|test)_\w{10,}"), ("whsec_", r"[A-Za-z0-9+/]{20,}")],
    "npm_token": [("npm_", r"[A-Za-z0-9]{20,}")],
    "pypi_token": [("pypi-", r"A[\w-]{20,}")],
    "docker_token": [("dckr_[po]at_", r"[\w-]{16,}")],
    "digitalocean_token": [("do[opr]_v1_", r"[A-Za-z0-9]{20,}")],
    "shopify_token": [("shp(?:at|ca|pa|ss)_", r"[A-Za-z0-9]{20,}")],
    "sendgrid_key": [(r"SG\.", r"[\w-]{16,64}\.[\w-]{16,}")],
    "vault_token": [(r"hv[sbr]\.", r"[\w-]{20,}")],
    "linear_key": [("lin_api_", r"[A-Za-z0-9]{20,}")],
    "notion_token": [("ntn_", r"[A-Za-z0-9]{20,}"), ("secret_", r"[A-Za-z0-9]{32,}")],
    "azure_storage_key": [("AccountKey=", r"[A-Za-z0-9+/]{40,}={0,2}")],
    # the bound keeps a text of nothing but beginnings from being read once for each
    "jwt": [("eyJ", r"[\w-]{8,1000}\.eyJ[\w-]{8,}\.[\w-]*")],
}
"""By kind: how a token begins (any text of the regex has the same length), and how it goes on."""

SHAPES = {kind: "|".join(first + rest for first, rest in shapes) for kind, shapes in _SHAPES.items()}
"""Tokens that are known by their shape, by kind; the first that fits counts."""

_PRIVATE_KEY = re.compile(
    # cut off, it is secret to the end of the text
    r"-----BEGIN [A-Z0-9 ]*PRIVATE KEY-----(?s:.*?-----END [A-Z0-9 ]*PRIVATE KEY-----|.*)"
)
SHAPE = re.compile(
    rf"\b(?:{'|'.join(f'(?P<{kind}>{shape})' for kind, shape in SHAPES.items())})"
    rf"|(?P<private_key>{_PRIVATE_KEY.pattern})",
    re.ASCII,
)
"""A token at a place where one may begin (`match`); to find them in a text is `secrets_in`'s."""


def _beginnings() -> tuple[re.Pattern[str], dict[str, list[int]]]:
    """A regex that ends where a token's beginning may end, and by its last character how long that is.

    It begins with the character that ends the beginning, mostly one of `-_.`, which are far rarer than letters.
    """
    firsts: defaultdict[str, dict[str, int]] = defaultdict(dict)
    for shapes in _SHAPES.values():
        for first, _ in shapes:
            example = re.sub(r"\[(.).*?\]|\(\?:(\w+).*?\)|\\(.)", r"\1\2\3", first)
            firsts[example[-1]][first] = len(example)
    branches = [
        rf"{re.escape(last)}(?=[\w+/-])(?:{'|'.join(rf'(?<=\b{first})' for first in group)})"
        for last, group in firsts.items()
    ]
    return re.compile("|".join(branches), re.ASCII), {
        last: sorted(set(group.values()), reverse=True) for last, group in firsts.items()
    }


_BEGINNING, _LENGTHS = _beginnings()


def _shapes_in(text: str) -> Iterator[Found]:
    at = 0
    while begun := _BEGINNING.search(text, at):
        at = begun.end()
        for length in _LENGTHS[begun[0]]:
            if at >= length and (found := SHAPE.match(text, at - length)):
                yield Found(str(found.lastgroup), *found.span())
                at = found.end()
                break
    if "PRIVATE KEY-----" in text:
        yield from (Found("private_key", *found.span()) for found in _PRIVATE_KEY.finditer(text))


# -- names ---------------------------------------------------------------------------------------------------------

_SECRET_NAMES = (
    *("authorization", "cookie", "cookie2", "password", "passwd", "passphrase", "secret"),
    *(
        f"{what}key"
        for what in (
            *("api", "access", "secret", "private", "subscription", "account", "signing", "encryption", "master"),
            *("storage", "shared", "functions", "license", "auth"),
        )
    ),
    *(
        f"{what}token"
        for what in (
            *("access", "refresh", "id", "auth", "api", "session", "security", "bearer", "client", "authorization"),
            *("private", "vault", "github", "gitlab", "job", "personal", "bot", "deploy"),
        )
    ),
    *("chatgptaccountid", "openaiorganization", "openaiproject", "anthropicorganizationid"),
)
"""How names end (in lower case, without `-` and `_`) whose value is a secret, whatever it looks like."""

_LIKELY_NAMES = ("token", "pwd", "auth")
"""The same for names whose value is a secret if it looks like one: a token may also be a piece of a model's answer."""
_UNLIKELY_NAMES = tuple(
    f"{what}token"
    for what in (
        *("page", "next", "previous", "continuation", "cursor", "sync", "cancellation", "stop", "end", "start"),
        *("eos", "bos", "pad", "unk", "sep", "cls", "mask", "special", "per", "max", "min"),
    )
)
_EXPRESSION = re.compile(r"[A-Za-z_]\w*(?:\.[A-Za-z_]\w*)*")
"""What may be a name in source code as well."""
_RANDOM = re.compile(r"(?![/~.]|\w{1,10}://)(?=[^\d]*\d)(?=[^A-Za-z]*[A-Za-z])[!-~]{8,}")
"""A value that looks like a secret rather than like a word, a count or a path."""

_VARIABLES = ("APIKEY", "ACCESSKEY", "KEY", "TOKEN", "SECRET", "PASSWORD", "PASSWD", "PASS")
"""The last word of a variable's name, without `_`, that holds a secret in a `.env` file."""
_SECRET_VARIABLES = ("_KEY", "_TOKEN", "_SECRET", "PASSWORD", "PASSWD")
_IN_QUERY = ("apikey", "token", "secret", "password", "passwd", "auth", "signature")
"""How the names of a query's secrets end."""

MAX_NAME = 64
"""Characters of a name that are looked at."""
_NAME_CHARACTERS = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_.-"


def _joined(name: str) -> str:
    return name[-MAX_NAME:].lower().replace("-", "").replace("_", "")


@lru_cache(1024)
def is_credential(name: str) -> bool:
    """Whether a header or JSON member of this name holds a credential: `x-api-key`, `client_secret`, `accessToken`."""
    return _joined(name).endswith(_SECRET_NAMES)


@lru_cache(1024)
def may_be_credential(name: str) -> bool:
    """Whether a header or member of this name holds a credential if its value looks like one: `token`, `pwd`."""
    return is_credential(name) or (
        _joined(name).endswith(_LIKELY_NAMES) and not _joined(name).endswith(_UNLIKELY_NAMES)
    )


def holds_secret(name: str, value: str) -> bool:
    """Whether a header or member holds a secret, by its name and, where that may mean something else, its value."""
    return is_credential(name) or (may_be_credential(name) and _RANDOM.fullmatch(value.strip()) is not None)


# -- what stands in front --------------------------------------------------------------------------------------------


def _regex(regex: str) -> re.Pattern[str]:
    return re.compile(regex, re.ASCII)


_ASSIGNS = _regex(
    # a name stands before it, and behind it enough for a value; ":" of a URL is none
    r"[:=](?<=[\w\"'\s\]`][:=])(?!//)(?=[=>]?\s{0,8}[\"'`]?(?:[A-Za-z]{5,6}\s{1,8})?[^\s\"'`\\]{8})"
)
_BEHIND = r"[:=][=>]?\s{0,8}(?:(?P<quote>[\"'`])|)(?i:(?:bearer|basic|token)\s{1,8})?"
_VALUE = _regex(rf"{_BEHIND}(?P<secret>(?(quote)(?![$<{{])[^\s\"'`\\]{{8,}}|[\w+/=.~-]{{8,}}))")
# no path, and not digits alone
_LIKELY_VALUE = _regex(rf"{_BEHIND}(?P<secret>(?![/~.$<{{])(?=[\d.:-]*[A-Za-z])[\w+/=.~-]{{8,}})")
_ENV_VALUE = _regex(r"=[\"']?(?P<secret>[^\s\"'`\\$<>(){}]{8,})")
_QUOTED_ENV_VALUE = _regex(r"=(?P<quote>[\"'])(?P<secret>[^\s\"'`\\$<>(){}][^\s\"'`\\]{7,})(?P=quote)")
_DIGIT = _regex(r"\d")


def _assigned_in(text: str) -> Iterator[Found]:
    """Values that are assigned to names: `NAME=value` as in a `.env` file, and as in source code and lists of headers.

    Source code assigns as well: what holds no digit is rather an expression than a secret. In a `.env` file, where the
    value is another variable, or the result of a command, there is no secret.
    """
    at = barren = 0
    while sign := _ASSIGNS.search(text, at):
        at = sign.end()
        name = _name_before(text, sign.start())
        if name is None:
            continue
        value = _env_value(text, sign.start()) if _is_variable(text, sign.start(), name) else None
        if value:
            yield Found(ENV_LINE, *value.span("secret"))
            at = value.end()
        elif at > barren and may_be_credential(name):
            value = (_VALUE if is_credential(name) else _LIKELY_VALUE).match(text, sign.start())
            if value and _DIGIT.search(value["secret"]):
                yield Found(ASSIGNED, *value.span("secret"))
                at = value.end()
            elif value:
                # what is assigned to further names within it has no digit either, and is not looked at once for each
                barren = value.end()


def _env_value(text: str, at: int) -> re.Match[str] | None:
    return _QUOTED_ENV_VALUE.match(text, at) or _ENV_VALUE.match(text, at)


def _name_before(text: str, end: int) -> str | None:
    """The name that stands in front of a sign, maybe in quotes and brackets."""
    before = text[max(0, end - MAX_NAME) : end].rstrip()
    before = before[:-1].rstrip("\"'`") if before.endswith("]") else before
    before = before[:-1] if before.endswith(("'", '"', "`")) else before
    return before[len(before.rstrip(_NAME_CHARACTERS)) :] or None


_ASSIGNMENT = _regex(r"(?:[\"'`]?\s{0,8}(?:[:=]=?>?)\s{0,8}|\s{1,4}|>)[\"'`]?(?:[bB]earer |[bB]asic |[tT]oken )?\Z")


def assigned_name(text: str, start: int) -> str | None:
    """The name to which what begins at a position in a text is given: by `NAME=`, `"NAME": "`, `--NAME `; None if
    there is none, or not one that says that it holds a secret."""
    before = text[max(0, start - MAX_NAME) : start]
    if not (sign := _ASSIGNMENT.search(before)):
        return None
    name = _name_before(before, sign.start())
    name = name and name.lstrip("-.")
    return name if name and (may_be_credential(name) or _is_secret_variable(name.upper())) else None


def _is_variable(text: str, end: int, name: str) -> bool:
    if not (name.isupper() and text.endswith(name, 0, end)) or "-" in name or "." in name:
        return False
    before = text[max(0, end - len(name) - 1) : end - len(name)]
    last = name.replace("API_KEY", "APIKEY").replace("ACCESS_KEY", "ACCESSKEY").rpartition("_")[2]
    return last in _VARIABLES and before != "$" and not name[0].isdigit()


_PAIR = rf"(?P<name>[\w.-]{{1,{MAX_NAME}}})=(?P<secret>[^&#\s\"'<>\\]+)"
_FIRST_PAIR, _PAIRS = _regex(_PAIR), _regex(rf"[?&](?:amp;)?{_PAIR}")


def _pairs_in(text: str) -> Iterator[Found]:
    """Members of a query or form."""
    first = _FIRST_PAIR.match(text)
    for pair in (*((first,) if first else ()), *_PAIRS.finditer(text)):
        name = _joined(pair["name"])
        if name in ("key", "sig") or name.endswith(_IN_QUERY) or holds_secret(name, pair["secret"]):
            yield Found(CREDENTIAL, *pair.span("secret"))


_USER = _regex(
    # ... but HOST:PORT@HOST:PORT is how mitmproxy writes a mode
    r"://(?:[^/\s:@\"']{0,256}:(?!\d{1,5}@)(?P<password>[^/\s:@\"']{1,1024})"
    # a name alone is no secret
    r"|(?P<token>(?=[^\d/\s:@\"']*\d)(?=[^A-Za-z/\s:@\"']*[A-Za-z])[^/\s:@\"'<>]{12,1024}))@"
)
_BEARER = _regex(r"[bB](?<!\w[bB])(?:earer|EARER)\s{1,8}(?P<secret>[\w+/=.~-]{8,})")
_FIELDS = tuple(
    (mark, kind, _regex(regex))
    for mark, kind, regex in (
        # a form's field
        (
            'name="',
            CREDENTIAL,
            r"name=\"(?P<name>[^\"\r\n]{1,64})\"[^\r\n]{0,200}\r?\n(?:[^\r\n]{1,200}\r?\n){0,4}\r?\n(?P<secret>[^\r\n]+)",
        ),
        # an option of a command
        ("--", ASSIGNED, r"--(?P<name>[A-Za-z][\w-]{1,63})\s{1,4}[\"']?(?P<secret>[\w+/=.~:-]{8,})"),
        # an element, and an attribute
        ("</", ASSIGNED, r"<(?P<name>[A-Za-z][\w.-]{1,63})>(?P<secret>[^<>\s]{8,})</"),
        ('value="', ASSIGNED, r"(?:key|name)=\"(?P<name>[^\"\s]{1,64})\" value=\"(?P<secret>[^\"\s]{8,})\""),
        # a line of .netrc, and curl's NAME:PASSWORD
        ("machine ", ASSIGNED, r"(?P<name>password)\s{1,8}(?P<secret>\S{8,})"),
        ("curl", ASSIGNED, r"(?:-u|--user)[ =]{1,4}[\"']?[^\s:\"']{1,64}:(?P<secret>[^\s\"']{8,})"),
    )
)
"""Other ways to give a value to a name (if none is written, a password): a text that occurs in each, the kind, and how
they are written."""


def _fields_in(text: str) -> Iterator[Found]:
    for mark, kind, regex in _FIELDS:
        if mark in text:
            for found in regex.finditer(text):
                name, value = found.groupdict().get("name", "password"), found["secret"]
                if holds_secret(name, value) and (kind == CREDENTIAL or _RANDOM.fullmatch(value)):
                    yield Found(kind, *found.span("secret"))


_AWS = _regex(r"[wW](?<=[aA][wW])[sS](?=(?P<name>.{0,20}?(?i:key|pwd|pw|password|pass|token)))")
_AWS_VALUE = _regex(r".{0,20}?(?<![\w/+])(?P<secret>[A-Za-z0-9/+]{40})(?![\w/+=])")


def _aws_secrets_in(text: str) -> Iterator[Found]:
    """Values of 40 characters behind a name with `aws` and `key` in it."""
    for named in _AWS.finditer(text):
        if found := _AWS_VALUE.match(text, named.end("name")):
            yield Found(AWS_SECRET, *found.span("secret"))


def secrets_in(text: str) -> Iterator[Found]:
    """The secrets in a text that are known by their shape or by what stands in front of them; they may overlap.

    A value that was found as several kinds comes first as the kind that says most of it.
    """
    if len(text) < MIN_LENGTH:
        return
    assigned = list(_assigned_in(text)) if "=" in text or ":" in text else []
    yield from (found for found in assigned if found.kind == ENV_LINE)
    yield from _shapes_in(text)
    if "=" in text:
        yield from _pairs_in(text)
    if "://" in text and "@" in text:
        for found in _USER.finditer(text):
            yield Found(CREDENTIAL, *found.span(found.lastgroup or 0))
    yield from _fields_in(text)
    yield from _aws_secrets_in(text)
    yield from (found for found in assigned if found.kind != ENV_LINE)
    if "earer" in text or "EARER" in text:
        for found in _BEARER.finditer(text):
            if _DIGIT.search(found["secret"]):
                yield Found(ASSIGNED, *found.span("secret"))


SCHEME = re.compile(r"\A\s*+(?:(?:bearer|basic|token)\s++)?+(?P<secret>\S(?:.*\S)?)", re.IGNORECASE | re.DOTALL)
HEADER_SECRETS = {"cookie": re.compile(r"=(?P<secret>[^;]+)"), "set-cookie": re.compile(r"\A[^=;]*=(?P<secret>[^;]+)")}
"""Where the secrets are in a credential header's value, if they are not all of it behind the scheme."""

REDACTED = re.compile(r"\[redacted:[^\[\]]+\]")
"""What a redaction has left in the place of a secret."""
NO_SECRET = re.compile(rf"\{{gateway:[^{{}}]+\}}|{REDACTED.pattern}")
"""What has already taken the place of a secret: `gateway.patch.placeholder`, or an earlier redaction."""


_REDACTED_KIND = re.compile(r"\[redacted:(?P<kind>[\w.-]{1,100}):[^\[\]]{1,100}\]")
_TOKENS = {*SHAPES, "private_key"}
_DIGITS = re.compile(r"\[redacted:[\w.-]{1,100}:(?P<digits>[0-9a-f]{8})\]")
_BEFORE_DIGITS = 120
"""Characters of a placeholder in front of its digits, at most."""


def credential_kind(headers: Mapping[str, str]) -> str | None:
    """The kind of the credential that request headers (names in lower case) show: of `SHAPES`, or `CREDENTIAL`.

    Where a redaction has taken it out, its placeholder says the same. None if they show none, a word that stands for
    none (`lm-studio`), or only the gateway's placeholder.
    """
    kind = None
    for name, value in headers.items():
        found = SCHEME.match(value) if is_credential(name) and name not in HEADER_SECRETS else None
        if not found:
            continue
        if redacted := _REDACTED_KIND.match(found["secret"]):
            told = redacted["kind"]
        else:
            told = WORD if NO_SECRET.fullmatch(found["secret"]) else kind_of(found["secret"], CREDENTIAL)
        if told in _TOKENS:
            return told
        if told != WORD:
            kind = CREDENTIAL
    return kind


def kind_of(secret: str, kind: str) -> str:
    """The kind that a placeholder tells of a secret which was found as `kind`: its shape says more than its place."""
    if kind == CREDENTIAL and not is_no_word(secret):
        return WORD
    shape = SHAPE.match(secret)
    return str(shape.lastgroup) if shape else kind


def is_value(secret: str, kind: str) -> bool:
    """Whether a secret that was found as `kind` is to be replaced wherever it stands, not in its own place only."""
    return is_no_word(secret) and (kind != ASSIGNED or not _EXPRESSION.fullmatch(secret))


def basic_password(value: str) -> str | None:
    """The password in the value of a Basic authorization header (RFC 7617); None if it is no such value."""
    scheme, _, packed = value.strip().partition(" ")
    if scheme.lower() != "basic":
        return None
    try:
        return b64decode(packed.strip(), validate=True).decode().partition(":")[2] or None
    except ValueError:
        return None


def are_digits(text: str, at: int) -> bool:
    """Whether the digits of a placeholder stand here: they are no secret, although `token:` may stand before them."""
    start = text.rfind("[", max(0, at - _BEFORE_DIGITS), at)
    found = _DIGITS.match(text, start) if start >= 0 else None
    return found is not None and found.start("digits") == at


def environment_secrets(environment: Mapping[str, str]) -> list[str]:
    """The values of the variables whose names tell that they are secret (`*_KEY`, `*_TOKEN`, `*PASSWORD`, ...)."""
    return [
        value for name, value in environment.items() if _is_secret_variable(name.upper()) and len(value) >= MIN_LENGTH
    ]


def _is_secret_variable(name: str) -> bool:
    return name.endswith(_SECRET_VARIABLES) or name in ("API_KEY", "APIKEY", "TOKEN", "SECRET")


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
