"""The round trip through a real server: a JACK client takes what PortAudio plays and hands it back late.

Two clients that hear each other are a circle, which JACK cuts by delaying one connection by a period: what
comes back is late by a period, and by what the client adds. The server runs in real time, where it may drop
periods: such rounds are repeated, and one that had xruns to the last proves nothing and is left out."""

from __future__ import annotations

import contextlib
import json
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

import live_tools
import numpy as np
import pytest
from jack_server import NoServer, Server, jack_server
from live_tools import backline, finish, run

jack = pytest.importorskip("jack", exc_type=ImportError, reason="the JACK-Client package is not installed")
pytestmark = pytest.mark.skipif(shutil.which("jackd") is None, reason="jackd is not installed")

RATE_HZ, PERIOD = 48000, 256
#: For what comes at once, on a machine that is busy with something else.
WAIT_SECONDS = 60.0
wait_for = partial(live_tools.wait_for, seconds=WAIT_SECONDS)


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    jack.set_error_function(lambda message: None)
    jack.set_info_function(lambda message: None)
    try:
        with jack_server(RATE_HZ, PERIOD) as started:
            yield started
    except NoServer as error:
        pytest.skip(str(error))


@contextmanager
def loop(server: Server, frames: int, gain: float = 1.0) -> Iterator[object]:
    """A JACK client that puts out what comes in, late by so many frames."""
    client = jack.Client("loop", servername=server.name, no_start_server=True)
    source, sink = client.inports.register("in"), client.outports.register("out")
    waiting = np.zeros(frames, np.float32)

    @client.set_process_callback
    def process(count: int) -> None:
        nonlocal waiting
        waiting = np.concatenate([waiting, np.float32(gain) * source.get_array()])
        sink.get_array()[:] = waiting[:count]
        waiting = waiting[count:]

    with client:
        yield client


def measured(server: Server, *options: object) -> dict[str, object]:
    """What `backline latency` finds, as a process of its own; rounds with xruns left out."""
    command = ("latency", "--device", "loop", "--json", "--wait", 0.1, "--rounds", 2, *options)
    status, out, err = run(*command, JACK_DEFAULT_SERVER=server.name)
    assert status == 0, err
    found = json.loads(out)
    found["clean"] = [each for each in found["rounds"] if each["xruns"] == 0]
    if not found["clean"]:
        pytest.skip("the server dropped periods in every round")
    return found


@pytest.mark.parametrize("frames", [0, 1, 37, 1000])
def test_what_is_measured_is_the_delay_there_is(server: Server, frames: int) -> None:
    with loop(server, frames):
        found = measured(server)
    for trip in found["clean"]:
        assert trip["delay_frames"] == pytest.approx(PERIOD + frames, abs=0.1)
        assert trip["block_frames"] == PERIOD
        assert trip["level_db"] == pytest.approx(0.0, abs=0.05)


def test_two_delays_differ_by_what_they_differ_by(server: Server) -> None:
    """Also with blocks that are none of the server's, for which PortAudio adds a delay of its own."""
    delays = []
    for frames in (100, 137):
        with loop(server, frames):
            delays.append(measured(server, "--block", 100)["clean"][0]["delay_frames"])
    assert delays[1] - delays[0] == pytest.approx(37, abs=0.1)
    assert delays[0] >= PERIOD + 100 - 0.1


def test_a_client_that_turns_the_sound_upside_down(server: Server) -> None:
    command = ("latency", "--device", "loop", "--wait", 0.1, "--rounds", 1, "--model", "overdrive")
    with loop(server, 5, -0.5):
        status, out, err = run(*command, JACK_DEFAULT_SERVER=server.name)
    assert status == 0
    assert "the sound comes back upside down" in err
    assert "-6.0 dB" in out
    assert [line.split("  ")[0] for line in out.splitlines()[1:]] == [
        "round trip, measured",
        "claimed by PortAudio",
        "measured less claimed",
        "device in",
        "device out",
        "one block",
        "model",
        "round trip with the model",
    ]


def test_nothing_came_back(server: Server) -> None:
    with loop(server, 0, 0.0):
        status, out, err = run("latency", "--device", "loop", "--wait", 0, JACK_DEFAULT_SERVER=server.name)
    assert status == 1
    assert not out
    assert err.startswith("backline: error: nothing came back: connect the output to the input with a cable")
    assert err.count("\n") == 1


DIRECT = """
import json, sys, jack
from backline.live.devices import find_device, play_and_record
from backline.live.latency import delay_frames, sweep

jack.set_error_function(lambda message: None)
client = jack.Client("patch", servername=sys.argv[1], no_start_server=True)
client.activate()

def connect():
    out, back = (client.get_port_by_name(f"PortAudio:{name}") for name in ("out_0", "in_0"))
    for port in client.get_all_connections(back):
        client.disconnect(port, back)
    client.connect(out, back)

x, system = sweep(48000.0), find_device("system", "input")
found = play_and_record(x, 48000.0, system, system, when_started=connect)
measured = delay_frames(x, found.recorded, 48000.0)
claimed = [found.input_latency_ms, found.output_latency_ms]
print(json.dumps([measured.delay_frames, found.xruns, claimed]))
"""


def test_an_output_connected_to_an_input_is_late_by_a_period(server: Server) -> None:
    """PortAudio's own ports, and its claims for the dummy's: what JACK says of them."""
    process = subprocess.run(
        [sys.executable, "-c", DIRECT, server.name],
        capture_output=True,
        text=True,
        env={**__import__("os").environ, "JACK_DEFAULT_SERVER": server.name},
        timeout=WAIT_SECONDS,
    )
    assert process.returncode == 0, process.stderr
    delay, xruns, claimed = json.loads(process.stdout)
    if xruns:
        pytest.skip("the server dropped periods in every try")
    assert delay == pytest.approx(PERIOD, abs=0.1)
    assert all(ms is None or 0.0 <= ms < 1000.0 for ms in claimed)


def test_a_server_that_dies_is_one_sentence() -> None:
    """PortAudio hangs then: what it is measured in says so and ends, or is killed."""
    jack.set_error_function(lambda message: None)
    try:
        with jack_server(RATE_HZ, PERIOD) as server:
            process = backline(
                "latency", "--device", "system", "--rounds", 1, "--wait", 15, JACK_DEFAULT_SERVER=server.name
            )
            client = jack.Client("watch", servername=server.name, no_start_server=True)
            wait_for("PortAudio's ports", lambda: bool(client.get_ports("PortAudio:")))
            client.close()
            server.process.send_signal(signal.SIGTERM)
            with contextlib.suppress(subprocess.TimeoutExpired):  # one that hangs at its end has died too
                server.process.wait(WAIT_SECONDS)
            # The command gives up after 5 + 3 * (15 + 5.1) seconds, if what it started hangs.
            status, out, err = finish(process, 200)
    except NoServer as error:
        pytest.skip(str(error))
    assert status == 1
    assert not out
    assert err.startswith("backline: error: ")
    assert "still" in err or "PortAudio" in err
    assert err.count("\n") == 1
