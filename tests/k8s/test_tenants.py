"""A namespace for each tenant and one for the servers: rendered together, and their Secrets tried on a real server."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml
from cryptography import x509

from a2a_events.services import provisioner
from a2a_events.services.connect import connection
from a2a_events.services.nats_server import NatsServer
from a2a_events.settings import Settings
from k8s import make_secrets
from tests.k8s.manifests import (
    K8S,
    Manifest,
    containers,
    kustomize,
    loaded,
    matches,
    named,
    of_kind,
    ours,
    render,
    settings_of,
    templates,
)
from tests.k8s.test_pods import not_restricted
from tests.k8s.test_references import references
from tests.k8s.test_schemas import NEWEST, OLDEST, validate

TENANT, SERVERS = "acme", "nats"


def rendered(namespace: str) -> list[Manifest]:
    return list(yaml.safe_load_all(kustomize(K8S / "overlays" / "tenants" / namespace)))


@pytest.fixture(scope="module")
def tenant() -> list[Manifest]:
    return rendered(TENANT)


@pytest.fixture(scope="module")
def servers() -> list[Manifest]:
    return rendered(SERVERS)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("secrets") / "secrets"
    make_secrets.main([str(made), "--namespace", SERVERS, "--tenant", TENANT, "--tenant", "globex"])
    return made


def test_objects_are_valid_and_pods_restricted(tenant: list[Manifest], servers: list[Manifest]) -> None:
    for manifest in (*tenant, *servers):
        for version in (OLDEST, NEWEST):
            validate(manifest, version)
    for template in (*templates(tenant).values(), *templates(servers).values()):
        assert list(not_restricted(template["spec"])) == []


def test_a_tenant_has_every_service_and_no_server(tenant: list[Manifest], servers: list[Manifest]) -> None:
    assert set(ours(tenant)) == {"gateway", "worker", "notifier", "timeline", "provisioner", "sweeper"}
    assert set(templates(tenant)) == set(ours(tenant))
    assert set(templates(servers)) == {"nats"}


def test_everything_is_in_its_namespace_or_for_all(tenant: list[Manifest], servers: list[Manifest]) -> None:
    for manifests, name in ((tenant, TENANT), (servers, SERVERS)):
        (namespace,) = of_kind(manifests, "Namespace")
        assert namespace["metadata"]["name"] == name
        assert namespace["metadata"]["labels"]["pod-security.kubernetes.io/enforce"] == "restricted"
        for manifest in manifests:
            where = None if manifest["kind"] in {"Namespace", "PriorityClass"} else name
            assert manifest["metadata"].get("namespace") == where, manifest["metadata"]["name"]
    assert named(servers, "PriorityClass", "a2a-events-log") == named(tenant, "PriorityClass", "a2a-events-log")


def test_its_gateways_serve_its_callers_alone_and_find_the_servers(
    tenant: list[Manifest], servers: list[Manifest], folder: Path
) -> None:
    settings = loaded(settings_of(tenant))
    assert settings.auth_tenant == TENANT
    assert settings.auth_methods
    nats = named(servers, "StatefulSet", "nats")
    pods = [f"nats-{each}.{nats['spec']['serviceName']}.{SERVERS}" for each in range(nats["spec"]["replicas"])]
    assert settings.servers == [f"tls://{pod}:4222" for pod in pods]
    shown = x509.load_pem_x509_certificate((folder / SERVERS / "nats-tls" / "tls.crt").read_bytes())
    names = shown.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert set(pods) <= set(names.get_values_for_type(x509.DNSName))
    for role, template in ours(tenant).items():
        (container,) = containers(template)
        (mount,) = [each["mountPath"] for each in container["volumeMounts"] if each["name"] == "nats"]
        assert settings.nats_credentials == f"{mount}/user.nk", role
        assert settings.nats_ca == f"{mount}/ca.crt", role


def test_services_reach_the_servers_and_nobody_else_does(tenant: list[Manifest], servers: list[Manifest]) -> None:
    labels = {
        made["metadata"]["name"]: made["metadata"]["labels"] for made in of_kind([*tenant, *servers], "Namespace")
    }
    names = {name: {"kubernetes.io/metadata.name": name} for name in labels}
    policies = {made["metadata"]["name"]: made["spec"] for made in of_kind(tenant, "NetworkPolicy")}
    assert "nats" not in policies
    ((out,),) = [rule["to"] for rule in policies["to-nats"]["egress"]]
    assert matches(out["namespaceSelector"], names[SERVERS])
    assert not matches(out["namespaceSelector"], names[TENANT])
    assert matches(out["podSelector"], templates(servers)["nats"]["metadata"]["labels"])
    assert policies["to-nats"]["egress"][0]["ports"] == [{"port": 4222, "protocol": "TCP"}]

    there = {made["metadata"]["name"]: made["spec"] for made in of_kind(servers, "NetworkPolicy")}
    assert set(there) == {"default-deny", "dns", "nats"}
    clients = [rule for rule in there["nats"]["ingress"] if rule["ports"] == [{"port": "nats", "protocol": "TCP"}]]
    ((let_in,),) = [rule["from"] for rule in clients]
    assert matches(let_in["namespaceSelector"], labels[TENANT])
    assert not matches(let_in["namespaceSelector"], labels[SERVERS])
    for role, template in ours(tenant).items():
        assert matches(let_in["podSelector"], template["metadata"]["labels"]), role
        assert matches(policies["to-nats"]["podSelector"], template["metadata"]["labels"]), role
    assert not matches(let_in["namespaceSelector"], {"kubernetes.io/metadata.name": "default"})


def test_every_secret_that_is_needed_is_made_where_it_is_needed(
    tenant: list[Manifest], servers: list[Manifest], folder: Path
) -> None:
    made = list(yaml.safe_load_all(kustomize(folder)))
    found = {(secret["metadata"]["namespace"], secret["metadata"]["name"]): secret for secret in made}
    for namespace, manifests in ((TENANT, tenant), (SERVERS, servers)):
        for template in templates(manifests).values():
            for kind, name in references(template):
                assert kind == "ConfigMap" or (namespace, name) in found, (namespace, name)
    keys = {key for (namespace, _), secret in found.items() if namespace != SERVERS for key in secret["data"]}
    assert "tls.key" not in keys, "the servers' key is the servers'"
    assert {name for namespace, name in found if namespace == SERVERS} == {"nats-accounts", "nats-tls"}
    seeds = [path.read_bytes() for path in folder.rglob("user.nk")]
    assert len(set(seeds)) == len(seeds) == 2 * len(make_secrets.SERVICES)
    assert {path.stat().st_mode & 0o077 for path in folder.rglob("*") if path.is_file()} == {0}


async def test_each_tenant_s_keys_open_its_own_account(folder: Path) -> None:
    server = NatsServer(sync="2m", more=(folder / SERVERS / "nats-accounts" / "accounts.conf").read_text())
    await server.start()
    try:
        for tenant in (TENANT, "globex"):
            for role in make_secrets.SERVICES:
                key = str(folder / tenant / f"nats-user-{role}" / "user.nk")
                settings = Settings(nats=server.url, nats_credentials=key, shards=1)
                if role == "provisioner":
                    assert "created" in (await provisioner.run(settings)).values()
                if role == "operator":
                    async with connection(settings, role) as made:
                        who = json.loads((await made.request("$SYS.REQ.USER.INFO")).payload)
                    assert who["data"]["account"] == f"TENANT_{tenant}"
    finally:
        await server.stop()
        server.clean()


@pytest.mark.parametrize("wrong", [("--tenant", "A b"), ("--tenant", "nats"), ("--tenant", "acme", "--regions", "a=a")])
def test_what_cannot_be_is_refused_and_nothing_is_made(wrong: tuple[str, ...], tmp_path: Path) -> None:
    with pytest.raises(SystemExit):
        make_secrets.main([str(tmp_path / "secrets"), "--namespace", SERVERS, *wrong])
    assert not (tmp_path / "secrets").exists()


def test_a_deployment_of_all_tenants_names_none() -> None:
    assert loaded(settings_of(render("production"))).auth_tenant == ""
