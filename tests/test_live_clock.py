"""``backline live`` on the clock device: no sound card, the same callback, and real files."""

from __future__ import annotations

import json
import signal
from datetime import datetime, tzinfo
from pathlib import Path

import numpy as np
import pytest
from live_tools import RATE_HZ, backline, finish, noise, run, write_model, write_take

import backline as library
from backline.audiofile import read
from backline.errors import AudioFileError, BacklineError, DeviceError
from backline.live.session import LiveSession
from backline.resample import resample


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return write_model(tmp_path / "model.json")


def heard(path: Path) -> np.ndarray:
    return read(path)[0]


# ---- the command ----


@pytest.mark.parametrize("block", [1, 64, 100, 333, 1024])
def test_a_take_comes_out_as_the_offline_render(tmp_path: Path, model: Path, block: int) -> None:
    x = noise(RATE_HZ // 2 if block > 1 else 2000)
    take, to = write_take(tmp_path / "take.wav", x), tmp_path / "out.wav"
    status, out, err = run("live", model, "--device", "clock", "--block", block, "--from", take, "--to", to)
    assert status == 0, err
    np.testing.assert_array_equal(heard(to), library.load(model)(x))
    assert "wrote" in out
    assert read(to)[1] == RATE_HZ


def test_a_nam_model_too(tmp_path: Path, golden: Path) -> None:
    model, x = golden / "nam" / "models" / "wavenet.nam", noise(RATE_HZ // 2)
    take, to = write_take(tmp_path / "take.wav", x), tmp_path / "out.wav"
    status, _, err = run("live", model, "--device", "clock", "--from", take, "--to", to)
    assert status == 0, err
    np.testing.assert_array_equal(heard(to), library.load(model)(x))


def test_a_stereo_take_is_two_streams(tmp_path: Path, model: Path) -> None:
    x = noise(10000, 2)
    take, to = write_take(tmp_path / "take.wav", x), tmp_path / "out.wav"
    status, _, err = run("live", model, "--device", "clock", "--from", take, "--to", to)
    assert status == 0, err
    np.testing.assert_array_equal(heard(to), library.load(model)(x))


def test_a_channel_of_the_take_may_be_chosen(tmp_path: Path, model: Path) -> None:
    x = noise(10000, 3)
    take, to = write_take(tmp_path / "take.wav", x), tmp_path / "out.wav"
    status, _, err = run("live", model, "--device", "clock", "--from", take, "--to", to, "--input-channel", 3)
    assert status == 0, err
    np.testing.assert_array_equal(heard(to), library.load(model)(x[:, 2:]))


def test_a_take_of_another_rate_is_resampled_and_said_so(tmp_path: Path, golden: Path) -> None:
    model, x = golden / "nam" / "models" / "wavenet.nam", noise(11025)
    take, to = write_take(tmp_path / "take.wav", x, 44100), tmp_path / "out.wav"
    status, _, err = run("live", model, "--device", "clock", "--from", take, "--to", to)
    assert status == 0, err
    assert "resampled from 44100 to 48000 Hz" in err
    np.testing.assert_array_equal(heard(to), library.load(model)(resample(x, 44100, 48000)))


def test_record_and_to_and_levels(tmp_path: Path, model: Path) -> None:
    x = noise(12000)
    take, to, record = write_take(tmp_path / "take.wav", x), tmp_path / "out.wav", tmp_path / "record.wav"
    options = ("--from", take, "--to", to, "--record", record, "--gain-in", -6, "--gain-out", 20)
    status, out, err = run("live", model, "--device", "clock", "--no-limit", *options)
    assert status == 0, err
    gained = library.load(model)(x * np.float32(10 ** (-6 / 20))) * np.float32(10)
    np.testing.assert_array_equal(heard(to), gained)
    recorded = heard(record)
    assert len(recorded) >= len(x)
    np.testing.assert_array_equal(recorded[: len(x)], gained)
    assert "output samples over full scale" in out


def test_bypass_is_the_take_itself(tmp_path: Path, model: Path) -> None:
    x = noise(5000)
    take, to = write_take(tmp_path / "take.wav", x), tmp_path / "out.wav"
    status, _, err = run("live", model, "--device", "clock", "--from", take, "--to", to, "--bypass")
    assert status == 0, err
    np.testing.assert_array_equal(heard(to), x)


def test_json_is_one_object_per_line_and_a_summary(model: Path) -> None:
    status, out, err = run("live", model, "--device", "clock", "--seconds", 2.2, "--json")
    assert status == 0, err
    objects = [json.loads(line) for line in out.splitlines()]
    assert [found["event"] for found in objects] == ["status"] * (len(objects) - 1) + ["summary"]
    assert len(objects) >= 2
    summary = objects[-1]
    assert summary["frames"] >= 2.2 * RATE_HZ
    assert summary["output_device"] == "clock"
    assert summary["round_trip_ms"] is None
    assert summary["input_dbfs"] == [None]
    for found in objects:
        assert {"seconds", "xruns", "load_mean", "load_p99", "load_worst"} <= set(found)


def test_without_a_terminal_it_prints_a_plain_line_per_second(model: Path) -> None:
    status, out, err = run("live", model, "--device", "clock", "--seconds", 1.3)
    assert status == 0, err
    assert all("\x1b" not in line for line in (out, err))
    assert "xruns" in out.splitlines()[0]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signals_end_it_cleanly(tmp_path: Path, model: Path, number: signal.Signals) -> None:
    x = noise(60 * RATE_HZ // 2)
    take, to, record = write_take(tmp_path / "take.wav", x), tmp_path / "out.wav", tmp_path / "record.wav"
    process = backline(
        "live", model, "--device", "clock", "--from", take, "--to", to, "--record", record, "--json"
    )
    assert process.stdout is not None
    json.loads(process.stdout.readline())  # it runs
    process.send_signal(number)
    status, out, err = finish(process)
    assert status == 0, err
    summary = json.loads(out.splitlines()[-1])
    assert summary["event"] == "summary"
    assert "before the take does" in err
    caught, recorded = heard(to), heard(record)
    assert len(caught) == len(recorded) == summary["frames"]
    np.testing.assert_array_equal(caught, library.load(model)(x[: len(caught)]))
    assert not list(tmp_path.glob(".backline*"))


@pytest.mark.parametrize(
    ("options", "expected", "said"),
    [
        (["--to", "out.wav"], 2, "--from"),
        (["--input-channel", "one"], 2, "channel numbers"),
        (["--latency", "soon"], 2, "low, high"),
        (["--block", "0"], 2, "block"),
        (["--input-channel", "0"], 1, "no channel 0"),
        (["--input-channel", "1,1"], 1, "different input channels"),
        (["--output-channels", "65"], 1, "no channel 65"),
        (["--rate", "inf"], 1, "found a rate of inf Hz, expected a whole number from 1000 to 768000"),
        (["--rate", "nan"], 1, "rate of nan Hz"),
        (["--rate", "0"], 1, "rate of 0.0 Hz"),
        (["--rate", "999"], 1, "rate of 999.0 Hz"),
        (["--rate", "768001"], 1, "rate of 768001.0 Hz"),
        (["--rate", "48000.5"], 1, "rate of 48000.5 Hz"),
        (["--gain-in", "300"], 1, "outside -200 to 60 dB"),
        (["--gain-out", "100"], 1, "outside -200 to 60 dB"),
        (["--from", "missing.wav"], 1, "missing.wav: no such file"),
        (["--record", "no/such/folder.wav"], 1, "folder"),
        (["--output-device", "system", "--input-device", "clock"], 1, "stands alone"),
    ],
    ids=str,
)
def test_bad_input_is_one_sentence(model: Path, options: list[str], expected: int, said: str) -> None:
    device = [] if "--output-device" in options else ["--device", "clock"]
    status, out, err = run("live", model, *device, "--seconds", 1, *options)
    assert status == expected, (out, err)
    assert said in err
    assert "Traceback" not in err
    if expected == 1:
        assert err.splitlines()[-1].startswith("backline: error: ")
        assert sum(line.startswith("backline: error: ") for line in err.splitlines()) == 1


def test_existing_files_are_refused_without_force(tmp_path: Path, model: Path) -> None:
    record = tmp_path / "record.wav"
    record.write_text("precious")
    status, _, err = run("live", model, "--device", "clock", "--seconds", 0.1, "--record", record)
    assert (status, record.read_text()) == (1, "precious")
    assert "--force" in err
    status, _, err = run("live", model, "--device", "clock", "--seconds", 0.1, "--record", record, "--force")
    assert status == 0, err
    assert len(heard(record)) >= 0.1 * RATE_HZ


# ---- the library ----


def test_knobs_turn_while_it_runs(model: Path) -> None:
    with LiveSession(library.load(model), device="clock") as session:
        session.run(seconds=0.05)
        session.set_levels(input_gain_db=-6.0, bypass=True)
        session.run(seconds=0.1)
        with pytest.raises(BacklineError, match="no knob 'treble'"):
            session.set(treble=1.0)
    assert session.summary()["frames"] >= 0.1 * RATE_HZ


def test_status_takes_the_peaks_since_the_last(tmp_path: Path, model: Path) -> None:
    x = np.zeros((RATE_HZ, 1), np.float32)
    x[:100] = 0.5
    take = write_take(tmp_path / "take.wav", x)
    with LiveSession(library.load(model), device="clock", take=take) as session:
        session.run(seconds=0.1)
        first, second = session.status(), session.status()
    assert first.stats.input_peaks == (0.5,)
    assert second.stats.input_peaks == (0.0,)
    assert session.summary()["input_dbfs"] == [pytest.approx(-6.02, abs=0.01)]


def test_a_failing_start_leaves_no_files(
    tmp_path: Path, model: Path, monkeypatch: pytest.MonkeyPatch, worker_in_thread: None
) -> None:
    def refuse(self: object) -> None:
        raise DeviceError("the clock has stopped")

    monkeypatch.setattr("backline.live.worker.ClockStream.start", refuse)
    session = LiveSession(library.load(model), device="clock", record=tmp_path / "record.wav")
    with pytest.raises(DeviceError, match="stopped"):
        session.__enter__()
    assert not session.started
    assert sorted(path.name for path in tmp_path.iterdir()) == ["model.json"]


def test_a_file_that_fails_ends_the_session_and_spares_the_other(
    tmp_path: Path, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from backline.audiofile import AudioWriter

    whole = AudioWriter.write

    def full(self: AudioWriter, x: np.ndarray) -> None:
        if self.path.name == "record.wav":
            raise AudioFileError("record.wav: cannot be written: the disk is full")
        whole(self, x)

    take = write_take(tmp_path / "take.wav", noise(20 * RATE_HZ))
    monkeypatch.setattr(AudioWriter, "write", full)
    session = LiveSession(
        library.load(model), device="clock", take=take, to=tmp_path / "to.wav", record=tmp_path / "record.wav"
    )
    with pytest.raises(AudioFileError, match="disk is full"), session:
        session.run()
    assert session.summary()["frames"] < 20 * RATE_HZ
    assert (tmp_path / "to.wav").exists()
    assert not (tmp_path / "record.wav").exists()
    assert not list(tmp_path.glob(".backline*"))


def test_a_recording_by_a_key_that_fails_is_said_and_the_sound_goes_on(
    tmp_path: Path, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is not what the session is for; and the next one is another file."""
    from backline.audiofile import AudioWriter

    whole = AudioWriter.write
    full = True

    def write(self: AudioWriter, x: np.ndarray) -> None:
        if full and self.path.name != "record.wav":
            raise AudioFileError(f"{self.path}: cannot be written: the disk is full")
        whole(self, x)

    monkeypatch.setattr(AudioWriter, "write", write)
    monkeypatch.chdir(tmp_path)
    with LiveSession(library.load(model), device="clock", record=tmp_path / "record.wav") as session:
        session.record(False)
        name = session.record(True)
        session.run(1.0)
        assert session.status().recording is None
        assert session.notes[-1] == f"the recording has ended: {name}: cannot be written: the disk is full"
        assert not (tmp_path / str(name)).exists()
        full = False
        second = session.record(True)
        session.run(1.2)
    assert session.summary()["files"] == [str(tmp_path / "record.wav"), second]


def test_a_take_is_not_overwritten_by_what_becomes_of_it(tmp_path: Path, model: Path) -> None:
    take = write_take(tmp_path / "take.wav", noise(100))
    session = LiveSession(library.load(model), device="clock", take=take, to=take, overwrite=True)
    with pytest.raises(AudioFileError, match="take itself"), session:
        pass


def test_frames_lost_are_said(tmp_path: Path, model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("backline.live.session._CAPTURE_SECONDS", 0.01)
    monkeypatch.setattr("backline.live.recorder._POLL_SECONDS", 0.2)
    x = noise(RATE_HZ // 2)
    take, to = write_take(tmp_path / "take.wav", x), tmp_path / "to.wav"
    with LiveSession(library.load(model), device="clock", take=take, to=to) as session:
        session.run()
    lost = session.summary()["capture_lost_frames"]
    assert lost > 0
    assert any(f"{lost} frames were not recorded" in note for note in session.notes)
    y, expected = heard(to), library.load(model)(x)
    assert y.shape == expected.shape
    agree = (y == expected)[:, 0]
    assert not y[~agree].any()
    assert agree.any()


def test_no_session_on_a_model_that_changes_the_rate() -> None:
    halved = library.conv1d(np.ones((1, 1, 2), np.float32), stride=2)
    with pytest.raises(BacklineError, match="1/2 frames per frame"), LiveSession(halved, device="clock"):
        pass


def test_bypass_needs_as_many_outputs_as_inputs() -> None:
    wide = library.conv1d(np.ones((2, 1, 1), np.float32))
    with pytest.raises(BacklineError, match="no bypass"), LiveSession(wide, device="clock", bypass=True):
        pass


def test_output_channels_have_to_fit(model: Path) -> None:
    session = LiveSession(
        library.load(model), device="clock", input_channels=[1, 2], output_channels=[1, 2, 3]
    )
    with pytest.raises(BacklineError, match="2 channels come out, but 3"), session:
        pass


def test_a_block_too_large_for_the_clock_is_the_devices_fault(model: Path) -> None:
    session = LiveSession(library.load(model), device="clock", block_frames=9000)
    with pytest.raises(DeviceError, match=r"clock of 9000 frames.*1 to 8192"), session:
        pass
    assert not session.started


def test_a_take_is_needed_for_what_becomes_of_it(tmp_path: Path, model: Path) -> None:
    session = LiveSession(library.load(model), device="clock", to=tmp_path / "to.wav")
    with pytest.raises(BacklineError, match=r"only be kept if a take is played$"), session:
        pass


def test_a_device_of_long_blocks_is_given_longer(model: Path) -> None:
    with LiveSession(library.load(model), device="clock", rate_hz=1000, block_frames=8192) as session:
        assert session._running.patience(2.0) == 4 * 8.192
        assert session._running.patience(50.0) == 50.0
    assert session.summary()["frames"] == 0  # it did not have to wait for the end of the block


def test_a_session_is_entered_once(model: Path) -> None:
    session = LiveSession(library.load(model), device="clock")
    with session:
        with pytest.raises(BacklineError, match="one `with` only"), session:
            pass
        assert session.status().state == "playing"
    with pytest.raises(BacklineError, match="one `with` only"), session:
        pass
    assert session.status().state == "ended"


def test_recordings_of_one_second_have_names_of_their_own(
    tmp_path: Path, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Noon(datetime):
        @classmethod
        def now(cls, tz: tzinfo | None = None) -> Noon:
            return cls(2026, 1, 2, 12, 0, 0, tzinfo=tz)

    monkeypatch.setattr("backline.live.recordings.datetime", Noon)
    monkeypatch.chdir(tmp_path)
    with LiveSession(library.load(model), device="clock") as session:
        names = []
        for _ in range(3):
            names.append(session.record(True))
            session.record(False)
    expected = [f"backline-20260102-120000{more}.wav" for more in ("", "-2", "-3")]
    assert names == expected
    assert sorted(path.name for path in tmp_path.glob("backline-*")) == sorted(expected)
