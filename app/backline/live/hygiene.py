"""What real-time sound needs of the system: memory that stays, priority, a processor that does not doze.

Each function asks the system or sets something for this process; where the system has no such thing, as
without ``/proc`` or outside Linux, the answer is None or says so. Nothing here raises because of that.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import re
import signal
import sys
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

from .devices import Device

PROC, CPUS, ROOT = Path("/proc"), Path("/sys/devices/system/cpu"), Path("/")

# ONFAULT: only what has been used, or will be, and not all that is mapped.
_MCL_CURRENT, _MCL_FUTURE, _MCL_ONFAULT = 1, 2, 4
_CAP_IPC_LOCK = 14
_PR_SET_PDEATHSIG = 1

_RTKIT_PLACES = (
    "usr/share/dbus-1/system-services/org.freedesktop.RealtimeKit1.service",
    "usr/libexec/rtkit-daemon",
    "usr/lib/rtkit/rtkit-daemon",
)

_MICROPHONES = r"built-?in|internal|webcam|\bcam(era)?\b|\barray\b|\bmics?\b|microphones?\b|c920|headset mic"
_SPEAKERS = r"built-?in|internal|speakers?\b|hdmi|display ?port|monitor|\btv\b|soundbar|bluetooth"
_HEADPHONES = r"head(phone|set)s?|earphones?|earbuds?|airpods"
#: On-board sound: one name for both ways, its microphone and its loudspeakers sharing a lid.
_ON_BOARD = r"hda[ -]intel|\bsof-|realtek|\balc\d{3}|macbook|high definition audio|built-?in"
#: Systems that know little of a device call its inputs microphones and its outputs speakers.
_INTERFACES = (
    r"focusrite|scarlett|motu|\brme\b|fireface|babyface|presonus|audiobox|behringer|u-?phoria|\bumc\d|steinberg|"
    r"audient|universal audio|apollo|\bvolt\b|\bssl\b|\bzoom\b|m-audio|m-track|tascam|roland|\bboss\b|"
    r"line ?6|helix|native instruments|komplete|arturia|minifuse|usb audio codec|interface|\bi-?rig"
)


@dataclass(frozen=True)
class Locked:
    """What became of locking memory.

    Attributes
    ----------
    what : {"all", "current", "none"}
        Whether memory is locked that comes later too, or only what there was.
    why : str
        In one phrase.
    """

    what: str
    why: str


@dataclass(frozen=True)
class Limits:
    """What the system lets this process have.

    Attributes
    ----------
    rtprio : int
        The highest real-time priority without further rights; 0 for none.
    memlock_bytes : int or None
        Of locked memory; None for any amount.
    """

    rtprio: int
    memlock_bytes: int | None


def lock_memory(proc: Path = PROC) -> Locked:
    """Keep this process's memory from being paged out, as far as that is allowed.

    Later memory is locked too only where no limit stands in the way: with one, a later allocation would
    fail, and with it whatever needed it.
    """
    if not sys.platform.startswith("linux"):
        return Locked("none", "memory is locked on Linux only")
    size, available = _kilobytes(proc / "self/status", "VmSize"), _kilobytes(proc / "meminfo", "MemAvailable")
    found = limits()
    if size is None or found is None:
        return Locked("none", "the system does not say how large the process is")
    if available is not None and size > available // 2:
        return Locked("none", f"the process spans {size >> 20} MB and only {available >> 20} MB are free")
    if found.memlock_bytes is None or may_lock_any(proc):
        return _lock(_MCL_CURRENT | _MCL_FUTURE | _MCL_ONFAULT, "all", "no limit")
    limit = found.memlock_bytes
    if size > limit:
        return Locked("none", f"the limit memlock is {limit >> 10} kB and the process has {size >> 10} kB")
    return _lock(
        _MCL_CURRENT | _MCL_ONFAULT,
        "current",
        f"the limit memlock is {limit >> 10} kB, what comes later may not fit",
    )


def _lock(flags: int, what: str, why: str) -> Locked:
    number = _call("mlockall", flags)
    return Locked(what, why) if number == 0 else Locked("none", f"the system refuses: {os.strerror(number)}")


def _call(name: str, *arguments: int) -> int:
    """Call a function of the C library; return 0, or the number of what went wrong."""
    try:
        function = getattr(ctypes.CDLL(None, use_errno=True), name)
    except (AttributeError, OSError, TypeError):
        return errno.ENOSYS
    return 0 if function(*map(ctypes.c_ulong, arguments)) == 0 else ctypes.get_errno()


def may_lock_any(proc: Path = PROC) -> bool:
    """Whether this process may lock as much memory as it likes, whatever the limit (CAP_IPC_LOCK)."""
    found = re.search(r"^CapEff:\s*([0-9a-f]+)$", _text(proc / "self/status"), re.MULTILINE)
    return found is not None and bool(int(found[1], 16) >> _CAP_IPC_LOCK & 1)


def _kilobytes(path: Path, name: str) -> int | None:
    """In bytes, a value that a file gives in kB."""
    found = re.search(rf"^{name}:\s*(\d+) kB$", _text(path), re.MULTILINE)
    return None if found is None else int(found[1]) << 10


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace").rstrip("\0\n")
    except (OSError, ValueError):
        return ""


def limits() -> Limits | None:
    """What the system lets this process have; None where it has no such limits."""
    try:
        import resource

        priority = resource.getrlimit(getattr(resource, "RLIMIT_RTPRIO"))[0]  # noqa: B009
        memory = resource.getrlimit(resource.RLIMIT_MEMLOCK)[0]
    except (ImportError, AttributeError, OSError, ValueError):
        return None
    return Limits(
        99 if priority == resource.RLIM_INFINITY else priority,
        None if memory == resource.RLIM_INFINITY else memory,
    )


def thread_ids(proc: Path = PROC) -> frozenset[int]:
    """The system's numbers of this process's threads; empty where it does not say."""
    try:
        return frozenset(int(entry.name) for entry in (proc / "self/task").iterdir() if entry.name.isdigit())
    except OSError:
        return frozenset()


def scheduling_of_audio_thread(known_tids: Collection[int], proc: Path = PROC) -> str | None:
    """Say how the thread is scheduled that a device has started.

    Parameters
    ----------
    known_tids : collection of int
        `thread_ids` before the device was opened.

    Returns
    -------
    str or None
        Such as ``"SCHED_FIFO 60"``, the highest of all new threads, or ``"SCHED_OTHER: ordinary priority"``;
        None if there is no new thread, or the system does not say.
    """
    found = [_scheduling(tid) for tid in sorted(thread_ids(proc) - set(known_tids))]
    known = [each for each in found if each is not None]
    if not known:
        return None
    priority, policy = max(known)
    return f"{policy} {priority}" if priority else f"{policy}: ordinary priority"


def _scheduling(tid: int) -> tuple[int, str] | None:
    names = ("SCHED_OTHER", "SCHED_BATCH", "SCHED_IDLE", "SCHED_FIFO", "SCHED_RR")
    policies = {getattr(os, name): name for name in names if hasattr(os, name)}
    try:
        # rtkit asks for priority that children do not inherit, which shows in the policy.
        policy = os.sched_getscheduler(tid) & ~getattr(os, "SCHED_RESET_ON_FORK", 0)
        return os.sched_getparam(tid).sched_priority, policies.get(policy, f"policy {policy}")
    except (AttributeError, OSError):  # it has ended meanwhile
        return None


def governor(cpus: Path = CPUS) -> str | None:
    """Say what governs the cores' clock: ``"performance"``, or ``"performance (0-1), powersave (2)"``.

    None where nothing does, as in most virtual machines.
    """
    found = [
        (_text(path), int(path.parent.parent.name[3:]))
        for path in cpus.glob("cpu[0-9]*/cpufreq/scaling_governor")
    ]
    cores = {name: sorted(core for other, core in found if other == name) for name, _ in found if name}
    if len(cores) < 2:
        return next(iter(cores), None)
    return ", ".join(f"{name} ({_ranges(cores[name])})" for name in sorted(cores))


def _ranges(numbers: Iterable[int]) -> str:
    """Numbers as ``0-3, 6``."""
    runs = (list(run) for _, run in groupby(enumerate(numbers), lambda pair: pair[1] - pair[0]))
    ends = ((run[0][1], run[-1][1]) for run in runs)
    return ", ".join(str(first) if first == last else f"{first}-{last}" for first, last in ends)


def has_rtkit(root: Path = ROOT) -> bool:
    """Whether the service is installed that gives ordinary users' programs real-time priority."""
    return any((root / place).exists() for place in _RTKIT_PLACES)


def running(names: Collection[str], proc: Path = PROC) -> list[str] | None:
    """Which of these programs run, by the names of their processes; None where the system does not say."""
    try:
        entries = [entry for entry in proc.iterdir() if entry.name.isdigit()]
    except OSError:
        return None
    found = {_text(entry / "comm") for entry in entries}
    return [name for name in names if name[:15] in found]


def die_with_parent(parent: int | None = None) -> bool:
    """Have the system kill this process when what started it ends, however that ends; Linux only.

    What counts is the thread that started it: a process started from a thread lives no longer than that.

    Parameters
    ----------
    parent : int, optional
        The parent's process number. Given, this process ends at once if that has ended already.

    Returns
    -------
    bool
        Whether the system will.
    """
    if not sys.platform.startswith("linux"):
        return False
    done = _call("prctl", _PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0) == 0
    if done and parent is not None and os.getppid() != parent:
        with contextlib.suppress(OSError):
            os.kill(os.getpid(), signal.SIGKILL)
    return done


def feedback_warning(source: Device | None, sink: Device) -> str | None:
    """Say so if what is played will probably be heard by the microphone again, and howl.

    Goes by the names of the devices: a microphone in a computer, a camera or a headset, and loudspeakers.
    Interfaces, and ports of audio servers, give no reason for a warning.

    Parameters
    ----------
    source : Device or None
        None where no device is heard, as with a take: nothing can howl then.
    sink : Device
    """
    if source is None or not source.input_channels or not sink.output_channels:
        return None
    hears = _is(source, f"{_MICROPHONES}|{_ON_BOARD}") and not _is(source, _INTERFACES)
    sounds = _is(sink, f"{_SPEAKERS}|{_ON_BOARD}")
    if not (hears and sounds) or _is(sink, _HEADPHONES):
        return None
    return (
        f"{source.name} may hear what {sink.name} plays, and howl: "
        "use headphones, or turn the volume down before you start"
    )


def _is(device: Device, words: str) -> bool:
    return re.search(words, device.name, re.IGNORECASE) is not None
