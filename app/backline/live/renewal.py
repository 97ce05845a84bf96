"""Models that change while they are played: files written anew, and sizes that suit the processor."""

from __future__ import annotations

import threading
from collections.abc import Callable

from ..errors import BacklineError
from .meters import Meters
from .options import Options
from .shelf import Shelf
from .supervisor import Supervisor
from .watch import Watch

_POLL_SECONDS = 0.25


class Renewal:
    """A thread that loads models again: when their files change, and at another quality.

    Parameters
    ----------
    shelf : Shelf
    supervisor : Supervisor
    meters : Meters
    say : callable
        Given sentences a user should see.
    options : Options
        Say whether to look at files, and to choose among the sizes of the model that plays.

    Attributes
    ----------
    failure : Exception or None
        What ended the thread before its time.
    """

    def __init__(
        self,
        shelf: Shelf,
        supervisor: Supervisor,
        meters: Meters,
        say: Callable[[str], None],
        options: Options,
    ) -> None:
        self.failure: Exception | None = None
        self._shelf = shelf
        self._supervisor = supervisor
        self._meters = meters
        self._say = say
        paths = [slot.source.path for slot in shelf.slots if slot.source.path is not None]
        self._watch = Watch(paths) if options.watch else None
        self._ending = threading.Event()
        self._thread: threading.Thread | None = None
        if options.watch or options.auto_quality:
            self._thread = threading.Thread(target=self._run, name="backline-renewal", daemon=True)
            self._thread.start()

    def _run(self) -> None:
        try:
            while not self._ending.wait(_POLL_SECONDS):
                for path in self._watch.poll() if self._watch is not None else ():
                    for index, slot in enumerate(self._shelf.slots):
                        if slot.source.path == path:
                            self.renew(index, slot.quality, "loaded again")
        except Exception as error:  # nobody sees what a thread raises: whoever runs the session asks for it
            self.failure = error

    def renew(self, index: int, quality: float, why: str) -> None:
        """Load a model again; one that cannot be loaded or played leaves the old one, and says why."""
        old = self._shelf.slots[index]
        assert old.source.load is not None
        try:
            model = old.source.load(quality=quality)
            with self._supervisor.lock:
                new, notes = self._shelf.replace(index, model, quality)
                self._supervisor.renew(new, old)
        except BacklineError as error:
            old.problem = str(error)
            self._say(f"{old.model.name} goes on as it was: {error}")
            return
        for note in [*notes, f"{model.name}: {why}"]:
            self._say(note)

    def stop(self) -> None:
        """End the thread; more than once is fine."""
        self._ending.set()
        if self._thread is not None:
            self._thread.join()
