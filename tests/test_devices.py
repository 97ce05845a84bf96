"""Finding devices, and machines that have none. A stand-in for PortAudio lists what it is told."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from live_tools import backline, finish, noise, write_model, write_take

import backline as library
from backline.audiofile import read
from backline.cli import main
from backline.errors import DeviceError, MissingDependency
from backline.live import devices as host
from backline.live.messages import Open, Opened
from backline.live.opening import same_again
from backline.live.session import LiveSession
from backline.live.streams import PortAudioStream


class PortAudioError(Exception):
    """As sounddevice's."""


class FakeSoundDevice:
    """The part of sounddevice that host.py uses, with devices that take only some rates."""

    PortAudioError = PortAudioError

    def __init__(self, *found: tuple[str, int, int, int], default: tuple[int, int] = (-1, -1)) -> None:
        self.found = found
        self.default = SimpleNamespace(device=list(default))

    def query_hostapis(self) -> Any:
        first = 0 if self.found else -1
        return (
            {
                "name": "ALSA",
                "devices": list(range(len(self.found))),
                "default_input_device": first,
                "default_output_device": first,
            },
        )

    def query_devices(self) -> Any:
        latencies = {f"default_{x}_{y}_latency": 0.01 for x in ("low", "high") for y in ("input", "output")}
        return [
            {
                "name": name,
                "hostapi": 0,
                "max_input_channels": inputs,
                "max_output_channels": outputs,
                "default_samplerate": float(rate),
                **latencies,
            }
            for name, inputs, outputs, rate in self.found
        ]

    def _check(self, device: int, channels: int, most: int, rate: float) -> None:
        if channels > most or rate != self.found[device][3]:
            raise PortAudioError("Invalid sample rate", -9997)

    def check_input_settings(self, device: int, channels: int, dtype: str, extra: None, rate: float) -> None:
        self._check(device, channels, self.found[device][1], rate)

    def check_output_settings(self, device: int, channels: int, dtype: str, extra: None, rate: float) -> None:
        self._check(device, channels, self.found[device][2], rate)

    def _StreamBase(self, **options: Any) -> Any:
        raise PortAudioError("Error opening stream: Device unavailable", -9985)


@pytest.fixture
def sound(monkeypatch: pytest.MonkeyPatch, worker_in_thread: None) -> Any:
    """Put a stand-in with these devices in PortAudio's place, here and in the worker."""

    def put(*found: tuple[str, int, int, int], **options: Any) -> None:
        monkeypatch.setitem(sys.modules, "sounddevice", FakeSoundDevice(*found, **options))  # type: ignore[arg-type]

    return put


@pytest.fixture
def no_portaudio(monkeypatch: pytest.MonkeyPatch, worker_in_thread: None) -> None:
    """A machine with the Python package and without the library."""
    pytest.importorskip("_sounddevice")
    monkeypatch.delitem(sys.modules, "sounddevice", raising=False)
    monkeypatch.setattr("ctypes.util.find_library", lambda name: None)


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return write_model(tmp_path / "model.json")


CARDS = (("Scarlett 2i2", 2, 2, 44100), ("HDMI 0", 0, 8, 48000), ("HDMI 1", 0, 2, 48000))


def test_importing_backline_opens_no_device() -> None:
    code = "import sys, backline, backline.live.session; sys.exit('sounddevice' in sys.modules)"
    process = subprocess.run([sys.executable, "-c", code])
    assert process.returncode == 0


def test_the_list_ends_with_the_clock(sound: Any) -> None:
    sound(*CARDS)
    found = host.devices()
    assert [device.name for device in found] == ["Scarlett 2i2", "HDMI 0", "HDMI 1", "clock"]
    assert [device.index for device in found] == [0, 1, 2, None]
    assert found[0].default_input
    assert found[0].default_output
    assert found[1].input_latency_ms is None
    assert found[1].output_latency_ms == (10.0, 10.0)


def test_devices_as_json_and_as_a_table(sound: Any, capsys: pytest.CaptureFixture[str]) -> None:
    sound(*CARDS)
    assert main(["devices", "--json"]) == 0
    assert [device["name"] for device in json.loads(capsys.readouterr().out)][-1] == "clock"
    assert main(["devices"]) == 0
    assert "Scarlett 2i2" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("wanted", "direction", "index"),
    [
        (None, "input", 0),
        (0, "input", 0),
        ("2", "output", 2),
        ("scarlett", "output", 0),
        ("hdmi 1", "output", 2),
        ("hdmi 0, alsa", "output", 1),
        ("ALSA", "input", 0),
        ("Clock", "input", None),
    ],
)
def test_a_device_is_found_by_index_or_part_of_its_name(
    sound: Any, wanted: Any, direction: Any, index: int | None
) -> None:
    sound(*CARDS)
    assert host.find_device(wanted, direction).index == index


def test_a_card_that_comes_back_under_another_number_is_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    def listed(*found: str) -> None:
        fake = FakeSoundDevice(*((name, 2, 2, 48000) for name in found))
        monkeypatch.setattr(host, "portaudio", lambda: fake)

    listed("PCH: ALC257 (hw:0,0)", "Scarlett 2i2: USB Audio (hw:1,0)")
    wish = Open("scarlett", "scarlett", (), False, 64, "low", None, None, 1, 1, None)
    there = host.find_device("scarlett", "input")
    opened = Opened(there, there, 48000.0, 1, (0,), (0,), 1)
    again = same_again(wish, opened)
    assert host.find_device(again.sink, "output").index == 1
    listed("PCH: ALC257 (hw:0,0)", "HDMI (hw:1,0)", "Scarlett 2i2: USB Audio (hw:3,0)")
    assert host.find_device(again.source, "input").index == 2
    assert host.find_device(again.sink, "output").index == 2
    listed("PCH: ALC257 (hw:0,0)", "Scarlett 2i2: USB Audio #2 (hw:1,0)")
    with pytest.raises(DeviceError, match="no output device is named like"):
        host.find_device(again.sink, "output")
    listed("Scarlett 2i2: USB Audio (hw:2,0)", "Scarlett 2i2: USB Audio (hw:3,0)")
    with pytest.raises(DeviceError, match="2 output devices"):
        host.find_device(again.sink, "output")


def test_an_exact_name_wins_over_longer_ones(sound: Any) -> None:
    sound(("USB", 2, 2, 48000), ("USB 2", 2, 2, 48000))
    assert host.find_device("usb", "input").index == 0


@pytest.mark.parametrize(
    ("wanted", "direction", "said"),
    [
        ("hdmi", "output", "2 output devices are named like 'hdmi': 1 HDMI 0 (ALSA); 2 HDMI 1 (ALSA)"),
        ("hdmi", "input", "no input device is named like 'hdmi'; there are: 0 Scarlett 2i2 (ALSA)"),
        ("focus", "output", "no output device is named like 'focus'"),
        (7, "output", "there is no device 7"),
        (-1, "output", "there is no device -1"),
        (1, "input", "1 HDMI 0 (ALSA) has no inputs"),
    ],
)
def test_what_is_no_device_or_several_is_refused(sound: Any, wanted: Any, direction: Any, said: str) -> None:
    sound(*CARDS)
    with pytest.raises(DeviceError) as error:
        host.find_device(wanted, direction)
    assert said in str(error.value)


def test_a_rate_that_is_refused_says_which_are_taken(sound: Any, golden: Path) -> None:
    sound(*CARDS)
    model = library.load(golden / "nam" / "models" / "wavenet.nam")
    for options in ({"rate_hz": 48000}, {"resampled": False}):
        with pytest.raises(DeviceError) as error, LiveSession(model, device="scarlett", **options):
            pass
        assert str(error.value) == "0 Scarlett 2i2 (ALSA): refuses a rate of 48000 Hz; it takes 44100 Hz"


def test_a_model_of_another_rate_runs_at_the_devices(sound: Any, golden: Path) -> None:
    sound(*CARDS)
    model = library.load(golden / "nam" / "models" / "wavenet.nam")
    session = LiveSession(model, device="scarlett")
    with pytest.raises(DeviceError, match="cannot be opened"), session:
        pass
    assert any("made for 48000 Hz, resampled from and to 44100 Hz" in note for note in session.notes)


def test_channels_that_are_not_there_are_refused(sound: Any, model: Path) -> None:
    sound(*CARDS)
    for options in ({"input_channels": [3]}, {"output_channels": [1, 9]}):
        with (
            pytest.raises(DeviceError, match="found no channel"),
            LiveSession(library.load(model), **options),
        ):  # type: ignore[arg-type]
            pass


def test_a_device_that_does_not_open_says_why_in_one_sentence(sound: Any, model: Path) -> None:
    sound(*CARDS)
    with pytest.raises(DeviceError) as error, LiveSession(library.load(model)):
        pass
    assert str(error.value) == "0 Scarlett 2i2 (ALSA) cannot be opened: Device unavailable"


def test_an_output_alone_needs_a_take(sound: Any, model: Path) -> None:
    sound(("HDMI", 0, 2, 48000))
    with pytest.raises(DeviceError, match="no input device was found"), LiveSession(library.load(model)):
        pass


def test_no_device_at_all_means_the_clock_and_says_so(sound: Any, model: Path) -> None:
    sound()
    with LiveSession(library.load(model)) as session:
        session.run(seconds=0.05)
    assert session.status().sink == "clock"
    assert any("no audio device was found; running on the clock device" in note for note in session.notes)


def test_a_device_that_was_asked_for_is_not_replaced_by_the_clock(sound: Any, model: Path) -> None:
    sound()
    with pytest.raises(DeviceError, match="there are: none but clock"):
        LiveSession(library.load(model), device="scarlett").__enter__()


# ---- no PortAudio ----


def test_without_portaudio_one_line_says_what_to_install(no_portaudio: None) -> None:
    with pytest.raises(MissingDependency, match="apt install libportaudio2"):
        host.devices()


def test_without_portaudio_a_named_device_fails(no_portaudio: None, model: Path) -> None:
    with pytest.raises(MissingDependency, match="libportaudio2"):
        LiveSession(library.load(model), device="scarlett").__enter__()


def test_without_portaudio_the_clock_runs_and_says_so(
    no_portaudio: None, model: Path, tmp_path: Path
) -> None:
    x = noise(3000)
    take, to = write_take(tmp_path / "take.wav", x), tmp_path / "out.wav"
    with LiveSession(library.load(model), take=take, to=to) as session:
        session.run()
    assert any("libportaudio2" in note and "clock" in note for note in session.notes)
    np.testing.assert_array_equal(read(to)[0], library.load(model)(x))


def test_the_clock_does_not_import_sounddevice(model: Path) -> None:
    code = (
        "import sys; sys.modules['sounddevice'] = None\n"
        "from backline.cli import main\n"
        f"sys.exit(main(['live', {str(model)!r}, '--device', 'clock', '--seconds', '0.1']))"
    )
    process = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert process.returncode == 0, process.stderr


def test_devices_without_portaudio_is_one_sentence(
    no_portaudio: None, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["devices"]) == 1
    assert "apt install libportaudio2" in capsys.readouterr().err


def test_a_portaudio_that_does_not_start_means_the_clock_and_says_so(
    sound: Any, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sound(*CARDS)

    def refuse() -> None:
        raise PortAudioError("Error querying host API: PortAudio not initialized", -10000)

    monkeypatch.setattr(sys.modules["sounddevice"], "query_hostapis", refuse)
    with LiveSession(library.load(model)) as session:
        session.run(seconds=0.05)
    assert session.status().sink == "clock"
    assert any("PortAudio not initialized; running on the clock" in note for note in session.notes)
    with pytest.raises(DeviceError, match="devices cannot be listed"):
        LiveSession(library.load(model), device="scarlett").__enter__()


def test_asking_whether_a_stream_runs_leaves_stderr_alone(
    sound: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is asked twenty times a second, and stderr is the whole process's."""
    sound(*CARDS)
    stream = SimpleNamespace(latency=0.01, active=True)
    monkeypatch.setattr(sys.modules["sounddevice"], "_StreamBase", lambda **options: stream)
    played = SimpleNamespace(
        monitor=SimpleNamespace(rate_hz=48000.0),
        output_channels=2,
        pointer=None,
        begin_use=lambda: None,
        end_use=lambda: None,
    )
    sink = host.find_device("hdmi 0", "output")
    opened = PortAudioStream(played, None, sink, 64, "low")  # type: ignore[arg-type]

    def moved(*_: int) -> None:
        raise AssertionError("stderr was moved")

    with monkeypatch.context() as patched:
        patched.setattr("os.dup2", moved)
        assert opened.active


def test_play_says_what_is_wrong(sound: Any) -> None:
    sound()
    with pytest.raises(DeviceError, match="no output device was found"):
        host.play(np.zeros(10, np.float32), 48000)


def test_a_command_with_a_device_that_is_not_there(model: Path) -> None:
    status, out, err = finish(backline("live", model, "--device", "no such card", "--seconds", 1))
    assert status == 1
    assert err.count("\n") == 1
    assert err.startswith("backline: error: ")
    assert not out


def test_devices_that_come_and_go_are_told(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    card = host.Device(0, "Card", "ALSA", 2, 2, 48000.0)
    looks = iter([[host.CLOCK_DEVICE], [card, host.CLOCK_DEVICE], [host.CLOCK_DEVICE]])
    monkeypatch.setattr("backline.live.probe.listed_devices", lambda: next(looks))
    monkeypatch.setattr(sys.modules["backline.cli.devices"], "_WATCH_SECONDS", 0.0)
    monkeypatch.setattr("time.monotonic", iter([0.0, 0.0, 0.0, 9.0]).__next__)
    assert main(["devices", "--watch", "--seconds", "1"]) == 0
    assert capsys.readouterr().out.splitlines() == ["+ clock", "+ 0 Card (ALSA)", "- 0 Card (ALSA)"]
