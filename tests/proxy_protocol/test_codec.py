"""The PROXY protocol's headers: written, read, split, cut off, and garbage."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address, ip_address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kolus.proxy_protocol import (
    MOST_BYTES,
    ProxyHeader,
    ProxyHeaderError,
    ProxyVersion,
    decode,
    encode,
)
from kolus.proxy_protocol.checksum import crc32c

V2 = b"\r\n\r\n\0\r\nQUIT\n"
LOCAL = ProxyHeader()

_ports = st.integers(0, 0xFFFF)
_paths = st.binary(max_size=108).map(lambda path: path.rstrip(b"\0"))
_kinds = st.sampled_from([1, 2, 5, 0x20, 0x21, 0x30, 0xE0, 0xFF])
_tlvs = st.lists(st.tuples(_kinds, st.binary(max_size=60)), max_size=5).map(tuple)


def _inet(version: int) -> st.SearchStrategy[tuple[str, int]]:
    return st.tuples(st.ip_addresses(v=version).map(str), _ports)


_of_tcp = st.one_of(*[st.builds(ProxyHeader, _inet(each), _inet(each)) for each in (4, 6)])
_any = st.one_of(
    st.builds(ProxyHeader, _inet(4), _inet(4), _tlvs, st.booleans()),
    st.builds(ProxyHeader, _inet(6), _inet(6), _tlvs, st.booleans()),
    st.builds(ProxyHeader, _paths, _paths, _tlvs, st.booleans()),
    st.builds(ProxyHeader, tlvs=_tlvs),
)

_encoded = st.one_of(
    _of_tcp.map(lambda header: encode(header, "v1")), _any.map(lambda header: encode(header, "v2"))
)


@given(_of_tcp, st.binary(max_size=20))
def test_version_1_comes_back_as_it_was_sent(header: ProxyHeader, rest: bytes) -> None:
    made = encode(header, "v1")
    assert len(made) <= 107
    assert decode(made + rest) == (header, len(made))


@given(_any, st.booleans(), st.binary(max_size=20))
def test_version_2_comes_back_as_it_was_sent(
    header: ProxyHeader, checksum: bool, rest: bytes
) -> None:
    made = encode(header, "v2", checksum=checksum)
    assert decode(made + rest) == (header, len(made))


@given(
    st.one_of(
        _of_tcp.map(lambda each: encode(each, "v1")), _any.map(lambda each: encode(each, "v2"))
    )
)
def test_a_header_may_be_split_anywhere(made: bytes) -> None:
    assert all(decode(made[:size]) is None for size in range(len(made)))


@given(
    st.binary(max_size=300), st.sampled_from([b"", V2, V2 + b"\x21\x11", b"PROXY ", b"PROXY TCP4 "])
)
def test_garbage_raises_nothing_but_its_own_error(garbage: bytes, begin: bytes) -> None:
    try:
        decoded = decode(begin + garbage)
    except ProxyHeaderError:
        return
    assert decoded is None or decoded[1] <= len(begin + garbage)


@given(_any, st.data())
def test_a_damaged_header_raises_nothing_but_its_own_error(
    header: ProxyHeader, data: st.DataObject
) -> None:
    made = bytearray(encode(header, "v2", checksum=True))
    at = data.draw(st.integers(0, len(made) - 1))
    made[at] ^= data.draw(st.integers(1, 255))
    try:
        decoded = decode(bytes(made))
    except ProxyHeaderError:
        return
    # What is not refused waits for more, is LOCAL now, or has lost the type of its checksum, or all
    # of it, as its length is that of the header without.
    unchecked = len(encode(header, "v2"))
    assert decoded is None or decoded[0] != header or made[12] == 0x20 or decoded[1] == unchecked


@pytest.mark.parametrize(
    "line",
    [
        b"PROXY TCP4 10.0.0.7 10.0.0.1 5555 80",
        b"PROXY UNKNOWN",
        b"PROXY UNKNOWN ffff::1 ffff::2 65535 65535",
    ],
)
def test_a_line_of_version_1_is_read(line: bytes) -> None:
    header = ProxyHeader(("10.0.0.7", 5555), ("10.0.0.1", 80)) if b"TCP4" in line else LOCAL
    assert decode(line + b"\r\nGET") == (header, len(line) + 2)


@pytest.mark.parametrize(
    "line",
    [
        b"PROXY TCP4 10.0.0.7 10.0.0.1 5555 80 ",
        b"PROXY TCP4 10.0.0.7  10.0.0.1 5555 80",
        b"PROXY TCP4 10.0.0.7 10.0.0.1 05555 80",
        b"PROXY TCP4 10.0.0.7 10.0.0.1 65536 80",
        b"PROXY TCP4 10.0.0.07 10.0.0.1 5555 80",
        b"PROXY TCP4 ::1 ::1 5555 80",
        b"PROXY TCP6 10.0.0.7 10.0.0.1 5555 80",
        b"PROXY TCP6 fe80::1%eth0 ::1 5555 80",
        b"PROXY TCP4 10.0.0.7",
        b"PROXY UDP4 10.0.0.7 10.0.0.1 5555 80",
        b"PROXY UNKNOWNS",
        b"PROXY \n",
    ],
)
def test_a_wrong_line_of_version_1_is_refused(line: bytes) -> None:
    with pytest.raises(ProxyHeaderError, match="version 1"):
        decode(line + b"\r\n")


def test_a_line_of_version_1_without_end_is_refused_at_its_greatest_length() -> None:
    assert decode(b"PROXY UNKNOWN ".ljust(106, b"x")) is None
    with pytest.raises(ProxyHeaderError, match="no end in 107 bytes"):
        decode(b"PROXY UNKNOWN ".ljust(107, b"x"))


@pytest.mark.parametrize("first", [b"G", b"PROXX", b"\r\n\r\n\0\r\nQUIX", b"\x16\x03\x01"])
def test_other_bytes_are_refused_as_soon_as_they_differ(first: bytes) -> None:
    with pytest.raises(ProxyHeaderError, match="not a PROXY header"):
        decode(first)


@pytest.mark.parametrize(
    ("fixed", "message"),
    [
        (b"\x11\x11\x00\x0c", "version 1 and command 1"),
        (b"\x22\x11\x00\x0c", "version 2 and command 2"),
        (b"\x21\x41\x00\x0c", "family 4 and transport 1"),
        (b"\x21\x13\x00\x0c", "family 1 and transport 3"),
        (b"\x21\x11\x00\x0b", "family 1 has only 11 bytes"),
        (b"\x21\x21\x00\x0c", "family 2 has only 12 bytes"),
        (b"\x21\x00\x00\x02", "ends within a TLV"),
    ],
)
def test_a_wrong_header_of_version_2_is_refused(fixed: bytes, message: str) -> None:
    with pytest.raises(ProxyHeaderError, match=message):
        decode(V2 + fixed + bytes(20))


def test_a_header_that_claims_to_be_too_long_is_refused_before_it_has_come() -> None:
    longest = MOST_BYTES - 16
    assert decode(V2 + b"\x21\x00" + longest.to_bytes(2, "big")) is None
    with pytest.raises(ProxyHeaderError, match="4096 are read at most"):
        decode(V2 + b"\x21\x00" + (longest + 1).to_bytes(2, "big"))


def test_a_tlv_beyond_the_header_is_refused() -> None:
    with pytest.raises(ProxyHeaderError, match="within its TLV of type 2"):
        decode(V2 + b"\x21\x00\x00\x04" + b"\x02\x00\x02x")


def test_a_wrong_checksum_is_refused() -> None:
    made = encode(ProxyHeader(("10.0.0.7", 5), ("10.0.0.1", 6)), "v2", checksum=True)
    decode(made)
    with pytest.raises(ProxyHeaderError, match="checksum"):
        decode(made[:-1] + bytes([made[-1] ^ 1]))
    with pytest.raises(ProxyHeaderError, match="checksum"):
        decode(V2 + b"\x21\x00\x00\x05" + b"\x03\x00\x02xx")


def test_the_checksum_is_the_registered_one() -> None:
    assert crc32c(b"123456789") == 0xE3069283


def test_padding_is_left_out_and_unknown_tlvs_are_kept() -> None:
    tlvs = b"\x04\x00\x03abc" + b"\xee\x00\x01x" + b"\x02\x00\x04shop"
    decoded = decode(V2 + b"\x21\x00" + len(tlvs).to_bytes(2, "big") + tlvs)
    assert decoded is not None
    assert decoded[0].tlvs == ((0xEE, b"x"), (2, b"shop"))


def test_what_a_local_header_says_is_discarded() -> None:
    made = bytearray(encode(ProxyHeader(("10.0.0.7", 5), ("10.0.0.1", 6)), "v2"))
    made[12] = 0x20
    assert decode(bytes(made)) == (LOCAL, len(made))


@pytest.mark.parametrize("version", ["v1", "v2"])
def test_addresses_of_both_families_are_written_as_ipv6(version: ProxyVersion) -> None:
    decoded = decode(encode(ProxyHeader(("10.0.0.7", 5), ("::1", 6)), version))
    assert decoded is not None
    source = decoded[0].source
    assert isinstance(source, tuple)
    told = ip_address(source[0])
    assert isinstance(told, IPv6Address)
    assert (told.ipv4_mapped, source[1]) == (IPv4Address("10.0.0.7"), 5)


@pytest.mark.parametrize(
    "header", [LOCAL, ProxyHeader(b"/a", b"/b"), ProxyHeader(("::1", 1), ("::2", 2), (), True)]
)
def test_version_1_tells_of_tcp_clients_only(header: ProxyHeader) -> None:
    assert encode(header, "v1") == b"PROXY UNKNOWN\r\n"


@pytest.mark.parametrize(
    ("source", "destination", "tlvs"),
    [
        (("10.0.0.7", 5), None, ()),
        (("10.0.0.7", 5), b"/path", ()),
        (("shop.example", 5), ("10.0.0.1", 6), ()),
        (("fe80::1%eth0", 5), ("::1", 6), ()),
        (("10.0.0.7", 65536), ("10.0.0.1", 6), ()),
        (b"/" * 109, b"/", ()),
        (None, None, ((256, b""),)),
        (None, None, ((1, bytes(65536)),)),
    ],
)
def test_what_no_header_can_say_is_refused(
    source: object, destination: object, tlvs: object
) -> None:
    with pytest.raises(ValueError, match=r"."):
        ProxyHeader(source, destination, tlvs)


def test_too_many_tlvs_are_refused() -> None:
    with pytest.raises(ValueError, match="too long"):
        encode(ProxyHeader(tlvs=((1, bytes(40000)), (1, bytes(40000)))), "v2")
