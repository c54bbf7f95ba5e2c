"""Alerts and the dashboard: PromQL that promtool takes, metrics that exist, alerts that fire when they should."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from a2a_events.metrics import catalog
from a2a_events.metrics.kinds import Histogram
from tests.k8s.manifests import K8S, Manifest, named, of_kind, render

MONITORING = K8S / "components" / "monitoring"
METRICS = {
    *(metric.name for metric in catalog.ALL if not isinstance(metric, Histogram)),
    *(f"{metric.name}_bucket" for metric in catalog.ALL if isinstance(metric, Histogram)),
    # of prometheus-nats-exporter 0.20 with the prefix nats
    "nats_consumer_num_pending", "nats_consumer_num_ack_pending", "nats_healthz_status",
    "nats_server_jetstream_disabled", "nats_server_total_message_bytes",
    "nats_server_max_storage", "nats_stream_last_seq", "nats_stream_total_bytes",
    "nats_stream_mirror_active_duration_ns",
    # of kube-state-metrics
    "kube_deployment_status_replicas_available",
    "up",
}  # fmt: skip
WORDS = {
    "sum",
    "by",
    "rate",
    "increase",
    "deriv",
    "max",
    "min",
    "count",
    "unless",
    "and",
    "or",
    "histogram_quantile",
    "time",
    "on",
    "group_left",
    "offset",
    "last_over_time",
    "le",
    "bool",
}


@pytest.fixture
def promtool() -> str:
    found = shutil.which("promtool")
    if found is None:
        pytest.skip("promtool is not at hand (Debian has it in the package prometheus)")
    return found


def test_promtool_takes_the_rules(promtool: str, tmp_path: Path) -> None:
    assert "SUCCESS" in run(promtool, "check", "rules", str(rules_file(tmp_path)))


def test_promtool_refuses_a_broken_rule(promtool: str, tmp_path: Path) -> None:
    file = rules_file(tmp_path)
    file.write_text(file.read_text().replace("histogram_quantile(0.95,", "histogram_quantil(0.95,"))
    with pytest.raises(subprocess.CalledProcessError):
        run(promtool, "check", "rules", str(file))


@pytest.mark.parametrize("name", ["alerts.test.yaml", "alerts-of-days.test.yaml"])
def test_alerts_fire_and_are_silent_when_they_should(promtool: str, tmp_path: Path, name: str) -> None:
    rules_file(tmp_path)
    shutil.copy(Path(__file__).parent / name, tmp_path)
    assert "SUCCESS" in run(promtool, "test", "rules", str(tmp_path / name))


def test_rules_and_dashboard_ask_for_metrics_that_exist() -> None:
    recorded = {rule["record"] for rule in rules() if "record" in rule}
    for expression in [*(rule["expr"] for rule in rules()), *dashboard_expressions()]:
        asked = metrics_in(expression)
        assert asked, expression
        assert asked <= METRICS | recorded, expression


def test_what_the_documentation_says_is_on_the_dashboard_is_on_it() -> None:
    page = (K8S.parent / "docs" / "observability.md").read_text()
    shown = {name.removesuffix("_bucket") for expression in dashboard_expressions() for name in metrics_in(expression)}
    asked = {name.removesuffix("_bucket") for rule in rules() for name in metrics_in(rule["expr"])}
    rows = re.findall(r"^\| `(a2a_\w+)\S*` \|.*\| ([^|]+) \|$", page, re.MULTILINE)
    assert len(rows) == len(catalog.ALL)
    said = {name for name, used in rows if "dashboard" in used}
    assert len(said) > 10
    assert said <= shown
    assert {name for name, used in rows if "`A2A" in used} - said <= asked
    for refused in (catalog.AUTH_FAILURES, catalog.RATE_LIMITED):
        assert refused.name in shown & asked


def test_an_alert_leads_to_a_page_of_the_runbook_that_there_is() -> None:
    pages = [rule["annotations"]["runbook"] for rule in rules() if "runbook" in rule.get("annotations", {})]
    assert len(pages) > 10
    for page in pages:
        assert (K8S.parent / page).is_file(), page


def test_the_dashboard_is_what_the_config_map_holds() -> None:
    made = named(render("production"), "ConfigMap", "a2a-events-dashboard")
    assert made["metadata"]["labels"]["grafana_dashboard"] == "1"
    assert json.loads(made["data"]["a2a-events.json"]) == dashboard()
    assert len({panel["id"] for panel in dashboard()["panels"]}) == len(dashboard()["panels"])


def test_promtool_takes_every_expression_of_the_dashboard(promtool: str, tmp_path: Path) -> None:
    made = [
        {"record": f"panel:{number}", "expr": expression.replace("$__rate_interval", "5m").replace("$namespace", "x")}
        for number, expression in enumerate(dashboard_expressions())
    ]
    file = tmp_path / "panels.yaml"
    file.write_text(yaml.safe_dump({"groups": [{"name": "panels", "rules": made}]}))
    assert f"{len(made)} rules found" in run(promtool, "check", "rules", str(file))


def test_whatever_has_metrics_is_asked_for_them() -> None:
    manifests = render("production")
    monitors = {made["metadata"]["name"]: made["spec"] for made in of_kind(manifests, "PodMonitor")}
    (asked,) = monitors["a2a-events"]["selector"]["matchExpressions"]
    assert set(asked["values"]) == {"gateway", "worker", "notifier", "timeline"}
    assert monitors["a2a-events"]["podMetricsEndpoints"][0]["port"] == "admin"
    nats = named(manifests, "StatefulSet", "nats")["spec"]["template"]["spec"]["containers"]
    assert monitors["nats"]["podMetricsEndpoints"][0]["port"] in {port["name"] for port in nats[1]["ports"]}
    flags = nats[1]["args"]
    assert {"-prefix=nats", "-healthz", "-jsz=all"} <= set(flags), "the rules ask for these"


def rules() -> list[Manifest]:
    (made,) = of_kind(render("production"), "PrometheusRule")
    return [rule for group in made["spec"]["groups"] for rule in group["rules"]]


def rules_file(folder: Path) -> Path:
    (made,) = of_kind(render("production"), "PrometheusRule")
    file = folder / "rules.yaml"
    file.write_text(yaml.safe_dump(made["spec"]))
    return file


def dashboard() -> dict[str, Any]:
    read: dict[str, Any] = json.loads((MONITORING / "dashboard.json").read_text())
    return read


def dashboard_expressions() -> list[str]:
    return [target["expr"] for panel in dashboard()["panels"] for target in panel["targets"]]


def metrics_in(expression: str) -> set[str]:
    """Names of metrics: what is left of the words when labels, strings and durations are gone."""
    bare = re.sub(r"\b\d[\w.]*|\{[^}]*\}|\[[^]]*\]|\b(?:by|on) \([^)]*\)", " ", expression)
    return set(re.findall(r"[a-z_][a-zA-Z0-9_:]*", bare)) - WORDS


def run(*command: str) -> str:
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    return done.stdout
