"""`backline doctor`: what it says of machines made up here, of hostile ones, and of this one."""

from __future__ import annotations

import json
import os
import threading
from types import SimpleNamespace

import fake_portaudio
import numpy as np
import pytest
from live_tools import run

from backline import machine, native
from backline.errors import DeviceError, MissingDependency
from backline.live import doctor, hygiene, probe
from backline.live.devices import CLOCK_DEVICE, Device
from backline.live.doctor import Finding
from backline.live.hygiene import Limits, Locked

WAIT_SECONDS = 30.0
CHECKS = [
    *("software", "denormals", "PortAudio", "host APIs", "devices", "sound servers", "real-time priority"),
    *("limits", "rtkit", "memory lock", "CPU governor", "clock"),
]
SCARLETT = Device(0, "Scarlett 2i2", "ALSA", 2, 2, 48000.0, default_input=True, default_output=True)
LAPTOP = Device(1, "HDA Intel PCH: ALC257", "ALSA", 2, 2, 48000.0, default_input=True, default_output=True)
SOUND = probe.Survey("PortAudio V19", "libportaudio.so.2", "0.5", {"ALSA": 1}, (SCARLETT, CLOCK_DEVICE))


@pytest.fixture
def healthy(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine that lacks nothing, wherever the tests run."""
    monkeypatch.delenv("BACKLINE_ISA", raising=False)
    monkeypatch.setattr(hygiene, "running", lambda names, proc: ["pipewire", "pipewire-pulse"])
    monkeypatch.setattr(hygiene, "limits", lambda: Limits(95, None))
    monkeypatch.setattr(hygiene, "has_rtkit", lambda root: True)
    monkeypatch.setattr(hygiene, "governor", lambda cpus: "performance")
    monkeypatch.setattr(doctor, "wake_ups", lambda seconds: (True, [0.0001, 0.0002, 0.0006]))
    monkeypatch.setattr(probe, "survey", lambda timeout_s: SOUND)
    monkeypatch.setattr(probe, "memory_lock", lambda timeout_s: Locked("all", "no limit"))


def levels(findings: list[Finding]) -> dict[str, str]:
    return {each.check: each.level for each in findings}


def not_ok(findings: list[Finding]) -> dict[str, str]:
    return {check: level for check, level in levels(findings).items() if level != "ok"}


def fails(error: Exception):
    def fail(*_: object) -> None:
        raise error

    return fail


# ---- whole machines ----


def test_a_machine_that_lacks_nothing(healthy):
    found = doctor.diagnose()
    assert [each.check for each in found] == CHECKS
    assert not_ok(found) == {}
    assert not any(each.advice for each in found)


def test_an_ordinary_users_machine(healthy, monkeypatch):
    """No rights, no rtkit: four lines say so, and each what to do."""
    monkeypatch.setattr(hygiene, "limits", lambda: Limits(0, 8 << 20))
    monkeypatch.setattr(hygiene, "has_rtkit", lambda root: False)
    monkeypatch.setattr(doctor, "wake_ups", lambda seconds: (False, [0.0001]))
    locked = Locked("none", "the limit memlock is 8192 kB and the process has 90000 kB")
    monkeypatch.setattr(probe, "memory_lock", lambda timeout_s: locked)
    found = doctor.diagnose()
    warned = ("real-time priority", "limits", "rtkit", "memory lock")
    assert not_ok(found) == dict.fromkeys(warned, "warning")
    advice = {each.check: each.advice for each in found if each.level != "ok"}
    assert "@audio - rtprio 95" in advice["limits"]
    assert "@audio - memlock unlimited" in advice["limits"]
    assert "apt install rtkit" in advice["rtkit"]
    assert all(advice.values())


def test_root_needs_neither_limits_nor_rtkit(healthy, monkeypatch):
    monkeypatch.setattr(hygiene, "limits", lambda: Limits(0, 8 << 20))
    monkeypatch.setattr(hygiene, "has_rtkit", lambda root: False)
    assert not_ok(doctor.diagnose()) == {}


@pytest.mark.parametrize(
    ("code", "said"),
    [
        (fake_portaudio.NO_PACKAGE, "pip install sounddevice"),
        (fake_portaudio.NO_LIBRARY, "apt install libportaudio2"),
        (fake_portaudio.DOES_NOT_START, "PortAudio does not start"),
        (fake_portaudio.CRASHES, "was killed by signal"),
    ],
)
def test_without_portaudio_there_is_one_problem(monkeypatch, tmp_path, code, said):
    """Asked in a process as always, which finds this in its place; the rest is looked at all the same."""
    fake_portaudio.put(monkeypatch, tmp_path, code)
    found = doctor.diagnose(timeout_s=WAIT_SECONDS, clock_seconds=0.01)
    assert [each.check for each in found] == [c for c in CHECKS if c not in ("host APIs", "devices")]
    (problem,) = (each for each in found if each.level == "problem")
    assert problem.check == "PortAudio"
    assert said in problem.found


def test_a_portaudio_that_hangs_is_a_problem(monkeypatch, tmp_path):
    fake_portaudio.put(monkeypatch, tmp_path, fake_portaudio.HANGS)
    monkeypatch.setattr(probe, "memory_lock", lambda timeout_s: Locked("all", "no limit"))
    found = doctor.diagnose(timeout_s=1.0, clock_seconds=0.01)
    (problem,) = (each for each in found if each.level == "problem")
    assert problem.check == "PortAudio"
    assert problem.found.startswith("PortAudio did not answer within 1 s: is a sound server")


def test_every_process_that_is_asked_hangs(monkeypatch):
    monkeypatch.setattr(probe, "_CHILD", ("sh", "-c", "exec sleep 600"))
    found = {each.check: each for each in doctor.diagnose(timeout_s=0.2, clock_seconds=0.01)}
    assert found["PortAudio"].level == "problem"
    assert found["memory lock"].level == "warning"
    assert "PortAudio" not in found["memory lock"].found


def test_a_machine_without_proc_and_sys(monkeypatch, tmp_path):
    monkeypatch.setattr(probe, "survey", lambda timeout_s: SOUND)
    monkeypatch.setattr(hygiene, "limits", lambda: None)
    nowhere = tmp_path / "nowhere"
    found = doctor.diagnose(clock_seconds=0.01, proc=nowhere, cpus=nowhere, root=nowhere)
    assert [each.check for each in found] == CHECKS
    known = levels(found)
    for check in ("sound servers", "limits", "CPU governor"):
        assert known[check] == "ok"
    assert "problem" not in known.values()


def test_a_machine_of_folders(monkeypatch, tmp_path):
    monkeypatch.setattr(probe, "survey", lambda timeout_s: SOUND)
    for path, text in (
        ("proc/7/comm", "jackd\n"),
        ("proc/8/comm", "pulseaudio\n"),
        ("cpus/cpu0/cpufreq/scaling_governor", "powersave\n"),
        ("root/usr/libexec/rtkit-daemon", ""),
    ):
        (tmp_path / path).parent.mkdir(parents=True)
        (tmp_path / path).write_text(text)
    folders = {name: tmp_path / name for name in ("proc", "cpus", "root")}
    found = {each.check: each for each in doctor.diagnose(clock_seconds=0.01, **folders)}
    assert found["CPU governor"].found == "powersave"
    assert "performance" in found["CPU governor"].advice
    assert "jackd, pulseaudio" in found["sound servers"].found
    assert found["sound servers"].level == found["host APIs"].level == "warning"
    assert found["rtkit"].level == "ok"


# ---- single checks ----


def test_the_instruction_set_in_use(monkeypatch):
    plain, best = native.available_isas()[0], native.available_isas()[-1]
    monkeypatch.setenv("BACKLINE_ISA", best)
    assert f"kernels for {best}" in doctor.software().found
    assert doctor.software().level == "ok"
    monkeypatch.setenv("BACKLINE_ISA", "abacus")
    found = doctor.software()
    assert found.level == "problem"
    assert "'abacus' is not available" in found.found
    if plain == best:
        return
    monkeypatch.setenv("BACKLINE_ISA", plain)
    found = doctor.software()
    assert found.level == "warning"
    assert f"{best} is faster" in found.advice


@pytest.mark.parametrize("isa", native.available_isas())
def test_every_instruction_set_flushes_denormals(monkeypatch, isa):
    monkeypatch.setenv("BACKLINE_ISA", isa)
    assert doctor.denormals().level == "ok"


def test_an_engine_that_keeps_denormals_is_a_problem(monkeypatch):
    """NumPy does: what is put in is one, and one times it is one."""
    seen = []

    def conv1d(weight):
        assert weight.shape == (1, 1, 1)
        return lambda x: seen.append(x) or x * weight[0, 0, 0]

    monkeypatch.setattr(doctor, "conv1d", conv1d)
    found = doctor.denormals()
    assert (found.level, bool(found.advice)) == ("problem", True)
    assert seen[0].dtype == np.float32
    assert np.all((seen[0] > 0) & (seen[0] < np.finfo(np.float32).tiny))


@pytest.mark.parametrize(
    ("devices", "level", "said"),
    [
        ([], "warning", "no sound device"),
        ([SCARLETT], "ok", "in: 0 Scarlett 2i2 (ALSA), out: 0 Scarlett 2i2 (ALSA)"),
        ([LAPTOP], "warning", "in: 1 HDA Intel PCH: ALC257 (ALSA)"),
        (
            [Device(0, "HDMI", "ALSA", 0, 2, 48e3, default_output=True)],
            "warning",
            "in: no default, out: 0 HD",
        ),
        ([Device(0, "Mic", "ALSA", 1, 0, 48e3, default_input=True)], "warning", "out: no default"),
    ],
)
def test_default_devices(devices, level, said):
    found = doctor.default_devices(devices)
    assert found.level == level
    assert said in found.found
    assert bool(found.advice) == (level != "ok")


def test_a_laptops_devices_may_howl():
    assert "howl" in doctor.default_devices([LAPTOP]).advice


@pytest.mark.parametrize(
    ("apis", "servers", "level"),
    [
        ({"ALSA": 3}, (), "ok"),
        ({"ALSA": 3, "JACK Audio Connection Kit": 2}, ("jackd",), "ok"),
        ({"ALSA": 3, "JACK Audio Connection Kit": 0}, ("jackd",), "warning"),
        ({"ALSA": 3}, ("jackdbus",), "warning"),
        ({"ALSA": 3}, ("pipewire",), "ok"),
        ({}, (), "ok"),
    ],
)
def test_host_apis(apis, servers, level):
    found = doctor.host_apis(probe.Survey("", "", "", apis, ()), servers)
    assert found.level == level
    assert ("JACK_DEFAULT_SERVER" in found.advice) == (level == "warning")
    assert all(f"{name} with {count} devices" in found.found for name, count in apis.items())


@pytest.mark.parametrize(
    ("servers", "level"),
    [
        (None, "ok"),
        ([], "ok"),
        (["pipewire"], "ok"),
        (["jackd"], "ok"),
        (["jackd", "pulseaudio"], "warning"),
        (["jackdbus", "pipewire", "pulseaudio"], "warning"),
        (["jackd", "pipewire-pulse"], "ok"),
    ],
)
def test_sound_servers(servers, level):
    assert doctor.sound_servers(servers).level == level


@pytest.mark.parametrize(
    ("limits", "permitted", "locks", "level"),
    [
        (None, False, False, "ok"),
        (Limits(0, 1 << 23), True, True, "ok"),
        (Limits(0, 1 << 23), False, True, "warning"),
        (Limits(0, 1 << 23), True, False, "warning"),
        (Limits(95, None), False, False, "ok"),  # something else is in the way
        (Limits(20, None), False, True, "warning"),
    ],
)
def test_limits_are_a_warning_where_they_are_in_the_way(limits, permitted, locks, level):
    assert doctor.limit(limits, permitted, locks).level == level


@pytest.mark.parametrize(("what", "level"), [("all", "ok"), ("current", "warning"), ("none", "warning")])
def test_locked_memory(healthy, monkeypatch, what, level):
    monkeypatch.setattr(probe, "memory_lock", lambda timeout_s: Locked(what, "so it is"))
    (found,) = (each for each in doctor.diagnose() if each.check == "memory lock")
    assert found.level == level
    assert "so it is" in found.found


@pytest.mark.parametrize(
    ("governor", "level"),
    [
        (None, "ok"),
        ("performance", "ok"),
        ("schedutil", "warning"),
        ("performance (0), powersave (1)", "warning"),
    ],
)
def test_governors(governor, level):
    assert doctor.clock_governor(governor).level == level


@pytest.mark.parametrize(
    ("late", "level", "said"),
    [
        ([0.0001, 0.0002, 0.0009], "ok", "0.20 ms late, 0.90 ms at worst in 3 sleeps"),
        ([0.0014, 0.0001, 0.0002], "warning", "0.20 ms late, 1.40 ms at worst"),
        ([0.0], "ok", "0.00 ms late"),
    ],
)
def test_late_wake_ups(late, level, said):
    for permitted, which in ((True, "real-time"), (False, "ordinary")):
        found = doctor.clock(late, permitted)
        assert found.level == level
        assert said in found.found
        assert which in found.found


def test_wake_ups_are_measured_in_a_thread_of_its_own(monkeypatch):
    """With a clock that is half a millisecond late each time: a second holds 667 sleeps of 1.5 ms."""
    now, threads = [10.0], set()

    def sleep(seconds: float) -> None:
        threads.add(threading.get_ident())
        now[0] += seconds + 0.0005

    monkeypatch.setattr(doctor, "time", SimpleNamespace(sleep=sleep, perf_counter=lambda: now[0]))
    _, late = doctor.wake_ups(1.0)
    assert len(late) == 667
    np.testing.assert_allclose(late, 0.0005, atol=1e-9)
    assert threads.isdisjoint({threading.get_ident()})


@pytest.mark.skipif(not hasattr(os, "sched_setscheduler"), reason="no scheduling classes here")
def test_priority_is_tried_and_given_back(monkeypatch):
    before = os.sched_getscheduler(0)
    doctor.wake_ups(0.0)
    assert os.sched_getscheduler(0) == before
    monkeypatch.setattr(os, "sched_setscheduler", fails(PermissionError()))
    permitted, late = doctor.wake_ups(0.0)
    assert permitted is False
    assert len(late) == 1
    assert doctor.priority(False).level == "warning"
    assert f"SCHED_FIFO {machine.PRIORITY}" in doctor.priority(True).found


# ---- the command ----


def test_a_line_for_each_check(healthy, cli):
    status, out, err = cli("doctor")
    assert (status, err) == (0, "")
    heading, *lines, count = out.splitlines()
    assert heading.split() == ["Check", "Found"]
    assert all(line.startswith(f"ok  {check}  ") for line, check in zip(lines, _padded(CHECKS), strict=True))
    assert count == "problems: 0, warnings: 0"


def _padded(checks: list[str]) -> list[str]:
    return [check.ljust(max(map(len, checks))) for check in checks]


def test_warnings_are_no_failure_and_problems_are(healthy, monkeypatch, cli):
    monkeypatch.setattr(hygiene, "governor", lambda cpus: "powersave")
    status, out, _ = cli("doctor")
    assert status == 0
    (line,) = (line for line in out.splitlines() if "CPU governor" in line)
    assert line.startswith("warning  CPU governor")
    assert line.endswith(
        "powersave; keep the clock up while you play: sudo cpupower frequency-set -g performance"
    )
    monkeypatch.setattr(probe, "survey", fails(MissingDependency("live sound needs PortAudio")))
    status, out, err = cli("doctor")
    assert (status, err) == (1, "")
    assert out.splitlines()[-1] == "problems: 1, warnings: 1"


def test_as_json(healthy, monkeypatch, cli):
    monkeypatch.setattr(probe, "survey", fails(DeviceError("PortAudio hangs")))
    status, out, err = cli("doctor", "--json")
    assert (status, err) == (1, "")
    found = json.loads(out)
    assert (found["problems"], found["warnings"]) == (1, 0)
    assert {"check": "PortAudio", "level": "problem", "found": "PortAudio hangs", "advice": ""} in found[
        "findings"
    ]


def test_the_test_tone_on_request(healthy, monkeypatch, cli):
    asked = []

    def play(device):
        asked.append(device)
        return SCARLETT

    monkeypatch.setattr(probe, "play_test_tone", play)
    assert cli("doctor")[0] == 0
    assert asked == []
    status, out, _ = cli("doctor", "--tone")
    assert status == 0
    assert "a second of 440 Hz was played on 0 Scarlett 2i2 (ALSA)" in out
    assert cli("doctor", "--tone", "--device", "scarlett")[0] == 0
    assert asked == [None, "scarlett"]
    monkeypatch.setattr(probe, "play_test_tone", fails(DeviceError("no output device was found")))
    status, out, err = cli("doctor", "--tone")
    assert (status, err) == (1, "")
    assert "problem  test tone" in out


def test_a_device_without_the_tone_is_wrong_usage(healthy, cli):
    status, out, err = cli("doctor", "--device", "scarlett")
    assert (status, out) == (2, "")
    assert "--tone" in err


def test_this_machine():
    """Whatever it is: every check says something, and the status goes with the problems."""
    status, out, err = run("doctor", "--json")
    assert err == ""
    found = json.loads(out)
    seen = [each["check"] for each in found["findings"]]
    assert [check for check in CHECKS if check in seen] == seen
    assert set(CHECKS) - set(seen) <= {"host APIs", "devices"}
    assert all(each["found"] for each in found["findings"])
    assert all(each["advice"] for each in found["findings"] if each["level"] == "warning")
    assert status == (1 if found["problems"] else 0)
