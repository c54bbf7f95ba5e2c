"""Make the Secrets that k8s/ needs, as a folder for `kubectl apply -k`: certificates, users of NATS, tokens.

Everything in it is secret: keep it out of version control. It is made once; to make it anew is to rotate all of it.

    python k8s/make_secrets.py FOLDER [--namespace a2a-events] [--server-name NAME ...] [--no-certificates]
        [--shards 1] [--log main | --regions LOG=DOMAIN,...] [--agent NAME ...] [--subjects a2a]

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

from a2a_events.log.jetstream import Names
from a2a_events.log.jetstream import permissions as granted
from a2a_events.log.jetstream.permissions import definitions, permissions, variable

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
    given = parser.parse_args(arguments)
    os.umask(0o077)
    try:
        given.folder.mkdir(parents=True)
    except FileExistsError:
        sys.exit(f"{given.folder} is there already; choose another folder, or remove it to rotate everything")
    files: dict[str, dict[str, bytes]] = {}
    seeds = {role: _seed() for role in ROLES}
    files["nats-accounts"] = {"accounts.conf": _accounts(seeds, given).encode()}
    for role, seed in seeds.items():
        files[f"nats-user-{role}"] = {"user.nk": seed}
    # nats-server takes no file for the key of a remote, but can include one.
    files["nats-user-leaf"] |= {"remote.conf": f"nkey: {seeds['leaf'].decode()}\n".encode()}
    files["a2a-events-timeline"] = {"token": secrets.token_urlsafe(32).encode()}
    files["a2a-events-api-keys"] = {"keys.jsonl": b"# a2a-events api-key new --file keys.jsonl --subject NAME\n"}
    if not given.no_certificates:
        files["nats-tls"] = _certificates([*SERVERS, *given.server_name])
    _write(given.folder, given.namespace, files)


def _seed() -> bytes:
    seed: bytes = nkeys.encode_seed(os.urandom(32), nkeys.PREFIX_BYTE_USER)
    return seed


def _accounts(seeds: dict[str, bytes], given: argparse.Namespace) -> str:
    regions = dict(pair.split("=") for pair in given.regions.split(",") if pair)
    log = next(iter(regions), given.log)
    names = Names(given.subjects)
    made = {
        role: permissions(role, names, log=log, shards=given.shards, agents=given.agent, regions=regions)
        for role in SERVICES
    }
    allowed = {role: f", permissions: ${variable(role, given.subjects)}" for role in made}
    keys = {role: bytes(nkeys.from_seed(bytearray(seed)).public_key).decode() for role, seed in seeds.items()}
    users = "\n".join(f"      {{ nkey: {key}{allowed.get(role, '')} }} # {role}" for role, key in keys.items())
    defined = "\n".join(definitions(made, given.subjects))
    return f"""# Public halves only. The account keeps this deployment's subjects and streams apart from all others.
{defined}
accounts {{
  A2A {{
    jetstream: enabled
    users: [
{users}
    ]
  }}
  SYS {{}}
}}
system_account: SYS
"""


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
