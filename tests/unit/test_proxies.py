"""Behind trusted proxies the client counts that the last of them saw; what clients write themselves does not."""

from __future__ import annotations

import pytest

from ingress.proxies import Proxies
from pipeline import settings
from pipeline.errors import ConfigError

OURS = Proxies("10.0.0.0/8, 192.0.2.1 ,2001:db8:1::/48")


@pytest.mark.parametrize(
    ("peer", "trusted"),
    [
        (("10.1.2.3", 1), True),
        (("::ffff:10.1.2.3", 1, 0, 0), True),
        (("192.0.2.1", 1), True),
        (("2001:db8:1::9", 1, 0, 0), True),
        (("192.0.2.2", 1), False),
        (("", 0), False),
        ("", False),
        (None, False),
    ],
)
def test_a_proxy_is_known_by_the_address_of_its_connection(peer: object, trusted: bool) -> None:
    assert OURS.trusts(peer) is trusted
    assert not Proxies("").trusts(peer)


@pytest.mark.parametrize(
    ("headers", "source"),
    [
        (["203.0.113.9"], "203.0.113.9"),
        (["198.51.100.1, 203.0.113.9"], "203.0.113.9"),
        (["198.51.100.1", "203.0.113.9"], "203.0.113.9"),
        (["203.0.113.9, 10.0.0.2, 192.0.2.1"], "203.0.113.9"),
        (["203.0.113.9:4711"], "203.0.113.9"),
        (["[2001:db8:9:8:7::1]:4711"], "2001:db8:9:8::"),
        (["2001:db8:9:8:7::1"], "2001:db8:9:8::"),
        (["203.0.113.9,, "], "203.0.113.9"),
        (["203.0.113.9, unknown"], "unknown"),
        (["x" * 1000], "x" * 64),
        (["10.0.0.2, 10.0.0.3"], None),
        ([""], None),
        ([], None),
    ],
)
def test_the_client_is_the_rightmost_hop_that_is_no_proxy_of_ours(headers: list[str], source: str | None) -> None:
    assert OURS.source(headers) == source


@pytest.mark.parametrize(
    "text", ["nginx", "10.0.0.1/8", "10.0.0.0/33", "256.1.1.1", "0.0.0.0/0", "::/0", "10.0.0.1;", "10.0.0.1,::/0"]
)
def test_what_names_no_proxy_or_everybody_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match=r"^INGRESS_TRUSTED_PROXIES is .*: expected "):
        settings.load({"INGRESS_TRUSTED_PROXIES": text})
