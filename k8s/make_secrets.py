"""Make the Secrets that k8s/ needs, as a folder for `kubectl apply -k`: certificates, users of NATS, tokens.

Everything in it is secret: keep it out of version control. It is made once; to make it anew is to rotate all of it.

    python k8s/make_secrets.py FOLDER [--namespace a2a-events] [--server-name NAME ...] [--no-certificates]
        [--shards 1] [--log main | --regions LOG=DOMAIN,...] [--agent NAME ...] [--subjects a2a]
        [--tenant NAME ... [--storage-gib 10]]

With --tenant there is an account for each tenant (docs/security/tenants.md): the servers' Secrets are for --namespace,
and each tenant's for a namespace of its name.

Give it shards, log or regions, and the namespace of subjects as the services have them: users may do what their service
does there, and no more.
"""

from __future__ import annotations

import argparse
import datetime as dt
import ipaddress
import os
import secrets
import sys
from pathlib import Path

import nkeys
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from a2a_events import limits
from a2a_events.log.jetstream import Names
from a2a_events.log.jetstream import permissions as granted
from a2a_events.log.jetstream.accounts import Account, Limits, account_name, configuration, is_tenant, needed_streams
from a2a_events.log.jetstream.permissions import definitions, permissions
from a2a_events.settings import SettingsError, load, pairs
from a2a_events.timeline.ids import is_name

SERVICES = granted.ROLES
ROLES = (*SERVICES, "leaf")
"""Users of NATS. ``leaf`` is the other region's servers, which may do everything in the account."""
SERVERS = tuple(f"nats-{ordinal}.nats-headless" for ordinal in range(3))
CA_DAYS = 3650
SERVER_DAYS = 365


def main(arguments: list[str] | None = None) -> None:
    """Write the folder."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("folder", type=Path, help="must not exist: nothing is overwritten")
    parser.add_argument("--namespace", default="a2a-events")
    parser.add_argument("--server-name", action="append", default=[], help="another name or address in certificates")
    parser.add_argument("--no-certificates", action="store_true", help="cert-manager makes them")
    parser.add_argument("--shards", type=int, default=1, help="of each log")
    parser.add_argument("--log", default="main")
    parser.add_argument("--regions", default="", help="every region's log and domain, instead of --log")
    parser.add_argument("--agent", action="append", default=[], help="the only agents that workers may serve")
    parser.add_argument("--subjects", default="a2a", help="first token of every subject")
    parser.add_argument("--tenant", action="append", default=[], help="has an account of its own; repeatable")
    parser.add_argument("--storage-gib", type=float, default=10.0, help="of each tenant's account")
    given = parser.parse_args(arguments)
    try:
        regional = load({"namespace": given.subjects, "log": given.log, "regions": given.regions}, {}).domains
    except SettingsError as error:
        parser.error(str(error))
    if given.tenant and regional:
        parser.error("accounts of tenants have no leaf nodes, so there are no regions")
    if bad := [name for name in given.tenant if not is_tenant(name) or name == given.namespace]:
        parser.error(f"{bad[0]!r} is no name for a tenant's namespace")
    if bad := [name for name in given.agent if not is_name(name)]:
        parser.error(f"{bad[0]!r} is not the name of an agent")
    if given.shards < 1 or given.storage_gib <= 0:
        parser.error("there must be a shard, and storage")
    os.umask(0o077)
    try:
        given.folder.mkdir(parents=True)
    except FileExistsError:
        sys.exit(f"{given.folder} is there already; choose another folder, or remove it to rotate everything")
    if given.tenant:
        _for_tenants(given)
        return
    seeds = {role: _seed() for role in ROLES}
    files: dict[str, dict[str, bytes]] = {"nats-accounts": {"accounts.conf": _accounts({"A2A": seeds}, given, None)}}
    files |= _of_services(seeds)
    # nats-server takes no file for the key of a remote, but can include one.
    files["nats-user-leaf"] |= {"remote.conf": f"nkey: {seeds['leaf'].decode()}\n".encode()}
    if not given.no_certificates:
        files["nats-tls"] = _certificates([*SERVERS, *given.server_name])
    _write(given.folder, given.namespace, files)


def _for_tenants(given: argparse.Namespace) -> None:
    """A folder for each namespace, and one that applies all."""
    tenants = {tenant: {role: _seed() for role in SERVICES} for tenant in dict.fromkeys(given.tenant)}
    allowed = Limits(
        storage_bytes=int(given.storage_gib * 1024**3),
        streams=needed_streams(Names(given.subjects), log=given.log, shards=given.shards),
        connections=limits.ACCOUNT_CONNECTIONS,
    )
    named = {account_name(tenant): seeds for tenant, seeds in tenants.items()}
    servers: dict[str, dict[str, bytes]] = {"nats-accounts": {"accounts.conf": _accounts(named, given, allowed)}}
    trusted: dict[str, dict[str, bytes]] = {}
    if not given.no_certificates:
        elsewhere = [f"{server}.{given.namespace}" for server in SERVERS]
        servers["nats-tls"] = _certificates([*SERVERS, *elsewhere, *given.server_name])
        trusted = {"nats-tls": {"ca.crt": servers["nats-tls"]["ca.crt"]}}
    _write(given.folder / given.namespace, given.namespace, servers)
    for tenant, seeds in tenants.items():
        _write(given.folder / tenant, tenant, _of_services(seeds) | trusted)
    lines = ["apiVersion: kustomize.config.k8s.io/v1beta1", "kind: Kustomization", "resources:"]
    lines += [f"  - {namespace}" for namespace in (given.namespace, *tenants)]
    (given.folder / "kustomization.yaml").write_text("\n".join(lines) + "\n")


def _of_services(seeds: dict[str, bytes]) -> dict[str, dict[str, bytes]]:
    return {
        **{f"nats-user-{role}": {"user.nk": seed} for role, seed in seeds.items()},
        "a2a-events-timeline": {"token": secrets.token_urlsafe(32).encode()},
        "a2a-events-api-keys": {"keys.jsonl": b"# a2a-events api-key new --file keys.jsonl --subject NAME\n"},
    }


def _seed() -> bytes:
    seed: bytes = nkeys.encode_seed(os.urandom(32), nkeys.PREFIX_BYTE_USER)
    return seed


def _accounts(named: dict[str, dict[str, bytes]], given: argparse.Namespace, allowed: Limits | None) -> bytes:
    regions = pairs("REGIONS", given.regions)
    log = next(iter(regions), given.log)
    names = Names(given.subjects)
    made = {
        role: permissions(role, names, log=log, shards=given.shards, agents=given.agent, regions=regions)
        for role in SERVICES
    }
    accounts = [
        Account(name, {role: _public(seed) for role, seed in seeds.items()}, allowed) for name, seeds in named.items()
    ]
    lines = [
        "# Public halves only. An account keeps its subjects and streams apart from all others.",
        *definitions(made, given.subjects),
        *configuration(accounts, frozenset(made), given.subjects),
    ]
    return "\n".join([*lines, ""]).encode()


def _public(seed: bytes) -> str:
    return bytes(nkeys.from_seed(bytearray(seed)).public_key).decode()


def _certificates(names: list[str]) -> dict[str, bytes]:
    now = dt.datetime.now(dt.UTC)
    authority_key = ec.generate_private_key(ec.SECP256R1())
    authority_name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "nats-ca")])
    authority = (
        x509.CertificateBuilder()
        .subject_name(authority_name)
        .issuer_name(authority_name)
        .public_key(authority_key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now)
        .not_valid_after(now + dt.timedelta(days=CA_DAYS))
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(authority_key.public_key()), critical=False)
        .add_extension(_usage(signs=True), critical=True)
        .sign(authority_key, hashes.SHA256())
    )
    key = ec.generate_private_key(ec.SECP256R1())
    server = (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "nats")]))
        .issuer_name(authority_name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now)
        .not_valid_after(now + dt.timedelta(days=SERVER_DAYS))
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(x509.SubjectAlternativeName([_name(name) for name in names]), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(authority_key.public_key()), critical=False)
        .add_extension(_usage(signs=False), critical=True)
        # Servers are each other's clients.
        .add_extension(
            x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]), critical=False
        )
        .sign(authority_key, hashes.SHA256())
    )
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    return {  # the CA's own key is not kept: a new certificate comes with a new CA
        "ca.crt": authority.public_bytes(serialization.Encoding.PEM),
        "tls.crt": server.public_bytes(serialization.Encoding.PEM),
        "tls.key": private,
    }


def _usage(*, signs: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs,
        key_cert_sign=signs,
        crl_sign=signs,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def _name(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)


def _write(folder: Path, namespace: str, files: dict[str, dict[str, bytes]]) -> None:
    lines = ["apiVersion: kustomize.config.k8s.io/v1beta1", "kind: Kustomization", f"namespace: {namespace}"]
    lines += ["generatorOptions:", "  disableNameSuffixHash: true  # the names are those that k8s/ refers to"]
    lines += ["secretGenerator:"]
    folder.mkdir(exist_ok=True)
    for secret, contents in files.items():
        lines += [f"  - name: {secret}"]
        if "tls.key" in contents:
            lines += ["    type: kubernetes.io/tls"]
        lines += ["    files:"]
        (folder / secret).mkdir()
        for name, content in contents.items():
            (folder / secret / name).write_bytes(content)
            lines += [f"      - {secret}/{name}"]
    (folder / "kustomization.yaml").write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
