"""The garbage collector: objects that live as long as the process are not worth looking at."""

from __future__ import annotations

import contextlib
import gc
from collections.abc import Iterator


@contextlib.contextmanager
def uncollected() -> Iterator[None]:
    """Make objects that the garbage collector never looks at, during an import of large packages.

    The import of torch makes about a million objects, and nearly all live as long as the process. To look
    through them again and again took a sixth of the time of the import.
    """
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        gc.enable()
