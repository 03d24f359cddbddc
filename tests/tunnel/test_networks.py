"""A list of networks."""

from __future__ import annotations

from ipaddress import IPv6Address, ip_network

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from kolus.tunnel import Networks


@pytest.mark.parametrize(
    ("networks", "host", "is_in"),
    [
        (["10.0.0.0/8"], "10.255.0.1", True),
        (["10.0.0.0/8"], "11.0.0.1", False),
        (["10.0.0.7"], "10.0.0.7", True),
        (["10.0.0.7"], "10.0.0.8", False),
        (["2001:db8::/32"], "2001:db8::5", True),
        (["2001:db8::/32"], "10.0.0.7", False),
        (["10.0.0.0/8"], "::ffff:10.0.0.7", True),
        (["::ffff:10.0.0.0/104"], "10.0.0.7", True),
        (["::/0"], "10.0.0.7", False),
        (["fe80::/10"], "fe80::1%eth0", True),
        (["0.0.0.0/0"], "::1", False),
        (["unix"], None, True),
        (["10.0.0.0/8"], None, False),
        (["unix"], "10.0.0.7", False),
        ([], "10.0.0.7", False),
    ],
)
def test_an_address_is_in_a_network_or_not(
    networks: list[str], host: str | None, is_in: bool
) -> None:
    assert (host in Networks(networks)) is is_in


@given(st.ip_addresses(), st.integers(0, 32))
def test_every_address_is_in_the_networks_around_it(address: object, bits: int) -> None:
    assume(not (isinstance(address, IPv6Address) and address.ipv4_mapped))
    network = ip_network(f"{address}/{bits}", strict=False)
    assert str(address) in Networks([str(network)])


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ("10.0.0.7/8", "did you mean '10.0.0.0/8'?"),
        ("10.0.0", "not a network: '10.0.0'; expected for example '10.0.0.0/8'"),
        ("example.com", "not a network: 'example.com'"),
        (7, "not a network: 7"),
    ],
)
def test_what_is_no_network_is_refused_with_what_to_write(wrong: str, message: str) -> None:
    with pytest.raises(ValueError, match=message.replace("?", r"\?")):
        Networks([wrong])


def test_an_empty_list_is_false() -> None:
    assert not Networks([])
    assert Networks(["unix"])
    assert Networks(["::1"])
