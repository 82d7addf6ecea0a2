"""What is said on the way: notices of this package as one plain line each, warnings of other packages not at all."""

import logging
import os
import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any


@contextmanager
def speak_plainly(tell: Callable[[str], None]) -> Iterator[None]:
    """Give notices to ``tell``, each once, and keep what other packages warn of, by warnings or a log, off the screen.

    Their errors are shown. Where Python is asked for warnings (``python -W default``), theirs are shown, too.
    """
    show, disabled = warnings.showwarning, logging.root.manager.disable
    told: set[str] = set()

    def show_plainly(message: Warning | str, category: type[Warning], *where: Any, **options: Any) -> None:
        from completions_lp.records.base import Notice  # which imports numpy

        if issubclass(category, Notice):
            if str(message) not in told:  # prompts are read twice: by what files tell, and with the tokenizer
                told.add(str(message))
                tell(str(message))
        elif sys.warnoptions:
            show(message, category, *where, **options)

    if not sys.warnoptions:
        os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")  # torch writes some of its own past Python
        logging.disable(max(logging.WARNING, disabled))
    warnings.showwarning = show_plainly
    try:
        yield
    finally:
        warnings.showwarning = show
        logging.disable(disabled)
