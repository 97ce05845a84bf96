"""What the system says and does for real-time sound, asked of folders made up here and of the real one."""

from __future__ import annotations

import errno
import os
import sys
import threading
from pathlib import Path
from types import SimpleNamespace

import pytest

from backline import machine
from backline.live import hygiene
from backline.live.devices import CLOCK_DEVICE, Device
from backline.live.hygiene import Limits, Locked

LINUX = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="Linux only")
#: From sys/mman.h.
MCL_CURRENT, MCL_FUTURE, MCL_ONFAULT = 1, 2, 4
CAP_IPC_LOCK_ALONE, ALL_BUT_CAP_IPC_LOCK = "0000000000004000", "000001ffffffbfff"
MB = 1024


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def fake_proc(
    folder: Path, size_kb: int = 100 * MB, free_kb: int = 8000 * MB, rights: str = ALL_BUT_CAP_IPC_LOCK
) -> Path:
    write(
        folder / "self/status",
        f"Name:\tpython\nVmPeak:\t9 kB\nVmSize:\t{size_kb} kB\nVmLck:\t0 kB\nCapPrm:\tffffffffffffffff\n"
        f"CapEff:\t{rights}\nCapBnd:\tffffffffffffffff\n",
    )
    write(folder / "meminfo", f"MemTotal: 16000000 kB\nMemFree: 3 kB\nMemAvailable:   {free_kb} kB\n")
    return folder


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[tuple[object, ...]]:
    """What the C library would have been asked to do, and what it answers: the first entry."""
    made: list[tuple[object, ...]] = []

    def call(*arguments: object) -> int:
        made.append(arguments)
        return 0

    monkeypatch.setattr(hygiene, "_call", call)
    return made


def limited(monkeypatch: pytest.MonkeyPatch, memlock_bytes: int | None) -> None:
    monkeypatch.setattr(hygiene, "limits", lambda: Limits(0, memlock_bytes))


# ---- memory ----

EVERYTHING = ("mlockall", MCL_CURRENT | MCL_FUTURE | MCL_ONFAULT)
WHAT_THERE_IS = ("mlockall", MCL_CURRENT | MCL_ONFAULT)


@LINUX
@pytest.mark.parametrize(
    ("limit_kb", "facts", "made", "what", "why"),
    [
        (None, {}, [EVERYTHING], "all", "no limit"),
        (64, {"rights": CAP_IPC_LOCK_ALONE}, [EVERYTHING], "all", "no limit"),
        (200 * MB, {}, [WHAT_THERE_IS], "current", f"memlock is {200 * MB} kB, what comes later may not fit"),
        (100 * MB, {}, [WHAT_THERE_IS], "current", "may not fit"),
        (100 * MB - 1, {}, [], "none", f"memlock is {100 * MB - 1} kB and the process has {100 * MB} kB"),
        (0, {}, [], "none", "memlock is 0 kB"),
        (None, {"free_kb": 199 * MB}, [], "none", "the process spans 100 MB and only 199 MB are free"),
        (None, {"free_kb": 200 * MB}, [EVERYTHING], "all", "no limit"),
    ],
)
def test_memory_is_locked_as_far_as_it_is_allowed(
    monkeypatch, calls, tmp_path, limit_kb, facts, made, what, why
):
    limited(monkeypatch, None if limit_kb is None else limit_kb << 10)
    found = hygiene.lock_memory(fake_proc(tmp_path, **facts))
    assert calls == made
    assert found.what == what
    assert why in found.why


@LINUX
def test_what_the_system_refuses_is_said(monkeypatch, tmp_path):
    limited(monkeypatch, None)
    monkeypatch.setattr(hygiene, "_call", lambda *arguments: errno.ENOMEM)
    found = hygiene.lock_memory(fake_proc(tmp_path))
    assert found == Locked("none", f"the system refuses: {os.strerror(errno.ENOMEM)}")


def test_memory_is_left_alone_where_nothing_is_known(monkeypatch, calls, tmp_path):
    assert hygiene.lock_memory(tmp_path / "no proc").what == "none"
    monkeypatch.setattr(hygiene, "limits", lambda: None)
    assert hygiene.lock_memory(fake_proc(tmp_path)).what == "none"
    limited(monkeypatch, None)
    monkeypatch.setattr(sys, "platform", "darwin")
    assert hygiene.lock_memory(fake_proc(tmp_path)) == Locked("none", "memory is locked on Linux only")
    assert calls == []


def test_a_function_that_the_c_library_lacks_is_an_error_number():
    assert hygiene._call("no_such_function_at_all", 1) == errno.ENOSYS


@pytest.mark.parametrize(
    ("rights", "may"),
    [
        (CAP_IPC_LOCK_ALONE, True),
        (ALL_BUT_CAP_IPC_LOCK, False),
        ("000001ffffffffff", True),
        ("0000000000000000", False),
        ("none of these", False),
    ],
)
def test_the_right_to_lock_any_memory(tmp_path, rights, may):
    assert hygiene.may_lock_any(fake_proc(tmp_path, rights=rights)) is may


def test_binary_rubbish_in_proc_is_nothing_known(calls, tmp_path):
    fake_proc(tmp_path)
    (tmp_path / "self/status").write_bytes(bytes(range(256)))
    assert hygiene.lock_memory(tmp_path).what == "none"
    assert not hygiene.may_lock_any(tmp_path)
    assert calls == []


# ---- limits ----


def test_limits_are_those_of_the_system(monkeypatch):
    resource = pytest.importorskip("resource")
    if not hasattr(resource, "RLIMIT_RTPRIO"):
        pytest.skip("no limit of priority here")
    found = {resource.RLIMIT_RTPRIO: 95, resource.RLIMIT_MEMLOCK: 65536}
    monkeypatch.setattr(resource, "getrlimit", lambda which: (found[which], resource.RLIM_INFINITY))
    assert hygiene.limits() == Limits(95, 65536)
    found = dict.fromkeys(found, resource.RLIM_INFINITY)
    assert hygiene.limits() == Limits(99, None)


def test_systems_without_such_limits(monkeypatch):
    monkeypatch.setitem(sys.modules, "resource", None)
    assert hygiene.limits() is None
    no_priority = SimpleNamespace(RLIMIT_MEMLOCK=1, RLIM_INFINITY=-1, getrlimit=lambda which: (0, 0))
    monkeypatch.setitem(sys.modules, "resource", no_priority)
    assert hygiene.limits() is None


# ---- threads ----


@pytest.fixture
def waiting():
    """Start a thread that waits, with real-time priority if that is wanted; returns whether it has it."""
    stop, threads = threading.Event(), []

    def start(real_time: bool) -> bool:
        started, permitted = threading.Event(), []

        def run() -> None:
            with machine.real_time(real_time) as granted:
                permitted.append(granted)
                started.set()
                stop.wait()

        threads.append(threading.Thread(target=run))
        threads[-1].start()
        started.wait()
        return permitted[0]

    yield start
    stop.set()
    for thread in threads:
        thread.join()


@LINUX
def test_threads_are_those_of_this_process(waiting):
    before = hygiene.thread_ids()
    assert {thread.native_id for thread in threading.enumerate()} <= before
    waiting(False)
    assert {thread.native_id for thread in threading.enumerate()} - before == hygiene.thread_ids() - before


@LINUX
def test_the_new_thread_is_the_one_that_is_told_of(waiting):
    before = hygiene.thread_ids()
    assert hygiene.scheduling_of_audio_thread(before) is None
    waiting(False)
    assert hygiene.scheduling_of_audio_thread(before) == "SCHED_OTHER: ordinary priority"
    if not waiting(True):
        pytest.skip("no real-time priority for this user")
    assert hygiene.scheduling_of_audio_thread(before) == f"SCHED_FIFO {machine.PRIORITY}"


@LINUX
@pytest.mark.parametrize(
    ("policy", "priority", "said"),
    [
        ("SCHED_RR", 20, "SCHED_RR 20"),
        ("SCHED_BATCH", 0, "SCHED_BATCH: ordinary priority"),
        ("SCHED_FIFO", 88, "SCHED_FIFO 88"),
    ],
)
def test_rtkits_flag_is_no_policy(monkeypatch, tmp_path, policy, priority, said):
    (tmp_path / "self/task/7").mkdir(parents=True)
    (tmp_path / "self/task/8").mkdir()
    number = getattr(os, policy) | os.SCHED_RESET_ON_FORK
    monkeypatch.setattr(os, "sched_getscheduler", lambda tid: number)
    monkeypatch.setattr(os, "sched_getparam", lambda tid: os.sched_param(priority))
    assert hygiene.scheduling_of_audio_thread({7}, tmp_path) == said


def test_threads_that_have_ended_or_are_unknown(tmp_path):
    assert hygiene.thread_ids(tmp_path / "no proc") == frozenset()
    assert hygiene.scheduling_of_audio_thread((), tmp_path / "no proc") is None
    (tmp_path / "self/task/999999999").mkdir(parents=True)
    (tmp_path / "self/task/self").mkdir()
    assert hygiene.thread_ids(tmp_path) == {999999999}
    assert hygiene.scheduling_of_audio_thread((), tmp_path) is None


# ---- processor, rtkit, programs ----


@pytest.mark.parametrize(
    ("governors", "said"),
    [
        ({}, None),
        ({0: "performance\n"}, "performance"),
        ({0: "powersave\n", 1: "powersave\n", 10: "powersave\n"}, "powersave"),
        ({0: "performance", 1: "performance", 2: "powersave"}, "performance (0-1), powersave (2)"),
        ({core: ("a", "b")[core in (2, 9, 10, 11)] for core in range(12)}, "a (0-1, 3-8), b (2, 9-11)"),
        ({0: ""}, None),
    ],
)
def test_governors(tmp_path, governors, said):
    for core, name in governors.items():
        write(tmp_path / f"cpu{core}/cpufreq/scaling_governor", name)
    write(tmp_path / "cpufreq/scaling_governor", "not a core's")
    (tmp_path / "cpu99").mkdir()
    assert hygiene.governor(tmp_path) == said
    assert hygiene.governor(tmp_path / "no sys") is None


@pytest.mark.parametrize(
    "place",
    [
        "usr/share/dbus-1/system-services/org.freedesktop.RealtimeKit1.service",
        "usr/libexec/rtkit-daemon",
        "usr/lib/rtkit/rtkit-daemon",
    ],
)
def test_rtkit(tmp_path, place):
    assert not hygiene.has_rtkit(tmp_path)
    write(tmp_path / place, "")
    assert hygiene.has_rtkit(tmp_path)


def test_programs_that_run(tmp_path):
    for number, name in enumerate(("systemd", "pipewire-media-", "jackd"), start=1):  # as Linux cuts them
        write(tmp_path / f"{number}/comm", f"{name}\n")
    (tmp_path / "4").mkdir()  # has ended meanwhile
    write(tmp_path / "sys/comm", "pulseaudio\n")
    asked = ("pulseaudio", "jackd", "jackdbus", "pipewire-media-session")
    assert hygiene.running(asked, tmp_path) == ["jackd", "pipewire-media-session"]
    assert hygiene.running(asked, tmp_path / "no proc") is None


@LINUX
def test_this_program_runs():
    name = Path("/proc/self/comm").read_text().rstrip("\n")
    assert hygiene.running([name, "no such program"]) == [name]


def test_dying_with_a_parent_is_linuxs(monkeypatch, calls):
    monkeypatch.setattr(sys, "platform", "darwin")
    assert hygiene.die_with_parent() is False
    assert calls == []


# ---- howl ----


def named(name: str, inputs: int = 2, outputs: int = 2) -> Device:
    return Device(0, name, "ALSA", inputs, outputs, 48000.0)


@pytest.mark.parametrize(
    ("source", "sink"),
    [
        ("HDA Intel PCH: ALC257 Analog (hw:0,0)", "HDA Intel PCH: ALC257 Analog (hw:0,0)"),
        ("HDA Intel PCH: ALC257 Analog (hw:0,0)", "HDA NVidia: HDMI 0 (hw:1,3)"),
        ("sof-hda-dsp: - (hw:0,6)", "sof-hda-dsp: - (hw:0,0)"),
        ("MacBook Pro Microphone", "MacBook Pro Speakers"),
        ("Built-in Microphone", "Built-in Output"),
        ("HD Pro Webcam C920: USB Audio (hw:2,0)", "HDA Intel PCH: ALC257 Analog (hw:0,0)"),
        ("FaceTime HD Camera", "LG TV"),
        ("Microphone (Realtek High Definition Audio)", "Speakers (Realtek High Definition Audio)"),
        ("Microphone Array (Intel Smart Sound)", "Speakers (Focusrite USB Audio)"),
        ("Internal Mic", "Bluetooth Soundbar"),
    ],
)
def test_microphones_and_loudspeakers_are_warned_of(source, sink):
    said = hygiene.feedback_warning(named(source), named(sink))
    assert said is not None
    assert said.startswith(f"{source} may hear what {sink} plays, and howl: use headphones")


@pytest.mark.parametrize(
    ("source", "sink"),
    [
        ("Scarlett 2i2 USB: Audio (hw:1,0)", "Scarlett 2i2 USB: Audio (hw:1,0)"),
        ("Scarlett 2i2 USB: Audio (hw:1,0)", "HDA Intel PCH: ALC257 Analog (hw:0,0)"),
        ("Microphone (Focusrite USB Audio)", "Speakers (Focusrite USB Audio)"),
        ("USB Audio CODEC: - (hw:1,0)", "HDA NVidia: HDMI 0 (hw:1,3)"),
        ("MacBook Pro Microphone", "External Headphones"),
        ("Microphone (Realtek High Definition Audio)", "Headphones (Realtek High Definition Audio)"),
        ("Built-in Microphone", "Bluetooth Headset"),
        ("system", "system"),
        ("default", "default"),
        ("pipewire", "pulse"),
        ("Built-in Microphone", "Scarlett 2i2 USB: Audio (hw:1,0)"),
        ("clock", "HDA Intel PCH: ALC257 Analog (hw:0,0)"),
    ],
)
def test_interfaces_servers_and_headphones_are_not(source, sink):
    assert hygiene.feedback_warning(named(source), named(sink)) is None


def test_nothing_howls_where_nothing_is_heard():
    laptop = named("HDA Intel PCH: ALC257 Analog (hw:0,0)")
    assert hygiene.feedback_warning(None, laptop) is None
    assert hygiene.feedback_warning(CLOCK_DEVICE, CLOCK_DEVICE) is None
    assert hygiene.feedback_warning(named(laptop.name, inputs=0), laptop) is None
    assert hygiene.feedback_warning(laptop, named(laptop.name, outputs=0)) is None
