"""Every object of every overlay is what the API servers of two versions of Kubernetes take: no field too many."""

from __future__ import annotations

import copy
import functools
import json
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

from tests.k8s.manifests import TARGETS, Manifest, named, render

OLDEST, NEWEST = "1.31", "1.36"
"""The oldest that has all fields (docs/kubernetes.md names it), and a newest that was looked at."""
SCHEMAS = Path(__file__).parent / "schemas"
"""Of custom resources: strict, and only of the fields that are used. Checked by hand against the official ones."""


def library(name: str) -> Any:
    """Imported where it is used: that takes two seconds, in every process that collects tests."""
    return import_module(name)


@pytest.mark.parametrize("version", [OLDEST, NEWEST])
@pytest.mark.parametrize("target", TARGETS)
def test_every_object_is_valid(target: str, version: str) -> None:
    manifests = render(target)
    assert len(manifests) > 10
    for manifest in manifests:
        validate(manifest, version)


def test_a_misspelt_field_is_refused() -> None:
    wrong = copy.deepcopy(named(render("production"), "Deployment", "gateway"))
    wrong["spec"]["template"]["spec"]["terminationGracePeriod"] = 75
    with pytest.raises(library("kubernetes_validate").ValidationError, match="terminationGracePeriod"):
        validate(wrong, NEWEST)


def test_a_misspelt_field_of_a_custom_resource_is_refused() -> None:
    wrong = copy.deepcopy(named(render("production"), "ScaledObject", "worker"))
    wrong["spec"]["triggers"][0]["metadata"]["lagTreshold"] = "5"
    with pytest.raises(library("jsonschema").ValidationError, match="lagTreshold"):
        validate(wrong, NEWEST)


def test_a_kind_without_a_schema_is_refused() -> None:
    unknown = {"apiVersion": "example.com/v1", "kind": "Unknown", "metadata": {"name": "x"}}
    with pytest.raises(FileNotFoundError, match=r"Unknown\.json"):
        validate(unknown, NEWEST)


def validate(manifest: Manifest, version: str) -> None:
    _validate(json.dumps(manifest, sort_keys=True), version)


@functools.cache  # overlays share most objects, and reading a schema is what takes time
def _validate(text: str, version: str) -> None:
    manifest = json.loads(text)
    kubernetes_validate = library("kubernetes_validate")
    try:
        kubernetes_validate.validate(manifest, version, strict=True)
    except kubernetes_validate.SchemaNotFoundError:
        schema = json.loads((SCHEMAS / f"{manifest['kind']}.json").read_text())
        library("jsonschema").Draft202012Validator(schema).validate(manifest)
