"""Streams: what calls the C host, block by block.

The device's thread calls ``bl_host_callback``, a C function: no Python runs in it, and it never waits for
Python's lock. The device named ``clock`` is a thread in C that calls the same function at the same pace; it
needs neither PortAudio nor a sound card, nothing goes in and nothing is heard.
"""

from __future__ import annotations

from .. import native
from ..errors import DeviceError
from .devices import Device, Latency, device_errors, portaudio, quiet_stderr
from .host import Host

_CLOCK_PRIORITY = 60
_COMMON_RATES_HZ = (8000, 11025, 16000, 22050, 32000, 44100, 48000, 88200, 96000, 176400, 192000)


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
        sounddevice = portaudio()
        self._host = host  # sounddevice keeps the callback alive, but not what its userdata points to
        self._what = _pair(source, sink)
        duplex = source is not None
        with device_errors(f"{self._what} cannot be opened"):
            # The base class is there for authors of their own streams, and takes a C function as callback.
            self._stream = sounddevice._StreamBase(
                kind="duplex" if duplex else "output",
                samplerate=host.monitor.rate_hz,
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
        with device_errors(f"{self._what} does not start"):
            self._stream.start()

    @property
    def active(self) -> bool:
        with device_errors(self._what, quiet=False):  # asked often: stderr is the whole process's
            return bool(self._stream.active)

    def stop(self) -> None:
        if self._stream.closed:
            return
        with quiet_stderr():
            self._stream.stop()
            self._stream.close()
        self._host.end_use()


def _pair(source: Device | None, sink: Device) -> str:
    return str(sink) if source in (None, sink) else f"{source} with {sink}"


def takes_rate(source: Device | None, sink: Device, channels: tuple[int, int], rate_hz: float) -> bool:
    """Whether devices take so many channels in and out at this rate."""
    sounddevice = portaudio()
    try:
        with quiet_stderr():
            if source is not None:
                sounddevice.check_input_settings(source.index, channels[0], "float32", None, rate_hz)
            sounddevice.check_output_settings(sink.index, channels[1], "float32", None, rate_hz)
    except sounddevice.PortAudioError:
        return False
    return True


def common_rates(source: Device | None, sink: Device, channels: tuple[int, int]) -> list[float]:
    """Which of the usual rates they take."""
    return [float(rate) for rate in _COMMON_RATES_HZ if takes_rate(source, sink, channels, rate)]
