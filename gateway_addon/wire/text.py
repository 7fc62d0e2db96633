"""Text on its way to where not every text is allowed, or seen."""

import unicodedata


def has_surrogates(text: str) -> bool:
    """Whether there is a lone surrogate in a text: no encoding has one, and JSON may spell it all the same."""
    if text.isascii():
        return False
    try:
        # many times faster than any search for them, and than UTF-8
        text.encode("utf-16-le")
    except UnicodeEncodeError:
        return True
    return False


def storable(text: str) -> str:
    """The text with `?` for each lone surrogate: SQLite and flow files take none, and it must not cost a row."""
    return text.encode("utf-8", "replace").decode("utf-8") if has_surrogates(text) else text


class _Shown(dict[int, str]):
    """By code, how a character is shown: as it is, or spelled out if it is not seen, or moves or turns the others."""

    def __missing__(self, code: int) -> str:
        character = chr(code)
        is_seen = character.isprintable() or unicodedata.category(character) == "Zs"
        if character in "\n\t" or (is_seen and code not in BLANK):
            shown = character
        elif code < 0x100:
            shown = f"\\x{code:02x}"
        else:
            shown = f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"
        self[code] = shown
        return shown


BLANK = frozenset({0x034F, 0x115F, 0x1160, 0x17B4, 0x17B5, *range(0x180B, 0x1810), 0x2800, 0x3164, 0xFFA0})
"""Characters that Unicode counts among the printable ones, although nothing is seen of them."""

_SHOWN = _Shown()


def printable(text: str) -> str:
    """The text with everything spelled out by which it could steer a terminal, or that nobody would see: models write
    what they like."""
    return text.translate(_SHOWN)


UNKNOWN = "–"
"""What stands for a value that is not known."""


def plain(value: object) -> str:
    """A value on one line."""
    return UNKNOWN if value is None else printable(str(value)).replace("\n", "\\n")
