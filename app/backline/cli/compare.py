"""``backline compare``"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ._common import ForceOption, JsonOption, tell
from ._screen import print_pairs, progress

if TYPE_CHECKING:
    from ..compare import Aligned, Comparison
    from ..compare.stft_distance import StftDistance

_UNKNOWN = "cannot be told"


def compare(
    a: Annotated[Path, typer.Argument(metavar="A", help="An audio file: the reference.")],
    b: Annotated[Path, typer.Argument(metavar="B", help="What is compared with it.")],
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="A picture: a .png, .svg or .pdf file.")
    ] = None,
    force: ForceOption = False,
    as_json: JsonOption = False,
    align: Annotated[
        bool,
        typer.Option("--align/--no-align", help="Find delay and polarity, and measure without them too."),
    ] = True,
    stft: Annotated[
        bool, typer.Option("--stft/--no-stft", help="Measure the STFT distance, which takes longest.")
    ] = True,
    start: Annotated[float, typer.Option(min=0.0, help="Seconds to leave out at the start of both.")] = 0.0,
    duration: Annotated[
        float | None, typer.Option(min=0.0, help="Seconds to compare; all there is by default.")
    ] = None,
) -> None:
    r"""Compare two audio files: error-to-signal ratio, spectra, levels, delay and polarity.

    Figures of the files as they are, and once the delay has been taken away. A picture needs matplotlib:
    pip install "backline\[plot]".
    """
    from ..compare import compare as measure
    from ..compare.picture import plot_comparison
    from ..plot import check_target

    if output is not None:
        check_target(output, overwrite=force)
    wanted: dict[str, bool] = {"with_alignment": align, "with_stft": stft, "with_profile": output is not None}
    with progress() as shown:
        found = measure(a, b, start_seconds=start, duration_seconds=duration, on_progress=shown, **wanted)
    if output is not None:
        plot_comparison(found, output, overwrite=force)
    if as_json:
        print(json.dumps(found.as_dict(), indent=2, allow_nan=False))
        return
    print_pairs(rows(found, looked=align, with_stft=stft))
    if output is not None:
        tell(f"{output}: both, and what is left between them")


def rows(found: Comparison, *, looked: bool = True, with_stft: bool = True) -> list[tuple[str, str]]:
    """A comparison for people: what and value, as text."""
    result = [
        ("A", found.a_name),
        ("B", found.b_name),
        ("Compared", _extent(found)),
        ("Samples", _sameness(found)),
        ("Error-to-signal ratio", _ratio(found.esr)),
        ("Null depth", _depth(found.esr, found.null_depth_db)),
        *([("STFT distance", _stft(found.stft))] if with_stft else []),
        ("Loudness", _levels(found.a.lufs, found.b.lufs, "LUFS", "LU", "not measurable")),
        ("Peak", _levels(found.a.peak_dbfs, found.b.peak_dbfs, "dBFS", "dB", "silence")),
        ("RMS", _levels(found.a.rms_dbfs, found.b.rms_dbfs, "dBFS", "dB", "silence")),
    ]
    if looked:
        result += [
            ("Delay", _delay(found)),
            ("Polarity", {1: "the same", -1: "inverted", None: _UNKNOWN}[found.polarity]),
            ("Correlation", _UNKNOWN if found.correlation is None else f"{found.correlation:.6f}"),
        ]
    if found.aligned is not None:
        moved = found.delay_frames != 0.0 or found.polarity == -1
        result += _aligned_rows(found.aligned, moved, with_stft)
    return result + [("Note", note) for note in found.notes]


def _aligned_rows(found: Aligned, moved: bool, with_stft: bool) -> list[tuple[str, str]]:
    """What is left after alignment; without what was said already, where nothing had to be moved."""

    def both(esr: float | None, db: float | None) -> str:
        return f"error-to-signal ratio {_ratio(esr)}, null depth {_depth(esr, db)}"

    result = [("Aligned", both(found.esr, found.null_depth_db))] if moved else []
    if found.gain_db is not None:
        gained = both(found.gain_esr, found.gain_null_depth_db)
        result.append((f"{'Aligned, ' * moved}B at {_signed(found.gain_db)} dB", gained))
    return result + ([("Aligned, STFT distance", _stft(found.stft))] if with_stft and moved else [])


def _signed(value: float) -> str:
    """With a sign, which is not that of a rounded nothing."""
    return f"{round(value, 2) + 0.0:+.2f}"


def _extent(found: Comparison) -> str:
    channels = f"{found.channels} channel{'s' * (found.channels != 1)}"
    frames = f"{found.frames:,} frame{'s' * (found.frames != 1)}"
    return f"{found.frames / found.rate_hz:.3f} s, {frames}, {channels}, {found.rate_hz:g} Hz"


def _sameness(found: Comparison) -> str:
    if not found.identical:
        return "differ"
    return "identical, bit for bit" if found.whole else "identical, where both were compared"


def _ratio(value: float | None) -> str:
    return "undefined, as A is silent" if value is None else f"{value:.4g}"


def _depth(esr: float | None, db: float | None) -> str:
    if db is None:
        return "undefined, as A is silent" if esr is None else "nothing is left"
    return f"{db:.2f} dB"


def _stft(found: StftDistance | None) -> str:
    if found is None:
        return "undefined (too short, or A is silent)"
    parts = f"spectral convergence {found.spectral_convergence:.4g}, log magnitude {found.log_magnitude:.4g}"
    return f"{found.distance:.4g} ({parts})"


def _levels(a: float | None, b: float | None, unit: str, difference_unit: str, absent: str) -> str:
    told = [absent if each is None else f"{each:.2f} {unit}" for each in (a, b)]
    if a is None or b is None:
        return f"A {told[0]}, B {told[1]}"
    return f"A {told[0]}, B {told[1]}: {_signed(b - a)} {difference_unit}"


def _delay(found: Comparison) -> str:
    if found.delay_frames is None or found.delay_ms is None:
        return _UNKNOWN
    if found.delay_frames == 0.0:
        return "none"
    late = "late" if found.delay_frames > 0.0 else "early"
    return f"B is {abs(found.delay_frames):.3f} frames {late} ({abs(found.delay_ms):.3f} ms)"
