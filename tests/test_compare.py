"""Comparing takes: each figure against SciPy, PyTorch, pyloudnorm or a formula."""

from __future__ import annotations

import itertools
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile
from compare_tools import RATE_HZ, noise, quick, write
from hypothesis import given, settings
from hypothesis import strategies as st

from backline.compare import NullMeter, compare, compare_arrays, null
from backline.compare.stft_distance import StftMeter
from backline.compare.takes import FileTake, pieces
from backline.errors import AudioFileError, BacklineError
from backline.resample import resample

# Error-to-signal ratio, levels


@given(gain=st.floats(-4.0, 4.0), seed=st.integers(0, 99), channels=st.integers(1, 3))
@settings(max_examples=30, deadline=None)
def test_a_scaled_copy_has_the_square_of_what_is_missing(gain, seed, channels):
    x = np.random.default_rng(seed).uniform(-0.5, 0.5, (3000, channels)).astype(np.float32)
    found = quick(x, (np.float32(gain) * x), with_alignment=False)
    y = np.float32(gain) * x
    exact = np.sum((x.astype(np.float64) - y) ** 2) / np.sum(x.astype(np.float64) ** 2)
    assert found.esr == pytest.approx(exact, rel=1e-12)
    assert found.esr == pytest.approx((1.0 - gain) ** 2, rel=1e-5, abs=1e-12)
    if exact > 0.0:
        assert found.null_depth_db == pytest.approx(10.0 * np.log10(exact), abs=1e-9)


@given(frames=st.integers(1, 40000), other=st.integers(1, 40000), seed=st.integers(0, 9))
@settings(max_examples=20, deadline=None)
def test_what_both_have_is_compared_and_said(frames, other, seed):
    rng = np.random.default_rng(seed)
    x, y = (rng.uniform(-1, 1, n).astype(np.float32) for n in (frames, other))
    found = quick(x, y, with_alignment=False)
    both = min(frames, other)
    a, b = x[:both].astype(np.float64), y[:both].astype(np.float64)
    assert found.frames == both
    assert found.esr == pytest.approx(np.sum((a - b) ** 2) / np.sum(a**2), rel=1e-10)
    for level, signal_ in ((found.a, a), (found.b, b)):
        assert level.peak_dbfs == pytest.approx(20 * np.log10(np.abs(signal_).max()), abs=1e-9)
        assert level.rms_dbfs == pytest.approx(10 * np.log10(np.mean(signal_**2)), abs=1e-9)
    assert found.whole == (frames == other)
    assert bool(found.notes) == (frames != other)
    if frames != other:
        longer = "A" if frames > other else "B"
        assert found.notes[0].startswith(f"{longer}: is longer by {abs(frames - other)} frame")
        assert found.notes[0].endswith("compared is what both have")


def test_loudness_is_that_of_pyloudnorm():
    pyloudnorm = pytest.importorskip("pyloudnorm")
    swell = np.linspace(0.1, 1.0, 5 * RATE_HZ)[:, np.newaxis]
    a = np.stack([noise(5 * RATE_HZ, 1), noise(5 * RATE_HZ, 2)], axis=1) * swell
    b = 0.3 * a[::-1] + 0.01
    found = compare_arrays(a, b, RATE_HZ, with_stft=False, with_alignment=False)
    meter = pyloudnorm.Meter(RATE_HZ)
    for level, x in ((found.a, a), (found.b, b)):
        assert level.lufs == pytest.approx(meter.integrated_loudness(x), abs=0.05)
    said = found.as_dict()
    assert said["lufs_difference"] == found.b.lufs - found.a.lufs
    assert said["peak_difference_db"] == found.b.peak_dbfs - found.a.peak_dbfs
    assert said["rms_difference_db"] == found.b.rms_dbfs - found.a.rms_dbfs


def test_identical_is_bit_for_bit():
    x = noise(9000)
    found = compare_arrays(x, x, RATE_HZ)
    assert (found.identical, found.whole, found.esr, found.null_depth_db) == (True, True, 0.0, None)
    assert found.stft is not None
    assert found.stft.distance == 0.0
    assert (found.delay_frames, found.polarity, found.correlation) == (0.0, 1, 1.0)
    assert found.aligned is not None
    assert (found.aligned.gain_db, found.aligned.gain_esr) == (0.0, 0.0)
    y = x.astype(np.float32)
    y[8999] = np.nextafter(y[8999], np.float32(1))
    assert not compare_arrays(x, y, RATE_HZ).identical


def test_silence_leaves_undefined_what_is():
    silence, x = np.zeros(RATE_HZ), noise(RATE_HZ)
    found = compare_arrays(silence, x, RATE_HZ)
    assert (found.esr, found.null_depth_db, found.stft, found.delay_frames) == (None,) * 4
    assert (found.a.peak_dbfs, found.a.rms_dbfs, found.a.lufs, found.polarity) == (None,) * 4
    assert found.as_dict()["rms_difference_db"] is None
    found = compare_arrays(x, silence, RATE_HZ)
    assert (found.esr, found.null_depth_db) == (1.0, 0.0)
    assert (found.delay_frames, found.polarity, found.aligned) == (None, None, None)
    found = compare_arrays(silence, silence, RATE_HZ)
    assert found.identical
    assert (found.esr, found.delay_frames) == (None, None)


# The STFT distance


def by_torch(a: np.ndarray, b: np.ndarray) -> tuple[float, float]:
    """Yamamoto et al.'s equations with torch.stft, as auraloss has them: [channels, frames]."""
    torch = pytest.importorskip("torch")
    convergences, logs = [], []
    for size, hop, window in ((512, 50, 240), (1024, 120, 600), (2048, 240, 1200)):
        spectra = [
            torch.stft(
                torch.from_numpy(np.ascontiguousarray(x)),
                size,
                hop,
                window,
                torch.hann_window(window, dtype=torch.float64),
                return_complex=True,
            )
            for x in (a, b)
        ]
        y, x = (torch.sqrt(torch.clamp(each.real**2 + each.imag**2, min=1e-8)) for each in spectra)
        convergences.append((torch.linalg.vector_norm(y - x) / torch.linalg.vector_norm(y)).item())
        logs.append(torch.nn.functional.l1_loss(torch.log(x), torch.log(y)).item())
    return float(np.mean(convergences)), float(np.mean(logs))


@pytest.mark.parametrize("frames", [1025, 1200, 16384, 20011, 48000])
@pytest.mark.parametrize("channels", [1, 2])
def test_stft_distance_is_that_of_torch(frames, channels):
    rng = np.random.default_rng(frames)
    a = rng.uniform(-0.5, 0.5, (frames, channels)).astype(np.float32)
    b = np.tanh(2 * a + 0.1 * rng.standard_normal(a.shape)).astype(np.float32)
    b[frames // 2 :] = 0  # where the least power counts
    found = compare_arrays(a, b, RATE_HZ, with_alignment=False).stft
    convergence, log = by_torch(a.T.astype(np.float64), b.T.astype(np.float64))
    assert found is not None
    assert found.spectral_convergence == pytest.approx(convergence, rel=1e-10)
    assert found.log_magnitude == pytest.approx(log, rel=1e-10)
    assert found.distance == pytest.approx(convergence + log, rel=1e-10)


def test_stft_distance_is_that_of_scipy():
    scipy = pytest.importorskip("scipy.signal")
    a, b = noise(20000, 3), noise(20000, 4)
    a, b = a.astype(np.float32).astype(np.float64), b.astype(np.float32).astype(np.float64)
    convergences, logs = [], []
    for size, hop, window in ((512, 50, 240), (1024, 120, 600), (2048, 240, 1200)):
        half = window // 2
        magnitudes = []
        for x in (a, b):
            mirrored = np.pad(x, half, mode="reflect")
            options = {"noverlap": window - hop, "nfft": size, "boundary": None, "padded": False}
            _, _, z = scipy.stft(mirrored, 1.0, "hann", window, **options)
            # SciPy divides by the window's sum.
            magnitudes.append(np.sqrt(np.maximum(np.abs(z * half) ** 2, 1e-8)))
        y, x = magnitudes
        convergences.append(np.linalg.norm(y - x) / np.linalg.norm(y))
        logs.append(np.mean(np.abs(np.log(y) - np.log(x))))
    found = compare_arrays(a, b, RATE_HZ, with_alignment=False).stft
    assert found is not None
    assert found.spectral_convergence == pytest.approx(np.mean(convergences), rel=1e-9)
    assert found.log_magnitude == pytest.approx(np.mean(logs), rel=1e-9)


@given(cuts=st.lists(st.integers(0, 6000), max_size=12))
@settings(max_examples=20, deadline=None)
def test_stft_distance_does_not_depend_on_blocks(cuts):
    a, b = (noise(6000, seed).astype(np.float32)[:, np.newaxis] for seed in (5, 6))
    whole, cut = StftMeter(1), StftMeter(1)
    whole.add(a, b)
    edges = [0, *sorted(cuts), 6000]
    for low, high in itertools.pairwise(edges):
        cut.add(a[low:high], b[low:high])
    expected, found = whole.result(), cut.result()
    assert expected is not None
    assert found is not None
    assert found.distance == pytest.approx(expected.distance, rel=1e-12)


def test_too_short_for_a_spectrogram():
    assert compare_arrays(noise(1024), noise(1024, 1), RATE_HZ).stft is None
    assert compare_arrays(noise(1025), noise(1025, 1), RATE_HZ).stft is not None


# Files: rates, channels, parts, memory


def test_another_rate_is_resampled_and_said(tmp_path):
    scipy = pytest.importorskip("scipy.signal")
    x = noise(44100 * 2, 3, top=0.7)
    y = scipy.resample_poly(x, 160, 147, window=("kaiser", 14.0))
    a, b = write(tmp_path / "a.wav", x, 44100), write(tmp_path / "b.wav", y, 48000)
    found = compare(a, b)
    assert found.rate_hz == 44100
    assert f"{b}: resampled from 48000 to 44100 Hz, the rate of {a}" in found.notes
    assert not found.whole
    assert found.delay_frames == pytest.approx(0.0, abs=0.002)
    assert found.null_depth_db < -50


@pytest.mark.parametrize("mono_first", [True, False])
def test_mono_is_compared_with_each_channel(tmp_path, mono_first):
    left, right = noise(30000, 1), noise(30000, 2)
    mono = write(tmp_path / "mono.wav", left.astype(np.float32))
    stereo = write(tmp_path / "stereo.wav", np.stack([left, right], axis=1).astype(np.float32))
    found = compare(*((mono, stereo) if mono_first else (stereo, mono)), with_stft=False)
    assert f"{mono}: is mono, compared with each channel of {stereo}" in found.notes
    assert (found.channels, found.whole) == (2, False)
    error = np.sum((left - right) ** 2)
    energy = 2 * np.sum(left**2) if mono_first else np.sum(left**2) + np.sum(right**2)
    assert found.esr == pytest.approx(error / energy, rel=1e-5)


def test_other_channels_are_refused(tmp_path):
    a, b = write(tmp_path / "a.wav", np.ones((9, 2))), write(tmp_path / "b.wav", np.ones((9, 3)))
    with pytest.raises(
        BacklineError, match=r"a\.wav has 2 channels and .*b\.wav 3: expected as many, or one"
    ):
        compare(a, b)


def test_a_part_of_both(tmp_path):
    x = noise(RATE_HZ, 5).astype(np.float32)
    y = x.copy()
    y[:12000] = 0.5
    y[24000:] = 0.5
    a, b = write(tmp_path / "a.wav", x), write(tmp_path / "b.wav", y)
    found = compare(a, b, start_seconds=0.25, duration_seconds=0.25)
    assert (found.identical, found.frames) == (True, 12000)
    assert found.notes == ("compared is what lies from 0.25 to 0.5 s",)
    assert not compare(a, b).identical
    with pytest.raises(AudioFileError, match=r"a\.wav: ends after 1 s, before the start at 1 s"):
        compare(a, b, start_seconds=1.0)
    assert compare(a, b, start_seconds=0.9, duration_seconds=1e300, with_stft=False).frames == 4800
    assert compare(a, b, duration_seconds=0.0).frames == 1


def test_a_file_that_changes_is_noticed(tmp_path):
    path = write(tmp_path / "a.wav", noise(20000))
    take = FileTake(path)
    write(path, noise(10000))
    with pytest.raises(AudioFileError, match="has changed while it was read"):
        list(take.blocks())


def test_wide_samples_are_said_to_be_narrowed(tmp_path):
    a = write(tmp_path / "a.wav", noise(900), subtype="DOUBLE")
    assert f"{a}: its samples are read as 32-bit float" in compare(a, a).notes


def test_arrays_that_are_no_signals():
    for bad in (np.zeros(0), np.zeros((4, 4, 4)), np.array([0.0, np.nan])):
        with pytest.raises(BacklineError):
            compare_arrays(np.zeros(4), bad, RATE_HZ)


@given(
    starts=st.lists(st.integers(-300, 1300), max_size=8),
    size=st.integers(1, 400),
    cuts=st.lists(st.integers(0, 1000), max_size=9),
)
@settings(deadline=None)
def test_pieces_of_a_stream_are_slices_of_it(starts, size, cuts):
    x = np.arange(1.0, 1001.0, dtype=np.float32)[:, np.newaxis]
    edges = [0, *sorted(cuts), 1000]
    blocks = (x[low:high] for low, high in itertools.pairwise(edges))
    found = dict(pieces(blocks, starts, size, 1))
    padded = np.concatenate([np.zeros((400, 1)), x, np.zeros((1400, 1))])
    assert sorted(found) == list(range(len(starts)))
    for index, start in enumerate(starts):
        np.testing.assert_array_equal(found[index], padded[400 + start : 400 + start + size])


#: What getrusage says begins with what the process had that started this one.
MEMORY = """
import re, sys
from backline.compare import compare
compare(*sys.argv[1:3], with_profile=True, with_stft=False)
print(re.search(r"VmHWM:\\s+(\\d+) kB", open("/proc/self/status").read())[1])
"""


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="asks Linux how much memory was used")
def test_memory_does_not_grow_with_the_files(tmp_path):
    """Twenty-five minutes of stereo at 8 kHz, 192 MB as floats for both, in less than 200 MB with Python."""
    x = (3000 * noise(8000, 1)).astype(np.int16)
    for name, delay in (("a.wav", 0), ("b.wav", 77)):
        with soundfile.SoundFile(tmp_path / name, "w", 8000, 2, "PCM_16") as file:
            file.write(np.zeros((delay, 2), np.int16))
            for second in range(1500):
                file.write(np.roll(np.stack([x, x[::-1]], axis=1), 37 * second, axis=0))
    done = subprocess.run(
        [sys.executable, "-c", MEMORY, tmp_path / "a.wav", tmp_path / "b.wav"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert int(done.stdout) < 200 * 1024


def test_the_stft_meter_keeps_little():
    meter = StftMeter(2)
    for seed in range(40):
        block = np.random.default_rng(seed).uniform(-1, 1, (5000, 2)).astype(np.float32)
        meter.add(block, block)
        assert max(each._held.shape[1] for each in meter._each) <= 1200


# What `render --null` uses


@given(
    cuts=st.lists(st.integers(0, 9000), max_size=12),
    channels=st.sampled_from([(1, 1), (2, 2), (1, 2), (2, 1)]),
)
@settings(max_examples=15, deadline=None)
def test_the_null_meter_is_the_formula(tmp_path_factory, cuts, channels):
    rng = np.random.default_rng(len(cuts))
    a, b = (rng.uniform(-1, 1, (9000, count)).astype(np.float32) for count in channels)
    path = write(tmp_path_factory.mktemp("null") / "a.wav", a)
    with NullMeter(path, RATE_HZ, channels[1]) as meter:
        for low, high in itertools.pairwise([0, *sorted(cuts), 9000]):
            meter.add(b[low:high])
        found = meter.result()
    wide = np.broadcast_to(a.astype(np.float64), (9000, max(channels)))
    esr = np.sum((wide - b) ** 2) / np.sum(wide**2)
    assert found.esr == pytest.approx(esr, rel=1e-12)
    assert found.null_depth_db == pytest.approx(10 * np.log10(esr), abs=1e-9)
    assert found.frames == 9000
    assert bool(found.notes) == (channels[0] != channels[1])


@pytest.mark.parametrize("frames", [1, 5000, 20000])
def test_the_null_meter_takes_what_both_have(tmp_path, frames):
    x = noise(20000).astype(np.float32)
    path = write(tmp_path / "a.wav", x[:12345])
    meter = NullMeter(path, RATE_HZ, 1)
    meter.add(0.5 * x[:frames])
    found = meter.result()
    meter.close()
    assert found.frames == min(frames, 12345)
    assert found.esr == pytest.approx(0.25, rel=1e-6)
    longer = path if frames < 12345 else "what was rendered"
    assert found.notes[0].startswith(f"{longer}: is longer by {abs(frames - 12345)} frame")


def test_the_null_meter_and_another_rate(tmp_path):
    x = noise(44100, 3, top=0.7)
    path = write(tmp_path / "a.wav", x, 44100)
    with NullMeter(path, RATE_HZ, 1) as meter:
        meter.add(resample(x.astype(np.float32), 44100, RATE_HZ))
        found = meter.result()
    assert found.esr == 0.0
    assert found.null_depth_db is None
    assert found.notes == (f"{path}: resampled from 44100 to 48000 Hz, the rate of what was rendered",)


def test_null_of_files_is_that_of_the_comparison(tmp_path):
    x = noise(30000, 1)
    a, b = write(tmp_path / "a.wav", x), write(tmp_path / "b.wav", x[:20000] + 1e-3)
    found, other = null(a, b), compare(a, b, with_alignment=False, with_stft=False)
    assert (found.esr, found.null_depth_db, found.notes) == (other.esr, other.null_depth_db, other.notes)
    silent = write(tmp_path / "silent.wav", np.zeros(20))
    assert (null(silent, b).esr, null(silent, b).null_depth_db) == (None, None)
    with pytest.raises(AudioFileError, match="no such file"):
        null(a, tmp_path / "missing.wav")
    with pytest.raises(ValueError, match=r"expected \[frames, 1\], found shape \[3, 2\]"):
        NullMeter(a, RATE_HZ, 1).add(np.zeros((3, 2)))
