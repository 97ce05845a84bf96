"""`backline compare`: each figure against SciPy, PyTorch, pyloudnorm or a formula; delays made in float64."""

from __future__ import annotations

import itertools
import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st

from backline.alignment import LEAST_CORRELATION, align
from backline.compare import Comparison, NullMeter, compare, compare_arrays, null
from backline.errors import AudioFileError, BacklineError
from backline.resample import resample
from backline.stft_distance import StftMeter
from backline.takes import ArrayTake, FileTake, pieces

Cli = Callable[..., tuple[int, str, str]]

RATE_HZ = 48000
#: What 32-bit float and a kernel of 1024 taps leave of a signal that ends at 0.9 of half the rate.
INTERPOLATED_DB = -80.0


def noise(frames: int, seed: int = 0, top: float = 0.9) -> np.ndarray:
    """Noise of RMS 0.1 or so without anything above `top` of half the rate, so that it can be delayed."""
    spectrum = np.fft.rfft(np.random.default_rng(seed).standard_normal(frames))
    spectrum *= np.clip((top - np.linspace(0.0, 1.0, len(spectrum))) / 0.05, 0.0, 1.0)
    return 0.1 * np.fft.irfft(spectrum, frames)


def delayed(x: np.ndarray, frames: float) -> np.ndarray:
    """A signal later by any number of frames, with silence around it: its spectrum turned, so exact."""
    room = abs(int(frames)) + 4096
    padded = np.concatenate([np.zeros(room), x, np.zeros(room)])
    size = 1 << (2 * len(padded) - 1).bit_length()
    turn = np.exp(-2j * np.pi * np.arange(size // 2 + 1) * frames / size)
    return np.fft.irfft(np.fft.rfft(padded, size) * turn, size)[room : room + len(x)]


def quick(a: np.ndarray, b: np.ndarray, rate_hz: float = RATE_HZ, **options) -> Comparison:
    return compare_arrays(a, b, rate_hz, with_stft=False, **options)


def write(path: Path, x: np.ndarray, rate_hz: int = RATE_HZ, subtype: str = "FLOAT") -> Path:
    soundfile.write(path, x, rate_hz, subtype)
    return path


def contents(folder: Path) -> list[str]:
    return sorted(entry.name for entry in folder.iterdir())


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


# Delay, polarity, gain


@pytest.mark.parametrize("frames", [0.37, -0.37, 0.5, 0.01, 12.99, -700.25, 48000.63, -100000.1, 150001.5])
@pytest.mark.parametrize("gain", [1.0, -0.2])
def test_a_delay_is_found_to_a_hundredth_of_a_frame(frames, gain):
    x = noise(5 * RATE_HZ)
    found = quick(x, gain * delayed(x, frames))
    assert found.delay_frames == pytest.approx(frames, abs=0.001)
    assert found.delay_ms == pytest.approx(1e3 * frames / RATE_HZ, abs=1e-4)
    assert found.polarity == (1 if gain > 0 else -1)
    assert found.correlation == pytest.approx(1.0, abs=1e-3)
    assert found.aligned is not None
    assert found.aligned.gain_db == pytest.approx(-20 * np.log10(abs(gain)), abs=1e-3)
    assert found.aligned.gain_null_depth_db < INTERPOLATED_DB
    assert found.aligned.esr == pytest.approx((1 - abs(gain)) ** 2, rel=1e-3, abs=1e-8)


@given(
    frames=st.integers(-30000, 30000),
    sign=st.sampled_from([1, -1]),
    seed=st.integers(0, 99),
    channels=st.integers(1, 2),
)
@settings(max_examples=15, deadline=None)
def test_a_whole_delay_is_exact_and_nulls(frames, sign, seed, channels):
    x = np.random.default_rng(seed).uniform(-0.9, 0.9, (70000, channels)).astype(np.float32)
    silence = np.zeros((abs(frames), channels), np.float32)
    y = np.concatenate([silence, x]) if frames >= 0 else x[-frames:]
    found = quick(x, sign * y)
    assert (found.delay_frames, found.polarity) == (frames, sign)
    assert found.aligned is not None
    assert (found.aligned.esr, found.aligned.null_depth_db) == (0.0, None)
    assert found.aligned.frames == min(70000, 70000 + min(frames, 0))


def test_the_delay_is_the_peak_of_scipys_correlation():
    """Where noise is nearly as loud as the signal, the maximum of the plain correlation, which is defined."""
    scipy = pytest.importorskip("scipy.signal")
    x = noise(60000, 1)
    y = np.roll(0.5 * x, 321) + 0.05 * noise(60000, 2) / 0.1
    found = quick(x, y)
    lags = scipy.correlation_lags(60000, 60000)
    at = lags[np.argmax(scipy.correlate(y, x, method="fft"))]
    assert at == 321
    assert found.delay_frames == pytest.approx(321, abs=0.1)
    assert found.correlation == pytest.approx(np.corrcoef(x, np.roll(y, -321))[0, 1], abs=0.01)


@pytest.mark.parametrize("rate_hz", [8000, 44100, 192000])
def test_a_resampled_copy_lies_where_it_did(rate_hz):
    """SciPy's resampler is linear in phase and keeps frame 0 where it was."""
    scipy = pytest.importorskip("scipy.signal")
    x = noise(2 * rate_hz, 7, top=0.3)
    y = scipy.resample_poly(scipy.resample_poly(x, 3, 2, window=("kaiser", 12.0)), 2, 3)
    found = quick(x, y, rate_hz)
    assert found.delay_frames == pytest.approx(0.0, abs=0.01)
    assert found.polarity == 1


@pytest.mark.parametrize("offset", [0.0, 0.3])
def test_what_is_constant_does_not_count(offset):
    x = noise(2 * RATE_HZ)
    found = quick(x + offset, delayed(x, 1000.4) - offset)
    assert found.delay_frames == pytest.approx(1000.4, abs=0.01)
    assert found.polarity == 1


def test_the_best_gain_is_that_of_least_squares():
    a, b = noise(50000, 1), noise(50000, 1) + 0.5 * noise(50000, 2)
    a, b = a.astype(np.float32).astype(np.float64), (0.1 * b).astype(np.float32).astype(np.float64)
    found = quick(a, b).aligned
    gain = np.dot(a, b) / np.dot(b, b)
    assert found is not None
    if found.frames == 50000:  # a whole delay
        assert found.gain_db == pytest.approx(20 * np.log10(gain), abs=1e-9)
        assert found.gain_esr == pytest.approx(np.sum((a - gain * b) ** 2) / np.dot(a, a), rel=1e-9)
    assert found.gain_esr == pytest.approx(np.sum((a - gain * b) ** 2) / np.dot(a, a), rel=1e-2)
    assert found.esr > found.gain_esr


def test_both_are_in_the_middle_of_long_silence():
    x = noise(20000)
    a = np.concatenate([np.zeros(300000), x, np.zeros(100000)])
    b = np.concatenate([np.zeros(10), -x, np.zeros(500000)])
    found = quick(a, b)
    assert (found.delay_frames, found.polarity) == (-299990.0, -1)


def test_what_has_nothing_in_common_is_not_aligned():
    for seed in range(3):
        found = quick(noise(3 * RATE_HZ, 2 * seed), noise(3 * RATE_HZ, 2 * seed + 1))
        assert (found.delay_frames, found.polarity, found.correlation) == (None, None, None)
        assert found.aligned is None


def test_beyond_its_reach_nothing_is_found():
    x = noise(4 * RATE_HZ)
    a, b = (ArrayTake(each, RATE_HZ, "x") for each in (x, np.concatenate([np.zeros(2 * RATE_HZ), x])))
    assert align(a, b, max_seconds=1.0) is None
    assert align(a, b, max_seconds=3.0).delay_frames == 2 * RATE_HZ
    assert 0.0 < LEAST_CORRELATION < 1.0


def test_the_polarity_of_a_tone_cannot_be_told():
    at = np.arange(3 * RATE_HZ) / RATE_HZ
    x = 0.5 * np.sin(2 * np.pi * 440 * at)
    found = quick(x, 0.5 * np.sin(2 * np.pi * 440 * (at - 20.25 / RATE_HZ)))
    assert found.polarity is None
    # A period is 109.09 frames: of all delays that fit, the nearest.
    assert found.delay_frames == pytest.approx(20.25, abs=0.01)


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


# The command


@pytest.fixture
def files(tmp_path: Path) -> tuple[Path, Path]:
    x = noise(RATE_HZ).astype(np.float32)
    return write(tmp_path / "a.wav", x), write(tmp_path / "b.wav", -0.5 * delayed(x, 10.25))


def table(said: str) -> dict[str, str]:
    """The rows of a table, whose columns are two spaces or more apart."""
    rows = [line.partition("  ") for line in said.splitlines() if "  " in line]
    return {name: value.strip() for name, _, value in rows}


def test_the_table(cli, files):
    status, said, err = cli("compare", *files)
    assert (status, err) == (0, "")
    rows = table(said)
    assert rows["Compared"] == "1.000 s, 48,000 frames, 1 channel, 48000 Hz"
    assert rows["Samples"] == "differ"
    assert rows["Delay"] == "B is 10.250 frames late (0.214 ms)"
    assert rows["Polarity"] == "inverted"
    assert rows["RMS"].endswith(": -6.02 dB")
    assert "null depth -6.02 dB" in rows["Aligned"]
    assert "Aligned, B at +6.02 dB" in rows
    assert re.fullmatch(
        r"[\d.]+ \(spectral convergence [\d.]+, log magnitude [\d.]+\)", rows["STFT distance"]
    )


def test_identical_files_in_words(cli, files):
    rows = table(cli("compare", files[0], files[0])[1])
    assert rows["Samples"] == "identical, bit for bit"
    assert (rows["Error-to-signal ratio"], rows["Null depth"], rows["Delay"]) == (
        "0",
        "nothing is left",
        "none",
    )
    assert rows["Loudness"].endswith(": +0.00 LU")
    assert "Aligned" not in rows


def test_what_is_undefined_is_a_word(cli, files, tmp_path):
    silent = write(tmp_path / "silent.wav", np.zeros(300))
    rows = table(cli("compare", silent, silent)[1])
    assert rows["Error-to-signal ratio"] == rows["Null depth"] == "undefined, as A is silent"
    assert rows["STFT distance"] == "undefined (too short, or A is silent)"
    assert rows["Delay"] == rows["Polarity"] == rows["Correlation"] == "cannot be told"
    assert rows["Peak"] == "A silence, B silence"
    assert rows["Loudness"] == "A not measurable, B not measurable"


def test_less_is_measured_on_request(cli, files):
    rows = table(cli("compare", *files, "--no-align", "--no-stft", "--start", "0.5", "--duration", "0.25")[1])
    assert not {"Delay", "Polarity", "Correlation", "Aligned", "STFT distance"} & set(rows)
    assert rows["Compared"].startswith("0.250 s, 12,000 frames")
    assert rows["Note"] == "compared is what lies from 0.5 to 0.75 s"


@pytest.mark.parametrize("silent", [False, True])
def test_json_is_strict(cli, files, tmp_path, silent):
    def refuse(constant: str) -> None:
        raise AssertionError(constant)

    other = write(tmp_path / "silent.wav", np.zeros(300)) if silent else files[1]
    status, said, err = cli("compare", other, files[0], "--json")
    assert (status, err) == (0, "")
    found = json.loads(said, parse_constant=refuse)
    assert found["a_name"] == str(other)
    assert found["polarity"] == (None if silent else -1)
    assert (found["esr"] is None) == silent
    assert (found["stft"] is None) == silent
    if not silent:
        assert found["delay_frames"] == pytest.approx(-10.25, abs=0.01)
        assert found["aligned"]["gain_db"] == pytest.approx(-6.02, abs=0.01)
        assert set(found["stft"]) == {"distance", "spectral_convergence", "log_magnitude"}


def test_odd_files_are_a_sentence(cli, files, tmp_path):
    (tmp_path / "empty.wav").touch()
    (tmp_path / "words.wav").write_text("these are words, and no audio at all")
    (tmp_path / "folder").mkdir()
    os.mkfifo(tmp_path / "pipe.wav")
    write(tmp_path / "nan.wav", np.array([0.0, np.nan]))
    for name, says in (
        ("missing.wav", "no such file"),
        ("folder", "is a folder, expected an audio file"),
        ("pipe.wav", "is not a regular file"),
        ("empty.wav", "is empty (0 bytes)"),
        ("words.wav", "not a readable audio file"),
        ("nan.wav", "is not a finite number"),
    ):
        for pair in ((files[0], tmp_path / name), (tmp_path / name, files[0])):
            status, said, err = cli("compare", *pair)
            assert (status, said) == (1, "")
            assert err.startswith(f"backline: error: {tmp_path / name}")
            assert says in err
            assert err.count("\n") == 1


def test_wrong_arguments(cli, files):
    for arguments in ([files[0]], [*files, "--start", "-1"], [*files, "--duration", "no"]):
        assert cli("compare", *arguments)[:2] == (2, "")


# The picture


def test_a_picture(cli, files, tmp_path):
    pytest.importorskip("matplotlib")
    out = tmp_path / "out.png"
    status, said, err = cli("compare", *files, "-o", out)
    assert (status, err) == (0, "")
    assert said.endswith(f"{out}: both, and what is left between them\n")
    assert out.read_bytes().startswith(b"\x89PNG")
    status, said, err = cli("compare", *files, "-o", out)
    assert (status, said) == (1, "")
    assert err == f"backline: error: {out}: exists already (--force replaces it)\n"
    assert cli("compare", *files, "-o", out, "--force", "--json")[0] == 0
    assert contents(tmp_path) == ["a.wav", "b.wav", "out.png"]


def test_no_time_is_spent_on_a_picture_that_cannot_be(cli, files, tmp_path, monkeypatch):
    pytest.importorskip("matplotlib")
    monkeypatch.setattr("backline.compare.compare", None)
    for name, says in (("out.jpg", "expected a name ending in .png"), ("no/out.png", "does not exist")):
        status, said, err = cli("compare", *files, "-o", tmp_path / name)
        assert (status, said) == (1, "")
        assert says in err


def test_what_is_drawn():
    pytest.importorskip("matplotlib")
    from backline import compare_picture, plot

    at = np.arange(2 * RATE_HZ) / RATE_HZ
    hz = 85 * RATE_HZ / 4096  # in the middle of a bin of the spectrum
    x = np.sin(2 * np.pi * hz * at)
    found = compare_arrays(0.5 * x, 0.05 * x, RATE_HZ, with_profile=True)
    figure = plot._figure()
    compare_picture.draw(figure, found, found.profile)
    shapes, levels, spectra = figure.axes
    assert [line.get_label() for line in levels.lines] == ["A", "B", "A less B"]
    for line, amplitude in zip(levels.lines, (0.5, 0.05, 0.45), strict=True):
        np.testing.assert_allclose(line.get_ydata(), 20 * np.log10(amplitude / np.sqrt(2)), atol=0.2)
    for line, amplitude in zip(spectra.lines, (0.5, 0.05, 0.45), strict=True):
        peak = np.argmax(line.get_ydata())
        assert line.get_xdata()[peak] == pytest.approx(hz)
        assert line.get_ydata()[peak] == pytest.approx(20 * np.log10(amplitude / np.sqrt(2)), abs=0.01)
    assert shapes.get_xlim() == pytest.approx((0.0, 2.0), abs=0.01)
    assert shapes.get_ylim()[1] > 0.5


def test_a_picture_shows_what_alignment_leaves():
    pytest.importorskip("matplotlib")
    from backline import compare_picture, plot

    x = noise(2 * RATE_HZ)
    found = compare_arrays(x, delayed(x, -24000.5), RATE_HZ, with_profile=True)
    figure = plot._figure()
    compare_picture.draw(figure, found, found.profile)
    levels = figure.axes[1]
    assert [line.get_label() for line in levels.lines][2:] == ["A less B, as they are", "A less B, aligned"]
    line = levels.lines[3]
    assert line.get_xdata()[0] == pytest.approx(0.5, abs=0.03)  # on A's time line
    # But for the end, where the delayed signal was cut.
    assert np.max(line.get_ydata()[:-5]) < np.max(levels.lines[0].get_ydata()) + INTERPOLATED_DB
    figure.draw_without_rendering()


@pytest.mark.parametrize("seconds", [0.001, 0.0203, 90.5, 400.0])
def test_levels_of_takes_of_any_length(seconds):
    """Bins grow with the take, and hold every sample once."""
    from backline.profiles import Profiler

    rate_hz = 1000
    x = np.random.default_rng(1).uniform(-1, 1, (max(1, round(seconds * rate_hz)), 2)).astype(np.float32)
    profiler = Profiler(rate_hz)
    for at in range(0, len(x), 777):
        profiler.add(x[at : at + 777], -x[at : at + 777])
    found = profiler.profile()
    frames = round(found.bin_seconds * rate_hz)
    bins = [x[at : at + frames].astype(np.float64) for at in range(0, len(x), frames)]
    np.testing.assert_allclose(found.powers[0], [np.mean(each**2) for each in bins], rtol=1e-9)
    np.testing.assert_allclose(found.powers[2], [4 * np.mean(each**2) for each in bins], rtol=1e-9)
    np.testing.assert_array_equal(found.lowest[0], [each.min() for each in bins])
    np.testing.assert_array_equal(found.highest[1], [-each.min() for each in bins])


def test_an_interrupt_leaves_no_picture(cli, files, tmp_path, monkeypatch):
    pytest.importorskip("matplotlib")
    from matplotlib.figure import Figure

    def interrupt(figure: object, path: Path, **_: object) -> None:
        Path(path).write_bytes(b"half")
        signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr(Figure, "savefig", interrupt)
    status, said, err = cli("compare", *files, "-o", tmp_path / "out.png")
    assert (status, said, err) == (130, "", "")
    assert contents(tmp_path) == ["a.wav", "b.wav"]
