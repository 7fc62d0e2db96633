"""wire/encodings.py: every coding, however it is cut, cut off, corrupted or blown up."""

import gzip
import random
import zlib

import brotli  # type: ignore[import-untyped]
import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from gateway_addon.wire import encodings
from gateway_addon.wire.encodings import FREE_BYTES, MAX_RATIO, DecodeError, decode, decoder, encode

TEXT = b"".join(b'data: {"delta": "word %d"}\n\n' % number for number in range(500))
LIMIT = 10**9

ENCODINGS = ["gzip", "x-gzip", "deflate", "br", "zstd", "gzip, br", "zstd,gzip,deflate", "identity", "", None]


def raw_deflate(data: bytes) -> bytes:
    compress = zlib.compressobj(wbits=-15)
    return compress.compress(data) + compress.flush()


def read(chunks: list[bytes], content_encoding: str | None) -> tuple[bytes, bool]:
    """What is decoded, and whether without an error: the way a caller reads."""
    stream = decoder(content_encoding)
    decoded = b""
    try:
        for chunk in chunks:
            for piece in stream.feed(chunk):
                decoded += piece
        stream.finish()
    except DecodeError:
        return decoded, False
    return decoded, True


@pytest.mark.parametrize(
    ("content_encoding", "body"),
    [
        pytest.param(None, TEXT, id="no header"),
        pytest.param("identity", TEXT, id="identity"),
        pytest.param("gzip", gzip.compress(TEXT), id="gzip"),
        pytest.param(" X-GZip ", gzip.compress(TEXT), id="old name, odd spelling"),
        pytest.param("deflate", zlib.compress(TEXT), id="deflate as the standard says"),
        pytest.param("deflate", raw_deflate(TEXT), id="deflate as some servers send it"),
        pytest.param("br", brotli.compress(TEXT), id="br"),
        pytest.param("zstd", zstandard.compress(TEXT), id="zstd"),
        pytest.param("gzip, br", brotli.compress(gzip.compress(TEXT)), id="decoded right to left"),
        pytest.param("gzip, identity,,", gzip.compress(TEXT), id="parts that mean nothing"),
        pytest.param("gzip", gzip.compress(TEXT[:99]) + gzip.compress(TEXT[99:]), id="several gzip members"),
        pytest.param("gzip", gzip.compress(TEXT) + b"\0" * 10, id="padding behind gzip"),
        pytest.param("gzip", gzip.compress(TEXT) + b"\x1f", id="half a magic number behind gzip"),
        pytest.param("gzip", gzip.compress(TEXT) + b"oops" + gzip.compress(TEXT), id="garbage behind gzip is the end"),
        pytest.param("deflate", zlib.compress(TEXT) + b"oops", id="garbage behind deflate"),
        pytest.param("zstd", zstandard.compress(TEXT[:9]) + zstandard.compress(TEXT[9:]), id="several zstd frames"),
        pytest.param("zstd", b"\x50\x2a\x4d\x18\x03\0\0\0abc" + zstandard.compress(TEXT), id="zstd frame to skip"),
    ],
)
@pytest.mark.parametrize("size", [1, 300, 10**6])
def test_decodes(content_encoding: str | None, body: bytes, size: int):
    chunks = [body[start : start + size] for start in range(0, len(body), size)]

    assert read(chunks, content_encoding) == (TEXT, True)


@pytest.mark.parametrize(
    ("content_encoding", "decompress"),
    [
        ("gzip", gzip.decompress),
        ("deflate", zlib.decompress),
        ("br", brotli.decompress),
        ("zstd", zstandard.decompress),
        ("gzip, br", lambda data: gzip.decompress(brotli.decompress(data))),
        ("identity", bytes),
    ],
)
def test_encodes(content_encoding: str, decompress):
    assert decompress(encode(TEXT, content_encoding)) == TEXT


@given(st.data(), st.binary(max_size=3000), st.sampled_from(ENCODINGS))
def test_any_split_of_any_encoding_gives_the_original(data: st.DataObject, body: bytes, content_encoding: str | None):
    encoded = encode(body, content_encoding)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(encoded)), max_size=5)))
    chunks = [encoded[start:end] for start, end in zip([0, *cuts], [*cuts, len(encoded)], strict=True)]

    assert read(chunks, content_encoding) == (body, True)
    assert decode(encoded, content_encoding, LIMIT) == body


class Flushing:
    """A server's compressor, which flushes after every event."""

    def __init__(self, content_encoding: str) -> None:
        if content_encoding == "gzip":
            compress = zlib.compressobj(wbits=31)
            self.event = lambda data: compress.compress(data) + compress.flush(zlib.Z_SYNC_FLUSH)
        elif content_encoding == "br":
            brotli_compress = brotli.Compressor()
            self.event = lambda data: brotli_compress.process(data) + brotli_compress.flush()
        else:
            frame = zstandard.ZstdCompressor().compressobj()
            self.event = lambda data: frame.compress(data) + frame.flush(zstandard.COMPRESSOBJ_FLUSH_BLOCK)


@pytest.mark.parametrize("content_encoding", ["gzip", "br", "zstd"])
def test_each_event_comes_out_when_the_server_flushed_it(content_encoding: str):
    server = Flushing(content_encoding)
    stream = decoder(content_encoding)

    for event in [b"data: 1\n\n", b"data: 2\n\n", b"data: " + random.Random(1).randbytes(200_000), b"data: 4\n\n"]:
        assert b"".join(stream.feed(server.event(event))) == event


def test_nothing_decodable_is_held_back():
    body = gzip.compress(bytes(64 * 1024 + 200))  # a run of zeros goes on where a piece is full
    for size in range(len(body)):
        expected = zlib.decompressobj(wbits=31).decompress(body[:size])
        assert b"".join(decoder("gzip").feed(body[:size])) == expected


@pytest.mark.parametrize(
    "content_encoding",
    [pytest.param(name, id=f"{name}") for name in ["gzip", "deflate", "br", "zstd", "gzip, br"]],
)
def test_cut_off_data_keeps_what_was_read(content_encoding: str):
    original = random.Random(1).randbytes(1_000_000)
    body = encode(original, content_encoding)
    decoded, good = read([body[:700_000]], content_encoding)

    assert not good
    assert len(decoded) > 300_000
    assert original.startswith(decoded)
    with pytest.raises(DecodeError, match="cut off"):
        decode(body[:-1], content_encoding, LIMIT)


@pytest.mark.parametrize("content_encoding", ["gzip", "deflate", "br", "zstd", "gzip, br"])
def test_a_body_can_be_encoded_as_if_it_were_cut_off(content_encoding: str):
    assert read([encode(b"as far as it went", content_encoding, cut_off=True)], content_encoding) == (
        b"as far as it went",
        False,
    )


@pytest.mark.parametrize("content_encoding", [pytest.param(name, id=f"{name}") for name in ["gzip", "br", "zstd"]])
def test_corrupt_data_keeps_what_was_read(content_encoding: str):
    server = Flushing(content_encoding)
    events = [b"data: %d\n\n" % number for number in range(100)]
    decoded, good = read([b"".join(map(server.event, events)) + b"\xff" * 300], content_encoding)

    assert not good
    assert len(decoded) > 200
    assert b"".join(events).startswith(decoded)


def test_wrong_checksum_is_corrupt():
    with pytest.raises(DecodeError, match="gzip data is corrupt"):
        decode(gzip.compress(TEXT)[:-8] + b"12345678", "gzip", LIMIT)


@pytest.mark.parametrize("content_encoding", ENCODINGS)
def test_empty_body_is_not_cut_off(content_encoding: str | None):
    assert decode(b"", content_encoding, LIMIT) == b""
    assert read([b"", b""], content_encoding) == (b"", True)


@pytest.mark.parametrize("use", [decoder, lambda name: decode(b"", name, LIMIT), lambda name: encode(b"", name)])
def test_unknown_encoding_is_named(use):
    with pytest.raises(DecodeError, match="unknown content encoding 'compress'"):
        use("gzip, Compress")


def test_stacking_has_a_limit():
    assert decoder(", ".join(["gzip"] * encodings.MAX_CODINGS))
    with pytest.raises(DecodeError, match="6 content encodings"):
        decoder(", ".join(["gzip"] * 6))


@pytest.mark.parametrize("content_encoding", ["gzip", "deflate", "br", "zstd", "gzip, gzip", "gzip, zstd"])
def test_bomb_is_stopped_within_its_budget(content_encoding: str):
    bomb = encode(bytes(100 * 1024 * 1024), content_encoding)
    stream = decoder(content_encoding)
    size, largest = 0, 0
    with pytest.raises(DecodeError, match="expands too much"):  # noqa: PT012 - the loop is what raises
        for piece in stream.feed(bomb):
            size += len(piece)
            largest = max(largest, len(piece))

    assert size <= FREE_BYTES + MAX_RATIO * len(bomb)
    assert largest <= 8 * 1024 * 1024


def test_budget_grows_with_the_bytes_received(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(encodings, "FREE_BYTES", 0)
    monkeypatch.setattr(encodings, "MAX_RATIO", 1)
    assert decode(zlib.compress(bytes(1000), level=0), "deflate", LIMIT) == bytes(1000)
    with pytest.raises(DecodeError, match="deflate data expands too much"):
        decode(zlib.compress(bytes(1000)), "deflate", LIMIT)

    monkeypatch.setattr(encodings, "FREE_BYTES", 1000 - len(zlib.compress(bytes(1000))))
    assert decode(zlib.compress(bytes(1000)), "deflate", LIMIT) == bytes(1000)


@pytest.mark.parametrize("content_encoding", ENCODINGS)
def test_limit_of_a_whole_body(content_encoding: str | None):
    body = encode(TEXT, content_encoding)

    assert decode(body, content_encoding, len(TEXT)) == TEXT
    with pytest.raises(DecodeError, match=f"more than {len(TEXT) - 1} bytes"):
        decode(body, content_encoding, len(TEXT) - 1)


@given(st.binary(max_size=600), st.integers(0, 400), st.sampled_from(ENCODINGS))
def test_nonsense_raises_nothing_else(noise: bytes, keep: int, content_encoding: str | None):
    start = encode(TEXT, content_encoding)[:keep]

    read([noise], content_encoding)
    read([start, noise, noise], content_encoding)
