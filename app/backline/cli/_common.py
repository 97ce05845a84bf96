"""What all commands share: arguments, and how errors and interrupts reach the user.

This is the one place that turns an exception into a sentence and an exit status: 0 done, 1 failed, 2 wrong
usage (Typer's own), 130 Ctrl-C, 128 + number for other signals. Nobody sees a traceback, unless the
variable BACKLINE_TRACEBACK is set.
"""

from __future__ import annotations

import contextlib
import functools
import math
import os
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Annotated, Any, NoReturn, ParamSpec, TypeVar

import typer

from ..errors import BacklineError, FileExists, ModelError
from ..text import one_line as one_line

if TYPE_CHECKING:
    from ..calibration import Calibration
    from ..engine import Model

ModelArgument = Annotated[
    str, typer.Argument(metavar="MODEL", help="A model file, or the name of a shipped model.")
]
QualityOption = Annotated[
    float, typer.Option(min=0.0, max=1.0, help="0 to 1: which size of a model that comes in several.")
]
LayersOption = Annotated[
    Path | None,
    typer.Option(help="JSON file with the layers of a PyTorch state_dict, which itself holds only weights."),
]
PrewarmOption = Annotated[
    int | None, typer.Option(min=0, help="Frames of silence to settle on; the model's own by default.")
]
NoPrewarmOption = Annotated[bool, typer.Option("--no-prewarm", help="Start from zeros.")]
KnobOption = Annotated[
    list[str] | None,
    typer.Option("--knob", metavar="NAME=VALUE", help="Where a knob of the model stands; repeat for more."),
]
CalibrateOption = Annotated[
    float | None,
    typer.Option(
        "--calibrate",
        metavar="DBU",
        help="The interface's input level that is 0 dBFS: play the model at the level it was made for.",
    ),
]
ForceOption = Annotated[bool, typer.Option("--force", "-f", help="Replace existing files.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON.")]

#: Of the JSON file that `--layers` names, which may be a pipe.
_MOST_LAYERS_BYTES = 1 << 24

P = ParamSpec("P")
R = TypeVar("R")

_SIGNALS = tuple(
    getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP", "SIGBREAK") if hasattr(signal, name)
)


class Interrupted(KeyboardInterrupt):
    """A signal asked the process to end; caught like Ctrl-C, so that everything cleans up after itself."""

    def __init__(self, number: int) -> None:
        super().__init__(signal.Signals(number).name)
        self.number = number


def calibration_of(model: Model, interface_dbu: float | None) -> tuple[float, float]:
    """Gains in dB before and after a model for ``--calibrate``, having said why; 0 and 0 without it."""
    if interface_dbu is None:
        return 0.0, 0.0
    found = calibrated(model, interface_dbu)
    say(found.notes)
    return found.input_gain_db, found.output_gain_db


def calibrated(model: Model, interface_dbu: float) -> Calibration:
    """The same, with what there is to say; an error says what asked for it."""
    from ..calibration import calibrate

    try:
        return calibrate(model.metadata, interface_dbu)
    except ModelError as error:
        raise ModelError(f"{model.name}: --calibrate: {error}") from error


def read_knobs(settings: Sequence[str] | None) -> dict[str, float]:
    """Names and values of ``--knob NAME=VALUE``, each name once."""
    found: dict[str, float] = {}
    for setting in settings or ():
        name, equals, text = setting.partition("=")
        try:
            value = float(text)
        except ValueError:
            value = math.nan
        if not (name and equals and math.isfinite(value)):
            raise typer.BadParameter(f"--knob: expected NAME=VALUE with a number, found {setting!r}")
        if name in found:
            raise typer.BadParameter(f"--knob: {name} is set twice")
        found[name] = value
    return found


def check_prewarm(frames: int | None, none: bool) -> bool | int:
    """What `backline.load` is to be told."""
    if none and frames is not None:
        raise typer.BadParameter("--prewarm and --no-prewarm exclude each other")
    return not none if frames is None else frames


def read_layers(path: Path | None) -> Any:
    """The layers of a state_dict, from a JSON file; None for None."""
    from ..formats._reading import parse_json, within

    if path is None:
        return None
    try:
        with open(path, "rb") as file:
            data = file.read(_MOST_LAYERS_BYTES + 1)
    except (OSError, ValueError) as error:
        raise ModelError(f"{path}: cannot be read: {getattr(error, 'strerror', None) or error}") from error
    with within(str(path)):
        if len(data) > _MOST_LAYERS_BYTES:
            raise ModelError(f"has more than {_MOST_LAYERS_BYTES} bytes, expected a JSON list of layers")
        try:
            return parse_json(data.decode("utf-8-sig"))
        except UnicodeDecodeError as error:
            raise ModelError(f"is no JSON: no text in UTF-8 (byte {error.start})") from error
        except RecursionError as error:
            raise ModelError("is no JSON list of layers: lists in lists in lists") from error


def tell(result: object) -> None:
    """Print one line of what a command found or did."""
    print(one_line(str(result)), flush=True)


def say(notes: Sequence[str]) -> int:
    """Print what a user should know to stderr; returns how many notes there were."""
    for note in notes:
        print(f"backline: {one_line(note)}", file=sys.stderr, flush=True)
    return len(notes)


def fail(message: str) -> None:
    """Print one error to stderr."""
    print(f"backline: error: {one_line(message)}", file=sys.stderr)


def sentence(error: BacklineError) -> str:
    """An error's own sentence, and the option that avoids it where there is one."""
    return f"{error} (--force replaces it)" if isinstance(error, FileExists) else str(error)


def guarded(command: Callable[P, R]) -> Callable[P, R]:
    """Make a command end in an exit status and at most one sentence, whatever happens inside."""

    @functools.wraps(command)
    def run(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            return command(*args, **kwargs)
        except BacklineError as error:
            _end(error, sentence(error), 1)
        except KeyboardInterrupt as error:
            number = error.number if isinstance(error, Interrupted) else int(signal.SIGINT)
            _end(error, None, 128 + number)
        except BrokenPipeError:
            raise  # the reader has gone: Typer leaves quietly
        except MemoryError as error:
            _end(error, "not enough memory", 1)
        except (typer.Exit, typer.Abort, typer.BadParameter):
            raise
        except OSError as error:  # what no module expected: standard output on a full disk, say
            _end(error, f"{error.filename or 'output'}: {error.strerror or error}", 1)
        except Exception as error:
            if type(error).__module__.partition(".")[0] in ("typer", "click"):
                raise
            _end(error, f"unexpected {type(error).__name__}: {error} (please report it)", 1)

    return run


def _end(error: BaseException, message: str | None, status: int) -> NoReturn:
    if os.environ.get("BACKLINE_TRACEBACK"):
        raise error
    if message is not None:
        fail(message)
    raise typer.Exit(status) from error


@contextlib.contextmanager
def signals_as_interrupts() -> Iterator[list[int]]:
    """Let SIGTERM and SIGHUP end the process like Ctrl-C does: through every ``finally`` on the way out.

    The first signal raises `Interrupted`; a second, while cleaning up, is ignored; from the third on the
    system's own action is back.

    Yields
    ------
    list of int
        The signals that have come, in order.
    """
    came: list[int] = []

    def on_signal(number: int, _: FrameType | None) -> None:
        came.append(number)
        if len(came) == 1:
            raise Interrupted(number)
        for each in _SIGNALS:
            signal.signal(each, signal.SIG_DFL)

    try:
        before = {
            number: signal.signal(number, on_signal)
            for number in _SIGNALS
            # A signal that is ignored from outside, as under nohup, stays ignored.
            if signal.getsignal(number) is not signal.SIG_IGN
        }
    except ValueError:  # not in the main thread, as in somebody's test: leave the signals alone
        yield came
        return
    try:
        yield came
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def run(app: typer.Typer, arguments: list[str] | None) -> int:
    """Run the app and return its exit status."""
    _prepare_streams()
    came: list[int] = []
    try:
        with signals_as_interrupts() as came:
            app(args=arguments, prog_name="backline")
    except SystemExit as ending:
        status = ending.code
        if status == 128 + int(signal.SIGINT) and came:
            # Typer's own answer to any interrupt between two commands' guards.
            status = 128 + came[0]
    except KeyboardInterrupt as error:  # between two commands' guards
        status = 128 + (error.number if isinstance(error, Interrupted) else int(signal.SIGINT))
    else:
        status = 0
    _flush()
    return status if isinstance(status, int) else int(status is not None)


def _prepare_streams() -> None:
    """Let printing work with closed streams, and in encodings that lack a character."""
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))  # noqa: SIM115
        elif hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")


def _flush() -> None:
    """Flush now, so that a reader that has gone does not show up as a complaint while Python ends."""
    try:
        sys.stdout.flush()
    except (OSError, ValueError):
        with contextlib.suppress(OSError, ValueError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
