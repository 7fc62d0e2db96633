"""The README shows what its commands print."""

import pytest

from tests.make_pictures import BLOCK, README, with_output

pytestmark = pytest.mark.long


def test_the_readme_shows_what_is_printed_now():
    readme = README.read_text()
    assert len(BLOCK.findall(readme)) >= 4
    assert with_output(readme) == readme
