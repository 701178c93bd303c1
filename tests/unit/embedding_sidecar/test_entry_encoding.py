"""Entries of the cache in Redis: those that are trusted, by signer. D5 of the field's cases."""

import math
import struct
import zlib
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from embedding_sidecar.cache import cache_entry, entry_encoding

NOW = 10_000.0
KEY = "aos:embedding:cache:shop/policy/search:g.:0123"
KEYED, PLAIN = entry_encoding.Seal(bytes(range(32))), entry_encoding.Seal()
SEALS = pytest.mark.parametrize("seal", [KEYED, PLAIN], ids=["mac", "checksum"])
NAMES = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
VECTORS = st.lists(
    st.floats(width=32, allow_nan=False, allow_infinity=False), min_size=1, max_size=8
).map(lambda numbers: struct.pack(f"<{len(numbers)}f", *numbers))
ENTRIES = st.builds(
    cache_entry.Entry,
    vector=VECTORS,
    model=NAMES,
    space=NAMES,
    tokens=st.integers(0, 2**40),
    made_at=st.floats(0, NOW + entry_encoding.MAX_AHEAD_SECONDS),
    ttl_seconds=st.none() | st.integers(1, cache_entry.MAX_TTL_SECONDS),
)


def entry(**said: Any) -> cache_entry.Entry:
    usual = {"model": "m", "space": "s", "vector": bytes(8), "tokens": 2, "made_at": NOW - 1}
    return cache_entry.Entry(**{**usual, **said})


def forged(*, seal=PLAIN, key=KEY, **said) -> bytes:
    """The bytes that who can write Redis, and knows this seal, puts there."""
    return entry_encoding.encode(entry(**said), key=key, seal=seal)


def read(raw: bytes, *, seal=PLAIN, key=KEY) -> cache_entry.Entry | None:
    return entry_encoding.decode(raw, key=key, seal=seal, now=NOW)


@SEALS
@given(before=ENTRIES)
def test_entry_comes_back_as_it_was(before, seal):
    after = read(entry_encoding.encode(before, key=KEY, seal=seal), seal=seal)
    assert after == before._replace(tokens=min(before.tokens, entry_encoding.MAX_TOKENS))


@SEALS
@given(raw=st.binary(max_size=100))
def test_bytes_that_are_not_entry_are_miss(raw, seal):
    assert read(raw, seal=seal) is None
    assert read(bytes([entry_encoding.FORMAT]) + raw, seal=seal) is None


@SEALS
@given(it=ENTRIES, data=st.data())
def test_entry_with_any_changed_bit_is_miss(it, data, seal):
    raw = entry_encoding.encode(it, key=KEY, seal=seal)
    bit = data.draw(st.integers(0, len(raw) * 8 - 1))
    changed = bytearray(raw)
    changed[bit // 8] ^= 1 << bit % 8
    assert read(bytes(changed), seal=seal) is None


@SEALS
@given(it=ENTRIES, data=st.data())
def test_entry_that_was_cut_or_made_longer_is_miss(it, data, seal):
    raw = entry_encoding.encode(it, key=KEY, seal=seal)
    assert read(raw[: data.draw(st.integers(0, len(raw) - 1))], seal=seal) is None
    assert read(raw + data.draw(st.binary(min_size=1, max_size=80)), seal=seal) is None


@SEALS
@given(it=ENTRIES, key=NAMES, other=NAMES)
def test_entry_moved_to_another_key_is_miss(it, key, other, seal):
    raw = entry_encoding.encode(it, key=key, seal=seal)
    assert (read(raw, key=other, seal=seal) is not None) is (key == other)


@given(it=ENTRIES, secret=st.binary(min_size=32, max_size=32))
def test_entry_of_another_secret_or_of_none_is_miss(it, secret):
    """D5: a rotated key, an absent one, or somebody without it who knows the format."""
    seals = {KEYED, PLAIN, entry_encoding.Seal(secret) if secret != bytes(range(32)) else KEYED}
    for maker in seals:
        raw = entry_encoding.encode(it, key=KEY, seal=maker)
        assert [reader for reader in seals if read(raw, seal=reader)] == [maker]


def test_tag_says_where_key_ends_and_content_begins():
    for seal in (KEYED, PLAIN):
        tag = seal.tag("ab", b"c")
        assert len(tag) == entry_encoding.TAG_BYTES
        assert seal.accepts(tag, "ab", b"c")
        assert not seal.accepts(tag, "a", b"bc")


def test_no_nonce_is_used_twice_under_one_key():
    """GCM's one condition (NIST SP 800-38D, section 8): two processes have keys of their own."""
    one, other = entry_encoding.Seal(bytes(32)), entry_encoding.Seal(bytes(32))
    tags = {seal.tag(KEY, b"same")[:28] for seal in (one, other) for _ in range(100)}
    assert len(tags) == 200
    assert other.accepts(one.tag(KEY, b"same"), KEY, b"same")


def test_salts_that_somebody_makes_up_take_no_memory():
    seal = entry_encoding.Seal(bytes(32))
    for number in range(3000):
        assert not seal.accepts(number.to_bytes(entry_encoding.TAG_BYTES, "big")[::-1], KEY, b"")
    assert len(seal._ciphers) <= 1024


@pytest.mark.parametrize(
    "number", [math.nan, math.inf, -math.inf], ids=["not-a-number", "infinite", "negative-infinite"]
)
def test_checksummed_entry_with_number_that_is_not_finite_is_miss(number):
    """D5."""
    vector = struct.pack("<4f", 0.5, number, -0.5, 1e38)
    assert read(forged(vector=vector)) is None
    assert read(forged(vector=struct.pack("<2f", 0.5, 1.7e38))) is not None


@SEALS
@pytest.mark.parametrize(
    "said",
    [
        {"made_at": 1e300},
        {"made_at": NOW + entry_encoding.MAX_AHEAD_SECONDS + 1},
        {"made_at": math.nan},
        {"made_at": math.inf},
        {"made_at": -1.0},
        {"ttl_seconds": cache_entry.MAX_TTL_SECONDS + 1},
        {"ttl_seconds": 2**32 - 1},
        {"vector": b""},
        {"vector": b"12345"},
        {"model": "m" * 4097},
        {"space": "s" * 4097},
    ],
    ids=str,
)
def test_impossible_entry_is_miss(said, seal):
    """D5, and siblings: whoever wrote it."""
    assert read(forged(seal=seal, **said), seal=seal) is None


@SEALS
def test_entry_of_absurdly_many_tokens_is_miss(seal, monkeypatch):
    monkeypatch.setattr(entry_encoding, "MAX_TOKENS", 2**32 - 1)
    raw = forged(seal=seal, tokens=2**32 - 1)
    monkeypatch.undo()
    assert read(raw, seal=seal) is None


def test_entry_of_older_format_is_miss():
    """Format 2: a CRC-32 that anybody can make."""

    body = struct.pack("<dIIHH", NOW - 1, 0, 2, 1, 1) + b"ms" + bytes(8)
    raw = struct.pack("<BI", 2, zlib.crc32(body)) + body
    assert [read(raw, seal=seal) for seal in (KEYED, PLAIN)] == [None, None]


@pytest.mark.parametrize("written", ["", "0" * 63, "0" * 65, "G" * 64, "A" * 64, " " + "0" * 63])
def test_secret_is_64_hexadecimal_digits(written):
    assert entry_encoding.secret_of("0" * 62 + "1f") == bytes(31) + b"\x1f"
    assert entry_encoding.secret_of(written) is None


def test_seal_does_not_show_its_secret():
    secret = b"a secret of thirty-two bytes ...."
    assert "secret" not in repr(entry_encoding.Seal(secret))
    assert secret.hex()[:16] not in repr(entry_encoding.Seal(secret))
