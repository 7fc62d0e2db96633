"""The sizes of pictures."""

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway_addon.wire.pictures import size

SEGMENT = b"\xff\xe0\x00\x04ab"
FRAME = b"\xff\xc2\x00\x0b\x08" + struct.pack(">HH", 480, 640) + b"\x01"
HEADERS = {
    "png": b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR" + struct.pack(">II", 640, 480),
    "gif": b"GIF89a" + struct.pack("<HH", 640, 480),
    "jpeg": b"\xff\xd8" + SEGMENT + FRAME,
    "webp, lossy": b"RIFF\0\0\0\0WEBPVP8 \0\0\0\0\0\0\0\x9d\x01\x2a" + struct.pack("<HH", 640, 480),
    "webp, lossless": b"RIFF\0\0\0\0WEBPVP8L\0\0\0\0\x2f" + struct.pack("<I", 639 | 479 << 14),
    "webp, extended": b"RIFF\0\0\0\0WEBPVP8X\0\0\0\0\0\0\0\0"
    + (639).to_bytes(3, "little")
    + (479).to_bytes(3, "little"),
}


@pytest.mark.parametrize("header", HEADERS.values(), ids=HEADERS)
def test_sizes(header: bytes):
    assert size(header) == (640, 480)
    assert size(header[:-2]) is None


@pytest.mark.parametrize("data", [b"", b"<svg/>", b"\xff\xd8\xff\xd9", HEADERS["gif"].replace(b"\x80\x02", b"\0\0")])
def test_no_size(data: bytes):
    assert size(data) is None


@given(st.sampled_from(list(HEADERS.values())), st.integers(0, 30), st.binary(max_size=40))
def test_never_raises(header: bytes, kept: int, rest: bytes):
    size(header[:kept] + rest)
