"""The stages of an analysis, such as decoding and scoring, for a program that measures them.

A stage costs about a microsecond unless a program observes it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager

Observer = Callable[[str], AbstractContextManager[object]]

_observer: Observer | None = None


def observe_stages(observer: Observer | None) -> None:
    """Enter the context `observer(name)` around each stage that this process begins from now on; None ends that."""
    global _observer
    _observer = observer


@contextmanager
def stage(name: str) -> Iterator[None]:
    """Mark a stage of an analysis: a context, or a decorator of the function that is the stage.

    Args:
        name: what is done, such as "decode"; never anything of the file.
    """
    if _observer is None:
        yield
        return
    with _observer(name):
        yield
