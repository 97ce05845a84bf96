"""Audio devices: finding them, and playing a signal on one.

The only module that imports sounddevice, and only when a device is asked for.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from ..errors import DeviceError, MissingDependency

Array = NDArray[np.float32]
Direction = Literal["input", "output"]
Latency = Literal["low", "high"] | float

CLOCK = "clock"
_CLOCK_CHANNELS = 64


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
        case, or ``"clock"``; None for the system's default.
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
    if not matches:
        raise DeviceError(f"no {direction} device is named like {wanted!r}; there are: {_names(usable)}")
    if len(matches) > 1:
        raise DeviceError(f"{len(matches)} {direction} devices are named like {wanted!r}: {_names(matches)}")
    return matches[0]


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


def play(x: Array, rate_hz: float) -> None:
    """Play a signal on the default output device and wait until it is over.

    Parameters
    ----------
    x : float32 array [frames] or [frames, channels]
        A mono signal is played on the first two channels.
    rate_hz : float

    Raises
    ------
    DeviceError, MissingDependency
        No device, or it refuses the rate or the channels.
    """
    device = find_device(None, "output")
    planes = x[:, np.newaxis] if x.ndim == 1 else x
    if planes.shape[1] == 1 and device.output_channels > 1:
        planes = np.repeat(planes, 2, axis=1)
    with device_errors(f"{device} does not play {planes.shape[1]} channels at {rate_hz:g} Hz"):
        portaudio().play(planes, rate_hz, device=device.index)
    portaudio().wait()
