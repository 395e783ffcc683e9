"""What a piece of code left behind in this process: threads and descriptors."""

import gc
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.parts.programs import wait_until


def _descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


@contextmanager
def nothing_left(*, seconds: float = 3.0) -> Iterator[None]:
    """Check that no thread and no descriptor is left of what was done inside."""
    gc.collect()
    threads, descriptors = set(threading.enumerate()), _descriptors()
    yield
    gc.collect()
    wait_until(lambda: set(threading.enumerate()) <= threads, "the end of all new threads", seconds=seconds)
    wait_until(lambda: _descriptors() <= descriptors, "the end of all new descriptors", seconds=seconds)
