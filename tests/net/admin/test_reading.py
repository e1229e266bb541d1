"""Shapes are read again from what they are told as."""

from __future__ import annotations

import json

import pytest

from pico_twisted.net.admin.shapes.events import EventReach, EventRow, Events
from pico_twisted.net.admin.shapes.reading import ShapeError, read, to_json


def test_events_of_another_node() -> None:
    """Whatever the fields of a log line are, a node that asks another one can read them."""
    fields = {"code": None, "clean": False, "node": "n2", "port": 8003, "lasted_s": 0.5}
    row = EventRow(node="n1", at_s=1.0, seq=1, level="info", subsystem="links.port", message="Link", fields=fields)
    events = Events(rows=(row,), reach={"n1": EventReach(now_s=2.0, since_s=0.0)})
    assert read(json.loads(json.dumps(to_json(events))), Events) == events


def test_events_of_a_stranger() -> None:
    """What is no event is refused in words, and breaks nothing."""
    row = {"node": "n1", "at_s": 1.0, "seq": 1, "level": "info", "subsystem": "x", "message": "x", "fields": {"a": []}}
    with pytest.raises(ShapeError):
        read({"rows": [row]}, Events)


@pytest.mark.parametrize("number", ["1e999", "-1e999", "NaN", "1" + "0" * 400])
@pytest.mark.parametrize("place", ["at_s", "field"])
def test_numbers_without_end(number: str, place: str) -> None:
    """A number that JSON cannot hold again, or no clock shows, spoils the answer of the node that tells it: passed on,
    it would spoil that of all nodes."""
    row = '{"node": "n1", "at_s": %s, "seq": 1, "level": "info", "subsystem": "x", "message": "x", "fields": {"a": %s}}'
    text = row % ((number, "1") if place == "at_s" else ("1", number))
    with pytest.raises(ShapeError):
        read(json.loads(f'{{"rows": [{text}]}}'), Events)
