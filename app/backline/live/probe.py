"""PortAudio in a short-lived process of its own, and what asks it.

PortAudio sees only the devices there were when it started, and hangs for minutes when a sound server dies
under it. So whoever wants a fresh list, or cannot afford to hang, asks here: a process is started
(``python -m backline.live.probe``), prints one line of JSON and ends; it is killed if it takes too long.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from statistics import median
from typing import Any, TextIO

import numpy as np

from .. import errors
from ..errors import BacklineError, DeviceError
from .devices import (
    CLOCK_DEVICE,
    Array,
    Device,
    Latency,
    about,
    devices,
    find_device,
    play,
    play_and_record,
)
from .hygiene import Locked, die_with_parent, lock_memory
from .latency import Measured, delay_frames, sweep

TONE_HZ, TONE_DBFS, TONE_SECONDS = 440.0, -20.0, 1.0

_CHILD = (sys.executable, "-m", "backline.live.probe")
_TIMEOUT_SECONDS = 5.0
_TONE_TIMEOUT_SECONDS = 15.0
_KILLED_SECONDS = 1.0
_BEFORE_SECONDS, _SWEEP_SECONDS, _AFTER_SECONDS = 0.1, 1.0, 1.0
_FADE_SECONDS = 0.01
#: A round may be played three times, and devices take their time to open.
_ROUND_TRIES, _OPENING_SECONDS = 3, 3.0


@dataclass(frozen=True)
class Survey:
    """What PortAudio is and sees.

    Attributes
    ----------
    portaudio, library, version : str
        PortAudio's version, the library's file, and the version of the package sounddevice.
    host_apis : mapping of str to int
        Host APIs and their numbers of devices.
    devices : tuple of Device
        The clock at the end.
    """

    portaudio: str
    library: str
    version: str
    host_apis: Mapping[str, int]
    devices: tuple[Device, ...]


@dataclass(frozen=True)
class RoundTrip:
    """One measurement.

    Attributes
    ----------
    measured : Measured
    input_latency_ms, output_latency_ms : float or None
        As PortAudio reports them; None where that cannot be.
    xruns : int
        Callbacks that were late or incomplete in the last try: if any, the measurement is doubtful.
    tries : int
    block_frames : int
    """

    measured: Measured
    input_latency_ms: float | None
    output_latency_ms: float | None
    xruns: int
    tries: int
    block_frames: int


@dataclass(frozen=True)
class Measurement:
    """Several measurements of one way round, each with a stream of its own."""

    source: Device
    sink: Device
    rate_hz: float
    rounds: tuple[RoundTrip, ...]

    @property
    def delay_frames(self) -> float:
        """The median of all."""
        return median(trip.measured.delay_frames for trip in self.rounds)

    @property
    def spread_frames(self) -> float:
        """From the shortest to the longest."""
        found = [trip.measured.delay_frames for trip in self.rounds]
        return max(found) - min(found)


# ---- what asks ----


def survey(timeout_s: float = _TIMEOUT_SECONDS) -> Survey:
    """What PortAudio is and sees at this moment.

    Raises
    ------
    DeviceError
        PortAudio does not start, or does not answer in time.
    MissingDependency
        It is not installed.
    """
    found = _ask("devices", timeout_s)
    listed = tuple(map(_device, found.pop("devices")))
    return Survey(devices=listed, **found)


def listed_devices(timeout_s: float = _TIMEOUT_SECONDS) -> list[Device]:
    """All audio devices there are at this moment, and the clock at the end; raises as `survey`.

    Call it from a thread that stays until it returns: the process asked dies with the thread that started it.
    """
    return list(survey(timeout_s).devices)


def measure(
    input_device: int | str | None = None,
    output_device: int | str | None = None,
    *,
    input_channel: int = 1,
    output_channels: Sequence[int] = (1,),
    rate_hz: float | None = None,
    block_frames: int | None = None,
    latency: Latency = "low",
    rounds: int = 3,
    wait_s: float = 0.5,
) -> Measurement:
    """Measure the way from an output round to an input, over a cable or whatever connects them.

    Parameters
    ----------
    input_device, output_device : int or str, optional
        As in `find_device`.
    input_channel : int
    output_channels : sequence of int
        From 1.
    rate_hz : float, optional
        The output device's own by default.
    block_frames : int, optional
    latency : {"low", "high"} or float
    rounds : int
        Streams to open one after the other: what a device is late by may differ each time.
    wait_s : float
        From a stream's start to its sound.

    Raises
    ------
    BacklineError
        Nothing came back, or what did allows no measurement: one sentence.
    DeviceError, MissingDependency
        As `survey`, and where the devices do not do what is asked for.
    """
    each = wait_s + _BEFORE_SECONDS + _SWEEP_SECONDS + _AFTER_SECONDS + _OPENING_SECONDS
    found = _ask(
        "measure",
        _TIMEOUT_SECONDS + rounds * _ROUND_TRIES * each,
        input_device=input_device,
        output_device=output_device,
        input_channel=input_channel,
        output_channels=list(output_channels),
        rate_hz=rate_hz,
        block_frames=block_frames,
        latency=latency,
        rounds=rounds,
        wait_s=wait_s,
    )
    trips = (RoundTrip(**{**trip, "measured": Measured(**trip["measured"])}) for trip in found["rounds"])
    return Measurement(_device(found["source"]), _device(found["sink"]), found["rate_hz"], tuple(trips))


def play_test_tone(device: int | str | None = None, timeout_s: float = _TONE_TIMEOUT_SECONDS) -> Device:
    """Play a second of 440 Hz at -20 dBFS; returns the device it was played on. Raises as `measure`."""
    return _device(_ask("test-tone", timeout_s, device=device))


def memory_lock(timeout_s: float = _TIMEOUT_SECONDS) -> Locked:
    """What `lock_memory` does in a process like this one, whose own memory stays as it is."""
    return Locked(**_ask("lock", timeout_s))


def _ask(command: str, timeout_s: float, **request: Any) -> Any:
    """Start the process, wait for its line of JSON, and make sure that it ends."""
    arguments = [*_CHILD, command, json.dumps(request), str(os.getpid())]
    # The folder a user happens to be in is no place to look for modules.
    environment = {**os.environ, "PYTHONSAFEPATH": "1"}
    nowhere = subprocess.DEVNULL
    try:
        process = subprocess.Popen(
            arguments, stdin=nowhere, stdout=subprocess.PIPE, stderr=nowhere, env=environment
        )
    except OSError as error:
        raise DeviceError(
            f"no process could be started to ask PortAudio: {error.strerror or error}"
        ) from error
    try:
        out, _ = process.communicate(timeout=timeout_s)
    except subprocess.TimeoutExpired as error:
        raise DeviceError(
            f"PortAudio did not answer within {timeout_s:g} s: "
            "is a sound server (JACK, PipeWire, PulseAudio) hanging? restart it"
        ) from error
    finally:
        _end(process)
    return _answer(out, process.returncode)


def _end(process: subprocess.Popen[bytes]) -> None:
    if process.poll() is None:
        process.kill()
        with contextlib.suppress(subprocess.TimeoutExpired):  # unless it hangs in the kernel, out of reach
            process.wait(_KILLED_SECONDS)
    if process.stdout is not None:
        process.stdout.close()


def _answer(out: bytes, status: int) -> Any:
    try:
        found = json.loads(out)
        answer, kind = found["answer"], found.get("kind")
        if not isinstance(answer, dict if kind is None else str):
            raise TypeError
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
        how = f"was killed by signal {-status}" if status < 0 else f"ended with status {status}"
        raise DeviceError(f"PortAudio gave no answer: the process that asked it {how}") from error
    if kind is None:
        return answer
    known = getattr(errors, kind, None)
    raise (known if isinstance(known, type) and issubclass(known, BacklineError) else DeviceError)(answer)


def _device(found: dict[str, Any]) -> Device:
    """A device from its JSON, where tuples have become lists."""
    values: dict[str, Any] = {
        key: tuple(each) if isinstance(each, list) else each for key, each in found.items()
    }
    return Device(**values)


# ---- what is asked ----


def _devices() -> dict[str, Any]:
    return {**about(), "devices": [asdict(device) for device in devices()]}


def _measure(
    input_device: int | str | None,
    output_device: int | str | None,
    input_channel: int,
    output_channels: list[int],
    rate_hz: float | None,
    block_frames: int | None,
    latency: Latency,
    rounds: int,
    wait_s: float,
) -> dict[str, Any]:
    source, sink = find_device(input_device, "input"), find_device(output_device, "output")
    rate = rate_hz or sink.default_rate_hz
    x = sweep(rate, _SWEEP_SECONDS, _BEFORE_SECONDS, _AFTER_SECONDS)
    trips = []
    for _ in range(rounds):
        done = play_and_record(
            x,
            rate,
            source,
            sink,
            input_channel=input_channel,
            output_channels=output_channels,
            block_frames=block_frames,
            latency=latency,
            when_started=lambda: time.sleep(wait_s),
        )
        trips.append(
            RoundTrip(
                delay_frames(x, done.recorded, rate),
                done.input_latency_ms,
                done.output_latency_ms,
                done.xruns,
                done.tries,
                done.block_frames,
            )
        )
    return asdict(Measurement(source, sink, rate, tuple(trips)))


def tone(rate_hz: float) -> Array:
    """A second of 440 Hz at -20 dBFS, faded at both ends: float32 [frames]."""
    t = np.arange(round(TONE_SECONDS * rate_hz)) / rate_hz
    edge = np.clip(np.minimum(t, TONE_SECONDS - t) / _FADE_SECONDS, 0.0, 1.0)
    x = 10.0 ** (TONE_DBFS / 20.0) * np.sin(2.0 * np.pi * TONE_HZ * t) * np.sin(0.5 * np.pi * edge) ** 2
    found: Array = x.astype(np.float32)
    return found


def _tone(device: int | str | None) -> dict[str, Any]:
    sink = find_device(device, "output")
    if sink == CLOCK_DEVICE:
        raise DeviceError("the clock makes no sound; name another device for the test tone")
    play(tone(sink.default_rate_hz), sink.default_rate_hz, sink.index)
    return asdict(sink)


def _lock() -> dict[str, Any]:
    return asdict(lock_memory())


_COMMANDS: dict[str, Callable[..., dict[str, Any]]] = {
    "devices": _devices,
    "measure": _measure,
    "test-tone": _tone,
    "lock": _lock,
}


def _answering() -> TextIO:
    """Standard output for the answer alone: what libraries print there, or on stderr, goes nowhere."""
    kept = os.fdopen(os.dup(1), "w", encoding="utf-8")
    nowhere = os.open(os.devnull, os.O_WRONLY)
    for number in (1, 2):
        os.dup2(nowhere, number)
    return kept


def main(arguments: Sequence[str]) -> int:
    """Do as `command request parent` says, and print the answer, or what went wrong, as JSON."""
    command, request, parent = arguments
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    die_with_parent(int(parent))
    out = _answering()
    found: dict[str, Any]
    try:
        found = {"answer": _COMMANDS[command](**json.loads(request))}
    except BacklineError as error:
        found = {"answer": str(error), "kind": type(error).__name__}
    except Exception as error:
        found = {"answer": f"unexpected {type(error).__name__}: {error}", "kind": "DeviceError"}
    print(json.dumps(found), file=out, flush=True)
    return 0


if __name__ == "__main__":
    main(sys.argv[1:])
    # Without ending PortAudio first, which might never come back.
    os._exit(0)
