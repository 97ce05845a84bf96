"""The worker: the process in which a device calls the host. It obeys its supervisor and owns nothing.

PortAudio can hang for half a minute when a sound server dies, and cannot look for devices twice. So all of
it lives here, in a process that may be killed and replaced at any time: what is worth keeping (models,
knobs, levels, recordings, counters) is the supervisor's.

Started as ``python -m backline.live.worker SOCKET LIFE``, two descriptors: the pipe to the supervisor, and
one from which nothing comes but an end when the supervisor has gone. Whoever starts it may let it wait: all
but PortAudio is imported by then.
"""

from __future__ import annotations

import contextlib
import mmap
import os
import socket
import sys
import threading
from typing import NoReturn

import numpy as np

from ..engine import Engine, Program
from ..errors import BacklineError, DeviceError
from ..formats import backline_file
from . import headroom, hygiene
from .devices import CLOCK_BLOCK_FRAMES
from .host import Entry, Host
from .messages import (
    Closed,
    Compile,
    Compiled,
    Entrance,
    Failed,
    Forget,
    Message,
    Open,
    Opened,
    Pipe,
    Play,
    Refused,
    Start,
    Started,
    Stop,
    Stopped,
    Turn,
)
from .monitor import Monitor
from .opening import resolve
from .streams import ClockStream, PortAudioStream

_POLL_SECONDS = 0.005
_ACTIVE_SECONDS = 0.25
_MEASURED_SECONDS = 0.02


class Worker:
    """What answers the supervisor's messages.

    Parameters
    ----------
    pipe : Pipe
        To the supervisor; when it is closed there, the worker ends.
    """

    def __init__(self, pipe: Pipe) -> None:
        self._pipe = pipe
        self._programs: dict[int, tuple[Program, int]] = {}  # and its streams
        self._entered: tuple[int, Program] | None = None  # serial and model of the last that got in
        self._wish: Open | None = None
        self._opened: Opened | None = None
        self._host: Host | None = None
        self._monitor: Monitor | None = None
        self._stream: ClockStream | PortAudioStream | None = None
        self._unasked = 0

    def run(self) -> None:
        """Obey until told to stop, or until the supervisor has gone."""
        with contextlib.suppress(Closed):
            try:
                while True:
                    # Without a host there is nothing to look after in between.
                    got = self._pipe.receive(None if self._host is None else _POLL_SECONDS)
                    if got is not None:
                        self._obey(*got)
                        if isinstance(got[0], Stop):
                            return
                    self._look_after()
            except DeviceError as error:
                self._pipe.send(Stopped(str(error)))

    def _obey(self, message: Message, descriptors: list[int]) -> None:
        try:
            self._answer(message, descriptors)
        except BacklineError as error:
            self._pipe.send(Failed(type(error).__name__, str(error)))
        except MemoryError as error:
            self._pipe.send(Failed(BacklineError.__name__, f"not enough memory: {error}"))

    def _answer(self, message: Message, descriptors: list[int]) -> None:
        match message:
            case Open():
                self._opened, self._wish = resolve(message), message
                self._pipe.send(self._opened)
            case Compile():
                self._compile(message)
            case Start():
                self._start(message, descriptors)
            case Play(entrance) if self._host is not None:
                self._play(self._host, entrance)
            case Turn(serial, knob, value) if self._entered is not None and serial == self._entered[0]:
                if self._host is not None:
                    self._host.set(serial, self._entered[1].knob_index(knob), value)
            case Forget(number):
                self._programs.pop(number, None)
            case Stop():
                self.close()
                self._pipe.send(Stopped(None))
            case _:
                pass

    def _compile(self, message: Compile) -> None:
        try:
            program = Program(backline_file.decode(message.graph))
            load = headroom.measure(
                program, message.streams, message.block_frames, message.rate_hz, _MEASURED_SECONDS
            ).mean
        except (BacklineError, MemoryError) as error:
            self._pipe.send(Refused(message.number, str(error) or "not enough memory"))
            return
        self._programs[message.number] = program, message.streams
        self._pipe.send(Compiled(message.number, load))

    def _play(self, host: Host, entrance: Entrance) -> None:
        before = self._entered
        try:
            host.swap(self._entry(entrance))
        except (BacklineError, MemoryError) as error:
            self._entered = before
            why = str(error) or "not enough memory"
            self._pipe.send(Refused(entrance.number, why, entrance.serial))

    def _entry(self, entrance: Entrance) -> Entry:
        engine = Engine(*self._programs[entrance.number])
        for name, value in entrance.values.items():
            engine.set(name, value)
        self._entered = entrance.serial, engine.program
        return Entry(
            engine,
            entrance.serial,
            entrance.latency_frames,
            entrance.warm_frames,
            entrance.fade_frames,
            entrance.alone,
        )

    def _start(self, message: Start, descriptors: list[int]) -> None:
        opened, wish = self._opened, self._wish
        assert opened is not None
        assert wish is not None
        self._monitor = Monitor.attach(descriptors[0], opened.rate_hz, *message.monitor_rows)
        take = None
        if wish.take_channels is not None:
            mapped = mmap.mmap(descriptors[1], 0)
            os.close(descriptors[1])
            take = np.frombuffer(mapped, np.float32).reshape(len(opened.input_map), message.take_frames)
        self._host = Host(
            self._entry(message.first),
            self._monitor,
            input_map=[None] * len(opened.input_map) if take is not None else opened.input_map,
            output_map=opened.output_map,
            input_channels=opened.device_inputs,
            take=take,
            fade_in_frames=message.fade_in_frames,
            calm_frames=message.calm_frames,
            limiter=message.limiter,
        )
        locked = hygiene.lock_memory()  # before sound runs: it holds up whoever touches new memory meanwhile
        before = hygiene.thread_ids()
        stream = self._open_stream(opened, wish)
        stream.start()
        self._stream = stream
        scheduling = hygiene.scheduling_of_audio_thread(before)
        self._pipe.send(Started(*stream.latency_ms, scheduling, locked.what))

    def _open_stream(self, opened: Opened, wish: Open) -> ClockStream | PortAudioStream:
        assert self._host is not None
        if opened.sink.index is None:
            return ClockStream(self._host, wish.block_frames or CLOCK_BLOCK_FRAMES)
        return PortAudioStream(self._host, opened.source, opened.sink, wish.block_frames, wish.latency)

    def _look_after(self) -> None:
        if self._host is None or self._stream is None:
            return
        self._host.reclaim()
        self._unasked += 1
        if self._unasked * _POLL_SECONDS >= _ACTIVE_SECONDS:
            self._unasked = 0
            assert self._opened is not None
            if not self._stream.active:
                raise DeviceError(f"{self._opened.sink}: stopped by itself")

    def close(self) -> None:
        """Stop the device and free the host; PortAudio may take its time, or all of it."""
        if self._stream is not None:
            self._stream.stop()
        if self._host is not None:
            self._host.close()


def _die_with(life: int) -> None:
    """End when the supervisor has, also while PortAudio hangs."""
    os.read(life, 1)
    os._exit(1)


def main(arguments: list[str]) -> NoReturn:
    """Run a worker on the socket whose descriptor is given."""
    pipe = Pipe(socket.socket(fileno=int(arguments[0])))
    threading.Thread(target=_die_with, args=(int(arguments[1]),), daemon=True).start()
    Worker(pipe).run()
    # Not the interpreter's own way out: PortAudio's would wait for servers that have gone.
    os._exit(0)


if __name__ == "__main__":
    main(sys.argv[1:])
