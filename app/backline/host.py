"""Audio devices, and the streams that call the C host.

The only module that imports sounddevice, and only when a device is asked for. The device's thread calls
``bl_host_callback``, a C function: no Python runs in it, and it never waits for Python's lock.

The device named ``clock`` is a thread in C that calls the same function at the same pace. It needs neither
PortAudio nor a sound card; nothing goes in and nothing is heard.
"""

from __future__ import annotations

import atexit
import contextlib
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from . import native
from .errors import DeviceError, MissingDependency
from .native_host import Host

Array = NDArray[np.float32]
Direction = Literal["input", "output"]
Latency = Literal["low", "high"] | float

CLOCK = "clock"
_CLOCK_CHANNELS = 64
_CLOCK_PRIORITY = 60
_COMMON_RATES_HZ = (8000, 11025, 16000, 22050, 32000, 44100, 48000, 88200, 96000, 176400, 192000)


# ---- devices ----


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


def _sounddevice() -> Any:
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
def _device_errors(what: str, quiet: bool = True) -> Iterator[None]:
    """Turn sounddevice's exceptions into one sentence, and keep what ALSA and JACK print off stderr."""
    sounddevice = _sounddevice()
    try:
        with _quiet_stderr() if quiet else contextlib.nullcontext():
            yield
    except sounddevice.PortAudioError as error:
        reason = str(error.args[0]).replace("\n", " ").rpartition(": ")[2]
        if len(error.args) > 2 and error.args[2][2]:
            reason += f" ({error.args[2][2]})"
        raise DeviceError(f"{what}: {reason.rstrip('.')}") from error
    except ValueError as error:
        raise DeviceError(f"{what}: {error}") from error


@contextlib.contextmanager
def _quiet_stderr() -> Iterator[None]:
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
    sounddevice = _sounddevice()
    with _device_errors("devices cannot be listed"):
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
    with _device_errors(f"{device} does not play {planes.shape[1]} channels at {rate_hz:g} Hz"):
        _sounddevice().play(planes, rate_hz, device=device.index)
    _sounddevice().wait()


# ---- streams: what calls the host ----


class ClockStream:
    """The clock device at work."""

    latency_ms: tuple[float | None, float | None] = (None, None)

    def __init__(self, host: Host, block_frames: int) -> None:
        self._host = host
        self._block_frames = block_frames
        # C writes the handle here itself: no interrupt can come between the thread and what stops it.
        self._timer = native.ffi.new("bl_timer **")

    def start(self) -> None:
        self._host.begin_use()
        host, block = self._host.pointer, self._block_frames
        status = native.lib.bl_timer_new(host, block, _CLOCK_PRIORITY, self._timer)
        if status != native.lib.BL_OK:
            self._host.end_use()
        detail = f"blocks of 1 to {native.lib.BL_HOST_BLOCK_FRAMES} frames"
        native.check(status, f"starting a clock of {block} frames", detail, fault=DeviceError)

    @property
    def active(self) -> bool:
        return bool(self._timer[0])

    def stop(self) -> None:
        if self._timer[0]:
            # Forgotten before it is freed: an interrupt in between costs a thread, and never frees twice.
            timer, self._timer[0] = self._timer[0], native.ffi.NULL
            native.lib.bl_timer_free(timer)
            self._host.end_use()


class PortAudioStream:
    """A PortAudio stream that calls the host without Python."""

    def __init__(
        self, host: Host, source: Device | None, sink: Device, block_frames: int, latency: Latency
    ) -> None:
        sounddevice = _sounddevice()
        self._host = host  # sounddevice keeps the callback alive, but not what its userdata points to
        self._what = _pair(source, sink)
        duplex = source is not None
        with _device_errors(f"{self._what} cannot be opened"):
            # The base class is there for authors of their own streams, and takes a C function as callback.
            self._stream = sounddevice._StreamBase(
                kind="duplex" if duplex else "output",
                samplerate=host.rate_hz,
                blocksize=block_frames,
                device=(source.index, sink.index) if source is not None else sink.index,
                channels=(host.input_channels, host.output_channels) if duplex else host.output_channels,
                dtype="float32",
                latency=latency,
                callback=native.ffi.addressof(native.lib, "bl_host_callback"),
                userdata=host.pointer,
                wrap_callback=None,
            )
        self._host.begin_use()
        found = self._stream.latency
        self.latency_ms: tuple[float | None, float | None] = (
            (1e3 * found[0], 1e3 * found[1]) if duplex else (None, 1e3 * found)
        )

    def start(self) -> None:
        with _device_errors(f"{self._what} does not start"):
            self._stream.start()

    @property
    def active(self) -> bool:
        with _device_errors(self._what, quiet=False):  # asked often: stderr is the whole process's
            return bool(self._stream.active)

    def abandon(self) -> None:
        """Never touch the stream again, not even at the end of the process.

        PortAudio waits ten minutes for a JACK server that has gone, and then ends the process.
        """
        atexit.unregister(_sounddevice()._exit_handler)

    def stop(self) -> None:
        if self._stream.closed:
            return
        with _quiet_stderr():
            self._stream.stop()
            self._stream.close()
        self._host.end_use()


def _pair(source: Device | None, sink: Device) -> str:
    return str(sink) if source in (None, sink) else f"{source} with {sink}"


def check_rate(source: Device | None, sink: Device, host: Host) -> None:
    """Say which rates the devices take, if they do not take the host's."""
    sounddevice = _sounddevice()

    def takes(rate_hz: float) -> bool:
        try:
            with _quiet_stderr():
                if source is not None:
                    sounddevice.check_input_settings(
                        source.index, host.input_channels, "float32", None, rate_hz
                    )
                sounddevice.check_output_settings(sink.index, host.output_channels, "float32", None, rate_hz)
        except sounddevice.PortAudioError:
            return False
        return True

    if takes(host.rate_hz):
        return
    what = _pair(source, sink)
    rates = [f"{rate_hz}" for rate_hz in _COMMON_RATES_HZ if takes(rate_hz)]
    if not rates:
        raise DeviceError(
            f"{what}: refuses {host.input_channels} input and {host.output_channels} output channels at "
            f"{host.rate_hz:g} Hz and at every common rate"
        )
    raise DeviceError(
        f"{what}: refuses the model's rate of {host.rate_hz:g} Hz; it takes {', '.join(rates)} Hz"
    )
