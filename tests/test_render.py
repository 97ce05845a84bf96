"""Files through models to files: exact where nothing is resampled, never half-written, never silent."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import backline
from backline.audiofile import AudioWriter, read
from backline.errors import AudioFileError, FileExists, ModelError
from backline.pending import Draft
from backline.render import (
    RenderOptions,
    folders,
    plan_targets,
    render_file,
)
from backline.resample import resample

#: As long as the input.
NO_TAIL = RenderOptions(tail_s=0.0)


def noise(frames: int, channels: int = 1, seed: int = 0) -> np.ndarray:
    x = np.random.default_rng(seed).standard_normal((frames, channels))
    return (0.1 * x).astype(np.float32)


def write(path: Path, x: np.ndarray, rate_hz: int = 48000, **options) -> Path:
    with AudioWriter(path, rate_hz, x.shape[1], **options) as writer:
        writer.write(x)
    return path


@pytest.fixture
def model(wavenet_file) -> backline.Model:
    """A small WaveNet for 48 kHz."""
    return backline.load(wavenet_file)


@pytest.fixture
def gain() -> backline.Model:
    """Twice the input, at any rate."""
    return backline.conv1d(np.full((1, 1, 1), 2.0))


def contents(folder: Path) -> list[str]:
    return sorted(entry.name for entry in folder.iterdir())


# ----------------------------------------------------------------------------------------- what comes out


@pytest.mark.parametrize("frames", [1, 127, 16384, 16385, 50000])
@pytest.mark.parametrize("channels", [1, 2, 5])
def test_bits_are_those_of_one_call(tmp_path, model, frames, channels):
    x = noise(frames, channels)
    report = render_file(model, write(tmp_path / "in.wav", x), tmp_path / "out.wav", NO_TAIL)
    y, rate_hz = read(tmp_path / "out.wav")
    assert rate_hz == 48000
    assert np.array_equal(y, model(x))
    assert (report.frames, report.channels, report.rate_hz) == (frames, channels, 48000)
    assert report.resampled is None
    assert contents(tmp_path) == ["in.wav", "out.wav"]


def test_channels_do_not_mix(tmp_path, model):
    x = noise(3000, 2)
    render_file(model, write(tmp_path / "in.wav", x), tmp_path / "out.wav", NO_TAIL)
    y, _ = read(tmp_path / "out.wav")
    for channel in range(2):
        assert np.array_equal(y[:, channel], model(x[:, channel]))


@pytest.mark.parametrize("latency", [1, 64, 20000, 60000])
def test_latency_is_taken_out(tmp_path, monkeypatch, latency):
    """A model that lags and says so comes out in time, to the last frame."""
    weight = np.zeros((1, 1, latency + 1), np.float32)
    weight[0, 0, 0] = 1.0  # the oldest tap: a delay
    model = backline.conv1d(weight)
    monkeypatch.setattr(backline.Model, "latency_frames", latency)
    x = noise(40000)
    render_file(model, write(tmp_path / "in.wav", x), tmp_path / "out.wav", NO_TAIL)
    assert np.array_equal(read(tmp_path / "out.wav")[0], x)


@pytest.mark.parametrize("file_hz", [8000, 11025, 44100, 47999, 88200, 96000, 192000])
@pytest.mark.parametrize("frames", [1, 2, 3, 1000, 30001])
def test_resampled_files_keep_their_length_and_rate(tmp_path, model, file_hz, frames):
    report = render_file(
        model, write(tmp_path / "in.wav", noise(frames), file_hz), tmp_path / "out.wav", NO_TAIL
    )
    y, rate_hz = read(tmp_path / "out.wav")
    assert (len(y), rate_hz) == (frames, file_hz)
    assert report.resampled == (file_hz, 48000)
    assert f"resampled {file_hz} -> 48000 Hz and back" in str(report)


def test_resampled_is_resample_model_resample(tmp_path, model):
    x = noise(30000, 2)
    render_file(model, write(tmp_path / "in.wav", x, 44100), tmp_path / "out.wav", NO_TAIL)
    y, _ = read(tmp_path / "out.wav")
    expected = resample(model(resample(x, 44100, 48000)), 48000, 44100)
    inner = len(x) - 3000  # the end differs: the file is followed by silence that the model hears
    assert np.array_equal(y[:inner], expected[:inner])


def test_a_resampled_sine_comes_back_in_time(tmp_path, gain):
    at = np.arange(20000) / 44100
    x = (0.3 * np.sin(2 * np.pi * 1000 * at)).astype(np.float32)[:, np.newaxis]
    object.__setattr__(gain.graph, "sample_rate_hz", 48000.0)
    render_file(gain, write(tmp_path / "in.wav", x, 44100), tmp_path / "out.wav", NO_TAIL)
    y, _ = read(tmp_path / "out.wav")
    assert np.max(np.abs(y[2000:-2000] - 2 * x[2000:-2000])) < 1e-6


# ----------------------------------------------------------------------------------------- what it reports


def test_report(tmp_path, gain):
    at = np.arange(96000) / 48000
    x = (0.5 * np.sin(2 * np.pi * 997 * at)).astype(np.float32)[:, np.newaxis]
    report = render_file(gain, write(tmp_path / "in.wav", x), tmp_path / "out.wav", NO_TAIL)
    assert report.duration_s == 2.0
    assert report.peak_dbfs == pytest.approx(0.0, abs=1e-3)
    assert report.lufs == pytest.approx(-3.01, abs=0.05)
    assert report.clipped == 0
    assert report.times_real_time == report.duration_s / report.elapsed_s
    assert str(report).startswith(f"{tmp_path / 'out.wav'}: 2.00 s, ")
    assert "times real time, peak +0.0 dBFS, -3.0 LUFS" in str(report)
    assert "the model does not say its rate and ran at the file's 48000 Hz" in str(report)


def test_clipping_is_counted_and_said(tmp_path, gain):
    x = np.array([[0.4], [0.6], [-0.7], [0.1]], np.float32)
    report = render_file(gain, write(tmp_path / "in.wav", x), tmp_path / "out.flac", NO_TAIL)
    assert report.clipped == 2
    assert "2 samples clipped" in str(report)
    assert "written as FLAC PCM_24" in str(report)
    assert "loudness not measurable" in str(report)
    assert report.peak_dbfs == pytest.approx(20 * np.log10(1.4), abs=1e-4)


def test_silence_is_called_so(tmp_path, gain):
    report = render_file(
        gain, write(tmp_path / "in.wav", np.zeros((100, 1), np.float32)), tmp_path / "out.wav"
    )
    assert (report.peak_dbfs, report.lufs) == (None, None)
    assert "silent" in str(report)


def test_dropped_precision_is_said(tmp_path, gain):
    report = render_file(
        gain, write(tmp_path / "in.wav", noise(10), subtype="PCM_32"), tmp_path / "out.wav", NO_TAIL
    )
    assert "PCM_32 samples read as 32-bit float" in str(report)


def test_progress_reaches_the_end(tmp_path, gain):
    seen: list[tuple[float, float]] = []
    source = write(tmp_path / "in.wav", noise(200000))
    render_file(
        gain, source, tmp_path / "out.wav", on_progress=lambda done, total: seen.append((done, total))
    )
    assert seen[-1] == (200000 / 48000, 200000 / 48000)
    assert seen == sorted(seen)
    assert len(seen) > 1


# ---------------------------------------------------------------------------------------------- refusals


def test_a_model_that_changes_the_rate_is_refused(tmp_path):
    strided = backline.conv1d(np.ones((1, 1, 2)), stride=2)
    with pytest.raises(ModelError, match="1/2 frames per frame of input"):
        render_file(strided, write(tmp_path / "in.wav", noise(100)), tmp_path / "out.wav", NO_TAIL)
    assert contents(tmp_path) == ["in.wav"]


def test_a_wrong_number_of_channels_is_refused(tmp_path):
    three = backline.conv1d(np.ones((3, 3, 1)))
    with pytest.raises(ModelError, match=r"takes 3 channels, .*in\.wav has 2"):
        render_file(three, write(tmp_path / "in.wav", noise(100, 2)), tmp_path / "out.wav", NO_TAIL)
    assert contents(tmp_path) == ["in.wav"]


def test_a_model_of_many_channels(tmp_path):
    weight = np.eye(3)[:, :, np.newaxis]
    x = noise(100, 3)
    report = render_file(
        backline.conv1d(weight), write(tmp_path / "in.wav", x), tmp_path / "out.wav", NO_TAIL
    )
    assert report.channels == 3
    assert np.array_equal(read(tmp_path / "out.wav")[0], x)


def test_an_output_that_is_no_number_is_refused(tmp_path):
    huge = backline.conv1d(np.full((1, 1, 1), 3e38))
    source = write(tmp_path / "in.wav", np.full((10, 1), 100.0, np.float32))
    with pytest.raises(ModelError, match="no finite number between frames 0 and 10"):
        render_file(huge, source, tmp_path / "out.wav", NO_TAIL)
    assert contents(tmp_path) == ["in.wav"]


def test_the_input_itself_is_never_the_output(tmp_path, gain):
    source = write(tmp_path / "in.wav", noise(10))
    (tmp_path / "same.wav").symlink_to(source)
    for target in (source, tmp_path / "same.wav"):
        with pytest.raises(AudioFileError, match="is the input itself"):
            render_file(gain, source, target, overwrite=True)
    assert np.array_equal(read(source)[0], noise(10))


def test_a_batch_calls_an_output_that_is_its_input_by_its_name(tmp_path, gain):
    source = write(tmp_path / "in.wav", noise(10))
    (tmp_path / "same.wav").hardlink_to(source)
    draft = Draft.of(tmp_path / "same.wav", overwrite=True)
    with pytest.raises(AudioFileError, match=r"^[^(]*same\.wav: is the input itself"):
        render_file(gain, source, draft, overwrite=True)


def test_a_file_cut_short_leaves_no_output(tmp_path, gain):
    """The header of an MP3 promises what is not there; that shows only in the middle of the work."""
    source = write(tmp_path / "in.mp3", noise(100000))
    source.write_bytes(source.read_bytes()[:8000])
    with pytest.raises(AudioFileError, match="cut short"):
        render_file(gain, source, tmp_path / "out.wav", NO_TAIL)
    assert contents(tmp_path) == ["in.mp3"]


# ------------------------------------------------------------------------------------------ several files


def test_where_outputs_go(tmp_path):
    (tmp_path / "folder").mkdir()
    one, two = Path("a/one.flac"), Path("b/two.wav")

    def plan(sources: list[Path], output: object, **options) -> list[Path]:
        return [target for _, target in plan_targets(sources, str(output), **options)]

    assert plan([one], tmp_path / "x.wav") == [tmp_path / "x.wav"]
    assert plan([one], tmp_path / "folder") == [tmp_path / "folder" / "one.wav"]
    assert plan([one], "new/") == [Path("new/one.wav")]
    assert plan([one, two], "new") == [Path("new/one.wav"), Path("new/two.wav")]
    assert plan([one, two], "new", file_format=".FLAC") == [Path("new/one.flac"), Path("new/two.flac")]


@pytest.mark.parametrize(
    ("sources", "output", "says"),
    [
        (["a/x.wav", "b/x.flac"], "out/", "would become out/x.wav, and so would a/x.wav"),
        (["x.wav", "y.wav"], "out.wav", "2 inputs need a folder"),
        (["x.wav"], "x.wav", "is an input"),
        (["x.wav", "y.wav"], ".", "is an input"),
        (["loop.wav"], "loop.wav", "is an input"),
        (["x.wav"], "x", "no extension"),
        (["x.wav"], "x.doc", "cannot write .doc files"),
    ],
)
def test_plans_that_cannot_be(tmp_path, monkeypatch, sources, output, says):
    monkeypatch.chdir(tmp_path)
    Path("loop.wav").symlink_to("loop.wav")
    with pytest.raises(AudioFileError, match=says):
        plan_targets(sources, output)


def test_a_folder_that_stays_empty_is_not_left(tmp_path):
    wanted = [tmp_path / "new" / "out", tmp_path / "new" / "other"]
    with folders(wanted):
        assert all(folder.is_dir() for folder in wanted)
        (wanted[0] / "kept").touch()
    assert contents(tmp_path) == ["new"]
    assert contents(tmp_path / "new") == ["out"]


def test_a_folder_that_cannot_be_made(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(AudioFileError, match="cannot make this folder"), folders([tmp_path / "file" / "sub"]):
        pass


def test_existing_files_are_kept_unless_told_otherwise(tmp_path, gain):
    source, target = write(tmp_path / "in.wav", noise(10)), tmp_path / "out.wav"
    target.write_text("precious")
    with pytest.raises(FileExists):
        render_file(gain, source, target)
    assert target.read_text() == "precious"
    render_file(gain, source, target, overwrite=True)
    assert len(read(target)[0]) == 10


def test_nothing_is_written_where_it_is_only_measured(tmp_path, gain):
    source = write(tmp_path / "in.wav", noise(1000))
    x = noise(1000)
    reference = write(tmp_path / "reference.wav", 2.5 * x[:900])
    before = contents(tmp_path)
    report = render_file(gain, source, None, NO_TAIL, null=reference)
    assert contents(tmp_path) == before
    assert (report.frames, report.null.frames) == (1000, 900)
    assert report.null.esr == pytest.approx((0.5 / 2.5) ** 2, rel=1e-5)
    assert report.null.null_depth_db == pytest.approx(20 * np.log10(0.5 / 2.5), rel=1e-5)
    assert "longer" in " ".join(report.null.notes)


def test_an_interrupt_leaves_nothing(tmp_path, gain):
    source = write(tmp_path / "in.wav", noise(100000))

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        render_file(gain, source, tmp_path / "out.wav", on_progress=interrupt)
    assert contents(tmp_path) == ["in.wav"]
