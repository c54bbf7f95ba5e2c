"""Metrics: their kinds, the bounds of their labels, and that the documentation and the catalog say the same."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from a2a_events import errors
from a2a_events.bindings.methods import STREAMING, UNARY
from a2a_events.metrics import catalog
from a2a_events.metrics.kinds import OTHER, SERIES, Counter, Gauge, Histogram
from a2a_events.model import TERMINAL_STATES
from a2a_events.runtime.commit import state_label
from a2a_events.services.exposition import exposed
from a2a_events.timeline.events import Kind

PAGE = Path(__file__).parents[2] / "docs" / "observability.md"


def test_a_label_takes_only_its_values() -> None:
    counter = Counter("x_total", "Things.", operation=("GetTask", "ListTasks"), code=("OK",))
    counter.inc("GetTask", "OK")
    for number in range(1000):
        counter.inc(f"made up by a client {number}", "OK")
    assert counter.values() == {("GetTask", "OK"): 1, (OTHER, "OK"): 1000}


def test_a_label_without_a_set_of_values_is_bounded_all_the_same() -> None:
    counter, gauge = Counter("x_total", "Things.", log=None), Gauge("x", "Things.", log=None)
    histogram = Histogram("y", "Things.", (1.0,), log=None)
    for number in range(10 * SERIES):
        counter.inc(f"log-{number}")
        gauge.set(1, f"log-{number}")
        histogram.observe(0.5, f"log-{number}")
    for metric in (counter, gauge, histogram):
        assert len(metric.values()) == SERIES + 1
        assert (OTHER,) in metric.values()


def test_a_metric_without_labels_is_shown_from_the_start() -> None:
    assert Counter("x_total", "Things.").values() == {(): 0}
    assert Counter("x_total", "Things.", reason=("a", "b")).values() == {("a",): 0, ("b",): 0}


def test_a_gauge_is_what_was_set_and_what_its_readers_see() -> None:
    gauge = Gauge("x", "Things.", log=None)
    gauge.set(2, "a")
    forget = gauge.read_by(lambda: {("a",): 3, ("b",): 5})
    gauge.read_by(lambda: {("c",): 1 / 0})
    assert gauge.values() == {("a",): 5, ("b",): 5}
    forget()
    assert gauge.values() == {("a",): 2}


def test_a_histogram_counts_each_value_in_the_first_bucket_that_holds_it() -> None:
    histogram = Histogram("x", "Things.", (1.0, 2.0))
    for value in (0.5, 1.0, 1.5, 7.0):
        histogram.observe(value)
    (seen,) = histogram.values().values()
    assert seen.counts == [2, 1, 1]
    assert seen.sum == 10.0


def test_the_catalog_knows_every_value_that_the_code_has() -> None:
    assert set(catalog.OPERATIONS) == set(UNARY) | set(STREAMING)
    reasons = {found.reason for found in vars(errors).values() if isinstance(found, type) and hasattr(found, "reason")}
    assert reasons <= set(catalog.CODES)
    assert {state_label(state) for state in TERMINAL_STATES} == set(catalog.TERMINAL)
    assert len(Kind) < SERIES


def test_no_label_is_an_id() -> None:
    labels = {label for metric in catalog.ALL for label in metric.labels}
    assert not labels & {"task", "task_id", "context", "context_id", "tenant", "tenant_id", "agent", "instance"}


def test_every_metric_is_in_the_documentation_and_the_reverse() -> None:
    rows = re.findall(r"^\| `(a2a_[a-z_]+)(?:\{([a-z_,]*)\})?` \|", PAGE.read_text(), re.MULTILINE)
    assert sorted(rows) == sorted((metric.name, ",".join(metric.labels)) for metric in catalog.ALL)


def test_the_documentation_names_alerts_that_there_are() -> None:
    rules = (PAGE.parents[1] / "k8s" / "components" / "monitoring" / "rules.yaml").read_text()
    named = set(re.findall(r"`(A2A[A-Z][A-Za-z]+)`", PAGE.read_text()))
    assert named
    assert named <= set(re.findall(r"alert: (\w+)", rules))


def test_prometheus_finds_no_fault_with_what_is_exposed() -> None:
    promtool = shutil.which("promtool")
    if promtool is None:
        pytest.skip("promtool is not installed (Debian: prometheus)")
    catalog.REQUESTS.inc("JSONRPC", "GetTask", "OK")
    catalog.REQUEST_SECONDS.observe(0.1, "JSONRPC", "GetTask")
    catalog.MIRROR_LAG_SECONDS.set(1.5, "europe")
    catalog.BUILD_INFO.set(1, "1.0", 'a "quoted" \\ commit\n')
    content, media_type = exposed("")
    assert media_type.startswith("text/plain")
    assert all(f"# TYPE {metric.name} " in content.decode() for metric in catalog.ALL)
    checked = subprocess.run([promtool, "check", "metrics"], input=content, capture_output=True, check=False)
    assert (checked.returncode, checked.stdout + checked.stderr) == (0, b"")


def test_open_metrics_is_given_to_who_asks_for_it() -> None:
    content, media_type = exposed("application/openmetrics-text; version=1.0.0")
    assert media_type.startswith("application/openmetrics-text")
    assert content.endswith(b"# EOF\n")
