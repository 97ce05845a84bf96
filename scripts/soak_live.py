"""Live sessions for long: swaps without a click, recordings equal to what was played, servers that die.

    python scripts/soak_live.py [--seconds 600] [--only swaps,jack,restarts,kills,cycles]

Prints a line of figures for each part, and exits with 1 if one is not what it has to be:

swaps     a sine through three models that replace one another every 200 ms, knobs turning, on the clock: no
          step between frames beyond what the models and a crossfade of 20 ms can make
jack      the same through `backline live` in a terminal, with its screen, and a JACK server at 64 and at 32
          frames a period: xruns and their causes; the recording is what a JACK client heard, bit for bit
restarts  the server killed and started anew, five times: how soon the stream is back
kills     the worker killed, five times
cycles    a hundred sessions opened and closed: memory, descriptors and processes stay what they were
"""

from __future__ import annotations

import argparse
import fcntl
import json
import os
import pty
import signal
import struct
import subprocess
import sys
import tempfile
import termios
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from bench_models import write_models
from jack_server import Server, jack_server

import backline
from backline.audiofile import AudioWriter, read
from backline.live.session import LiveSession

RATE_HZ = 48000
SINE_HZ, AMPLITUDE = 220.0, 0.1
SWAP_SECONDS = 0.2
FADE_FRAMES = 960
MODELS = ("a2", "a1-nano")


Live = tuple[subprocess.Popen[bytes], Callable[[str], None], list[int]]


def sine(frames: int) -> np.ndarray:
    return (AMPLITUDE * np.sin(2 * np.pi * SINE_HZ / RATE_HZ * np.arange(frames))).astype(np.float32)


def paths(folder: Path) -> list[Path | str]:
    """Three models of different sizes."""
    written = write_models(folder)
    return ["overdrive", *(written[name] for name in MODELS)]


def step_bound(models: list[backline.engine.Model]) -> float:
    """Most that the output may move from frame to frame: as each model does, and on lines between any two.

    Gains of up to 1 dB and ramps of 20 ms come on top.
    """
    settled = [model(sine(3 * RATE_HZ))[RATE_HZ:] for model in models]
    slope = max(float(np.max(np.abs(np.diff(y)))) for y in settled)
    apart = max(float(np.max(np.abs(a - b))) for a in settled for b in settled)
    peak = max(float(np.max(np.abs(y))) for y in settled)
    gain = 10 ** (1 / 20)
    return 1.02 * gain * (slope + apart / FADE_FRAMES + peak * (gain - 1 / gain) / FADE_FRAMES) + 1e-4


def count_steps(y: np.ndarray, bound: float) -> tuple[int, float]:
    steps = np.abs(np.diff(y[RATE_HZ // 2 :]))
    return int(np.count_nonzero(steps > bound)), float(steps.max())


def swaps(folder: Path, seconds: float) -> bool:
    """On the clock, where no frame of the input can be missing."""
    models = [backline.load(path) for path in paths(folder)]
    with AudioWriter(folder / "sine.wav", RATE_HZ, 1, overwrite=True) as writer:
        writer.write(sine(round(seconds * RATE_HZ))[:, np.newaxis])
    files = {"take": folder / "sine.wav", "to": folder / "swaps.wav", "overwrite": True}
    with LiveSession(models, device="clock", block_frames=64, **files) as session:
        turn = 0
        while not session.is_over():
            turn += 1
            session.play(turn % 3)
            session.set_levels(input_gain_db=0.5 if turn % 2 else -0.5)
            time.sleep(SWAP_SECONDS)
    stats = session.summary()
    bound = step_bound(models)
    violations, worst = count_steps(read(folder / "swaps.wav")[0][:, 0], bound)
    print(
        f"swaps: {stats['swaps']} swaps in {stats['seconds']:.0f} s, {stats['xruns']} xruns, load mean "
        f"{100 * stats['load_mean']:.1f} %; largest step {worst:.5f}, bound {bound:.5f}, beyond it "
        f"{violations}; lost {stats['capture_lost_frames']} frames",
        flush=True,
    )
    return violations == 0 and stats["swaps"] > 0.5 * seconds / SWAP_SECONDS


# ---- through JACK ----


def player(name: str, target: str, seconds: str) -> None:
    """A JACK client in its own process: plays the sine, keeps what it hears by the server's frame count."""
    import jack

    client = jack.Client("soak", servername=name, no_start_server=True)
    output, source = client.outports.register("out"), client.inports.register("in")
    frames = round(float(seconds) * RATE_HZ)
    signal_out, heard = sine(frames + 8192), np.full(frames, np.nan, np.float32)
    start: list[int] = []
    xruns = [0]

    @client.set_process_callback
    def process(count: int) -> None:
        now = client.last_frame_time
        if not start:
            start.append(now)
        at = (now - start[0]) % (1 << 32)
        output.get_array()[:] = signal_out[at : at + count] if at + count <= len(signal_out) else 0.0
        room = heard[at : at + count]
        room[:] = source.get_array()[: len(room)]

    @client.set_xrun_callback
    def xrun(delayed: float) -> None:
        xruns[0] += 1

    client.activate()
    ports = [f"PortAudio:{each}" for each in ("in_0", "out_0")]
    while not {port.name for port in client.get_ports("PortAudio:")} >= set(ports):
        time.sleep(0.05)
    into, out = map(client.get_port_by_name, ports)
    while not client.get_all_connections(out):
        time.sleep(0.05)
    for port in client.get_all_connections(into):
        client.disconnect(port, into)
    client.connect(output, into)
    client.connect(out, source)
    time.sleep(float(seconds))
    client.deactivate()
    client.close()
    np.save(target, heard)
    print(json.dumps({"xruns": xruns[0]}))


@contextmanager
def on_a_terminal(arguments: list[str], environment: dict[str, str]) -> Iterator[Live]:
    """`backline` on a terminal of its own: the process, what presses keys, and the bytes it has drawn."""
    leader, follower = pty.openpty()
    fcntl.ioctl(follower, termios.TIOCSWINSZ, struct.pack("HHHH", 40, 120, 0, 0))
    code = "import sys; from backline.cli import main; sys.exit(main(sys.argv[1:]))"
    process = subprocess.Popen(
        [sys.executable, "-c", code, *arguments],
        stdin=follower,
        stdout=follower,
        stderr=follower,
        env={**os.environ, "TERM": "xterm-256color", **environment},
        start_new_session=True,
    )
    os.close(follower)
    drawn = [0]

    def drain() -> None:
        try:
            while piece := os.read(leader, 1 << 16):
                drawn[0] += len(piece)
        except OSError:
            pass

    threading.Thread(target=drain, daemon=True).start()
    try:
        yield process, lambda keys: os.write(leader, keys.encode()) and None, drawn
    finally:
        process.kill()
        process.wait()
        os.close(leader)


def compare(recorded: np.ndarray, heard: np.ndarray, period: int) -> tuple[int, int, int]:
    """Blocks of 1,024 frames the client heard; those of them found in the recording; and shifts in between.

    A period that the server or a client has missed shifts all that comes after it by whole periods.
    """
    size, shift, shifts, equal, total = 1024, None, 0, 0, 0
    for start in range(0, len(heard) - size, size):
        block = heard[start : start + size]
        if np.isnan(block).any() or not block.any():
            continue
        total += 1

        def fits(at: int, block: np.ndarray = block, start: int = start) -> bool:
            begin = start + at
            return 0 <= begin <= len(recorded) - size and np.array_equal(
                recorded[begin : begin + size], block
            )

        if shift is not None and fits(shift):
            equal += 1
            continue
        candidates = np.flatnonzero((recorded[:-1] == block[0]) & (recorded[1:] == block[1]))
        found = [int(at) - start for at in candidates if fits(int(at) - start)]
        if found:
            new = min(found, key=lambda at: abs(at - shift) if shift is not None else 0)
            shifts += shift is not None
            shift, equal = new, equal + 1
    return total, equal, shifts


def through_jack(folder: Path, seconds: float, period: int) -> bool:
    """The real command, its screen, a JACK server, and a client that feeds and hears it."""
    record, stats = folder / f"jack-{period}.wav", folder / f"jack-{period}.json"
    with jack_server(RATE_HZ, period) as server:
        arguments = [
            "live",
            *map(str, paths(folder)),
            "--device",
            "system",
            "--input-channel",
            "1",
            "--force",
        ]
        arguments += ["--record", str(record), "--stats", str(stats)]
        with on_a_terminal(arguments, {"JACK_DEFAULT_SERVER": server.name}) as (live, press, drawn):
            time.sleep(3.0)
            heard = folder / "heard.npy"
            client = subprocess.Popen(
                [sys.executable, __file__, "--player", server.name, str(heard), str(seconds)],
                stdout=subprocess.PIPE,
                text=True,
            )
            turn = 0
            while client.poll() is None and live.poll() is None:
                turn += 1
                press("n" + "+-"[turn % 2])
                time.sleep(SWAP_SECONDS)
            press("q")
            status = live.wait(30)
            out, _ = client.communicate()
    saved = json.loads(stats.read_text())
    summary = saved["summary"]
    total, equal, shifts = compare(read(record)[0][:, 0], np.load(heard), period)
    own = summary["xrun_causes"].get("own load", 0)
    print(
        f"jack, {period} frames: {summary['swaps']} swaps in {summary['seconds']:.0f} s, "
        f"{drawn[0] / 1e3:.0f} kB drawn, xruns {summary['xruns']} ({summary['xrun_causes']}), the client's "
        f"own {json.loads(out)['xruns']}; load p99 {100 * summary['load_p99']:.1f} %, worst "
        f"{100 * summary['load_worst']:.0f} %; of {total} blocks heard {equal} are in the recording "
        f"bit for bit, {shifts} shifts",
        flush=True,
    )
    return status == 0 and own == 0 and total > 0 and total - equal <= 2 * (shifts + summary["xruns"] + 1)


# ---- what goes wrong ----


def wait_until(condition: Callable[[], bool], what: str) -> float:
    begun = time.monotonic()
    while not condition():
        if time.monotonic() - begun > 30:
            raise SystemExit(f"waited 30 s for {what}")
        time.sleep(0.002)
    return time.monotonic() - begun


def come_back(session: LiveSession, reopened: int) -> None:
    wait_until(lambda: session.status().reopened >= reopened, "the stream")
    frames = session.status().stats.frames
    wait_until(lambda: session.status().stats.frames > frames, "a callback")


def restarts(folder: Path) -> bool:
    times = []
    with jack_server(RATE_HZ, 64) as server:
        os.environ["JACK_DEFAULT_SERVER"] = server.name
        with LiveSession(
            backline.load("overdrive"), device="system", record=folder / "restarts.wav", overwrite=True
        ) as session:
            for number in range(1, 6):
                time.sleep(1.0)
                kill_server(server, number)
                wait_until(lambda: session.status().state == "waiting", "the loss to be seen")
                server.restart()
                begun = time.monotonic()
                come_back(session, number)
                times.append(time.monotonic() - begun)
    frames = session.summary()["frames"]
    whole = len(read(folder / "restarts.wav")[0]) == frames
    print(
        f"restarts: back after {', '.join(f'{each:.2f}' for each in times)} s; the recording is "
        f"{'whole' if whole else 'NOT whole'} ({frames} frames)",
        flush=True,
    )
    return whole and max(times) <= 2.0


def kill_server(server: Server, number: int) -> None:
    if number % 2:
        server.kill()
    else:
        server.process.terminate()
        server.process.wait()


def kills() -> bool:
    times = []
    with LiveSession(backline.load("overdrive"), device="clock") as session:
        for number in range(1, 6):
            time.sleep(1.5 if number % 2 else 0.1)
            link = session._running._link
            assert link is not None
            os.kill(link.process.pid, signal.SIGKILL)
            begun = time.monotonic()
            come_back(session, number)
            times.append(time.monotonic() - begun)
    print(f"kills: sound again after {', '.join(f'{each:.2f}' for each in times)} s", flush=True)
    return max(times) <= 2.0


def resident_mb() -> float:
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6


def cycles() -> bool:
    model = backline.load("overdrive")
    found = []
    with jack_server(RATE_HZ, 64) as server:
        os.environ["JACK_DEFAULT_SERVER"] = server.name
        for number in range(100):
            with LiveSession(model, device="system") as session:
                session.run(0.05)
            if number in (9, 54, 99):
                children = Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()
                # One child is the server.
                found.append(
                    (resident_mb(), len(os.listdir("/proc/self/fd")), len(children), threading.active_count())
                )
    text = "; ".join(
        f"{mb:.1f} MB, {fds} descriptors, {kids} children, {threads} threads"
        for mb, fds, kids, threads in found
    )
    print(f"cycles: after 10, 55 and 100: {text}", flush=True)
    return found[2][0] - found[0][0] < 5.0 and len({each[1:] for each in found}) == 1


def main() -> None:
    """Parse, run the parts, say how many failed."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seconds", type=float, default=600.0)
    parser.add_argument("--only", default="swaps,jack,restarts,kills,cycles")
    parser.add_argument("--player", nargs=3, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.player:
        player(*arguments.player)
        return
    wanted = arguments.only.split(",")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        parts: dict[str, list[Callable[[], bool]]] = {
            "swaps": [lambda: swaps(folder, arguments.seconds)],
            "jack": [
                lambda: through_jack(folder, arguments.seconds, 64),
                lambda: through_jack(folder, arguments.seconds, 32),
            ],
            "restarts": [lambda: restarts(folder)],
            "kills": [kills],
            "cycles": [cycles],
        }
        failed = [part for part in wanted for run in parts[part] if not run()]
    if failed:
        sys.exit(f"not what it has to be: {', '.join(failed)}")


if __name__ == "__main__":
    main()
