"""One exposition of the metrics of several workers."""

from __future__ import annotations

from prometheus_client.parser import text_string_to_metric_families

from pico_twisted.net.admin.workers import merged
from pico_twisted.net.observe.metrics import Metrics

_TEXT = b'# HELP a_total What.\n# TYPE a_total counter\na_total 1.0\na_total{x="} {",y="2"} 3.0\n'


def test_every_sample_gets_the_label_and_every_family_its_head_once() -> None:
    """Prometheus refuses a family whose head comes twice, and cannot tell workers apart without the label."""
    text = merged({"0": _TEXT, "1": _TEXT}).decode()
    assert text.count("# HELP a_total") == text.count("# TYPE a_total") == 1
    samples = [sample for family in text_string_to_metric_families(text) for sample in family.samples]
    assert [(sample.labels, sample.value) for sample in samples if sample.name == "a_total"] == [
        ({"worker": "0"}, 1.0),
        ({"worker": "0", "x": "} {", "y": "2"}, 3.0),
        ({"worker": "1"}, 1.0),
        ({"worker": "1", "x": "} {", "y": "2"}, 3.0),
    ]


def test_the_metrics_of_a_node_merge_and_say_how_many_answered() -> None:
    """What a node really exposes is still valid, family by family, after it was merged."""
    text = Metrics("node", "1").exposition()
    families = list(text_string_to_metric_families(merged({"0": text, "1": text}).decode()))
    names = [family.name for family in families]
    assert len(names) == len(set(names))
    assert set(names) == {family.name for family in text_string_to_metric_families(text.decode())} | {
        "pico_workers_answering"
    }
    for family in families:
        if family.name == "pico_workers_answering":
            assert [sample.value for sample in family.samples] == [2.0]
        else:
            assert all(sample.labels["worker"] in ("0", "1") for sample in family.samples)
