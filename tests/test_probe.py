"""The process that asks PortAudio, with modules in sounddevice's place, and with processes that misbehave."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import fake_portaudio
import numpy as np
import pytest

from backline.errors import BacklineError, DeviceError, MissingDependency, ModelError
from backline.live import probe
from backline.live.devices import CLOCK_DEVICE, Device

WAIT_SECONDS = 30.0


@pytest.fixture
def child(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    """Put a program in the place of the process that asks."""

    def put(code: str) -> None:
        monkeypatch.setattr(probe, "_CHILD", (sys.executable, "-c", code))

    return put


def gone(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    # An orphan that has ended may wait to be collected.
    state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    return state == "Z"


def wait_until(what: str, condition) -> None:
    deadline = time.monotonic() + WAIT_SECONDS
    while not condition():
        assert time.monotonic() < deadline, f"waited {WAIT_SECONDS:.0f} s for {what}"
        time.sleep(0.02)


# ---- what PortAudio says ----


def test_what_portaudio_says_arrives_without_its_noise(monkeypatch, tmp_path, capfd):
    fake_portaudio.put(monkeypatch, tmp_path, fake_portaudio.TALKS)
    found = probe.survey(WAIT_SECONDS)
    assert (found.portaudio, found.library, found.version) == ("PortAudio V0", "libfake.so.2", "0.0.1")
    assert found.host_apis == {"ALSA": 2, "JACK Audio Connection Kit": 0}
    ten = (10.0, 10.0)
    assert found.devices == (
        Device(0, "HDA Intel PCH: HDMI 0", "ALSA", 0, 2, 44100.0, None, ten, default_output=True),
        Device(1, "Scarlett 2i2", "ALSA", 2, 2, 44100.0, ten, ten, default_input=True),
        CLOCK_DEVICE,
    )
    assert probe.listed_devices(WAIT_SECONDS) == list(found.devices)
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize(
    ("code", "kind", "said"),
    [
        (fake_portaudio.NO_PACKAGE, MissingDependency, "pip install sounddevice"),
        (fake_portaudio.NO_LIBRARY, MissingDependency, "apt install libportaudio2"),
        (fake_portaudio.DOES_NOT_START, DeviceError, "PortAudio does not start: Error initializing"),
        (fake_portaudio.CRASHES, DeviceError, f"was killed by signal {signal.SIGABRT.value}"),
    ],
)
def test_what_keeps_portaudio_from_answering_is_one_sentence(monkeypatch, tmp_path, code, kind, said):
    fake_portaudio.put(monkeypatch, tmp_path, code)
    with pytest.raises(kind, match=said) as error:
        probe.survey(WAIT_SECONDS)
    assert "\n" not in str(error.value)


def test_a_portaudio_that_hangs_is_one_sentence(monkeypatch, tmp_path):
    fake_portaudio.put(monkeypatch, tmp_path, fake_portaudio.HANGS)
    with pytest.raises(DeviceError, match=r"did not answer within 1\.5 s: is a sound server .* hanging\?"):
        probe.survey(1.5)


def test_the_test_tone_goes_to_the_device_that_is_named(monkeypatch, tmp_path, capfd):
    fake_portaudio.put(monkeypatch, tmp_path, fake_portaudio.TALKS)
    assert probe.play_test_tone("scarlett", WAIT_SECONDS).index == 1
    with pytest.raises(DeviceError, match=r"HDMI 0 .*does not play 2 channels at 44100 Hz: Device unavail"):
        probe.play_test_tone(None, WAIT_SECONDS)
    with pytest.raises(DeviceError, match="no output device is named like 'no such'"):
        probe.play_test_tone("no such", WAIT_SECONDS)
    assert capfd.readouterr() == ("", "")


def test_the_clock_plays_no_tone():
    with pytest.raises(DeviceError, match="the clock makes no sound"):
        probe.play_test_tone("clock", WAIT_SECONDS)


def test_a_tone_that_hangs_is_one_sentence(monkeypatch, tmp_path):
    fake_portaudio.put(monkeypatch, tmp_path, fake_portaudio.HANGS_PLAYING)
    with pytest.raises(DeviceError, match="did not answer within 2 s"):
        probe.play_test_tone("scarlett", 2.0)


@pytest.mark.skipif(sys.version_info < (3, 11), reason="Python knows no PYTHONSAFEPATH yet")
def test_modules_in_the_users_folder_are_not_run(monkeypatch, tmp_path):
    for name in ("sounddevice", "numpy", "json"):
        (tmp_path / f"{name}.py").write_text("import os; os.abort()")
    monkeypatch.chdir(tmp_path)
    try:
        found = probe.listed_devices(WAIT_SECONDS)
    except MissingDependency:
        return
    assert found[-1] == CLOCK_DEVICE


@pytest.mark.parametrize("rate_hz", [44100.0, 48000.0])
def test_the_tone_is_a_sine_of_440_hz_at_minus_20_dbfs(rate_hz):
    """440 periods in the second: all in one line of the spectrum, but for the fades."""
    x = probe.tone(rate_hz)
    assert x.dtype == np.float32
    assert len(x) == rate_hz
    assert x[0] == 0.0
    assert abs(x[-1]) < 1e-6
    middle = x[round(0.25 * rate_hz) : round(0.75 * rate_hz)].astype(np.float64)
    t = np.arange(len(middle)) / rate_hz  # 110 periods after the start: the same phase
    np.testing.assert_allclose(middle, 0.1 * np.sin(2.0 * np.pi * 440.0 * t), atol=1e-7)


# ---- processes that misbehave ----


def test_a_process_that_hangs_is_killed(child, tmp_path):
    note = tmp_path / "pid"
    child(
        f"import os, time; open({str(note)!r} + '~', 'w').write(str(os.getpid()));"
        f"os.rename({str(note)!r} + '~', {str(note)!r}); time.sleep(600)"
    )
    with pytest.raises(DeviceError, match="PortAudio did not answer within 2 s"):
        probe.survey(2.0)
    assert gone(int(note.read_text()))


@pytest.mark.parametrize(
    "printed",
    [
        *("", "nonsense", "{", "[]", "3", "null", '"answer"', "\\xff\\xfe", "NaN", '{"answer": {}} more'),
        *("{}", '{"answer": null}', '{"answer": 1}', '{"kind": "DeviceError"}'),
        '{"answer": 1, "kind": "DeviceError"}',
        "[" * 5000,
    ],
    ids=lambda printed: printed[:25] or "nothing",
)
def test_nonsense_is_no_answer(child, printed):
    child(f"import sys; sys.stdout.buffer.write(b'{printed}'); sys.exit(3)")
    with pytest.raises(DeviceError) as error:
        probe.survey(WAIT_SECONDS)
    assert str(error.value) == "PortAudio gave no answer: the process that asked it ended with status 3"


def test_a_process_that_crashes_says_by_what(child):
    child("import os, signal; os.kill(os.getpid(), signal.SIGSEGV)")
    with pytest.raises(DeviceError, match=f"was killed by signal {signal.SIGSEGV.value}"):
        probe.survey(WAIT_SECONDS)


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        ("ModelError", ModelError),
        ("MissingDependency", MissingDependency),
        ("BacklineError", BacklineError),
        ("KeyboardInterrupt", DeviceError),  # none of ours
        ("__doc__", DeviceError),
    ],
)
def test_errors_arrive_as_what_they_were(child, kind, expected):
    child(f"""print('{{"answer": "so it is", "kind": "{kind}"}}')""")
    with pytest.raises(expected, match=r"^so it is$") as error:
        probe.survey(WAIT_SECONDS)
    assert type(error.value) is expected


def test_no_process_at_all(monkeypatch, tmp_path):
    monkeypatch.setattr(probe, "_CHILD", (str(tmp_path / "no python"),))
    with pytest.raises(DeviceError, match="no process could be started to ask PortAudio: No such file"):
        probe.survey(WAIT_SECONDS)


# ---- the process itself ----


def ask(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [*probe._CHILD, *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=WAIT_SECONDS, check=False)


def test_what_goes_wrong_unexpectedly_is_an_answer_too():
    done = ask("lock", '{"colour": 1}', str(os.getpid()))
    assert done.returncode == 0
    assert not done.stderr
    found = json.loads(done.stdout)
    assert found["kind"] == "DeviceError"
    assert found["answer"].startswith("unexpected TypeError: ")


@pytest.mark.skipif(
    not sys.platform.startswith("linux"), reason="only Linux ends processes with their parent"
)
def test_it_ends_at_once_if_its_parent_has_gone():
    assert ask("lock", "{}", "1").returncode == -signal.SIGKILL


@pytest.mark.skipif(
    not sys.platform.startswith("linux"), reason="only Linux ends processes with their parent"
)
def test_it_ends_with_its_parent(monkeypatch, tmp_path):
    note = tmp_path / "pid"
    code = (
        f"import os; open({str(note)!r} + '~', 'w').write(str(os.getpid()));"
        f"os.rename({str(note)!r} + '~', {str(note)!r})\n{fake_portaudio.HANGS}"
    )
    fake_portaudio.put(monkeypatch, tmp_path, code)
    parent = subprocess.Popen([sys.executable, "-c", "from backline.live import probe; probe.survey(600)"])
    try:
        wait_until("the process that asks", note.exists)
    finally:
        parent.kill()
        parent.wait()
    wait_until("its end", lambda: gone(int(note.read_text())))


def test_memory_is_locked_there_and_not_here():
    def locked_here() -> list[str]:
        try:
            lines = Path("/proc/self/status").read_text().splitlines()
        except OSError:
            return []
        return [line for line in lines if line.startswith("VmLck")]

    before = locked_here()
    found = probe.memory_lock(WAIT_SECONDS)
    assert found.what in ("all", "current", "none")
    assert found.why
    assert locked_here() == before
