"""Who may talk to whom: exactly the edges that are needed, and no others."""

from __future__ import annotations

from typing import Any

import pytest

from tests.k8s.manifests import Manifest, containers, matches, of_kind, render, templates

Edge = tuple[str, str, str]
"""From, to, and the port there by name or number."""

SERVICES = ("gateway", "worker", "notifier", "timeline", "provisioner", "sweeper", "retention")
OURS = {
    *((service, "nats", "4222") for service in SERVICES),
    ("nats", "nats", "6222"),
    ("namespace a2a-events/clients", "gateway", "8000"),
    ("namespace a2a-events/clients", "gateway", "50051"),
    *(
        ("namespace a2a-events/monitoring", service, "9090")
        for service in ("gateway", "worker", "notifier", "timeline")
    ),
    ("namespace a2a-events/monitoring", "nats", "7777"),
    ("namespace a2a-events/keda", "nats", "8222"),
    ("namespace a2a-events/nack", "nats", "4222"),
    ("notifier", "internet", "443"),
    ("notifier", "internet", "80"),
    ("worker", "internet", "443"),
    *((pod, "dns", "53") for pod in (*SERVICES, "nats")),
}
REGIONS = {
    "production": set[Edge](),
    "two-region/a": {("anywhere", "nats", "7422")},
    "two-region/b": {("nats", "anywhere", "7422")},
}
PRIVATE = {
    "10.0.0.0/8",
    "172.16.0.0/12",
    "192.168.0.0/16",
    "169.254.0.0/16",
    "127.0.0.0/8",
    "fc00::/7",
    "fe80::/10",
    "::1/128",
}


@pytest.mark.parametrize("target", list(REGIONS))
def test_exactly_the_edges_that_are_needed_are_allowed(target: str) -> None:
    manifests = render(target)
    incoming, outgoing = edges(manifests)
    inside = set(templates(manifests))
    # Between two pods both sides must allow it.
    both = {edge for edge in incoming & outgoing if {edge[0], edge[1]} <= inside}
    one_sided = {edge for edge in incoming | outgoing if not {edge[0], edge[1]} <= inside}
    assert both | one_sided == OURS | REGIONS[target]
    assert {edge for edge in incoming ^ outgoing if {edge[0], edge[1]} <= inside} == set(), "allowed by one side alone"


def test_who_asks_for_tokens_lets_gateways_fetch_the_issuers_keys_and_nothing_more() -> None:
    inside, outside = edges(render("production"))
    wider_inside, wider_outside = edges(render("jwt-issuer"))
    assert wider_inside == inside
    assert wider_outside - outside == {("gateway", "internet", "443")}


@pytest.mark.parametrize("target", list(REGIONS))
def test_every_pod_is_closed_in_both_directions(target: str) -> None:
    manifests = render(target)
    for name, template in templates(manifests).items():
        for direction in ("Ingress", "Egress"):
            assert any(
                direction in policy["spec"]["policyTypes"]
                and matches(policy["spec"]["podSelector"], template["metadata"]["labels"])
                for policy in of_kind(manifests, "NetworkPolicy")
            ), (name, direction)
    closed = [
        policy["spec"] for policy in of_kind(manifests, "NetworkPolicy") if policy["metadata"]["name"] == "default-deny"
    ]
    assert closed == [{"podSelector": {}, "policyTypes": ["Ingress", "Egress"]}]


def edges(manifests: list[Manifest]) -> tuple[set[Edge], set[Edge]]:
    """What policies let in, and what they let out."""
    pods = {name: template["metadata"]["labels"] for name, template in templates(manifests).items()}
    numbers = {
        name: {
            port["name"]: str(port["containerPort"])
            for container in containers(template)
            for port in container.get("ports", [])
        }
        for name, template in templates(manifests).items()
    }
    incoming: set[Edge] = set()
    outgoing: set[Edge] = set()
    for policy in of_kind(manifests, "NetworkPolicy"):
        spec = policy["spec"]
        chosen = [name for name in pods if matches(spec["podSelector"], pods[name])]
        assert chosen, f"{policy['metadata']['name']} is about no pod"
        for rule in spec.get("ingress", []):
            for pod in chosen:
                ports = [numbers[pod].get(str(port["port"]), str(port["port"])) for port in rule["ports"]]
                assert set(ports) <= set(numbers[pod].values()), f"{pod} has no such port"
                incoming |= {(peer, pod, port) for peer in peers(rule.get("from"), pods) for port in ports}
        for rule in spec.get("egress", []):
            ports = [str(port["port"]) for port in rule["ports"]]
            outgoing |= {(pod, peer, port) for pod in chosen for peer in peers(rule.get("to"), pods) for port in ports}
    return incoming, outgoing


def peers(given: list[Any] | None, pods: dict[str, dict[str, str]]) -> list[str]:
    if given is None:
        return ["anywhere"]
    found: list[str] = []
    for one in given:
        if "ipBlock" in one:
            assert one["ipBlock"]["cidr"] in {"0.0.0.0/0", "::/0"}
            found.append("internet")
        elif one.get("podSelector", {}).get("matchLabels", {}).get("k8s-app") == "kube-dns":
            assert one["namespaceSelector"]["matchLabels"] == {"kubernetes.io/metadata.name": "kube-system"}
            found.append("dns")
        elif "namespaceSelector" in one:
            assert "podSelector" not in one
            ((label, value),) = one["namespaceSelector"]["matchLabels"].items()
            assert value == "true"
            found.append(f"namespace {label}")
        else:
            found += [name for name in pods if matches(one["podSelector"], pods[name])]
    return found


def test_nothing_inside_counts_as_the_internet() -> None:
    for policy in of_kind(render("jwt-issuer"), "NetworkPolicy"):  # production, and one more
        blocks = [one["ipBlock"] for rule in policy["spec"].get("egress", []) for one in rule["to"] if "ipBlock" in one]
        if blocks:
            assert {address for block in blocks for address in block["except"]} >= PRIVATE
