"""What is found in texts that belong to no flow, and what a file of further rules may say."""

import json
import re
from typing import Any

import pytest

from gateway_addon.captures.finder import Finder, read_rules

KEY = b"a key for tests"
TOKEN = "sk-ant-planted-0123456789"
PASSWORD = "planted/Passwort+ä1"


@pytest.mark.parametrize(
    ("document", "complaint"),
    [
        ({}, "a rule file holds"),
        ({"rules": [], "more": 1}, "a rule file holds"),
        ({"rules": ["x"]}, "rule 1: expected"),
        ({"rules": [{"name": "a", "regex": "b", "flags": "i"}]}, "rule 1: expected"),
        ({"rules": [{"name": "a b", "regex": "b"}]}, "rule 1: a name has"),
        ({"rules": [{"name": "a", "regex": "("}]}, "rule 'a': bad regex"),
        ({"rules": [{"name": "a", "regex": "b*"}]}, "rule 'a': the regex matches the empty text"),
    ],
)
def test_a_bad_rule_file_is_refused(document: dict[str, Any], complaint: str):
    with pytest.raises(ValueError, match=re.escape(complaint)) as refused:
        read_rules(document)
    assert "\n" not in str(refused.value)


def test_secrets_of_texts_are_known_with_their_kinds():
    finder = Finder(KEY, known=["the value of a variable"])
    finder.find(json.dumps({"text": f"use {TOKEN}", "apiKey": PASSWORD}))
    finder.find("nothing")
    assert finder.kinds == {TOKEN: "anthropic_key", PASSWORD: "credential"}
