"""What many tests share, and what becomes of them when it cannot be started."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Generic, TypeVar

import pytest

from tests.system.stack import Stack
from tools.stage.certificates import Tls
from tools.stage.nodes import Settings

Thing = TypeVar("Thing")

ATTEMPTS = 2
"""How often a start is tried: the machine may have been too busy for the first one."""


class Shared(Generic[Thing]):
    """Something that is started once for many tests. When that fails, one test is an error and the others are skipped.

    Args:
        what: it is, for the reason of the skips.
        start: starts it. A failure says in its text what the processes wrote, and leaves nothing running.
    """

    def __init__(self, what: str, start: Callable[[], Thing]) -> None:
        self._what = what
        self._errors: list[str] = []
        self.thing: Thing | None = None
        while self.thing is None and len(self._errors) < ATTEMPTS:
            try:
                self.thing = start()
            except Exception as error:  # whatever it is, it is shown
                self._errors.append(f"{type(error).__name__}: {error}")
        self._untold = self.thing is None

    def get(self) -> Thing:
        """The thing, for one test."""
        if self.thing is not None:
            return self.thing
        if self._untold:
            self._untold = False
            attempts = [f"attempt {number}: {error}" for number, error in enumerate(self._errors, 1)]
            pytest.fail("\n".join([f"{self._what} could not be started", *attempts]), pytrace=False)
        pytest.skip(f"{self._what} could not be started; the first test that needed it says why")


def sharing_stack(
    shape: str,
    tmp_path_factory: pytest.TempPathFactory,
    certificates: Tls,
    node: Settings | None = None,
    old: Callable[[], str] = lambda: "",
) -> Iterator[Shared[Stack]]:
    """The body of a fixture: a stack, which is idle when all its tests are over.

    Args:
        shape: as of `Stack`.
        tmp_path_factory: where it keeps its files.
        certificates: as of `Stack`.
        node: settings of every node.
        old: makes an earlier version ready; see `Stack`.
    """
    stack = Shared(
        f"the stack {shape}",
        lambda: Stack(tmp_path_factory.mktemp(f"stack-{shape}"), shape, certificates, node, old=old()),
    )
    try:
        yield stack
        if stack.thing is not None:
            stack.thing.check_idle()
    finally:
        if stack.thing is not None:
            stack.thing.close()
