"""What tests of comparisons share: band-limited noise, exact delays, files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import soundfile

from backline.compare import Comparison, compare_arrays

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
