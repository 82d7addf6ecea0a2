"""Import what is large without looking for garbage in it."""

import gc
import sys
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def import_once() -> Iterator[None]:
    """Collect no garbage while modules are imported, and leave what they hold alone ever after.

    Modules make a million objects and next to no garbage, but Python's collector goes through them again and again: a
    quarter of the time that torch and transformers take (measured).
    """
    if "torch" in sys.modules or not gc.isenabled():
        yield
        return
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        gc.enable()
