"""How large a picture is, by the first bytes of its file: PNG, GIF, JPEG, WebP."""

import struct
from typing import NamedTuple


class Size(NamedTuple):
    """In pixels."""

    width: int
    height: int


def size(data: bytes) -> Size | None:
    """The size of a picture; None if these are not the beginning of one, or it is not told there."""
    try:
        found = next((read(data) for magic, read in _FORMATS if data.startswith(magic)), None)
    except (struct.error, IndexError):
        return None
    return found if found and all(found) else None


def _png(data: bytes) -> Size:
    return Size(*struct.unpack_from(">II", data, 16))


def _gif(data: bytes) -> Size:
    return Size(*struct.unpack_from("<HH", data, 6))


def _jpeg(data: bytes) -> Size | None:
    """In the header of its frame, which stands behind other segments, each with its length."""
    at = 2
    while data[at] == 0xFF:
        marker = data[at + 1]
        if 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):
            height, width = struct.unpack_from(">HH", data, at + 5)
            return Size(width, height)
        at += 2 + struct.unpack_from(">H", data, at + 2)[0]
    return None


def _webp(data: bytes) -> Size | None:
    match data[8:16]:
        case b"WEBPVP8 ":
            width, height = struct.unpack_from("<HH", data, 26)
            return Size(width & 0x3FFF, height & 0x3FFF)
        case b"WEBPVP8L":
            (packed,) = struct.unpack_from("<I", data, 21)
            return Size((packed & 0x3FFF) + 1, (packed >> 14 & 0x3FFF) + 1)
        case b"WEBPVP8X":
            wide, high = (int.from_bytes(data[at : at + 3], "little") for at in (24, 27))
            return Size(wide + 1, high + 1) if len(data) >= 30 else None
    return None


_FORMATS = ((b"\x89PNG\r\n\x1a\n", _png), (b"GIF8", _gif), (b"\xff\xd8", _jpeg), (b"RIFF", _webp))
