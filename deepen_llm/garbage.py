"""Python's search for garbage, held off while modules are imported.

torch and transformers make over a million objects when they are imported, and nearly all of them stay. The search goes
over them again and again: a fifth of the time that these imports take, and nearly all of what the interpreter takes to
end.
"""

from __future__ import annotations

import gc
import threading
from typing import final

MANY_OBJECTS = 50_000
"""An import that made no more than this many needs no tidying up."""


@final
class CollectionPause:
    """A `with` block of any thread, during which nothing is searched; the last one to end puts things back.

    For imports, and nothing that may leave much memory behind.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._num_open = 0
        self._was_enabled = False
        self._keeps = False

    def keep_all(self) -> None:
        """From now on whatever there is when a block ends counts as needed until the process ends: no search at all.

        For a program of its own, such as a command, and not for a library: it holds for what others made, too.
        """
        self._keeps = True

    def __enter__(self) -> None:
        with self._lock:
            if not self._num_open:
                self._was_enabled = gc.isenabled()
                gc.disable()
            self._num_open += 1

    def __exit__(self, *error: object) -> None:
        with self._lock:
            self._num_open -= 1
            if self._num_open:
                return
            if gc.get_count()[0] > MANY_OBJECTS:
                self._settle()
            if self._was_enabled:
                gc.enable()

    def _settle(self) -> None:
        """Make all objects old ones, without a search: else the next search for young ones would go over them all."""
        if self._keeps:
            gc.freeze()
        elif not gc.get_freeze_count():  # what somebody else has frozen stays so
            gc.freeze()
            gc.unfreeze()


uncollected = CollectionPause()
"""`with uncollected:` around imports."""
