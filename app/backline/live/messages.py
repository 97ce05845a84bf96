"""What the supervisor of a session and its worker say to each other, and the pipe they say it through.

A message is a frozen dataclass of plain values. On the pipe it is a header of two lengths, the fields as
JSON, then the bytes of its one field that is not JSON, if it has such; file descriptors travel beside it.

::

    supervisor                       worker
    Open    what is wished for   ->
            what is there        <-  Opened, or Failed
    Compile a model              ->
                                 <-  Compiled, or Refused
    Start   one of the models    ->
                                 <-  Started, or Failed
    Compile, Play, Turn, Forget  ->
                                 <-  Compiled, Refused (also for Play), Stopped (the device did)
    Stop                         ->
                                 <-  Stopped, and ends
"""

from __future__ import annotations

import contextlib
import json
import math
import select
import socket
import struct
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, fields
from typing import Any, get_args

from .devices import Device, Latency

_HEADER = struct.Struct("<II")
_MOST_DESCRIPTORS = 4


@dataclass(frozen=True)
class Open:
    """Find the devices, and say what would be opened; nothing sounds yet.

    Attributes
    ----------
    source, sink : int, str or None
        As for `devices.find_device`.
    rates_hz : tuple of float
        To try in this order; where it is empty, the device's own.
    must_fit : bool
        Whether only these rates will do, and not the device's own.
    block_frames : int
        0 leaves it to PortAudio.
    latency : {"low", "high"} or float
    input_channels, output_channels : tuple of int, or None
        From 1; None for those that suit the model.
    model_inputs, model_outputs : int
        Channels of one stream of the models.
    take_channels : int or None
        Of the recording that is heard in place of a device.
    """

    source: int | str | None
    sink: int | str | None
    rates_hz: tuple[float, ...]
    must_fit: bool
    block_frames: int
    latency: Latency
    input_channels: tuple[int, ...] | None
    output_channels: tuple[int, ...] | None
    model_inputs: int
    model_outputs: int
    take_channels: int | None


@dataclass(frozen=True)
class Opened:
    """What `Open` found.

    Attributes
    ----------
    source : Device or None
        None with a take or the clock.
    sink : Device
    rate_hz : float
    streams : int
    input_map, output_map : tuple
        As for `host.Host`; with a take the input map says which of its channels is which row.
    device_inputs : int
        Channels of the blocks the device offers.
    notes : tuple of str
    block_frames : int
        That the device will ask for; 0 where that shows only once it runs.
    """

    source: Device | None
    sink: Device
    rate_hz: float
    streams: int
    input_map: tuple[int | None, ...]
    output_map: tuple[int | None, ...]
    device_inputs: int
    notes: tuple[str, ...] = ()
    block_frames: int = 0


@dataclass(frozen=True)
class Compile:
    """Get a model ready; `graph` is a .backline file. `block_frames` is what its load is measured at."""

    number: int
    streams: int
    block_frames: int
    rate_hz: float
    graph: bytes = field(repr=False)


@dataclass(frozen=True)
class Compiled:
    """A model is ready; `load` is the share of the time a block lasts that it takes alone."""

    number: int
    load: float


@dataclass(frozen=True)
class Refused:
    """A model cannot be played; says why. `serial` is that of the `Play` that failed; 0 was no such thing."""

    number: int
    why: str
    serial: int = 0


@dataclass(frozen=True)
class Entrance:
    """How a model gets in: the values of its knobs by name, and what `host.Entry` says."""

    number: int
    serial: int
    values: dict[str, float]
    latency_frames: int
    warm_frames: int = 0
    fade_frames: int = 0
    alone: bool = False


@dataclass(frozen=True)
class Start:
    """Set the device going. Beside it are the descriptors of the monitor and of the take, if there is one."""

    first: Entrance
    monitor_rows: tuple[int, int]
    take_frames: int
    fade_in_frames: int
    calm_frames: int
    limiter: bool


@dataclass(frozen=True)
class Started:
    """It goes; latencies as PortAudio reports them, the rest as `hygiene` does."""

    input_latency_ms: float | None
    output_latency_ms: float | None
    scheduling: str | None
    memory_locked: str


@dataclass(frozen=True)
class Play:
    """Swap to another model."""

    entrance: Entrance


@dataclass(frozen=True)
class Turn:
    """Turn a knob of the model that got in as `serial`."""

    serial: int
    knob: str
    value: float


@dataclass(frozen=True)
class Forget:
    """A model will not be asked for again."""

    number: int


@dataclass(frozen=True)
class Stop:
    """Stop the device and end."""


@dataclass(frozen=True)
class Stopped:
    """The device has stopped; `why` is None if it was told to."""

    why: str | None


@dataclass(frozen=True)
class Failed:
    """What was asked for cannot be done; `kind` is the name of an exception of `backline.errors`."""

    kind: str
    text: str


_Asked = Open | Compile | Start | Play | Turn | Forget | Stop
_Answered = Opened | Compiled | Refused | Started | Stopped | Failed
Message = _Asked | _Answered
_KINDS: dict[str, type[Any]] = {kind.__name__: kind for kind in get_args(Message)}
#: Fields that are messages' parts, not plain values.
_PARTS: dict[str, type[Any]] = {"source": Device, "sink": Device, "first": Entrance, "entrance": Entrance}


class Closed(Exception):
    """The other side has gone."""


class Pipe:
    """One end of the pipe. One thread sends at a time, one receives."""

    def __init__(self, connection: socket.socket) -> None:
        self._socket = connection
        self._poll = select.poll()
        self._poll.register(connection, select.POLLIN)

    @classmethod
    def pair(cls) -> tuple[Pipe, socket.socket]:
        """An end for this process, and a socket for another."""
        here, there = socket.socketpair()
        return cls(here), there

    def fileno(self) -> int:
        """For `select`."""
        return self._socket.fileno()

    def send(self, message: Message, descriptors: Sequence[int] = ()) -> None:
        """Send a message; raises `Closed` if nobody is there, or reads for as long as `set_patience` said."""
        values = asdict(message)
        blob = values.pop("graph", b"")
        text = json.dumps({"type": type(message).__name__, **values}).encode()
        head = _HEADER.pack(len(text), len(blob))
        try:
            socket.send_fds(self._socket, [head], list(descriptors))
            self._socket.sendall(text)
            self._socket.sendall(blob)
        except OSError as error:
            self.hang_up()  # half a message may be on its way: nothing can follow it
            raise Closed from error

    def receive(self, timeout_s: float | None) -> tuple[Message, list[int]] | None:
        """The next message and the descriptors beside it, now the caller's to close; None after the time.

        Raises
        ------
        Closed
            The other side has gone.
        """
        try:
            if not self._poll.poll(None if timeout_s is None else math.ceil(1e3 * timeout_s)):
                return None
            head, descriptors, _, _ = socket.recv_fds(self._socket, _HEADER.size, _MOST_DESCRIPTORS)
            head += self._exactly(_HEADER.size - len(head)) if head else b""
            if not head:
                raise Closed
            text_bytes, blob_bytes = _HEADER.unpack(head)
            text, blob = self._exactly(text_bytes), self._exactly(blob_bytes)
        except (OSError, ValueError) as error:
            raise Closed from error
        return _decode(text, blob), list(descriptors)

    def _exactly(self, count: int) -> bytes:
        pieces = bytearray()
        while len(pieces) < count:
            piece = self._socket.recv(min(count - len(pieces), 1 << 20))
            if not piece:
                raise Closed
            pieces += piece
        return bytes(pieces)

    def set_patience(self, seconds: float) -> None:
        """Let `send` give up on a reader that takes nothing for so long; else it waits for ever."""
        self._socket.setsockopt(
            socket.SOL_SOCKET, socket.SO_SNDTIMEO, struct.pack("@ll", *divmod(int(1e6 * seconds), 1_000_000))
        )

    def hang_up(self) -> None:
        """End the talk, from any thread: whoever waits in it gets `Closed`."""
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """Hang up, and free the descriptor: nobody may be at it."""
        self._socket.close()


def _decode(text: bytes, blob: bytes) -> Message:
    values = json.loads(text)
    kind = _KINDS[values.pop("type")]
    if "graph" in {each.name for each in fields(kind)}:
        values["graph"] = blob
    made: Message = kind(**{name: _value(name, value) for name, value in values.items()})
    return made


def _value(name: str, value: Any) -> Any:
    if isinstance(value, dict) and name in _PARTS:
        return _PARTS[name](**{key: _value(key, each) for key, each in value.items()})
    return tuple(value) if isinstance(value, list) else value
