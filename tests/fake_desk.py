"""A desk that plays nothing: it keeps what is done to it, and does as a session would."""

from __future__ import annotations

import threading
from dataclasses import replace

import numpy as np

from backline.errors import ModelError
from backline.graph import Knob
from backline.live.status import HostStats, LiveStatus, ModelView

DRIVE = Knob("drive", 0.5, 0.0, 1.0)
TONE = Knob("tone", 0.0, -5.0, 5.0)
MODELS = (
    ModelView("Clean", loudness_db=-18.0),
    ModelView("Crunch", knobs=(DRIVE, TONE), values={"drive": 0.5, "tone": 1.0}, latency_ms=1.0),
    ModelView("Lead", knobs=(DRIVE,), values={"drive": 0.9}),
)


def status_of(**changes) -> LiveStatus:
    """A session that plays the second of three models."""
    usual = {
        "stats": HostStats(
            input_peaks=(0.1,), output_peaks=(0.2, 0.3), load_recent=0.2, load_recent_worst=0.3
        ),
        "input_latency_ms": 2.0,
        "output_latency_ms": 3.0,
        "rate_hz": 48000.0,
        "block_frames": 64,
        "source": "Guitar In",
        "sink": "Amp Out",
        "models": MODELS,
        "playing": 1,
        "scheduling": "SCHED_FIFO 60",
    }
    return LiveStatus(**{"seconds": 83.0, **usual, **changes})


class FakeDesk:
    """Its status is an attribute; `calls` holds names and arguments; `refusal` and `broken` are raised."""

    def __init__(self, **changes) -> None:
        self.shown = status_of(**changes)
        self.calls: list[tuple] = []
        self.refusal: str | None = None
        self.broken: Exception | None = None
        self.said: list[str] = []
        self.sound = np.zeros(2400, np.float32)
        #: What may be cleared to have the desk stall.
        self.answering, self.obeying = threading.Event(), threading.Event()
        self.answering.set()
        self.obeying.set()

    def status(self) -> LiveStatus:
        self.answering.wait()
        if self.broken is not None:
            raise self.broken
        return self.shown

    def _take(self, *call) -> None:
        self.obeying.wait()
        if self.refusal is not None:
            raise ModelError(self.refusal)
        self.calls.append(call)

    def _change_model(self, **changes) -> None:
        models = list(self.shown.models)
        models[self.shown.playing] = replace(models[self.shown.playing], **changes)
        self.shown = replace(self.shown, models=tuple(models))

    def play(self, index: int) -> None:
        self._take("play", index)
        self.shown = replace(self.shown, playing=index)

    def set(self, /, **knobs: float) -> None:
        self._take("set", knobs)
        self._change_model(values={**self.shown.models[self.shown.playing].values, **knobs})

    def set_levels(self, *, input_gain_db=None, output_gain_db=None, bypass=None) -> None:
        given = {"input_gain_db": input_gain_db, "output_gain_db": output_gain_db, "bypass": bypass}
        self._take("set_levels", {name: value for name, value in given.items() if value is not None})
        if input_gain_db is not None:
            self.shown = replace(self.shown, input_gain_db=input_gain_db)
        if output_gain_db is not None:
            self._change_model(output_gain_db=output_gain_db)
        if bypass is not None:
            self.shown = replace(self.shown, bypass=bypass)

    def record(self, on: bool) -> str | None:
        self._take("record", on)
        self.shown = replace(self.shown, recording="take-1.wav" if on else None)
        return self.shown.recording

    def heard(self) -> np.ndarray:
        return self.sound

    def messages(self) -> list[str]:
        said, self.said = self.said, []
        return said
