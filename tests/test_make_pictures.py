"""The README and the reference show what their commands print."""

from pathlib import Path

import pytest

from tests.make_pictures import BLOCK, PAGES, with_output

pytestmark = pytest.mark.long


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_a_page_shows_what_is_printed_now(page: Path):
    text = page.read_text()
    assert len(BLOCK.findall(text)) >= 3
    assert with_output(text) == text
