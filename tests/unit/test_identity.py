"""Who is let in, method by method, and what the gate makes of it."""

from __future__ import annotations

import asyncio
import hmac
import ipaddress
import json
import logging
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec
import pytest
import structlog
from cryptography.hazmat.primitives.asymmetric import rsa
from jwt.algorithms import RSAAlgorithm

from a2a_events import audit, limits
from a2a_events.bindings.caps.buckets import Rate
from a2a_events.bindings.caps.budget import Allowance
from a2a_events.bindings.caps.caps import Caps
from a2a_events.bindings.exchange import Exchange, Intake
from a2a_events.bindings.identity import jwks
from a2a_events.bindings.identity.access import SCOPES, Access
from a2a_events.bindings.identity.api_keys import ApiKeys, Key, KeyFileDamaged, new_key, written
from a2a_events.bindings.identity.port import EVERYTHING, Identified, NotAuthenticated, Presented, Scope, is_name
from a2a_events.bindings.identity.proxy import Proxies, Proxy, ProxyHeaders
from a2a_events.bindings.identity.revocations import Revocations, RevocationsDamaged
from a2a_events.bindings.identity.several import Several
from a2a_events.bindings.methods import STREAMING, UNARY
from a2a_events.errors import PermissionDeniedError, TooManyRequestsError, UnavailableError
from a2a_events.metrics.catalog import AUTH_FAILURES
from a2a_events.services import identity
from a2a_events.settings import Settings, SettingsError

INSIDE, OUTSIDE = "10.0.0.7", "192.0.2.1"
OURS = Proxies([ipaddress.ip_network("10.0.0.0/8"), ipaddress.ip_network("fd00::/8")])


def shown(*headers: tuple[str, str], address: str = OUTSIDE) -> Presented:
    return Presented(lambda name: [value for key, value in headers if key == name], address)


def alice(**members: Any) -> Identified:
    made: dict[str, Any] = {"subject": "alice", "tenant": "acme", "scopes": EVERYTHING, "method": "api_key", **members}
    return Identified(**made)


def kept(folder: Path, *lines: Key) -> Path:
    """A file with these keys."""
    path = folder / "keys"
    path.write_bytes(written(lines))
    return path


async def refused(method: Any, *headers: tuple[str, str], address: str = OUTSIDE) -> NotAuthenticated:
    with pytest.raises(NotAuthenticated) as raised:
        await method.authenticate(shown(*headers, address=address))
    return raised.value


@pytest.fixture
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Files are looked at whenever somebody asks."""
    monkeypatch.setattr(limits, "FILE_FRESH_SECONDS", 0.0)


# --- the gate ---------------------------------------------------------------------------------------------------------


def test_every_operation_needs_a_scope() -> None:
    assert set(SCOPES) == {*UNARY, *STREAMING, "Timeline"}


def test_an_operation_that_nobody_has_named_is_allowed_to_nobody() -> None:
    with pytest.raises(PermissionDeniedError):
        Access().permit(alice(), "DeleteEverything", binding="JSONRPC", address="")


@pytest.mark.parametrize("operation", SCOPES)
def test_a_scope_allows_what_it_names_and_nothing_else(operation: str) -> None:
    access = Access()
    for scope in Scope:
        who = alice(scopes=frozenset({scope}))
        if SCOPES[operation] is scope:
            access.permit(who, operation, binding="JSONRPC", address="")
            continue
        with pytest.raises(PermissionDeniedError):
            access.permit(who, operation, binding="JSONRPC", address="")


@pytest.mark.parametrize("operation", SCOPES)
def test_a_gateway_of_one_tenant_allows_nothing_to_another_s_callers(operation: str) -> None:
    access = Access(only_tenant="acme")
    everything = frozenset(Scope)
    access.permit(alice(scopes=everything), operation, binding="JSONRPC", address="")
    for tenant in ("globex", "Acme", "", None):
        with pytest.raises(PermissionDeniedError):
            access.permit(alice(tenant=tenant, scopes=everything), operation, binding="JSONRPC", address="")


def test_the_tenant_is_the_credential_s_whatever_the_request_says() -> None:
    access, more = Access(), {"operation": "GetTask", "binding": "JSONRPC", "address": ""}
    assert access.tenant(alice(), "", **more) == "acme"
    assert access.tenant(alice(), "acme", **more) == "acme"
    for other in ("evil", "Acme", "acme ", "*"):
        with pytest.raises(PermissionDeniedError):
            access.tenant(alice(), other, **more)
    assert access.tenant(alice(tenant=""), "", **more) == ""
    with pytest.raises(PermissionDeniedError):
        access.tenant(alice(tenant=""), "acme", **more)
    assert access.tenant(alice(tenant=None), "whatever", **more) == "whatever"


async def test_what_has_expired_is_not_let_in_and_does_not_hold(tmp_path: Path) -> None:
    now = time.time()
    key, line = new_key("ci", expires=int(now) + 60)
    (tmp_path / "keys").write_bytes(written([line]))
    clock = [now]
    access = Access(ApiKeys(tmp_path / "keys"), now=lambda: clock[0])
    who = await access.enter(shown(("x-api-key", key)), "JSONRPC")
    assert access.holds(who)
    clock[0] = now + 61
    assert not access.holds(who)
    before = AUTH_FAILURES.value("expired")
    with pytest.raises(NotAuthenticated) as raised:
        await access.enter(shown(("x-api-key", key)), "JSONRPC")
    assert raised.value.why == "expired"
    assert raised.value.challenges == tuple(ApiKeys.challenges)
    assert AUTH_FAILURES.value("expired") == before + 1


# --- API keys ---------------------------------------------------------------------------------------------------------


async def test_two_keys_of_one_subject_hold_side_by_side(tmp_path: Path) -> None:
    (old, first), (new, second) = new_key("ci", tenant="acme"), new_key("ci", tenant="acme")
    (tmp_path / "keys").write_bytes(b"# people\n\n" + written([first, second]))
    keys = ApiKeys(tmp_path / "keys")
    found = [await keys.authenticate(shown(("x-api-key", key))) for key in (old, new)]
    assert {(who.subject, who.tenant, who.scopes) for who in found} == {
        ("ci", "acme", frozenset({Scope.READ, Scope.WRITE}))
    }
    assert [who.credential for who in found] == [first.id, second.id]


def test_the_file_holds_no_key(tmp_path: Path) -> None:
    key, line = new_key("ci")
    assert key.partition(".")[2] not in written([line]).decode()


async def test_a_key_that_is_not_known_costs_the_same_comparison(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    key, line = new_key("ci")
    (tmp_path / "keys").write_bytes(written([line]))
    keys, compared, real = ApiKeys(tmp_path / "keys"), list[int](), hmac.compare_digest

    def compare(given: str, known: str) -> bool:
        compared.append(len(given) + len(known))
        return real(given, known)

    monkeypatch.setattr(hmac, "compare_digest", compare)
    stranger = new_key("ci")[0]
    await keys.authenticate(shown(("x-api-key", key)))
    assert (await refused(keys, ("x-api-key", stranger))).why == "invalid"
    assert (await refused(keys, ("x-api-key", key[:-4] + "AAAA"))).why == "invalid"
    assert len(compared) == 3
    assert len(set(compared)) == 1


@pytest.mark.parametrize(
    "given", ["", "secret", "a2ak_aaaaaaaaaaaa", "a2ak_aaaaaaaaaaaa." + "A" * 44, "Bearer a2ak_x.y", "\x00"]
)
async def test_what_is_no_key_is_refused(tmp_path: Path, given: str) -> None:
    (tmp_path / "keys").write_bytes(b"")
    await refused(ApiKeys(tmp_path / "keys"), ("x-api-key", given))


async def test_two_headers_with_keys_are_refused(tmp_path: Path) -> None:
    key, line = new_key("ci")
    (tmp_path / "keys").write_bytes(written([line]))
    await refused(ApiKeys(tmp_path / "keys"), ("x-api-key", key), ("x-api-key", key))


@pytest.mark.usefixtures("at_once")
async def test_a_key_that_is_taken_out_of_the_file_is_one_no_more(tmp_path: Path) -> None:
    (gone, first), (stays, second) = new_key("ci"), new_key("cd")
    path = kept(tmp_path, first, second)
    keys = ApiKeys(path)
    who = await keys.authenticate(shown(("x-api-key", gone)))
    assert keys.holds(who)
    path.write_bytes(written([second]))
    assert not keys.holds(who)
    assert (await refused(keys, ("x-api-key", gone))).why == "invalid"
    await keys.authenticate(shown(("x-api-key", stays)))


@pytest.mark.usefixtures("at_once")
async def test_a_key_that_may_less_now_does_not_hold_for_who_was_let_in_before(tmp_path: Path) -> None:
    key, line = new_key("ci")
    path = kept(tmp_path, line)
    keys = ApiKeys(path)
    who = await keys.authenticate(shown(("x-api-key", key)))
    path.write_bytes(written([msgspec.structs.replace(line, scopes=(Scope.READ,))]))
    assert not keys.holds(who)


@pytest.mark.usefixtures("at_once")
@pytest.mark.parametrize("damage", [b"{", b"nonsense\n", b'{"id":"x"}\n', None])
async def test_a_slip_in_the_file_changes_nothing(tmp_path: Path, damage: bytes | None) -> None:
    key, line = new_key("ci")
    path = kept(tmp_path, line)
    keys = ApiKeys(path)
    if damage is None:
        path.unlink()
    else:
        path.write_bytes(damage)
    await keys.authenticate(shown(("x-api-key", key)))


@pytest.mark.usefixtures("at_once")
async def test_a_file_that_changes_while_it_is_read_is_read_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was read of one that is being written may be its first half."""
    (first, one), (second, two) = new_key("alice"), new_key("bob")
    path, whole = tmp_path / "keys", written([one, two])
    path.write_bytes(written([one]))
    keys, real = ApiKeys(path), Path.read_bytes

    def while_it_is_written(file: Path) -> bytes:
        found = real(file)
        file.write_bytes(whole)
        return found

    path.write_bytes(written([two]))
    with monkeypatch.context() as patch:
        patch.setattr(Path, "read_bytes", while_it_is_written)
        await keys.authenticate(shown(("x-api-key", first)))
    for key in (first, second):
        await keys.authenticate(shown(("x-api-key", key)))


@pytest.mark.usefixtures("at_once")
async def test_a_file_that_is_empty_for_a_moment_is_being_written(tmp_path: Path) -> None:
    key, line = new_key("alice")
    path = kept(tmp_path, line)
    keys = ApiKeys(path)
    for _ in range(2):
        path.write_bytes(b"")
        await keys.authenticate(shown(("x-api-key", key)))
        path.write_bytes(written([line]))
        await keys.authenticate(shown(("x-api-key", key)))
    path.write_bytes(b" \n")
    await keys.authenticate(shown(("x-api-key", key)))
    assert (await refused(keys, ("x-api-key", key))).why == "invalid", "it is empty for good"


@pytest.mark.parametrize(
    "line",
    [
        b"{}",
        b'{"id":"a","hash":"sha256:00","subject":"x"}',
        b'{"id":"a","hash":"sha256:%b","subject":""}' % (b"0" * 64),
        b'{"id":"a","hash":"sha256:%b","subject":"x "}' % (b"0" * 64),
        b'{"id":"a","hash":"sha256:%b","subject":"x","tenant":"a\\u0000"}' % (b"0" * 64),
        b'{"id":"a","hash":"sha256:%b","subject":"u\\u0308"}' % (b"0" * 64),
        b'{"id":"a","hash":"sha256:%b","subject":"x","scopes":["root"]}' % (b"0" * 64),
        b'{"id":"a","hash":"sha256:%b","subject":"x","tenants":"acme"}' % (b"0" * 64),
        b"\xff",
    ],
)
def test_a_line_that_is_no_key_is_an_error_that_names_it(tmp_path: Path, line: bytes) -> None:
    (tmp_path / "keys").write_bytes(b"# first\n" + line)
    with pytest.raises(KeyFileDamaged, match="line 2"):
        ApiKeys(tmp_path / "keys")


# --- the keys of an issuer --------------------------------------------------------------------------------------------


class Served:
    """A JWKS, how often it was asked for, and a clock."""

    def __init__(self, *kids: str) -> None:
        self.kids = list(kids)
        self.asked = 0
        self.now = 1000.0
        self.away = False
        self.hold: asyncio.Event | None = None
        self.keys = jwks.Jwks(self.fetch, now=lambda: self.now)

    async def fetch(self) -> bytes:
        self.asked += 1
        if self.hold is not None:
            await self.hold.wait()
        if self.away:
            raise OSError("no route")
        return json.dumps({"keys": [{**PUBLIC, "kid": kid} for kid in self.kids]}).encode()


PRIVATE = rsa.generate_private_key(public_exponent=65537, key_size=2048)
PUBLIC = RSAAlgorithm.to_jwk(PRIVATE.public_key(), as_dict=True)


async def test_keys_are_asked_for_once_and_kept() -> None:
    served = Served("a", "b")
    assert await served.keys.find("a")
    assert await served.keys.find("b")
    served.now += limits.JWKS_FRESH_SECONDS - 1
    assert await served.keys.find("a")
    assert served.asked == 1


async def test_many_who_need_a_key_at_once_make_one_question() -> None:
    served = Served("a")
    served.hold = asyncio.Event()
    waiting = [asyncio.create_task(served.keys.find(kid)) for kid in ("a", "x", "a", "y") * 50]
    await asyncio.sleep(0)
    served.hold.set()
    found = await asyncio.gather(*waiting)
    assert served.asked == 1
    assert [key is not None for key in found] == [True, False, True, False] * 50


async def test_unknown_keys_make_a_question_once_in_a_while() -> None:
    served = Served("a")
    await served.keys.find("a")
    for number in range(100):
        assert await served.keys.find(f"x{number}") is None
    assert served.asked == 1, "the keys were read just now"
    served.now += limits.JWKS_FLOOR_SECONDS
    served.kids.append("new")
    for number in range(100):
        assert await served.keys.find(f"y{number}") is None
    assert served.asked == 2
    assert await served.keys.find("new"), "what came with that question"


async def test_an_issuer_that_is_away_is_not_needed_for_a_day() -> None:
    served = Served("a")
    await served.keys.find("a")
    served.away = True
    served.now += limits.JWKS_FRESH_SECONDS + 1
    assert await served.keys.find("a"), "at once: the question is asked beside"
    await asyncio.sleep(0.01)
    assert served.asked == 2
    served.now += limits.JWKS_STALE_SECONDS
    with pytest.raises(UnavailableError):
        await served.keys.find("a")
    served.away = False
    served.now += limits.JWKS_FLOOR_SECONDS
    assert await served.keys.find("a")


async def test_an_issuer_that_never_answered_is_not_hammered() -> None:
    served = Served("a")
    served.away = True
    for _ in range(10):
        with pytest.raises(UnavailableError):
            await served.keys.find("a")
    assert served.asked == 1
    served.away = False
    served.now += limits.JWKS_RETRY_SECONDS
    assert await served.keys.find("a")


async def test_a_key_that_is_withdrawn_holds_nobody() -> None:
    served = Served("a", "b")
    await served.keys.find("a")
    served.kids = ["b"]
    served.now += limits.JWKS_FRESH_SECONDS + 1
    assert served.keys.has("a"), "until the issuer has said so"
    await asyncio.sleep(0.01)
    assert not served.keys.has("a")
    assert served.keys.has("b")


def test_keys_that_cannot_vouch_are_left_out() -> None:
    weak = rsa.generate_private_key(public_exponent=65537, key_size=1024)  # noqa: S505 -- that is the point
    small = RSAAlgorithm.to_jwk(weak.public_key(), as_dict=True)
    secret = {"kty": "oct", "k": "c2VjcmV0LXNlY3JldC1zZWNyZXQtc2VjcmV0LXNlY3JldA", "alg": "HS256"}
    private = RSAAlgorithm.to_jwk(PRIVATE, as_dict=True)
    listed = [
        {**PUBLIC, "kid": "good"},
        {**PUBLIC, "kid": "for-encryption", "use": "enc"},
        {**secret, "kid": "symmetric"},
        {**small, "kid": "small"},
        {**private, "kid": "private"},
        {"kty": "RSA", "kid": "broken", "n": "!", "e": "?"},
        {"kty": "XYZ", "kid": "unknown"},
        {**PUBLIC},
        {**PUBLIC, "kid": ["a"]},
        {**PUBLIC, "kid": {"a": 1}},
        {**PUBLIC, "kid": 7},
        {**PUBLIC, "kid": "odd", "alg": ["RS256"]},
        {**PUBLIC, "kid": "odder", "n": 7},
        {**PUBLIC, "kid": "oddest", "kty": ["RSA"]},
        {"kty": "EC", "kid": "nowhere", "crv": ["P-256"], "x": "AA", "y": "AA"},
        {"kty": "OKP", "kid": "empty", "crv": "Ed25519", "x": {}},
        "nothing",
    ]
    assert set(jwks.parse(json.dumps({"keys": listed}).encode())) == {"good"}


@pytest.mark.parametrize("content", [b"", b"[]", b"{}", b'{"keys":{}}', b"<html>", b" " * (limits.JWKS_BYTES + 1)])
def test_what_is_no_jwks_is_refused(content: bytes) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 -- whatever the reader says
        jwks.parse(content)


# --- proxies ----------------------------------------------------------------------------------------------------------

XFCC = "x-forwarded-client-cert"


async def test_a_certificate_counts_from_a_trusted_proxy_only() -> None:
    proxy = Proxy(OURS, ProxyHeaders())
    given = (XFCC, 'By=spiffe://mesh/gateway;Hash=ab12;Subject="CN=x,O=\\"y;URI=spiffe://evil\\"";URI=spiffe://mesh/ci')
    who = await proxy.authenticate(shown(given, address=INSIDE))
    assert (who.subject, who.tenant, who.scopes) == ("spiffe://mesh/ci", "", frozenset({Scope.READ, Scope.WRITE}))
    assert (await refused(proxy, given, address=OUTSIDE)).why == "missing"
    assert (await refused(proxy, address=INSIDE)).why == "missing"


@pytest.mark.parametrize(
    "given",
    [
        "URI=spiffe://mesh/a,URI=spiffe://mesh/b",
        "URI=spiffe://mesh/a;URI=spiffe://mesh/b",
        'Hash=1,Subject="";URI=spiffe://mesh/a',
        'Subject="CN=a;URI=spiffe://mesh/a"',
        'Subject="CN=a',
        "URI=",
        "nothing",
        "URI=spiffe://mesh/" + "a" * 600,
    ],
)
async def test_a_certificate_header_that_leaves_a_doubt_is_refused(given: str) -> None:
    assert (await refused(Proxy(OURS, ProxyHeaders()), (XFCC, given), address=INSIDE)).why == "invalid"


async def test_a_proxy_s_headers_name_subject_tenant_and_scopes() -> None:
    proxy = Proxy(OURS, ProxyHeaders("x-user", "x-tenant", "x-scopes"))
    headers = [("x-user", "alice"), ("x-tenant", "acme"), ("x-scopes", "read, admin")]
    who = await proxy.authenticate(shown(*headers, address="fd00::1"))
    assert (who.subject, who.tenant, who.scopes) == ("alice", "acme", frozenset({Scope.READ, Scope.ADMIN}))
    assert (await refused(proxy, *headers[:1], headers[2], address=INSIDE)).why == "invalid", "without its tenant"
    assert (await refused(proxy, *headers, ("x-tenant", "evil"), address=INSIDE)).why == "invalid"
    nothing = await proxy.authenticate(shown(*headers[:2], address=INSIDE))
    assert nothing.scopes == frozenset()


NO_NAMES = [
    "",
    "ju\u0308rgen",
    " alice",
    "alice\u00a0",
    "alice\nbob",
    "alice\u2028bob",
    "alice\x00",
    "\x85alice",
    "\ud800",
]


@pytest.mark.parametrize("name", [*NO_NAMES[:2], *NO_NAMES[3:]])
async def test_a_name_that_could_be_written_in_two_ways_is_no_proxy_s_word(name: str) -> None:
    proxy = Proxy(OURS, ProxyHeaders("x-user", "x-tenant"))
    for headers in ([("x-user", name), ("x-tenant", "acme")], [("x-user", "alice"), ("x-tenant", name)]):
        await refused(proxy, *headers, address=INSIDE)


def test_headers_are_read_as_what_proxies_write() -> None:
    """UTF-8; what is not is no name, and no other one either."""
    headers = [(b"x-user", "jürgen".encode()), (b"x-old", "jürgen".encode("latin-1"))]
    scope: Any = {"type": "http", "headers": headers, "client": (INSIDE, 1)}
    nothing: Any = None
    presented = Exchange(scope, nothing, nothing, Intake()).presented
    assert presented.one("x-user") == "jürgen"
    assert not is_name(presented.one("x-old"))


async def test_a_name_in_utf_8_is_revoked_by_a_line_in_utf_8(tmp_path: Path) -> None:
    (tmp_path / "revoked").write_text("subject jürgen\r\nsubject two words\n", encoding="utf-8")
    revoked = Revocations(tmp_path / "revoked")
    for name in ("jürgen", "two words"):
        assert revoked.cover(alice(subject=name))


@pytest.mark.parametrize(
    ("peer", "forwarded", "client"),
    [
        (OUTSIDE, [], OUTSIDE),
        (OUTSIDE, ["198.51.100.9"], OUTSIDE),
        (INSIDE, ["198.51.100.9"], "198.51.100.9"),
        (INSIDE, ["203.0.113.5, 198.51.100.9"], "198.51.100.9"),
        (INSIDE, ["203.0.113.5, 198.51.100.9", "10.1.1.1"], "198.51.100.9"),
        ("::ffff:10.0.0.7", ["198.51.100.9"], "198.51.100.9"),
        (INSIDE, [], INSIDE),
        (INSIDE, ["198.51.100.9:1000"], "198.51.100.9"),
        (INSIDE, ["[2001:db8::1]:443"], "2001:db8::1"),
        (INSIDE, ["[2001:db8::1]"], "2001:db8::1"),
        (INSIDE, ["2001:db8::1"], "2001:db8::1"),
        (INSIDE, ["fe80::1%eth0"], "fe80::1"),
        (INSIDE, ["203.0.113.5, 198.51.100.9:1, [fd00::7]:9, 10.1.1.1:2"], "198.51.100.9"),
        (INSIDE, ["x" * 500], INSIDE),
        (INSIDE, ["203.0.113.5, unknown"], INSIDE),
        (INSIDE, ["203.0.113.5, unknown, 10.1.1.1"], "10.1.1.1"),
        (INSIDE, ["198.51.100.9:", "198.51.100.9:x"], INSIDE),
        (INSIDE, [""], INSIDE),
        ("", ["198.51.100.9"], ""),
    ],
)
def test_whom_a_request_comes_from(peer: str, forwarded: Sequence[str], client: str) -> None:
    headers = [("x-forwarded-for", value) for value in forwarded]
    assert OURS.client(shown(*headers, address=peer)) == client


# --- together ---------------------------------------------------------------------------------------------------------


async def test_one_of_several_is_enough_and_two_are_too_many(tmp_path: Path) -> None:
    key, line = new_key("ci")
    (tmp_path / "keys").write_bytes(written([line]))
    proxy = Proxy(OURS, ProxyHeaders("x-user"))
    several = Several([ApiKeys(tmp_path / "keys"), proxy])
    by_key, by_proxy = ("x-api-key", key), ("x-user", "alice")
    who = [await several.authenticate(shown(one, address=INSIDE)) for one in (by_key, by_proxy)]
    assert [one.method for one in who] == ["api_key", "proxy"]
    assert all(several.holds(one) for one in who)
    assert (await refused(several, by_key, by_proxy, address=INSIDE)).why == "invalid"
    assert (await several.authenticate(shown(by_key, by_proxy))).method == "api_key", "what is not trusted is not there"
    assert (await refused(several)).why == "missing"
    assert set(several.schemes) == {"apiKey", "proxy"}


@pytest.mark.usefixtures("at_once")
@pytest.mark.parametrize("line", ["subject ci", "tenant acme", "credential {id}"])
async def test_who_is_revoked_is_let_in_no_more(tmp_path: Path, line: str) -> None:
    key, made = new_key("ci", tenant="acme")
    (tmp_path / "keys").write_bytes(written([made]))
    (tmp_path / "revoked").write_text("")
    access = Access(ApiKeys(tmp_path / "keys"), revocations=Revocations(tmp_path / "revoked"))
    who = await access.enter(shown(("x-api-key", key)), "JSONRPC")
    assert access.holds(who)
    (tmp_path / "revoked").write_text(f"# since yesterday\n{line.format(id=made.id)}\nsubject somebody else\n")
    assert not access.holds(who)
    with pytest.raises(NotAuthenticated) as raised:
        await access.enter(shown(("x-api-key", key)), "JSONRPC")
    assert raised.value.why == "revoked"


@pytest.mark.parametrize(
    "line",
    [
        *(b"ci", b"subject", b"subject ", b"person ci", b"subject \xff", b"subject j\xfcrgen"),
        *("subject ju\u0308rgen".encode(), "subject alice\u2028bob".encode(), "subject alice\u00a0".encode()),
    ],
)
def test_a_revocation_that_says_nothing_is_an_error(tmp_path: Path, line: bytes) -> None:
    (tmp_path / "revoked").write_bytes(line)
    with pytest.raises(RevocationsDamaged, match="line 1"):
        Revocations(tmp_path / "revoked")


# --- settings ---------------------------------------------------------------------------------------------------------


def test_a_gateway_that_asks_nobody_is_not_open_by_accident() -> None:
    for host in ("127.0.0.1", "::1", "localhost"):
        identity.access(Settings(host=host))
    for host in ("0.0.0.0", "::", "192.0.2.7", "gateway.example"):  # noqa: S104 -- refused
        with pytest.raises(SettingsError, match="ALLOW_ANONYMOUS"):
            identity.access(Settings(host=host))
        identity.access(Settings(host=host, allow_anonymous=True))


@pytest.mark.parametrize(
    ("settings", "names"),
    [
        (Settings(auth="password"), "AUTH="),
        (Settings(auth=""), "AUTH="),
        (Settings(auth="none,jwt"), "AUTH="),
        (Settings(auth="api_keys"), "AUTH_API_KEYS"),
        (Settings(auth="api_keys", auth_api_keys="/nowhere/at/all"), "AUTH_API_KEYS"),
        (Settings(auth="jwt"), "AUTH_JWT_ISSUER"),
        (Settings(auth="jwt", auth_jwt_issuer="https://i.test"), "AUTH_JWT_AUDIENCE"),
        (Settings(auth="jwt", auth_jwt_issuer="http://i.test", auth_jwt_audience="a"), "https"),
        (
            Settings(auth="jwt", auth_jwt_issuer="i", auth_jwt_audience="a", auth_jwt_keys="http://i.test/keys"),
            "AUTH_JWT_KEYS",
        ),
        (
            Settings(auth="jwt", auth_jwt_issuer="https://i", auth_jwt_audience="a", auth_jwt_algorithms="HS256"),
            "AUTH_JWT_ALGORITHMS",
        ),
        (
            Settings(auth="jwt", auth_jwt_issuer="https://i", auth_jwt_audience="a", auth_jwt_algorithms="none"),
            "AUTH_JWT_ALGORITHMS",
        ),
        (
            Settings(auth="jwt", auth_jwt_issuer="https://i", auth_jwt_audience="a", auth_jwt_scopes="root=all"),
            "AUTH_JWT_SCOPES",
        ),
        (Settings(auth="proxy"), "TRUSTED_PROXIES"),
        (Settings(auth="proxy", trusted_proxies="10.0.0.1/8"), "TRUSTED_PROXIES"),
        (Settings(auth="proxy", trusted_proxies="10.0.0.0/8", auth_proxy_headers="user=x"), "AUTH_PROXY_HEADERS"),
        (Settings(auth_revoked="/nowhere/at/all"), "AUTH_REVOKED"),
        (Settings(auth_tenant="acme"), "AUTH_TENANT"),
        (Settings(extended_card="acme=acme.json"), "EXTENDED_CARD"),
        (Settings(extended_card="all.json, acme=acme.json"), "EXTENDED_CARD"),
    ],
)
def test_what_is_missing_or_unsafe_is_named(settings: Settings, names: str) -> None:
    with pytest.raises(SettingsError, match=names):
        identity.access(settings)


def test_one_extended_card_for_everybody_needs_no_identity() -> None:
    identity.access(Settings(extended_card="all.json"))


def test_cards_say_what_is_enforced(tmp_path: Path) -> None:
    assert Access().security is None
    (tmp_path / "keys").write_bytes(b"")
    made = identity.access(
        Settings(auth="api_keys,proxy", auth_api_keys=str(tmp_path / "keys"), trusted_proxies="10.0.0.0/8, fd00::/8")
    ).security
    assert made is not None
    assert [list(one.schemes) for one in made.requirements] == [["apiKey"], ["mutualTls"]]
    assert made.schemes.keys() == {"apiKey", "mutualTls"}


# --- audit ------------------------------------------------------------------------------------------------------------


@pytest.fixture
def lines() -> list[dict[str, Any]]:
    """What is logged from now on, of what an operator wants to see who wants errors only."""
    audit._denials.clear()  # other tests were refused in this second, too
    audit._limited.clear()
    audit._over._at.clear()
    caught: list[dict[str, Any]] = []

    def keep(_logger: object, _method: str, event: Any) -> Any:
        caught.append(dict(event))
        raise structlog.DropEvent

    structlog.configure(
        processors=[keep],
        wrapper_class=structlog.make_filtering_bound_logger(logging.ERROR),
        cache_logger_on_first_use=False,
    )
    return caught


async def test_a_refusal_is_audited_without_the_credential(lines: list[dict[str, Any]], tmp_path: Path) -> None:
    (tmp_path / "keys").write_bytes(b"")
    access = Access(ApiKeys(tmp_path / "keys"), proxies=OURS)
    secret = new_key("ci")[0]
    with pytest.raises(NotAuthenticated):
        await access.enter(shown(("x-api-key", secret), ("x-forwarded-for", "198.51.100.9"), address=INSIDE), "JSONRPC")
    with pytest.raises(PermissionDeniedError):
        access.permit(alice(scopes=frozenset()), "SendMessage", binding="GRPC", address=OUTSIDE)
    refusal, denial = [line for line in lines if line["event"] == "audit"]
    assert (refusal["action"], refusal["reason"], refusal["address"]) == ("denied", "invalid", "198.51.100.9")
    assert (denial["reason"], denial["subject"], denial["tenant"]) == ("scope", "alice", "acme")
    assert denial["operation"] == "SendMessage"
    assert secret.partition(".")[2] not in str(lines)


async def test_a_refusal_names_the_key_that_was_tried(lines: list[dict[str, Any]], tmp_path: Path) -> None:
    secret, line = new_key("ci", tenant="acme")
    stranger, _ = new_key("ci")
    ended, past = new_key("old", expires=1)
    (tmp_path / "keys").write_bytes(written([line, past]))
    (tmp_path / "revoked").write_text("subject ci\n")
    access = Access(ApiKeys(tmp_path / "keys"), revocations=Revocations(tmp_path / "revoked"))
    wrong = secret.partition(".")[0] + stranger[stranger.index(".") :]
    for given in (stranger, wrong, "a2ak_" + "x" * 5000, ended, secret):
        with pytest.raises(NotAuthenticated):
            await access.enter(shown(("x-api-key", given), address=OUTSIDE), "JSONRPC")
    unknown, guessed, shapeless, expired, revoked = [each for each in lines if each["event"] == "audit"]
    assert (unknown["reason"], unknown["claimed"]) == ("invalid", stranger[5:17])
    assert (guessed["reason"], guessed["claimed"]) == ("invalid", line.id)
    assert "credential" not in guessed, "nobody has shown that they hold it"
    assert not shapeless["claimed"]
    assert (expired["reason"], expired["credential"], expired["subject"]) == ("expired", past.id, "old")
    assert (revoked["reason"], revoked["credential"], revoked["tenant"]) == ("revoked", line.id, "acme")
    assert not any(each.partition(".")[2] in str(lines) for each in (secret, stranger, ended))


def test_a_flood_of_refusals_is_counted_and_does_not_flood_the_log(
    lines: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = [5000.0]
    monkeypatch.setattr(time, "monotonic", lambda: clock[0])
    for _ in range(1000):
        audit.denied("missing", address=OUTSIDE)
    assert len(lines) == limits.AUDIT_DENIALS_PER_SECOND
    audit.deleted("task", task_id="t")
    assert lines[-1]["action"] == "deleted", "only refusals are bounded"
    clock[0] += 1
    audit.denied("missing", address=OUTSIDE)
    assert lines[-1]["left_out"] == 1000 - limits.AUDIT_DENIALS_PER_SECOND


def test_a_flood_of_refusals_hides_none_for_another_reason(lines: list[dict[str, Any]]) -> None:
    for _ in range(1000):
        audit.denied("missing", address=OUTSIDE)
    for reason in ("foreign", "scope", "tenant"):
        audit.denied(reason, address=OUTSIDE, subject="alice")
        assert lines[-1]["reason"] == reason
        assert lines[-1]["left_out"] is None, "of this reason"


def test_who_looks_on_is_named_once_in_a_while(lines: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [9000.0]
    monkeypatch.setattr(time, "monotonic", lambda: clock[0])
    for _ in range(10):
        audit.seen("timeline", task_id="t-look", subject="alice")
    audit.seen("timeline", task_id="t-look", subject="bob")
    audit.seen("timeline", task_id="t-other", subject="alice")
    assert [(line["task_id"], line["subject"]) for line in lines] == [
        ("t-look", "alice"),
        ("t-look", "bob"),
        ("t-other", "alice"),
    ]
    clock[0] += limits.AUDIT_SEEN_SECONDS
    audit.seen("timeline", task_id="t-look", subject="alice")
    assert len(lines) == 4


def test_who_is_over_a_limit_is_named_once_in_a_while(lines: list[dict[str, Any]]) -> None:
    rate = Rate(1.0, 1.0)
    caps = Caps(Allowance(rate, 1), Allowance(rate, 1))
    caps.open(alice(), OUTSIDE)
    caps.arrive(OUTSIDE)
    caps.enter(alice())
    for _ in range(3):
        with pytest.raises(TooManyRequestsError):
            caps.arrive(OUTSIDE)
        with pytest.raises(TooManyRequestsError):
            caps.enter(alice(subject="bob"))
        with pytest.raises(TooManyRequestsError):
            caps.open(alice(subject="bob"), "")
        with pytest.raises(TooManyRequestsError):
            caps.open(alice(tenant="other"), OUTSIDE)
    assert [(line["action"], line["reason"], line.get("tenant") or line["address"]) for line in lines] == [
        ("limited", "address_rate", OUTSIDE),
        ("limited", "tenant_rate", "acme"),
        ("limited", "tenant_streams", "acme"),
        ("limited", "address_streams", OUTSIDE),
    ]


def test_a_flood_from_many_addresses_does_not_flood_the_log(
    lines: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = [15_000.0]
    monkeypatch.setattr(time, "monotonic", lambda: clock[0])
    for number in range(1000):
        audit.limited("address_rate", address=f"198.51.100.{number}")
    assert len(lines) == limits.AUDIT_DENIALS_PER_SECOND
    clock[0] += 1
    audit.limited("address_rate", address=OUTSIDE)
    assert lines[-1]["left_out"] == 1000 - limits.AUDIT_DENIALS_PER_SECOND
