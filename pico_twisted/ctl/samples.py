"""The samples of an exposition for Prometheus, to be looked up by name and labels."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import attrs


@attrs.frozen
class Samples:
    """See above.

    Attributes:
        by_name: the labels and the value of each sample.
    """

    by_name: Mapping[str, list[tuple[Mapping[str, str], float]]]

    def all(self, name: str) -> Iterator[tuple[Mapping[str, str], float]]:
        """The samples of one name."""
        yield from self.by_name.get(name, ())

    def value(self, name: str, labels: Mapping[str, str] | None = None) -> float | None:
        """The first sample of a name, with these labels among its own; None when there is none."""
        wanted = (labels or {}).items()
        return next((value for own, value in self.all(name) if wanted <= own.items()), None)


def read_samples(text: str) -> Samples:
    """Read an exposition, or as much of it as is one."""
    from prometheus_client.parser import text_string_to_metric_families

    found: dict[str, list[tuple[Mapping[str, str], float]]] = {}
    try:
        for family in text_string_to_metric_families(text):
            for sample in family.samples:
                found.setdefault(sample.name, []).append((sample.labels, sample.value))
    except (ValueError, KeyError, IndexError):  # a server may say anything
        pass
    return Samples(found)
