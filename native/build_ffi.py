"""How the C library is built: ``backline._native``, and one static library of kernels per instruction set.

Contains no declaration of its own: the cdef is cut out of the headers in ``include``.
"""

import os
import subprocess
import sysconfig
from pathlib import Path
from typing import Any

from cffi import FFI

NATIVE = Path("native")  # setuptools runs in the project's root and wants relative paths
CONTRACT = ("backline", "backline_host")  # headers, in this order
FLAGS = ["-std=gnu11", "-O3", "-fno-fast-math", "-ffp-contract=off", "-fvisibility=hidden"]

HEADERS = sorted(path.as_posix() for suffix in ("h", "inl") for path in NATIVE.rglob(f"*.{suffix}"))

_SCALAR = ["-fno-tree-vectorize", "-fno-tree-slp-vectorize"]
_AVX512 = ["-mavx512f", "-mavx512vl", "-mavx512bw", "-mavx512dq", "-mfma", "-mprefer-vector-width=512"]
_AARCH64 = {"scalar": _SCALAR, "neon": []}
#: Flags of each instruction set's kernels, by the first part of the compiler's target triple.
ISA_FLAGS: dict[str, dict[str, list[str]]] = {
    "x86_64": {"scalar": _SCALAR, "sse2": ["-msse2"], "avx2": ["-mavx2", "-mfma"], "avx512": _AVX512},
    "aarch64": _AARCH64,
    "arm64": _AARCH64,
}


def target_isas() -> dict[str, list[str]]:
    """Return the instruction sets the compiler's target can have, with their flags."""
    compiler = os.environ.get("CC") or sysconfig.get_config_var("CC") or "cc"
    answer = subprocess.run([*compiler.split(), "-dumpmachine"], capture_output=True, text=True, check=True)
    return ISA_FLAGS.get(answer.stdout.split("-")[0], {"scalar": _SCALAR})


def kernel_library(isa: str) -> tuple[str, dict[str, Any]]:
    """Return setuptools' description of one instruction set's static library."""
    description = {
        "sources": [f"native/src/kernels/isa_{isa}.c"],
        "include_dirs": ["native/include"],
        "obj_deps": {"": HEADERS},
        "cflags": [*FLAGS, *target_isas()[isa]],
    }
    return f"backline_{isa}", description


def _cdef() -> str:
    headers = [NATIVE / "include" / f"{name}.h" for name in CONTRACT]
    texts = [header.read_text(encoding="utf-8") for header in headers]
    return "".join(text.split("/* begin cdef */")[1].split("/* end cdef */")[0] for text in texts)


def _sources() -> list[str]:
    folders = [NATIVE / "src", NATIVE / "src" / "ops"]
    found = [path.as_posix() for folder in folders for path in sorted(folder.glob("*.c"))]
    return [*found, "native/src/kernels/select.c"]


ffibuilder = FFI()
ffibuilder.cdef(_cdef())
ffibuilder.set_source(
    "backline._native",
    "".join(f'#include "{name}.h"\n' for name in CONTRACT),
    sources=_sources(),
    include_dirs=[(NATIVE / "include").as_posix()],
    define_macros=[(f"BL_HAVE_{isa.upper()}", "1") for isa in target_isas()],
    extra_compile_args=FLAGS,
    depends=HEADERS,
    extra_link_args=["-pthread"],
)
