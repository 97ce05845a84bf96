"""Through a real audio server: a JACK client plays into ``backline live`` and records what comes back.

The server is jackd with its dummy driver, started here under a name of its own and ended by its process id.

Most tests run it in freewheel mode: it then waits for every client instead of for a clock, so no period can
be dropped however busy the machine is, and equality has no excuses. The last one runs in real time, where
the server may drop periods; it counts them and compares what was delivered.
"""

from __future__ import annotations

import json
import shutil
import signal
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import live_tools
import numpy as np
import pytest
from jack_server import NoServer, Server, jack_server
from live_tools import RATE_HZ, backline, finish, noise, write_model

import backline as library
from backline.engine import Model
from backline.rates import at_rate

jack = pytest.importorskip("jack", exc_type=ImportError, reason="the JACK-Client package is not installed")
pytestmark = pytest.mark.skipif(shutil.which("jackd") is None, reason="jackd is not installed")

PERIOD = 64
WAIT_SECONDS = 20.0
wait_for = partial(live_tools.wait_for, seconds=WAIT_SECONDS)


@pytest.fixture(autouse=True)
def quiet() -> None:
    """Keep libjack's chatter about servers that are not up yet off stderr."""
    jack.set_error_function(lambda message: None)
    jack.set_info_function(lambda message: None)


@pytest.fixture
def server(quiet: None) -> Iterator[Server]:
    """A jackd of our own; real time where the system lets it."""
    try:
        with jack_server(RATE_HZ, PERIOD) as started:
            yield started
    except NoServer as error:
        pytest.skip(str(error))


class Player:
    """A JACK client with one output that plays a signal and one input that records.

    Both are indexed by the server's own frame count, so a period this client misses leaves a hole in `heard`
    (NaN) and moves nothing.
    """

    def __init__(self, server: Server, x: np.ndarray, after_frames: int = 4096) -> None:
        self.signal = x
        self.heard = np.full(len(x) + 2 * after_frames, np.nan, np.float32)
        self.xruns = 0
        self.start: int | None = None
        self.playing = False
        self.freewheel = False
        self.client = jack.Client("player", servername=server.name, no_start_server=True)
        self.output = self.client.outports.register("out")
        self.input = self.client.inports.register("in")
        self.client.set_process_callback(self._process)
        self.client.set_xrun_callback(self._xrun)
        self.client.activate()

    def _xrun(self, delayed: float) -> None:
        self.xruns += 1

    def _process(self, frames: int) -> None:
        target = self.output.get_array()
        target[:] = 0.0
        if not self.playing:
            return
        now = self.client.last_frame_time
        if self.start is None:
            self.start = now
        at = (now - self.start) % (1 << 32)
        piece = self.signal[at : at + frames]
        target[: len(piece)] = piece
        room = self.heard[at : at + frames]
        room[:] = self.input.get_array()[: len(room)]
        if at >= len(self.heard):
            self.playing = False

    def connect(self, freewheel: bool) -> None:
        """Take the place of the server's sound card at the ports of PortAudio."""
        ports = [f"PortAudio:{name}" for name in ("in_0", "out_0")]

        def there() -> bool:
            return {port.name for port in self.client.get_ports("PortAudio:")} >= set(ports)

        wait_for("PortAudio's ports", there)
        source, sink = map(self.client.get_port_by_name, ports)
        # PortAudio connects its ports after they appear; only then is it done starting.
        wait_for("PortAudio's connections", lambda: bool(self.client.get_all_connections(sink)))
        for port in self.client.get_all_connections(source):
            self.client.disconnect(port, source)
        self.client.connect(self.output, source)
        self.client.connect(sink, self.input)
        self.freewheel = freewheel
        if freewheel:
            self.client.set_freewheel(True)

    def play(self) -> None:
        """Play all of it, and record a while longer."""
        self.playing = True
        wait_for("the end of the signal", lambda: not self.playing)

    def close(self) -> None:
        """Leave the server."""
        if self.freewheel:
            self.client.set_freewheel(False)
        self.client.deactivate()
        self.client.close()


def through_live(
    server: Server, model: Path, x: np.ndarray, freewheel: bool, *options: object
) -> tuple[Player, dict[str, object]]:
    """Play a signal through ``backline live``; returns the player and the session's summary."""
    live = backline(
        "live",
        model,
        "--json",
        "--device",
        "system",
        "--input-channel",
        1,
        *options,
        JACK_DEFAULT_SERVER=server.name,
    )
    try:
        player = Player(server, x)
        try:
            player.connect(freewheel)
            player.play()
        finally:
            player.close()
    except BaseException:
        live.kill()
        print(*live.communicate())
        raise
    live.send_signal(signal.SIGINT)
    status, out, err = finish(live)
    assert status == 0, err
    return player, json.loads(out.splitlines()[-1])


def render(model: Path, x: np.ndarray) -> np.ndarray:
    """What the model makes of `x` offline, after the silence that it has heard live before the player starts.

    A .nam model is settled on silence anyway; the others start from zeros, and silence then moves them.
    """
    silence = np.zeros(RATE_HZ // 4, np.float32)
    return library.load(model)(np.concatenate([silence, x]))[len(silence) :]


def delay_of(heard: np.ndarray, expected: np.ndarray) -> int:
    """The delay at which most frames agree, among all of up to 64 periods."""
    counts = [
        int(np.count_nonzero(heard[delay : delay + len(expected)] == expected))
        for delay in range(min(64 * PERIOD, len(heard) - len(expected)))
    ]
    return int(np.argmax(counts))


@pytest.mark.parametrize("options", [[], ["--block", 64], ["--block", 100]], ids=str)
def test_what_comes_back_is_the_offline_render(server: Server, tmp_path: Path, options: list[object]) -> None:
    model, x = write_model(tmp_path / "model.json"), noise(RATE_HZ)[:, 0]
    player, summary = through_live(server, model, x, True, *options)
    expected = render(model, x)
    delay = delay_of(player.heard, expected)
    np.testing.assert_array_equal(player.heard[delay : delay + len(x)], expected)
    assert summary["event"] == "summary"
    assert summary["output_not_finite"] == 0


def test_a_nam_model_comes_back_bit_for_bit(server: Server, golden: Path) -> None:
    model, x = golden / "nam" / "models" / "A2.nam", noise(RATE_HZ // 2)[:, 0]
    player, _ = through_live(server, model, x, True)
    expected = library.load(model)(x)
    delay = delay_of(player.heard, expected)
    np.testing.assert_array_equal(player.heard[delay : delay + len(x)], expected)


def test_a_server_of_another_rate_is_resampled_around(wavenet_file: Path) -> None:
    """A model for 48 kHz on a server at 44.1 kHz: what comes back is the resampled model's, bit for bit."""
    x = noise(RATE_HZ // 2)[:, 0]
    try:
        with jack_server(44100, PERIOD) as server:
            player, summary = through_live(server, wavenet_file, x, True)
    except NoServer as error:
        pytest.skip(str(error))
    graph = library.load(wavenet_file).graph
    assert graph.sample_rate_hz == 48000.0
    model = Model(at_rate(graph, 44100.0))
    # Where in 147 frames (160 of the model's) the signal begins is not known: one of these it is.
    phases = [
        model(np.concatenate([np.zeros(147 * 40 + k, np.float32), x]))[147 * 40 + k :] for k in range(147)
    ]
    delays = [delay_of(player.heard, each[:4000]) for each in phases]
    equal = [
        np.array_equal(player.heard[delay : delay + len(x)], each)
        for delay, each in zip(delays, phases, strict=True)
    ]
    assert sum(equal) == 1
    assert summary["sample_rate_hz"] == 44100.0
    assert any("resampled from and to 44100 Hz" in note for note in summary["notes"])  # type: ignore[attr-defined]


def test_in_real_time_what_was_delivered_is_the_offline_render(server: Server, tmp_path: Path) -> None:
    model, x = write_model(tmp_path / "model.json"), noise(2 * RATE_HZ)[:, 0]
    player, summary = through_live(server, model, x, False)
    expected = render(model, x)
    delay = delay_of(player.heard, expected)
    heard = player.heard[delay : delay + len(x)]
    whole = len(x) // PERIOD * PERIOD
    wrong = (heard != expected)[:whole].reshape(-1, PERIOD).any(axis=1)
    missed = np.isnan(heard)[:whole].reshape(-1, PERIOD).any(axis=1)
    drops = player.xruns + int(str(summary["xruns"])) + int(np.count_nonzero(missed))
    # A drop spoils its own period, which need not lie on our boundaries, and those that remember it.
    reach = library.load(model).receptive_field_frames
    assert reach is not None
    most = drops * (2 + -(-reach // PERIOD))
    print(f"{np.count_nonzero(wrong)} of {len(wrong)} periods differ; {drops} drops explain {most}")
    assert np.count_nonzero(wrong) <= most
    assert not wrong.all()
