"""Known secrets wherever they stand in a text, in each way they may be written. No I/O."""

import json
import re
from collections import defaultdict
from collections.abc import Iterator, Mapping
from typing import NamedTuple
from urllib.parse import quote

from gateway_addon.credentials import MIN_LENGTH
from gateway_addon.masking import in_base64


class Occurrence(NamedTuple):
    """Where a known secret stands."""

    start: int
    end: int
    secret: str


class Known:
    """Finds any of many secrets, in time that hardly grows with their number.

    `spellings`: texts to find, each with the secret that it spells; those under `MIN_LENGTH` characters are left out.
    """

    def __init__(self, spellings: Mapping[str, str]) -> None:
        self._spellings = {spelling: secret for spelling, secret in spellings.items() if len(spelling) >= MIN_LENGTH}
        lengths: defaultdict[str, set[int]] = defaultdict(set)
        for spelling in self._spellings:
            lengths[spelling[:MIN_LENGTH]].add(len(spelling))
        # the longest first, as one may begin like another
        self._lengths = {beginning: sorted(each, reverse=True) for beginning, each in lengths.items()}
        # of none at all, nothing
        self._beginning = re.compile(_any_of(sorted(self._lengths)) or r"(?!)", re.DOTALL)

    def finditer(self, text: str) -> Iterator[Occurrence]:
        """The occurrences from left to right; of several at one place the longest, and none within another."""
        at = 0
        while begun := self._beginning.search(text, at):
            start = begun.start()
            at = start + 1
            for length in self._lengths[begun[0]]:
                spelling = text[start : start + length]  # shorter at the end of the text, where it may be one as well
                if secret := self._spellings.get(spelling):
                    at = start + len(spelling)
                    yield Occurrence(start, at, secret)
                    break


def _any_of(words: list[str]) -> str:
    """A regex for any of these words of one length: what several begin with is compared once."""
    if len(words) <= 1:
        return "".join(map(re.escape, words))
    groups: defaultdict[str, list[str]] = defaultdict(list)
    for word in words:
        groups[word[0]].append(word[1:])
    return f"(?:{'|'.join(re.escape(first) + _any_of(rest) for first, rest in groups.items())})"


def spellings(secret: str) -> set[str]:
    """How a secret is written: in a text, in JSON, in JSON within JSON, in a URL, and in a text that is in base64."""
    in_json = [json.dumps(secret, ensure_ascii=only_ascii)[1:-1] for only_ascii in (False, True)]
    twice = [json.dumps(text, ensure_ascii=False)[1:-1] for text in in_json]
    data = secret.encode("utf-8", "surrogatepass")
    in_url = quote(data, safe="")
    lower = re.sub("%..", lambda escape: escape[0].lower(), in_url)
    return {secret, *in_json, *twice, in_url, lower, quote(data), *in_base64(data)}
