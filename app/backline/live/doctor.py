"""What may keep live sound from working on this machine, and what to do about it.

Nothing here opens a device, and PortAudio is asked in a process of its own: one that hangs is a finding.
"""

from __future__ import annotations

import platform
import threading
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from statistics import median
from typing import Literal

import numpy as np

from .. import machine, native
from ..api import conv1d
from ..errors import BacklineError
from . import hygiene, probe
from .devices import Device
from .hygiene import CPUS, PROC, ROOT, Limits

Level = Literal["ok", "warning", "problem"]

SERVERS = ("jackd", "jackdbus", "pipewire", "pipewire-pulse", "pulseaudio")
_JACK = ("jackd", "jackdbus")

_RAISE_LIMITS = (
    'write "@audio - rtprio 95" and "@audio - memlock unlimited" to /etc/security/limits.d/audio.conf, '
    "join the group audio and log in again"
)
_SLEEP_SECONDS = 1e-3
#: What a block of 64 frames lasts at 48 kHz.
_LATE_SECONDS = 64 / 48000


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at.

    Attributes
    ----------
    check : str
        What was looked at.
    level : {"ok", "warning", "problem"}
        A problem keeps live sound from working; a warning may make it crackle.
    found : str
    advice : str
        What to do, in one sentence; empty if there is nothing to do, or `found` says it.
    """

    check: str
    level: Level
    found: str
    advice: str = ""


def diagnose(
    *,
    timeout_s: float = 5.0,
    clock_seconds: float = 1.0,
    proc: Path = PROC,
    cpus: Path = CPUS,
    root: Path = ROOT,
) -> list[Finding]:
    """Look at everything live sound needs.

    Parameters
    ----------
    timeout_s : float
        How long PortAudio may take to answer.
    clock_seconds : float
        How long to try the clock.
    proc, cpus, root : Path
        Where the system tells of itself.

    Returns
    -------
    list of Finding
        In the order in which they are best read. Nothing is raised for what does not work.
    """
    servers = hygiene.running(SERVERS, proc)
    permitted, late_seconds = wake_ups(clock_seconds)
    limits, rtkit = hygiene.limits(), hygiene.has_rtkit(root)
    locked = _memory_lock(timeout_s)
    return [
        software(),
        denormals(),
        *sound(timeout_s, servers),
        sound_servers(servers),
        priority(permitted),
        limit(limits, permitted, locked.level == "ok"),
        real_time_kit(rtkit, permitted),
        locked,
        clock_governor(hygiene.governor(cpus)),
        clock(late_seconds, permitted),
    ]


def tone(device: int | str | None = None) -> Finding:
    """Play the test tone, and say on what, or why not."""
    try:
        sink = probe.play_test_tone(device)
    except BacklineError as error:
        return Finding("test tone", "problem", str(error))
    return Finding("test tone", "ok", f"a second of {probe.TONE_HZ:g} Hz was played on {sink}")


def software() -> Finding:
    """Which Python, package and instruction set run."""
    try:
        package = version("backline")
    except PackageNotFoundError:
        package = "not installed as a package"
    python = f"Backline {package}, Python {platform.python_version()}"
    try:
        chosen = native.isa_name(native.choose_isa())
    except BacklineError as error:
        return Finding("software", "problem", f"{python}; {error}", "unset the variable BACKLINE_ISA")
    best = native.available_isas()[-1]
    kernels = f"{python}, kernels for {chosen} on {machine.processor()}"
    if chosen != best:
        advice = f"unset the variable BACKLINE_ISA: {best} is faster"
        return Finding("software", "warning", kernels, advice)
    return Finding("software", "ok", kernels)


def denormals() -> Finding:
    """Whether the engine takes numbers for zero that are too small to be heard, and slow to compute with."""
    smallest = np.full(64, np.finfo(np.float32).smallest_subnormal * 2.0**20, np.float32)
    left = np.count_nonzero(conv1d(np.ones((1, 1, 1), np.float32))(smallest))
    if left:
        advice = "reinstall Backline for this processor, and report it if that does not help"
        return Finding("denormals", "problem", "the engine computes with denormals, which is slow", advice)
    return Finding("denormals", "ok", "the engine flushes them to zero")


def sound(timeout_s: float, servers: Sequence[str] | None) -> list[Finding]:
    """PortAudio, its host APIs and its default devices; one finding if it does not answer."""
    try:
        survey = probe.survey(timeout_s)
    except BacklineError as error:
        return [Finding("PortAudio", "problem", str(error))]
    about = f"{survey.portaudio}; {survey.library}, by sounddevice {survey.version}"
    return [
        Finding("PortAudio", "ok", about),
        host_apis(survey, servers or ()),
        default_devices([device for device in survey.devices if device.index is not None]),
    ]


def host_apis(survey: probe.Survey, servers: Sequence[str]) -> Finding:
    """Host APIs with their numbers of devices, and a JACK server that PortAudio does not see."""
    found = ", ".join(f"{name} with {count} devices" for name, count in survey.host_apis.items()) or "none"
    jack = any(count for name, count in survey.host_apis.items() if "jack" in name.lower())
    if any(name in servers for name in _JACK) and not jack:
        found += "; a JACK server runs, of which PortAudio sees nothing"
        advice = "to play through it, set JACK_DEFAULT_SERVER to its name, and run as the user it runs as"
        return Finding("host APIs", "warning", found, advice)
    return Finding("host APIs", "ok", found)


def default_devices(devices: Sequence[Device]) -> Finding:
    """What sounds where no device is named, and whether it may howl."""
    if not devices:
        advice = (
            'connect an interface and see that "aplay -l" lists it, or that you are in the group audio; '
            "--device clock works without"
        )
        return Finding("devices", "warning", "no sound device", advice)
    source = next((device for device in devices if device.default_input), None)
    sink = next((device for device in devices if device.default_output), None)
    found = f"in: {source or 'no default'}, out: {sink or 'no default'}"
    if source is None or sink is None:
        return Finding("devices", "warning", found, "name devices with --input-device and --output-device")
    howl = hygiene.feedback_warning(source, sink)
    return Finding("devices", "warning" if howl else "ok", found, howl or "")


def sound_servers(servers: Sequence[str] | None) -> Finding:
    """Which sound servers run, and which of them want the same card."""
    if servers is None:
        return Finding("sound servers", "ok", "the system does not say what runs")
    if not servers:
        return Finding("sound servers", "ok", "none runs; PortAudio has the cards to itself")
    found = f"running: {', '.join(servers)}"
    if "pulseaudio" in servers and any(name in servers for name in _JACK):
        advice = 'let PulseAudio go while JACK runs, with "pasuspender" or by ending it'
        return Finding("sound servers", "warning", f"{found}, which may want the same card", advice)
    return Finding("sound servers", "ok", found)


def priority(permitted: bool) -> Finding:
    """Whether a thread may run before all ordinary ones."""
    if permitted:
        return Finding("real-time priority", "ok", f"a thread here gets SCHED_FIFO {machine.PRIORITY}")
    found = f"a thread here does not get SCHED_FIFO {machine.PRIORITY}"
    return Finding("real-time priority", "warning", found, "raise the limit rtprio: see limits")


def limit(limits: Limits | None, permitted: bool, locks: bool) -> Finding:
    """The limits behind priority and locked memory; a warning only where they are in the way."""
    if limits is None:
        return Finding("limits", "ok", "the system has none for priority and locked memory")
    memory = "unlimited" if limits.memlock_bytes is None else f"{limits.memlock_bytes >> 10} kB"
    found = f"rtprio {limits.rtprio}, memlock {memory}"
    in_the_way = not permitted and limits.rtprio < machine.PRIORITY
    if in_the_way or (not locks and limits.memlock_bytes is not None):
        return Finding("limits", "warning", found, _RAISE_LIMITS)
    return Finding("limits", "ok", found)


def real_time_kit(installed: bool, permitted: bool) -> Finding:
    """Whether rtkit is there, from which PipeWire and PulseAudio get their priority."""
    if installed:
        return Finding("rtkit", "ok", "installed")
    if permitted:
        return Finding("rtkit", "ok", "not installed, and not needed")
    return Finding(
        "rtkit",
        "warning",
        "not installed, so that PipeWire and PulseAudio get no real-time priority",
        "install it: apt install rtkit",
    )


def _memory_lock(timeout_s: float) -> Finding:
    try:
        locked = probe.memory_lock(timeout_s)
    except BacklineError:
        # That it speaks of PortAudio would mislead: the process locks memory and ends.
        found, advice = "a process that was to try did not answer", "run this again when the machine is idle"
        return Finding("memory lock", "warning", found, advice)
    if locked.what == "all":
        return Finding("memory lock", "ok", f"memory stays where it is ({locked.why})")
    kept = "only what there is at the start stays" if locked.what == "current" else "memory may be paged out"
    return Finding("memory lock", "warning", f"{kept}: {locked.why}", "raise the limit memlock: see limits")


def clock_governor(governor: str | None) -> Finding:
    """What governs the processor's clock: all but "performance" lets it slow down between blocks."""
    if governor is None:
        return Finding("CPU governor", "ok", "nothing governs the clock here, or the system does not say")
    if governor == "performance":
        return Finding("CPU governor", "ok", governor)
    advice = "keep the clock up while you play: sudo cpupower frequency-set -g performance"
    return Finding("CPU governor", "warning", governor, advice)


def wake_ups(seconds: float) -> tuple[bool, list[float]]:
    """Whether a thread gets real-time priority, and by how many seconds it wakes late from sleeps of 1 ms."""
    found: list[tuple[bool, list[float]]] = []

    def sleep() -> None:
        late: list[float] = []
        with machine.real_time() as permitted:
            start = now = time.perf_counter()
            while not late or now - start < seconds:
                time.sleep(_SLEEP_SECONDS)
                before, now = now, time.perf_counter()
                late.append(now - before - _SLEEP_SECONDS)
        found.append((permitted, late))

    thread = threading.Thread(target=sleep, name="backline-doctor")
    thread.start()
    thread.join()
    return found[0]


def clock(late_seconds: Iterable[float], permitted: bool) -> Finding:
    """How late a thread wakes from sleeps of 1 ms, at the best priority it gets."""
    late = sorted(late_seconds)
    at = "real-time" if permitted else "ordinary"
    found = (
        f"a thread of {at} priority wakes {1e3 * median(late):.2f} ms late, {1e3 * late[-1]:.2f} ms at worst "
        f"in {len(late)} sleeps"
    )
    if late[-1] < _LATE_SECONDS:
        return Finding("clock", "ok", found)
    advice = "end what keeps the processor busy, or play with larger blocks, such as --block 256"
    return Finding("clock", "warning", found, advice)
