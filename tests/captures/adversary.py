"""A program that searches texts which are made to be slow to search, under a limit of CPU time that ends it.

`python -m tests.captures.adversary CHARACTERS SECONDS [EVERY]`: texts of so many characters (every EVERYth of them).
Says which text it is at.
"""

import json
import resource
import sys

from gateway_addon.captures.finder import Finder
from gateway_addon.credentials import ECHOED, LOOKS_LIKE_A_KEY, credential_kind, environment_secrets, holds_secret
from gateway_addon.masking import Mask
from gateway_addon.review.secrets import find_in

REPEATED = [
    *(
        "token=",
        "x",
        "eyJa-",
        "\n",
        "-----BEGIN A PRIVATE KEY",
        "awskey/",
        "://a:",
        "?key=",
        "A_",
        "[redacted:a:",
        "==",
    ),
    *("password=", "token:", "token=/1", "token=1", "token='a1b2c3d4' ", "API_KEY=", "API_KEY=abcdefgh ", "?key"),
    *("A", "a1", " ", "-", "=", "_", "/", "\\", '"', "'", "key", "token ", "bearer ", "Bearer\n", "authorization "),
    *("sk-", "AKIA", "aws", "aws key ", "NPM TOKEN", "SG." + "a" * 22 + ".", "M" + "a" * 23 + ".", ".aaaaaa", "a-us1"),
    *("AC" + "a" * 32, "eyJ" + "a" * 8 + ".", "-----BEGIN ", "-----END ", "-----BEGIN PRIVATE KEY-----", "://", "://a"),
    *('name="token"\r\n', "a\r\n", "_a", "-a", "a.", "a:", "a==", "u005c", '\\"', "\\n", "{", "[", '["', '{"token":"'),
    *("%25", "\\u00", "\\u0073", "sk-a-key-of-the-gateway-081"),
    *("sk-" + "a1" * 9 + " ", "[redacted:a:00000000] ", "x@", "&amp;", "=a", ": ", "a: "),
]
"""What the texts consist of."""


def search(text: str) -> None:
    """All that looks for secrets in a text."""
    for written in (text, json.dumps({"a": text, "token": text}), f"\\{text}"):
        find_in([written], {})
        Finder(b"a key").events([json.dumps({"delta": written})] * 2)
    finder = Finder(b"a key")
    for name in ("authorization", "cookie", "set-cookie", "x"):
        finder.header(name, text)
        credential_kind({name: text})
    finder.prepare()
    finder.find(text)
    holds_secret("token", text)
    holds_secret(text, text)
    environment_secrets({text: text})
    LOOKS_LIKE_A_KEY.search(text)
    ECHOED.sub("", text)
    # an escape, so that the text is searched for every spelling
    masked = Mask(["sk-a-key-of-the-gateway-0815"])
    masked.text(f"\\u0073{text}")
    masked.data(f"%73{text}".encode())


def main() -> None:
    size, seconds, every = (*map(int, sys.argv[1:]), 1)[:3]
    resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds))
    for piece in REPEATED[::every]:
        print(repr(piece), flush=True)
        search(piece * (size // len(piece)))
    print("nested", flush=True)
    search("\\" + "u005c" * (size // 5))
    print("deep", flush=True)
    for depth in (500, 900, 2000, 100_000):
        deep = f'{{"delta":{"[" * depth}"{"x" * size}"{"]" * depth}}}'
        Finder(b"a key").events([deep, deep])
        find_in([deep], {})
    print("many secrets", flush=True)
    search(" ".join(f"sk-{number:020} password=a{number:09}" for number in range(size // 50)))
    print("done", flush=True)


if __name__ == "__main__":
    main()
