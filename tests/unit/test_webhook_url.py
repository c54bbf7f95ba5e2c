"""Which webhook targets are called: a table of spellings and addresses."""

from __future__ import annotations

from contextlib import suppress
from ipaddress import ip_address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from a2a_events import limits
from a2a_events.runtime.webhook_url import Target, TargetRefused, check_address, target

ACCEPTED = {
    "https://example.com/hook": Target("https", "example.com", 443, "/hook"),
    "https://example.com": Target("https", "example.com", 443, "/"),
    "http://example.com/": Target("http", "example.com", 80, "/"),
    "HTTPS://Example.COM./a?b=c&d": Target("https", "example.com", 443, "/a?b=c&d"),
    "https://example.com:8443/h#part": Target("https", "example.com", 8443, "/h"),
    "http://example.com:443/": Target("http", "example.com", 443, "/"),
    "https://xn--bcher-kva.example/": Target("https", "xn--bcher-kva.example", 443, "/"),
    "https://a_b.example.com/": Target("https", "a_b.example.com", 443, "/"),
    "https://internal.example.com:9443/": Target("https", "internal.example.com", 9443, "/"),
    "https://1and1.com/": Target("https", "1and1.com", 443, "/"),
    "https://127.0.0.1.nip.io/": Target("https", "127.0.0.1.nip.io", 443, "/"),  # its address is checked later
    "https://8.8.8.8/": Target("https", "8.8.8.8", 443, "/"),
    "https://[2606:4700::1111]:8443/": Target("https", "2606:4700::1111", 8443, "/"),
    "https://[::ffff:8.8.8.8]/": Target("https", "::ffff:8.8.8.8", 443, "/"),
    "https://[2002:808:808::]/": Target("https", "2002:808:808::", 443, "/"),
    "https://[64:ff9b::808:808]/": Target("https", "64:ff9b::808:808", 443, "/"),
}


@pytest.mark.parametrize(("url", "expected"), ACCEPTED.items())
def test_a_target_on_the_internet_is_accepted(url: str, expected: Target) -> None:
    assert expected == target(url)


MALFORMED = [
    "",
    "example.com",
    "//example.com/",
    "https:///hook",
    "https://",
    "https:example.com",
    "https://exa mple.com/",
    "https://example.com/a b",
    "https://example.com\\@127.0.0.1/",
    "https://example.com/\r\nHost: x",
    "https://example.com\t/",
    "https://ex%61mple.com/",
    "https://bücher.example/",
    "https://１２７.0.0.1/",
    "https://example。com/",
    "https://-a.example.com/",
    "https://a..example.com/",
    "https://.example.com/",
    "https://[::1/",
    "https://[example.com]/",
    "https://[v1.x]/",
    "https://example.com:port/",
    "https://example.com:99999/",
    "https://example.com:0/",
    "https://example.com:-1/",
    "https://" + "a." * 130 + "com/",
    "https://example.com/" + "x" * limits.WEBHOOK_URL_CHARACTERS,
]
OTHER_PROTOCOLS = [
    "ftp://example.com/",
    "file:///etc/passwd",
    "gopher://example.com/",
    "javascript:alert(1)",
    "ws://example.com/",
    "https://example.com:22/",
    "http://example.com:25/",
    "http://example.com:53/",
    "http://example.com:4222/",
    "http://example.com:6379/",
    "https://user@example.com/",
    "https://user:password@example.com/",
    "https://@example.com/",
]
ODD_SPELLINGS = [
    "http://2130706433/",
    "http://017700000001/",
    "http://0x7f000001/",
    "http://0x7f.1/",
    "http://0177.0.0.1/",
    "http://127.1/",
    "http://127.0.1/",
    "http://127.0.0.01/",
    "http://example.0x/",
    "http://1.2.3.4.5/",
    "http://256.1.1.1/",
    "http://134744072/",  # 8.8.8.8: nobody means well with it
    "http://[fe80::1%25eth0]/",
    "http://[fe80::1%eth0]/",
]
PRIVATE = [
    "http://localhost/",
    "http://LOCALHOST:8080/",
    "http://localhost./",
    "http://hooks.localhost/",
    "http://redis/",
    "http://metadata.google.internal/",
    "http://kubernetes.default.svc./",
    "http://kubernetes.default.svc.cluster.local/",
    "http://router.home.arpa/",
    "http://127.0.0.1:9000/",
    "http://127.0.0.1./",
    "http://127.255.255.254/",
    "http://10.0.0.1/",
    "http://172.16.0.1/",
    "http://172.31.255.255/",
    "http://192.168.1.1/",
    "http://100.64.0.1/",
    "http://100.127.255.255/",
    "http://[::1]/",
    "http://[fc00::1]/",
    "http://[fdff::1]/",
    "http://[::ffff:127.0.0.1]/",
    "http://[::ffff:7f00:1]/",
    "http://[::ffff:10.1.2.3]/",
    "http://[2002:7f00:1::]/",
    "http://[2002:c0a8:101::1]/",
    "http://[64:ff9b::127.0.0.1]/",
    "http://[64:ff9b::a00:1]/",
]
NEVER = [
    "http://0.0.0.0/",
    "http://0.1.2.3/",
    "http://169.254.169.254/latest/meta-data/",
    "http://169.254.0.1/",
    "http://192.0.0.1/",
    "http://192.0.2.1/",
    "http://198.18.0.1/",
    "http://198.51.100.1/",
    "http://203.0.113.1/",
    "http://224.0.0.1/",
    "http://239.255.255.255/",
    "http://240.0.0.1/",
    "http://255.255.255.255/",
    "http://[::]/",
    "http://[::127.0.0.1]/",
    "http://[fe80::1]/",
    "http://[fec0::1]/",
    "http://[ff02::1]/",
    "http://[64:ff9b:1::1]/",
    "http://[100::1]/",
    "http://[2001::1]/",
    "http://[2001:db8::1]/",
    "http://[3fff::1]/",
    "http://[::ffff:169.254.169.254]/",
    "http://[2002:a9fe:a9fe::]/",
    "http://[64:ff9b::169.254.169.254]/",
    "http://[::ffff:0:127.0.0.1]/",
]


@pytest.mark.parametrize("url", [*MALFORMED, *OTHER_PROTOCOLS, *ODD_SPELLINGS, *PRIVATE, *NEVER])
def test_any_other_target_is_refused(url: str) -> None:
    with pytest.raises(TargetRefused) as refused:
        target(url)
    assert url not in str(refused.value) or not url


@pytest.mark.parametrize("url", [*PRIVATE, "https://example.com:22/", "http://example.com:6379/"])
def test_a_private_target_is_accepted_where_the_operator_allows_it(url: str) -> None:
    assert target(url, allow_private=True).scheme in url.lower()


@pytest.mark.parametrize("url", [*MALFORMED, *ODD_SPELLINGS, *NEVER])
def test_what_is_no_target_anywhere_is_refused_even_there(url: str) -> None:
    with pytest.raises(TargetRefused):
        target(url, allow_private=True)


@pytest.mark.parametrize(
    ("url", "origin", "authority"),
    [
        ("https://example.com/a", "https://example.com", "example.com"),
        ("https://example.com:443/a", "https://example.com", "example.com"),
        ("https://example.com:8443", "https://example.com:8443", "example.com:8443"),
        ("http://[2606:4700::1111]:8080/", "http://[2606:4700::1111]:8080", "[2606:4700::1111]:8080"),
    ],
)
def test_origin_and_authority_are_as_clients_write_them(url: str, origin: str, authority: str) -> None:
    assert (origin, authority) == (target(url).origin, target(url).authority)


@given(st.ip_addresses())
def test_an_address_is_called_only_if_python_too_takes_it_for_a_global_one(address: object) -> None:
    """A second opinion: Python's own table, which knows no NAT64 and sees no addresses in others."""
    checked = ip_address(str(address))
    try:
        check_address(checked)
    except TargetRefused:
        return
    embedded = checked.version == 6 and (checked.ipv4_mapped or checked.sixtofour or str(checked).startswith("64:ff9b"))
    assert embedded or checked.is_global


@given(st.text())
def test_whatever_a_client_writes_is_a_target_or_refused(url: str) -> None:
    with suppress(TargetRefused):
        assert target(url).port > 0
