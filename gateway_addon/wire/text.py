"""Text on its way to where not every text is allowed."""


def storable(text: str) -> str:
    """The text with `?` for each lone surrogate: SQLite and flow files take none, and it must not cost a row."""
    return text.encode("utf-8", "replace").decode("utf-8")
