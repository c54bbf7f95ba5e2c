"""What holds for every pod of every overlay: what it may do, what it needs, how it is asked and how it stops."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import pytest

from a2a_events import limits
from a2a_events.services import timeline
from a2a_events.settings import Settings
from tests.k8s.manifests import (
    TARGETS,
    Manifest,
    containers,
    loaded,
    named,
    of_kind,
    ours,
    render,
    settings_of,
    templates,
)

SERVICES = {"gateway", "worker", "notifier", "timeline"}
PROBES = {"startupProbe": "/startupz", "livenessProbe": "/livez", "readinessProbe": "/readyz"}
NATS_LAME_DUCK_SECONDS = 10 + 30
"""What nats.conf says: grace period and duration."""
SLACK_SECONDS = 5
"""For a process to begin to stop, and to end."""


@pytest.fixture(params=TARGETS)
def manifests(request: pytest.FixtureRequest) -> list[Manifest]:
    return render(request.param)


def test_there_is_a_pod_of_each_service(manifests: list[Manifest]) -> None:
    assert set(ours(manifests)) - {"retention"} == SERVICES | {"provisioner", "sweeper"}
    assert "nats" in templates(manifests)


def test_only_who_says_so_deletes() -> None:
    assert "retention" not in ours(render("local"))
    assert "retention" in ours(render("production"))


def test_a_secret_that_is_missing_is_waited_for() -> None:
    assert "'optional'" not in str(render("production"))


def test_pods_are_restricted_as_pod_security_standards_say(manifests: list[Manifest]) -> None:
    for name, template in templates(manifests).items():
        assert list(not_restricted(template["spec"])) == [], name


def test_the_api_server_holds_namespaces_to_the_same(manifests: list[Manifest]) -> None:
    (namespace,) = of_kind(manifests, "Namespace")
    assert namespace["metadata"]["labels"]["pod-security.kubernetes.io/enforce"] == "restricted"


def test_users_are_numbers_that_no_host_has(manifests: list[Manifest]) -> None:
    for name, template in templates(manifests).items():
        assert template["spec"]["securityContext"]["runAsUser"] > 10_000, name
        assert template["spec"]["securityContext"]["runAsGroup"] > 10_000, name


def test_root_file_systems_are_read_only(manifests: list[Manifest]) -> None:
    for name, template in templates(manifests).items():
        for container in containers(template):
            assert container["securityContext"]["readOnlyRootFilesystem"] is True, name


def test_no_pod_gets_a_token_of_the_api_server(manifests: list[Manifest]) -> None:
    for name, template in templates(manifests).items():
        assert template["spec"]["automountServiceAccountToken"] is False, name
    for account in of_kind(manifests, "ServiceAccount"):
        assert account["automountServiceAccountToken"] is False
    assert not of_kind(manifests, "Role", "ClusterRole", "RoleBinding", "ClusterRoleBinding")


def test_no_variable_of_a_service_looks_like_a_setting(manifests: list[Manifest]) -> None:
    # A service called a2a-events-… would give A2A_EVENTS_…_SERVICE_HOST, which settings refuse.
    for name, template in templates(manifests).items():
        assert template["spec"]["enableServiceLinks"] is False, name


def test_memory_is_bounded_and_both_are_asked_for(manifests: list[Manifest]) -> None:
    for name, template in templates(manifests).items():
        for container in containers(template):
            resources = container["resources"]
            assert set(resources["requests"]) == {"cpu", "memory"}, name
            assert "memory" in resources["limits"], name
            # Throttling would show as latency.
            assert "cpu" not in resources["limits"], name


def test_where_it_counts_the_memory_is_there_for_certain() -> None:
    for name, template in templates(render("production")).items():
        for container in containers(template):
            assert container["resources"]["requests"]["memory"] == container["resources"]["limits"]["memory"], name


def test_images_have_tags_that_mean_one_image(manifests: list[Manifest]) -> None:
    for name, template in templates(manifests).items():
        for container in containers(template):
            assert re.fullmatch(r"\S+(:(?!latest)[\w.-]+|@sha256:[0-9a-f]{64})", container["image"]), name
            assert container["imagePullPolicy"] == "IfNotPresent", name


def test_probes_answer_different_questions(manifests: list[Manifest]) -> None:
    ports = {"gateway": 8000, "timeline": 8090}
    for name in SERVICES:
        (container,) = templates(manifests)[name]["spec"]["containers"]
        for probe, path in PROBES.items():
            assert container[probe]["httpGet"] == {"path": path, "port": "admin"}, name
        declared = {port["name"]: port["containerPort"] for port in container["ports"]}
        settings = settings_of(manifests)
        assert declared["admin"] == int(settings["A2A_EVENTS_ADMIN_PORT"])
        if name in ports:
            assert declared["http"] == ports[name]
    (nats, *_) = templates(manifests)["nats"]["spec"]["containers"]
    asked = {probe: nats[probe]["httpGet"]["path"] for probe in PROBES}
    assert len(set(asked.values())) == 3, asked
    # A store that is still being read must not be killed for it, a disk that was full must.
    assert "js-enabled-only" in asked["livenessProbe"]


def test_starting_may_take_two_minutes(manifests: list[Manifest]) -> None:
    for name in SERVICES:
        probe = templates(manifests)[name]["spec"]["containers"][0]["startupProbe"]
        assert probe["periodSeconds"] * probe["failureThreshold"] >= 2 * 60


def test_ports_of_the_gateway_are_those_it_listens_on(manifests: list[Manifest]) -> None:
    settings = settings_of(manifests)
    declared = {
        port["name"]: port["containerPort"]
        for port in templates(manifests)["gateway"]["spec"]["containers"][0]["ports"]
    }
    assert declared["http"] == int(settings.get("A2A_EVENTS_PORT", Settings().port))
    assert declared["grpc"] == int(settings["A2A_EVENTS_GRPC_PORT"])


def test_grace_is_longer_than_what_stopping_takes(manifests: list[Manifest]) -> None:
    settings = loaded(settings_of(manifests))
    stopping = {
        # Streams that have shown nothing get drain_seconds, and then requests under way.
        "gateway": settings.pre_stop_seconds + settings.drain_spread_seconds + 2 * settings.drain_seconds,
        "worker": settings.drain_seconds + limits.LEFT_BEHIND_SECONDS,
        "notifier": limits.WEBHOOK_TIMEOUT_SECONDS + limits.LEFT_BEHIND_SECONDS,
        "timeline": pre_stop_seconds(manifests, "timeline") + timeline.STOP_SECONDS + limits.LEFT_BEHIND_SECONDS,
    }
    for name, seconds in stopping.items():
        grace = templates(manifests)[name]["spec"]["terminationGracePeriodSeconds"]
        assert grace >= seconds + SLACK_SECONDS, name


def test_the_servers_hand_over_before_they_stop() -> None:
    template = templates(render("production"))["nats"]
    assert template["spec"]["containers"][0]["lifecycle"]["preStop"]["exec"]["command"][1:] == [
        "--signal",
        "ldm=/var/run/nats/nats.pid",
    ]
    assert template["spec"]["terminationGracePeriodSeconds"] >= NATS_LAME_DUCK_SECONDS + SLACK_SECONDS


def test_whoever_has_clients_serves_on_until_they_know() -> None:
    manifests = render("production")
    assert loaded(settings_of(manifests)).pre_stop_seconds >= 5, "of the gateway"
    assert pre_stop_seconds(manifests, "timeline") >= 5


def test_pods_have_a_priority_and_nats_the_highest() -> None:
    manifests = render("production")
    value = {made["metadata"]["name"]: made["value"] for made in of_kind(manifests, "PriorityClass")}
    of_pod = {name: value[template["spec"]["priorityClassName"]] for name, template in templates(manifests).items()}
    assert of_pod["nats"] > of_pod["gateway"] > of_pod["worker"]
    assert min(of_pod.values()) > 0


@pytest.mark.parametrize("target", ["production", "two-region/a", "two-region/b"])
def test_pods_are_spread_over_zones_and_nodes(target: str) -> None:
    found = templates(render(target))
    for name in ("gateway", "worker", "notifier"):
        keys = {
            one["topologyKey"]: one["whenUnsatisfiable"] for one in found[name]["spec"]["topologySpreadConstraints"]
        }
        assert keys == {"topology.kubernetes.io/zone": "ScheduleAnyway", "kubernetes.io/hostname": "ScheduleAnyway"}
        for one in found[name]["spec"]["topologySpreadConstraints"]:
            assert one["labelSelector"]["matchLabels"].items() <= found[name]["metadata"]["labels"].items()
    nats = found["nats"]["spec"]
    (zones,) = nats["topologySpreadConstraints"]
    assert (zones["topologyKey"], zones["whenUnsatisfiable"]) == ("topology.kubernetes.io/zone", "DoNotSchedule")
    (apart,) = nats["affinity"]["podAntiAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"]
    assert apart["topologyKey"] == "kubernetes.io/hostname"


def test_a_roll_out_takes_no_gateway_away_before_another_serves() -> None:
    manifests = render("production")
    for name in ("gateway", "worker", "notifier"):
        spec = named(manifests, "Deployment", name)["spec"]
        assert spec["strategy"]["rollingUpdate"] == {"maxUnavailable": 0, "maxSurge": 1}
        assert spec["minReadySeconds"] >= 10


def test_an_exception_to_the_policy_checker_has_its_reason(manifests: list[Manifest]) -> None:
    for manifest in manifests:
        for key, value in manifest["metadata"].get("annotations", {}).items():
            if key.startswith("checkov.io/skip"):
                check, _, reason = value.partition("=")
                assert re.fullmatch(r"CKV2?_K8S_\d+", check), value
                assert len(reason.split()) >= 4, value


def pre_stop_seconds(manifests: list[Manifest], name: str) -> float:
    seconds: float = templates(manifests)[name]["spec"]["containers"][0]["lifecycle"]["preStop"]["sleep"]["seconds"]
    return seconds


def not_restricted(pod: Manifest) -> Iterator[str]:
    """What Pod Security Standards' level `restricted` forbids of this pod."""
    for field in ("hostNetwork", "hostPID", "hostIPC"):
        if pod.get(field):
            yield field
    for volume in pod.get("volumes", []):
        allowed = {
            "configMap",
            "csi",
            "downwardAPI",
            "emptyDir",
            "ephemeral",
            "persistentVolumeClaim",
            "projected",
            "secret",
        }
        if not set(volume) - {"name"} <= allowed:
            yield f"volume {volume['name']}"
    above = pod.get("securityContext", {})
    if above.get("sysctls"):
        yield "sysctls"
    for container in [*pod.get("initContainers", []), *pod["containers"]]:
        own: dict[str, Any] = container.get("securityContext", {})
        if own.get("privileged") or own.get("allowPrivilegeEscalation") is not False:
            yield f"{container['name']}: privileges"
        if "ALL" not in own.get("capabilities", {}).get("drop", []) or own["capabilities"].get("add"):
            yield f"{container['name']}: capabilities"
        if not own.get("runAsNonRoot", above.get("runAsNonRoot")):
            yield f"{container['name']}: may be root"
        if own.get("runAsUser", above.get("runAsUser")) == 0:
            yield f"{container['name']}: is root"
        profile = own.get("seccompProfile", above.get("seccompProfile", {}))
        if profile.get("type") not in {"RuntimeDefault", "Localhost"}:
            yield f"{container['name']}: seccomp"
        if own.get("procMount", "Default") != "Default":
            yield f"{container['name']}: procMount"
        if any("hostPort" in port for port in container.get("ports", [])):
            yield f"{container['name']}: hostPort"
