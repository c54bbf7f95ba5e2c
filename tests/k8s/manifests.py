"""What `kubectl apply -k` would send, as objects."""

from __future__ import annotations

import functools
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from a2a_events.settings import Settings, load

ROOT = Path(__file__).parents[2]
K8S = ROOT / "k8s"
OVERLAYS = ("local", "production", "two-region/a", "two-region/b")
CHOICES = ("ingress", "nack", "jwt-issuer", "card-keys")
"""Components that no overlay has: they are instead of others, or for those who choose them."""
TARGETS = (*OVERLAYS, *CHOICES)
RENDER_SECONDS = 60

Manifest = dict[str, Any]
_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # ten times as fast, where libyaml is


@functools.cache  # tests read it and change nothing
def render(target: str) -> list[Manifest]:
    """All objects of an overlay, or of the production overlay with one more component.

    Skips the test where there is no kubectl.
    """
    return list(yaml.load_all(_rendered(target), Loader=_LOADER))


def _rendered(target: str) -> str:
    if target in OVERLAYS:
        return kustomize(K8S / "overlays" / target)
    with tempfile.TemporaryDirectory() as folder:
        away = Path(os.path.relpath(K8S, Path(folder).resolve()))
        parts = {
            "apiVersion": "kustomize.config.k8s.io/v1beta1",
            "kind": "Kustomization",
            "namespace": "a2a-events",
            "resources": [str(away / "overlays" / "production")],
            "components": [str(away / "components" / target)],
        }
        (Path(folder) / "kustomization.yaml").write_text(yaml.safe_dump(parts))
        return kustomize(Path(folder))


def kustomize(folder: Path) -> str:
    """What kubectl makes of a folder; its complaints fail the test."""
    kubectl = shutil.which("kubectl")
    if kubectl is None:
        pytest.skip("kubectl is not at hand: manifests cannot be rendered")
    done = subprocess.run(
        [kubectl, "kustomize", str(folder)], capture_output=True, text=True, timeout=RENDER_SECONDS, check=False
    )
    assert done.returncode == 0, done.stderr
    assert not done.stderr, done.stderr  # deprecated fields are said here
    return done.stdout


def of_kind(manifests: list[Manifest], *kinds: str) -> list[Manifest]:
    return [manifest for manifest in manifests if manifest["kind"] in kinds]


def named(manifests: list[Manifest], kind: str, name: str) -> Manifest:
    (found,) = [manifest for manifest in of_kind(manifests, kind) if manifest["metadata"]["name"] == name]
    return found


def templates(manifests: list[Manifest]) -> dict[str, Manifest]:
    """The pod templates, by the name of what makes the pods."""
    found: dict[str, Manifest] = {}
    for manifest in manifests:
        template = _template(manifest)
        if template is not None:
            found[manifest["metadata"]["name"]] = template
    return found


def _template(manifest: Manifest) -> Manifest | None:
    spec = manifest.get("spec", {})
    if manifest["kind"] == "CronJob":
        spec = spec["jobTemplate"]["spec"]
    template: Manifest | None = spec.get("template") if isinstance(spec, dict) else None
    return template


def containers(template: Manifest) -> Iterator[Manifest]:
    yield from template["spec"].get("initContainers", [])
    yield from template["spec"]["containers"]


def ours(manifests: list[Manifest]) -> dict[str, Manifest]:
    """The pod templates that run this project's image."""
    return {
        name: template
        for name, template in templates(manifests).items()
        if any("a2a-events" in container["image"] for container in containers(template))
    }


def settings_of(manifests: list[Manifest]) -> dict[str, str]:
    (found,) = [
        manifest["data"]
        for manifest in of_kind(manifests, "ConfigMap")
        if manifest["metadata"]["name"].startswith("a2a-events-settings-")
    ]
    return dict(found)


def loaded(values: dict[str, str]) -> Settings:
    """The settings of a ConfigMap, as a service would read them: an unknown one is an error."""
    return load(environment=values)


def matches(selector: Manifest, labels: dict[str, str]) -> bool:
    """Whether a selector of Kubernetes chooses these labels."""
    for key, value in selector.get("matchLabels", {}).items():
        if labels.get(key) != value:
            return False
    for expression in selector.get("matchExpressions", []):
        assert expression["operator"] == "In", "no other is used here"
        if labels.get(expression["key"]) not in expression["values"]:
            return False
    return True
