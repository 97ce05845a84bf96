"""The C library: sole importer of ``backline._native``; the one place that makes a status an exception."""

from __future__ import annotations

import os
from typing import Any

from . import _native
from .errors import BacklineError, ModelError

ffi: Any = _native.ffi
lib: Any = _native.lib

if lib.bl_abi_version() != lib.BL_ABI_VERSION:
    raise ImportError("backline._native was built from another backline.h; reinstall backline")

#: Refusals that are the fault of what was handed over, and not the machine's.
_FAULTS = {
    lib.BL_ERROR_INDEX,
    lib.BL_ERROR_SIZE,
    lib.BL_ERROR_SHAPE,
    lib.BL_ERROR_ORDER,
    lib.BL_ERROR_KIND,
    lib.BL_ERROR_VALUE,
}


def check(status: int, doing: str, detail: str = "", fault: type[BacklineError] = ModelError) -> None:
    """Return if `status` is success, else raise.

    Parameters
    ----------
    status : int
        A ``bl_status``.
    doing : str
        Begins the sentence: what was asked for, of which model or device.
    detail : str
        Ends it: what was found and expected.
    fault : type
        What to raise where C says that what it was given is wrong.

    Raises
    ------
    MemoryError
        The system gave no memory.
    fault
        What was handed over was refused.
    BacklineError
        Anything else.
    """
    if status == lib.BL_OK:
        return
    text = f"{doing}: {ffi.string(lib.bl_status_text(status)).decode()}"
    if detail:
        text += f" ({detail})"
    if status == lib.BL_ERROR_MEMORY:
        raise MemoryError(text)
    raise fault(text) if status in _FAULTS else BacklineError(text)


def isa_name(isa: int) -> str:
    """Return the name of a ``bl_isa``: ``scalar``, ``sse2``, ``avx2``, ``avx512`` or ``neon``."""
    name: bytes = ffi.string(lib.bl_isa_name(isa))
    return name.decode()


def available_isas() -> list[str]:
    """Return the instruction sets that this build holds and this machine runs, the plainest first."""
    return [isa_name(isa) for isa in range(lib.BL_ISA_COUNT) if lib.bl_isa_available(isa)]


def choose_isa(name: str | None = None) -> int:
    """Return the ``bl_isa`` called `name`; else what ``BACKLINE_ISA`` says, else the machine's best.

    Raises
    ------
    BacklineError
        No such instruction set, or not on this machine.
    """
    wanted = (os.environ.get("BACKLINE_ISA") or None) if name is None else name
    if wanted is None:
        return int(lib.bl_isa_best())
    for isa in range(lib.BL_ISA_COUNT):
        if isa_name(isa) == wanted.lower() and lib.bl_isa_available(isa):
            return isa
    raise BacklineError(
        f"instruction set {wanted!r} is not available; this machine has {', '.join(available_isas())}"
    )
