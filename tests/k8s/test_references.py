"""What one object says of another is true: labels, names, ports, settings."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from click import Context
from msgspec.structs import replace

from a2a_events.bindings.identity.port import Presented
from a2a_events.services.card_signing import card_signer
from a2a_events.services.identity import access
from a2a_events.services.worker import load_agents
from k8s import make_secrets
from tests.cli.commands import run_here
from tests.k8s.manifests import (
    K8S,
    TARGETS,
    Manifest,
    containers,
    loaded,
    matches,
    named,
    of_kind,
    ours,
    render,
    settings_of,
    templates,
)

CARD_KEYS = "a2a-events-card-keys"


@pytest.fixture(params=TARGETS)
def manifests(request: pytest.FixtureRequest) -> list[Manifest]:
    return render(request.param)


def test_settings_are_settings(manifests: list[Manifest]) -> None:
    settings = loaded(settings_of(manifests))
    assert settings.host == "0.0.0.0", "on loopback nobody would reach it"  # noqa: S104 -- in a pod
    assert settings.log_format == "json"
    assert load_agents(settings.agent)
    assert settings.silence > 0  # raises where it contradicts the ack wait


def test_every_service_has_the_settings(manifests: list[Manifest]) -> None:
    (name,) = [
        made["metadata"]["name"] for made in of_kind(manifests, "ConfigMap") if "settings" in made["metadata"]["name"]
    ]
    for role, template in ours(manifests).items():
        (container,) = containers(template)
        assert container["envFrom"] == [{"configMapRef": {"name": name}}], role


def test_commands_are_commands(manifests: list[Manifest]) -> None:
    from a2a_events.cli.root import root  # noqa: PLC0415 -- with it comes the whole command line

    for role, template in ours(manifests).items():
        (container,) = containers(template)
        name, *options = container["args"]
        command = root.get_command(Context(root), name)
        assert command is not None, role
        assert command.make_context(name, options).params.keys() >= {one.name for one in command.params}, role
        assert "command" not in container, role  # the image's entry point


def test_selectors_choose_their_own_pods_and_no_others(manifests: list[Manifest]) -> None:
    labels = {name: template["metadata"]["labels"] for name, template in templates(manifests).items()}
    for made in of_kind(manifests, "Deployment", "StatefulSet"):
        chosen = {name for name in labels if matches(made["spec"]["selector"], labels[name])}
        assert chosen == {made["metadata"]["name"]}
    for made in of_kind(manifests, "Service"):
        chosen = {name for name in labels if matches({"matchLabels": made["spec"]["selector"]}, labels[name])}
        assert chosen == {made["metadata"]["labels"]["app.kubernetes.io/name"]}


def test_services_lead_to_ports_that_are_there(manifests: list[Manifest]) -> None:
    for made in of_kind(manifests, "Service"):
        template = templates(manifests)[made["metadata"]["labels"]["app.kubernetes.io/name"]]
        ports = {port["name"] for container in containers(template) for port in container["ports"]}
        assert {port["targetPort"] for port in made["spec"]["ports"]} <= ports


def test_everything_with_more_than_one_pod_has_a_disruption_budget(manifests: list[Manifest]) -> None:
    labels = {name: template["metadata"]["labels"] for name, template in templates(manifests).items()}
    covered: dict[str, int] = {}
    for budget in of_kind(manifests, "PodDisruptionBudget"):
        (name,) = [name for name in labels if matches(budget["spec"]["selector"], labels[name])]
        assert budget["spec"]["maxUnavailable"] == 1, "one at a time; 0 would keep every node from being drained"
        covered[name] = 1
    several = {
        made["metadata"]["name"]
        for made in of_kind(manifests, "Deployment", "StatefulSet")
        if made["spec"].get("replicas", 2) > 1
    }
    assert several <= set(covered)


def test_what_is_mounted_or_read_is_there(manifests: list[Manifest]) -> None:
    made = {(kind["kind"], kind["metadata"]["name"]) for kind in of_kind(manifests, "ConfigMap", "Secret")}
    made |= {("Secret", certificate["spec"]["secretName"]) for certificate in of_kind(manifests, "Certificate")}
    made |= {("Secret", f"nats-user-{role}") for role in make_secrets.ROLES}
    made |= {("Secret", name) for name in ("nats-accounts", "nats-tls", "a2a-events-timeline", "a2a-events-api-keys")}
    made |= {("Secret", CARD_KEYS)}  # by `card keygen` and hand
    for name, template in templates(manifests).items():
        for kind, wanted in references(template):
            assert (kind, wanted) in made, f"{name} needs {kind} {wanted}, which nobody makes"
        volumes = {volume["name"] for volume in template["spec"].get("volumes", [])} | {"data"}
        for container in containers(template):
            assert {mount["name"] for mount in container.get("volumeMounts", [])} <= volumes, name


def test_every_role_has_a_user_of_its_own(manifests: list[Manifest]) -> None:
    for role, template in ours(manifests).items():
        (user,) = [name for _, name in references(template) if name.startswith("nats-user-")]
        assert user == f"nats-user-{role}"
        assert role in make_secrets.ROLES


def test_services_get_the_certificates_authority_and_not_the_servers_key(manifests: list[Manifest]) -> None:
    for role, template in ours(manifests).items():
        (volume,) = [one for one in template["spec"]["volumes"] if one["name"] == "nats"]
        (tls,) = [one["secret"] for one in volume["projected"]["sources"] if one["secret"]["name"] == "nats-tls"]
        assert [item["key"] for item in tls["items"]] == ["ca.crt"], role


@pytest.mark.parametrize("target", ["production", "two-region/a", "two-region/b"])
def test_servers_are_named_as_the_pods_are(target: str) -> None:
    manifests = render(target)
    nats = named(manifests, "StatefulSet", "nats")
    pods = [f"nats-{ordinal}.{nats['spec']['serviceName']}" for ordinal in range(nats["spec"]["replicas"])]
    assert named(manifests, "Service", nats["spec"]["serviceName"])["spec"]["clusterIP"] == "None"
    assert loaded(settings_of(manifests)).servers == [f"tls://{pod}:4222" for pod in pods]
    assert list(make_secrets.SERVERS) == pods
    for certificate in of_kind(manifests, "Certificate"):
        if not certificate["spec"].get("isCA"):
            assert certificate["spec"]["dnsNames"] == pods
    routes = re.findall(r"tls://([\w.-]+):6222", (K8S / "components/nats/nats.conf").read_text())
    assert routes == pods
    # As many copies as there are servers to hold them.
    assert loaded(settings_of(manifests)).replicas == len(pods)


def test_files_that_settings_name_are_where_they_are_mounted() -> None:
    manifests = render("production")
    settings = loaded(settings_of(manifests))
    for role, template in ours(manifests).items():
        (container,) = containers(template)
        (mount,) = [mount["mountPath"] for mount in container["volumeMounts"] if mount["name"] == "nats"]
        assert settings.nats_credentials == f"{mount}/user.nk", role
        assert settings.nats_ca == f"{mount}/ca.crt", role


def test_what_scales_a_deployment_finds_it_and_is_not_set_back() -> None:
    manifests = render("production")
    for kind in ("HorizontalPodAutoscaler", "ScaledObject"):
        (made,) = of_kind(manifests, kind)
        deployment = named(manifests, "Deployment", made["spec"]["scaleTargetRef"]["name"])
        assert "replicas" not in deployment["spec"]
    (gateways,) = of_kind(manifests, "HorizontalPodAutoscaler")
    assert gateways["spec"]["metrics"][0]["pods"]["metric"]["name"] == "a2a_sse_streams"


@pytest.mark.parametrize("target", ["production", "ingress"])
def test_a_way_in_leads_to_the_gateway_and_cuts_no_stream(target: str) -> None:
    manifests = render(target)
    ports = {port["name"]: port["port"] for port in named(manifests, "Service", "gateway")["spec"]["ports"]}
    (http,) = of_kind(manifests, "HTTPRoute")
    (grpc,) = of_kind(manifests, "GRPCRoute")
    (rule,) = http["spec"]["rules"]
    assert rule["timeouts"] == {"request": "0s", "backendRequest": "0s"}
    assert rule["backendRefs"] == [{"name": "gateway", "port": ports["http"]}]
    assert grpc["spec"]["rules"][0]["backendRefs"] == [{"name": "gateway", "port": ports["grpc"]}]
    public = loaded(settings_of(manifests))
    assert f"https://{http['spec']['hostnames'][0]}" == public.public_url
    assert f"{grpc['spec']['hostnames'][0]}:443" == public.public_grpc
    for made in of_kind(manifests, "Ingress"):
        annotations = made["metadata"]["annotations"]
        assert int(annotations["nginx.ingress.kubernetes.io/proxy-read-timeout"]) >= 3600
        assert annotations["nginx.ingress.kubernetes.io/proxy-next-upstream"] == "off"
        size = int(annotations["nginx.ingress.kubernetes.io/proxy-body-size"].removesuffix("m"))
        assert size * 1024 * 1024 == public.request_bytes
        for rule in made["spec"]["rules"]:
            for path in rule["http"]["paths"]:
                service = path["backend"]["service"]
                assert service["name"] == "gateway"
                assert service["port"]["name"] in ports


@pytest.mark.parametrize("target", ["production", "two-region/a", "two-region/b", "ingress"])
def test_behind_a_way_in_clients_have_addresses_of_their_own(target: str) -> None:
    settings = replace(loaded(settings_of(render(target))), auth="none", allow_anonymous=True)
    forwarded = {"x-forwarded-for": ["203.0.113.7, 10.4.0.9"]}
    by_proxy = Presented(lambda name: forwarded.get(name, []), address="10.8.3.1")
    past_it = Presented(lambda name: forwarded.get(name, []), address="198.51.100.2")
    assert access(settings).address(by_proxy) == "203.0.113.7", "else all clients share the limits of one address"
    assert access(settings).address(past_it) == "198.51.100.2"


def test_gateways_sign_cards_with_the_keys_of_the_secret(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    manifests = render("card-keys")
    settings = loaded(settings_of(manifests))
    gateway = templates(manifests)["gateway"]
    assert ("Secret", CARD_KEYS) in references(gateway)
    assert not any(
        ("Secret", CARD_KEYS) in references(made) for role, made in ours(manifests).items() if role != "gateway"
    )
    (container,) = containers(gateway)
    (mount,) = [each for each in container["volumeMounts"] if each["name"] == "card-keys"]
    assert settings.card_keys == f"{mount['mountPath']}/card-keys.json"
    assert mount["readOnly"] is True

    # As docs/kubernetes.md has it: the file of the Secret is what `card keygen` writes.
    monkeypatch.chdir(tmp_path)
    assert run_here("card", "keygen", "--file", Path(settings.card_keys).name) == 0
    signer = card_signer(replace(settings, card_keys=Path(settings.card_keys).name))
    assert signer is not None
    assert len(signer.keys) == 1


def test_the_notes_say_what_an_upgrade_needs_first() -> None:
    settings = loaded(settings_of(render("production")))
    said = " ".join((K8S.parent / "CHANGELOG.md").read_text().split())
    secret, file = "a2a-events-api-keys", Path(settings.auth_api_keys).name
    assert ("Secret", secret) in references(templates(render("production"))["gateway"])
    assert f"kubectl -n a2a-events create secret generic {secret} --from-file={file}" in said
    assert f"a2a-events api-key new --file {file}" in said


def references(template: Manifest) -> list[tuple[str, str]]:
    found: list[tuple[str, str]] = []
    for volume in template["spec"].get("volumes", []):
        if "configMap" in volume:
            found.append(("ConfigMap", volume["configMap"]["name"]))
        if "secret" in volume:
            found.append(("Secret", volume["secret"]["secretName"]))
        found += [("Secret", source["secret"]["name"]) for source in volume.get("projected", {}).get("sources", [])]
    for container in containers(template):
        found += [("ConfigMap", source["configMapRef"]["name"]) for source in container.get("envFrom", [])]
        for variable in container.get("env", []):
            key = variable.get("valueFrom", {}).get("secretKeyRef")
            if key:
                found.append(("Secret", key["name"]))
    return found
