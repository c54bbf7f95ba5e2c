"""The metrics in the form that Prometheus reads."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import accumulate

from prometheus_client import CollectorRegistry, GCCollector, ProcessCollector
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.core import Metric as Family
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector

from a2a_events.metrics.catalog import ALL
from a2a_events.metrics.kinds import Counter, Gauge, Histogram, Metric


class _Catalog(Collector):
    def collect(self) -> Iterator[Family]:
        """Every metric of the catalog, as it is now."""
        for metric in ALL:
            yield _family(metric)


def _family(metric: Metric) -> Family:
    match metric:
        case Counter():
            counter = CounterMetricFamily(metric.name, metric.help, labels=metric.labels)
            for labels, value in metric.values().items():
                counter.add_metric(labels, value)
            return counter
        case Gauge():
            gauge = GaugeMetricFamily(metric.name, metric.help, labels=metric.labels)
            for labels, value in metric.values().items():
                gauge.add_metric(labels, value)
            return gauge
        case Histogram():
            histogram = HistogramMetricFamily(metric.name, metric.help, labels=metric.labels)
            for labels, seen in metric.values().items():
                ends = [*map(str, metric.buckets), "+Inf"]
                histogram.add_metric(labels, list(zip(ends, accumulate(seen.counts), strict=True)), seen.sum)
            return histogram
        case _:
            raise AssertionError(f"{metric.name} is of no kind")


_registry = CollectorRegistry()
_registry.register(_Catalog())
ProcessCollector(registry=_registry)
GCCollector(registry=_registry)


def exposed(accept: str) -> tuple[bytes, str]:
    """Every metric of this process, and the media type.

    Args:
        accept: header of the request; OpenMetrics is given to who asks for it.
    """
    encode, media_type = choose_encoder(accept)
    return encode(_registry), media_type
