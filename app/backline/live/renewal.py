"""Models that change while they are played: files written anew, and sizes that suit the processor."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from ..engine import Model
from ..errors import BacklineError, ModelError
from .fitting import Governed, governed
from .headroom import ASSUMED_BLOCK, MEASURED_BLOCK_FRAMES
from .meters import Meters
from .options import Options
from .shelf import Shelf
from .supervisor import Supervisor
from .watch import Watch

_POLL_SECONDS = 0.25


class Renewal:
    """What loads models again: when their files change, and at another quality.

    Parameters
    ----------
    shelf : Shelf
        Laid out.
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
        self._auto_quality = options.auto_quality
        paths = [slot.source.path for slot in shelf.slots if slot.source.path is not None]
        self._watch = Watch(paths) if options.watch else None
        self._governed: dict[int, Governed | None] = {}
        self._tried: dict[int, int] = {}  # weights of the size a model was last told to play at
        self._overloads = 0  # xruns by own load that have been seen
        self._gone: dict[int, str | None] = {}  # by index: how stale a model was before its file went
        self._busy = (0, 0.0)  # frames, and the time callbacks took for them, in frames
        self._ending = threading.Event()
        self._thread: threading.Thread | None = None

    def choose_size(self) -> None:
        """Before anything plays: take the size of the first model that is measured to fit."""
        if self._auto_quality:
            self._say_sizes(self._shelf.playing)
            if self._sizes(self._shelf.playing) is not None and not self._supervisor.block_frames:
                self._say(f"choosing a size: {ASSUMED_BLOCK}")
            self._follow(self._shelf.playing)

    def start(self) -> None:
        """Begin to look after the models, if that is wanted."""
        if self._watch is not None or self._auto_quality:
            self._thread = threading.Thread(target=self._run, name="backline-renewal", daemon=True)
            self._thread.start()

    def _run(self) -> None:
        try:
            while not self._ending.wait(_POLL_SECONDS):
                if self._watch is not None:
                    self._look(self._watch)
                if self._auto_quality:
                    self._observe()
        except Exception as error:  # nobody sees what a thread raises: whoever runs the session asks for it
            self.failure = error

    def _look(self, watch: Watch) -> None:
        """Load what has been written anew, and say what has gone, until it is back."""
        for path in watch.poll():
            for index, slot in enumerate(self._shelf.slots):
                if slot.source.path == path:
                    self._gone.pop(index, None)
                    self._load(index, slot.quality, "loaded again")
        for index, slot in enumerate(self._shelf.slots):
            if slot.source.path in watch.gone:
                if index not in self._gone:
                    self._gone[index] = slot.stale
                    self._keep(index, ModelError(f"{slot.source.path}: has gone"))
            elif index in self._gone:
                slot.stale = self._gone.pop(index)

    # -- sizes --

    def _sizes(self, index: int) -> Governed | None:
        if index not in self._governed:
            slot, block = self._shelf.slots[index], self._supervisor.block_frames or MEASURED_BLOCK_FRAMES
            self._governed[index] = None
            try:
                self._governed[index] = governed(self._shelf, slot, block)
            except BacklineError as error:  # its file is not what it was: what plays goes on
                self._say(f"{slot.model.name} stays at the size it has: {error}")
        return self._governed[index]

    def _say_sizes(self, index: int) -> None:
        if self._sizes(index) is None:
            self._say(f"{self._shelf.slots[index].model.name}: comes in one size; there is none to choose")

    def _observe(self) -> None:
        """Let the governor see what callbacks took since the last look, while but one model ran."""
        stats = self._meters.last
        before, self._busy = self._busy, (stats.frames, stats.load_mean * stats.frames)
        frames = self._busy[0] - before[0]
        if frames <= 0 or self._supervisor.swapping:
            return
        index = self._shelf.playing
        found = self._sizes(index)
        if found is not None:
            own = self._supervisor.xruns.counts().get("own load", 0)
            new, self._overloads = own - self._overloads, own
            found.governor.observe(time.monotonic(), (self._busy[1] - before[1]) / frames, new)
            self._follow(index)

    def _follow(self, index: int) -> None:
        """Play the size that the governor has chosen, if another plays."""
        found, slot = self._sizes(index), self._shelf.slots[index]
        if found is None:
            return
        size, load = found.sizes[found.governor.size], found.loads[found.governor.size]
        weights = size.model.graph.parameter_count
        if slot.stale is not None and self._tried.get(index) == weights:
            return  # it was refused
        if weights != slot.model.graph.parameter_count:
            self._tried[index] = weights
            why = f"plays at quality {size.quality:g}, which takes {100 * load:.0f} % of each block"
            self._renew(index, size.model, size.quality, why)

    # -- loading --

    def _load(self, index: int, quality: float, why: str) -> None:
        old = self._shelf.slots[index]
        assert old.source.load is not None
        try:
            model = old.source.load(quality=quality)
        except BacklineError as error:
            self._keep(index, error)
            return
        except Exception as error:  # whatever a file holds, what plays goes on
            found = f"{old.source.path}: unexpected {type(error).__name__}: {error}"
            self._keep(index, ModelError(found))
            return
        self._governed.pop(index, None)  # of the version before
        self._renew(index, model, quality, why)

    def _renew(self, index: int, model: Model, quality: float, why: str) -> None:
        """Put another version in a model's place; one that cannot be played leaves the old one."""
        try:
            with self._supervisor.lock:
                new, notes = self._shelf.replace(index, model, quality)
                self._supervisor.renew(new)
        except BacklineError as error:
            self._keep(index, error)
            return
        for note in [*notes, f"{model.name}: {why}"]:
            self._say(note)

    def _keep(self, index: int, error: BacklineError) -> None:
        slot = self._shelf.slots[index]
        slot.stale = str(error)
        self._say(f"{slot.model.name} goes on as it was: {error}")

    def stop(self) -> None:
        """End the thread; more than once is fine."""
        self._ending.set()
        if self._thread is not None:
            self._thread.join()
