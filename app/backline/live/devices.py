"""Audio devices: finding them, and playing a signal on one.

The only module that imports sounddevice, and only when a device is asked for.
"""

from __future__ import annotations

import atexit
import contextlib
import os
import re
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from ..errors import DeviceError, MissingDependency

Array = NDArray[np.float32]
Direction = Literal["input", "output"]
Latency = Literal["low", "high"] | float

#: So often a sound is played again during which the device skipped something, and so long it may stand still.
_ROUND_TRIES = 3
_STUCK_SECONDS = 5.0
#: PortAudio subtracts a period from what a JACK port says, which leaves days where that says nothing.
_LONGEST_LATENCY_SECONDS = 60.0
_XRUNS = ("input_underflow", "input_overflow", "output_underflow", "output_overflow")

#: Such as "USB Audio (hw:1,0)".
_CARD = re.compile(r"\s*\(hw:[^)]*\)", re.IGNORECASE)

CLOCK = "clock"
_CLOCK_CHANNELS = 64
#: Of the clock, where no block is asked for.
CLOCK_BLOCK_FRAMES = 64


@dataclass(frozen=True)
class Device:
    """An audio device.

    Attributes
    ----------
    index : int or None
        PortAudio's number; None for the clock.
    name, host_api : str
    input_channels, output_channels : int
    default_rate_hz : float
    input_latency_ms, output_latency_ms : (float, float) or None
        What PortAudio suggests as low and as high latency.
    default_input, default_output : bool
        Used where no device is named.
    """

    index: int | None
    name: str
    host_api: str
    input_channels: int
    output_channels: int
    default_rate_hz: float
    input_latency_ms: tuple[float, float] | None = None
    output_latency_ms: tuple[float, float] | None = None
    default_input: bool = False
    default_output: bool = False

    def __str__(self) -> str:
        return self.name if self.index is None else f"{self.index} {self.name} ({self.host_api})"

    def channels(self, direction: Direction) -> int:
        """Channels one way."""
        return self.input_channels if direction == "input" else self.output_channels


@dataclass(frozen=True)
class Round:
    """What came back of a sound that was played.

    Attributes
    ----------
    recorded : float32 array [frames]
        As long as what was played, on the same time line: what the device handed in together with a frame
        that it took.
    input_latency_ms, output_latency_ms : float or None
        As PortAudio reports them for the stream; None where that cannot be, as with some JACK clients.
    xruns : int
        Callbacks that were late or incomplete, in the last try.
    tries : int
    block_frames : int
        The largest block the device asked for.
    """

    recorded: Array
    input_latency_ms: float | None
    output_latency_ms: float | None
    xruns: int
    tries: int
    block_frames: int


CLOCK_DEVICE = Device(None, CLOCK, "Backline", _CLOCK_CHANNELS, _CLOCK_CHANNELS, 48000.0)


def portaudio() -> Any:
    try:
        import sounddevice
    except ImportError as error:
        raise MissingDependency(
            "live sound needs the package sounddevice; install it with: pip install sounddevice"
        ) from error
    except OSError as error:
        raise MissingDependency(
            "live sound needs PortAudio's library; install it with: apt install libportaudio2"
        ) from error
    except (
        Exception
    ) as error:  # PortAudio found, but it would not start; its error class came with the module
        raise DeviceError(f"PortAudio does not start: {error}") from error
    return sounddevice


@contextlib.contextmanager
def device_errors(what: str, quiet: bool = True) -> Iterator[None]:
    """Turn sounddevice's exceptions into one sentence, and keep what ALSA and JACK print off stderr."""
    sounddevice = portaudio()
    try:
        with quiet_stderr() if quiet else contextlib.nullcontext():
            yield
    except sounddevice.PortAudioError as error:
        reason = str(error.args[0]).replace("\n", " ").rpartition(": ")[2]
        if len(error.args) > 2 and error.args[2][2]:
            reason += f" ({error.args[2][2]})"
        raise DeviceError(f"{what}: {reason.rstrip('.')}") from error
    except ValueError as error:
        raise DeviceError(f"{what}: {error}") from error


@contextlib.contextmanager
def quiet_stderr() -> Iterator[None]:
    try:
        saved = os.dup(2)
    except OSError:
        yield
        return
    try:
        with open(os.devnull, "wb") as nowhere:
            os.dup2(nowhere.fileno(), 2)
        yield
    finally:
        os.dup2(saved, 2)
        os.close(saved)


def devices() -> list[Device]:
    """All audio devices PortAudio sees, and the clock at the end.

    Raises
    ------
    MissingDependency
        No sounddevice, or no PortAudio library; says what to install.
    DeviceError
        PortAudio does not start.
    """
    sounddevice = portaudio()
    with device_errors("devices cannot be listed"):
        apis = sounddevice.query_hostapis()
        found = sounddevice.query_devices()
        defaults = sounddevice.default.device
    listed = []
    for index, info in enumerate(found):
        listed.append(
            Device(
                index,
                info["name"],
                apis[info["hostapi"]]["name"],
                info["max_input_channels"],
                info["max_output_channels"],
                info["default_samplerate"],
                _latencies_ms(info, "input"),
                _latencies_ms(info, "output"),
                index == _default(apis, defaults[0], "input"),
                index == _default(apis, defaults[1], "output"),
            )
        )
    return [*listed, CLOCK_DEVICE]


def _latencies_ms(info: Any, direction: Direction) -> tuple[float, float] | None:
    if not info[f"max_{direction}_channels"]:
        return None
    low, high = (1e3 * info[f"default_{which}_{direction}_latency"] for which in ("low", "high"))
    return low, high


def _default(apis: Any, chosen: Any, direction: Direction) -> int:
    """The index sounddevice was told to use, or that of the first host API that has devices."""
    if isinstance(chosen, int) and chosen >= 0:
        return chosen
    return next((int(api[f"default_{direction}_device"]) for api in apis if api["devices"]), -1)


def find_device(wanted: int | str | None, direction: Direction) -> Device:
    """The device a user means.

    Parameters
    ----------
    wanted : int or str, optional
        PortAudio's index (a string of digits too), the name, any unique part of name and host API in any
        case, or ``"clock"``; None for the system's default. Of a card that ALSA gave a number, the same under
        another number where there is none under this.
    direction : {"input", "output"}

    Raises
    ------
    DeviceError
        None or several fit, or the one that fits has no channels in this direction.
    MissingDependency
        As :func:`devices`.
    """
    if isinstance(wanted, str) and wanted.lower() == CLOCK:
        return CLOCK_DEVICE
    listed = devices()[:-1]
    usable = [device for device in listed if device.channels(direction) > 0]
    if wanted is None:
        defaults = [d for d in usable if (d.default_input if direction == "input" else d.default_output)]
        if not defaults:
            if not usable:
                raise DeviceError(f"no {direction} device was found")
            raise DeviceError(f"no default {direction} device; name one of: {_names(usable)}")
        return defaults[0]
    if isinstance(wanted, int) or wanted.isdecimal():
        return _by_index(int(wanted), direction, listed, usable)
    exact = [d for d in usable if wanted.lower() in (d.name.lower(), f"{d.name}, {d.host_api}".lower())]
    matches = exact or [d for d in usable if wanted.lower() in f"{d.name}, {d.host_api}".lower()]
    if not matches and _unnumbered(wanted) != wanted.lower():  # a card may come back under another number
        matches = [d for d in usable if _unnumbered(wanted) == _unnumbered(f"{d.name}, {d.host_api}")]
    if not matches:
        raise DeviceError(f"no {direction} device is named like {wanted!r}; there are: {_names(usable)}")
    if len(matches) > 1:
        raise DeviceError(f"{len(matches)} {direction} devices are named like {wanted!r}: {_names(matches)}")
    return matches[0]


def _unnumbered(name: str) -> str:
    """A device's name in small letters, without the number that ALSA gives a card when it is plugged in."""
    return _CARD.sub("", name).lower()


def _by_index(index: int, direction: Direction, listed: list[Device], usable: list[Device]) -> Device:
    if not 0 <= index < len(listed):
        raise DeviceError(f"there is no device {index}; {direction} devices are: {_names(usable)}")
    if listed[index] not in usable:
        raise DeviceError(f"{listed[index]} has no {direction}s; {direction} devices are: {_names(usable)}")
    return listed[index]


def _names(some: Sequence[Device]) -> str:
    return "; ".join([str(device) for device in some] or [f"none but {CLOCK}"])


def why_no_device() -> str | None:
    """Why the machine cannot make a sound; None if it can."""
    try:
        return None if devices()[:-1] else "no audio device was found"
    except (MissingDependency, DeviceError) as error:
        return str(error)


def play(x: Array, rate_hz: float, wanted: int | str | None = None) -> None:
    """Play a signal on an output device and wait until it is over.

    Parameters
    ----------
    x : float32 array [frames] or [frames, channels]
        A mono signal is played on the first two channels.
    rate_hz : float
    wanted : int or str, optional
        As in `find_device`; the default device if None.

    Raises
    ------
    DeviceError, MissingDependency
        No device, or it refuses the rate or the channels.
    """
    device = find_device(wanted, "output")
    planes = x[:, np.newaxis] if x.ndim == 1 else x
    if planes.shape[1] == 1 and device.output_channels > 1:
        planes = np.repeat(planes, 2, axis=1)
    with device_errors(f"{device} does not play {planes.shape[1]} channels at {rate_hz:g} Hz"):
        portaudio().play(planes, rate_hz, device=device.index)
    portaudio().wait()


def about() -> dict[str, Any]:
    """What PortAudio says of itself: ``portaudio`` and ``library``, the package's ``version``, ``host_apis``
    by name with their numbers of devices.

    Raises
    ------
    MissingDependency, DeviceError
        As `devices`.
    """
    sounddevice = portaudio()
    with device_errors("host APIs cannot be listed"):
        apis = sounddevice.query_hostapis()
    return {
        "portaudio": str(sounddevice.get_portaudio_version()[1]),
        "library": str(getattr(sounddevice, "_libname", "")),
        "version": str(sounddevice.__version__),
        "host_apis": {api["name"]: len(api["devices"]) for api in apis},
    }


def play_and_record(
    x: Array,
    rate_hz: float,
    source: Device,
    sink: Device,
    *,
    input_channel: int = 1,
    output_channels: Sequence[int] = (1,),
    block_frames: int | None = None,
    latency: Latency = "low",
    when_started: Callable[[], None] | None = None,
) -> Round:
    """Play a sound and record what comes in meanwhile, in one stream, so that both have one time line.

    If the device skips something meanwhile, all is done again, three times in all at most. A stream that
    stands still is left as it is, as closing it could take for ever: for processes that end soon after.

    Parameters
    ----------
    x : float32 array [frames]
    rate_hz : float
    source, sink : Device
    input_channel : int
        From 1.
    output_channels : sequence of int
        From 1; each gets the sound, others silence.
    block_frames : int, optional
        The device's own by default.
    latency : {"low", "high"} or float
        PortAudio's hint, or seconds.
    when_started : callable, optional
        Called once the stream runs and plays silence; the sound begins when it returns.

    Raises
    ------
    DeviceError, MissingDependency
        The devices do not open, or stand still.
    """
    _check_channels(source, "input", [input_channel])
    _check_channels(sink, "output", output_channels)
    tries = 0
    while True:
        tries += 1
        player = _Player(x, input_channel, output_channels)
        with device_errors(f"{source} and {sink}" if source != sink else str(sink)):
            claimed = player.run(rate_hz, source, sink, block_frames, latency, when_started)
        if not player.xruns or tries == _ROUND_TRIES:
            recorded, xruns, block = player.recorded, player.xruns, player.block_frames
            return Round(recorded, _claim_ms(claimed[0]), _claim_ms(claimed[1]), xruns, tries, block)


def _check_channels(device: Device, direction: Direction, channels: Sequence[int]) -> None:
    if device.index is None:
        raise DeviceError(f"the {device} neither hears nor plays; name another {direction} device")
    found = device.channels(direction)
    if wrong := [each for each in channels if not 1 <= each <= found]:
        raise DeviceError(f"{device}: found no {direction} channel {wrong[0]}; it has {found}")


def _claim_ms(seconds: float) -> float | None:
    return 1e3 * seconds if 0.0 <= seconds <= _LONGEST_LATENCY_SECONDS else None


class _Player:
    """The callback of `play_and_record`, and what it has seen."""

    def __init__(self, x: Array, input_channel: int, output_channels: Sequence[int]) -> None:
        self.recorded = np.zeros(len(x), np.float32)
        self.xruns = self.block_frames = 0
        self._x = x
        self._from = input_channel - 1
        self._to = [channel - 1 for channel in output_channels]
        self._at = 0
        self._go, self._moved, self._ended = threading.Event(), threading.Event(), threading.Event()

    def callback(self, indata: Any, outdata: Any, frames: int, time: Any, status: Any) -> None:
        outdata[:] = 0.0
        self._moved.set()
        if not self._go.is_set() or self._ended.is_set():
            return
        # The first block may be flagged for what happened before it, and what is skipped shows afterwards.
        self.xruns += self._at > 0 and any(getattr(status, kind) for kind in _XRUNS)
        piece = self._x[self._at : self._at + frames]
        outdata[: len(piece), self._to] = piece[:, np.newaxis]
        self.recorded[self._at : self._at + len(piece)] = indata[: len(piece), self._from]
        self.block_frames = max(self.block_frames, frames)
        if self._at >= len(self._x):
            self._ended.set()
        self._at += frames

    def run(
        self,
        rate_hz: float,
        source: Device,
        sink: Device,
        block_frames: int | None,
        latency: Latency,
        when_started: Callable[[], None] | None,
    ) -> tuple[float, float]:
        """Play it all; returns the latencies PortAudio claims, in seconds."""
        stream = portaudio().Stream(
            samplerate=rate_hz,
            blocksize=block_frames or 0,
            device=(source.index, sink.index),
            channels=(self._from + 1, max(self._to) + 1),
            dtype="float32",
            latency=latency,
            callback=self.callback,
        )
        stream.start()
        claimed: tuple[float, float] = tuple(stream.latency)
        self._wait_for(self._moved)
        if when_started is not None:
            when_started()
        self._go.set()
        self._wait_for(self._ended)
        stream.close()
        return claimed

    def _wait_for(self, event: threading.Event) -> None:
        """Wait as long as the callback is called now and then."""
        while not event.wait(_STUCK_SECONDS):
            if not self._moved.is_set():
                # Closing its stream might take for ever, and so might ending PortAudio.
                atexit.unregister(portaudio()._exit_handler)
                raise DeviceError(f"the device has stood still for {_STUCK_SECONDS:g} s")
            self._moved.clear()
