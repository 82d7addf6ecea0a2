"""completions_lp: how much does a steering vector change the log probs of what a model would have said anyway?

``run`` does the whole job and ``load`` reads one that was done; the other functions are its stages, in order, and each
is also a command. The public names stand in ``__init__.pyi``, typed; they are imported when they are first used, so
that ``import completions_lp`` needs no torch.
"""

import importlib
import sys

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
__version__ = "0.1.0"

if "IPython" in sys.modules:  # a notebook shows reports, completions and scores as they should be seen
    importlib.import_module("completions_lp.show.notebook").register()
