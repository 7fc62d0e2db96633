"""The search for secrets takes time linear in a text's length, whatever the text is."""

import subprocess
import sys

import pytest


@pytest.mark.parametrize(
    ("characters", "seconds", "every"),
    [
        # a search that reads a text again from each of its characters takes minutes
        (60_000, 60, 9),
        pytest.param(100_000, 400, 1, marks=pytest.mark.long),
    ],
)
def test_no_text_takes_long(characters: int, seconds: int, every: int):
    command = [sys.executable, "-m", "tests.captures.adversary", *map(str, (characters, seconds, every))]
    said = subprocess.run(command, stdout=subprocess.PIPE, text=True).stdout.splitlines()
    assert said[-1] == "done", f"did not end in {seconds} s: {said[-1]}"
