"""The words that choose recordings: `status:5xx method:POST path:/hooks min:100ms text`.

All of them have to hold. A word without a colon, or in quotation marks, is looked for in what is shown: the target, the
names and values of fields, the bodies. What is hidden is not searched, or a search would tell it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from typing import Final

from pico_twisted.core.inspect.bodies import shown_body
from pico_twisted.core.inspect.masks import masked, text_of
from pico_twisted.core.inspect.recording import Recording
from pico_twisted.core.secret_names import hide_query_secrets

MOST_CHARS: Final = 1000
"""Most characters of a filter."""
MOST_WORDS: Final = 20
"""Most words of a filter: each one goes through all bodies that are kept."""

Condition = Callable[[Recording], bool]

_WORD: Final = re.compile(r'\s*(?:([A-Za-z]+):)?("[^"]*"|[^\s"]+)')
_STATUS: Final = re.compile(r"([1-9])(?:xx|([0-9]{2}))", re.IGNORECASE)
_TIME: Final = re.compile(r"([0-9]{1,9}(?:\.[0-9]{1,6})?)(ms|s)?")


class FilterError(ValueError):
    """A filter that cannot be read, and why not, in words for who wrote it."""


class Filter:
    """A filter that was read.

    Args:
        text: of it. Empty: every recording.

    Raises:
        FilterError: it cannot be read.
    """

    def __init__(self, text: str) -> None:
        if len(text) > MOST_CHARS:
            raise FilterError(f"a filter has at most {MOST_CHARS} characters")
        self._conditions = list(_conditions(text))
        if len(self._conditions) > MOST_WORDS:
            raise FilterError(f"a filter has at most {MOST_WORDS} words")

    def matches(self, recording: Recording) -> bool:
        """Whether a recording is chosen."""
        return all(condition(recording) for condition in self._conditions)


def _conditions(text: str) -> Iterator[Condition]:
    at, end = 0, len(text.rstrip())
    while at < end:
        found = _WORD.match(text, at)
        if found is None:
            raise FilterError('a quotation mark is missing: text with blanks is written "like this"')
        at = found.end()
        key, word = found[1], found[2]
        if key is None:
            yield _contains(word.strip('"'))
        elif key.lower() in _KEYS:
            yield _KEYS[key.lower()](word.strip('"'))
        else:
            known = ", ".join(f"{name}:" for name in _KEYS)
            raise FilterError(f'no filter is called {key}: ({known}); text with a colon is written "{key}:{word}"')


def _status(word: str) -> Condition:
    first, dash, last = word.partition("-")
    least, most = _statuses(first), _statuses(last or first)
    if least is None or most is None or (dash and not last) or least[0] > most[1]:
        raise FilterError(f"status: takes 404, 4xx or 400-499, not {word}")
    low, high = least[0], most[1]
    return lambda recording: low <= recording.shown_status <= high


def _statuses(word: str) -> tuple[int, int] | None:
    found = _STATUS.fullmatch(word)
    if found is None:
        return None
    first = int(found[1]) * 100
    return (first, first + 99) if found[2] is None else (first + int(found[2]), first + int(found[2]))


def _method(word: str) -> Condition:
    return lambda recording: recording.method.lower() == word.lower()


def _path(word: str) -> Condition:
    if not word.startswith("/"):
        raise FilterError(f"path: takes what a path begins with, such as /{word}")
    return lambda recording: recording.target.startswith(word)


def _min(word: str) -> Condition:
    found = _TIME.fullmatch(word)
    if found is None:
        raise FilterError(f"min: takes a time such as 100ms or 2s, not {word}")
    least_s = float(found[1]) / (1 if found[2] == "s" else 1000)
    return lambda recording: recording.duration_s is not None and recording.duration_s >= least_s


def _endpoint(word: str) -> Condition:
    return lambda recording: recording.endpoint.lower() == word.lower()


_KEYS: Final[Mapping[str, Callable[[str], Condition]]] = {
    "status": _status,
    "method": _method,
    "path": _path,
    "min": _min,
    "endpoint": _endpoint,
}


def _contains(word: str) -> Condition:
    lower = word.lower()
    return lambda recording: any(lower in text.lower() for text in _texts(recording))


def _texts(recording: Recording) -> Iterator[str]:
    """All that is shown of a recording, the short texts first."""
    yield f"{recording.method} {hide_query_secrets(recording.target)}"
    yield recording.trouble
    both = ((recording.request, recording.request_body), (recording.response, recording.response_body))
    for head, _ in both:
        for lower, name, value in () if head is None else head.fields:
            yield f"{text_of(name)}: {masked(lower, value)}"
    for head, body in both:
        if body.kept:
            yield shown_body(body, head).text or ""
