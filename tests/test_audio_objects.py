"""What the audio thread runs: what its objects may import, and that nothing is allocated while it runs.

Both tests compile C themselves, with the build's own flags, and both are shown to find what they look for.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path
from types import ModuleType

import pytest
from every_op import every_op
from live_tools import write_model

import backline
from backline.activations import ACTIVATIONS
from backline.compile import compile_graph
from backline.native import lib

ROOT = Path(__file__).resolve().parents[1]
SOURCES = ROOT / "native" / "src"
ALLOWED = {
    "memcpy",
    "memmove",
    "memset",
    "clock_gettime",
    "__stack_chk_fail",
    "_GLOBAL_OFFSET_TABLE_",
}
#: The clock device's thread sleeps between blocks, as a driver's does.
ALLOWED_IN = {"timer": {"clock_nanosleep"}}
#: House rule 3: no variable-length array, and no stack array above 4 KB; a frame has a little besides.
STRICT = ["-Wall", "-Wextra", "-Werror", "-Wvla", "-Wframe-larger-than=4608"]
COMPILERS = [
    pytest.param(name, marks=pytest.mark.skipif(shutil.which(name) is None, reason=f"no {name}"))
    for name in ("gcc", "clang")
]

needs_nm = pytest.mark.skipif(shutil.which("nm") is None, reason="no nm")


@pytest.fixture(scope="module")
def build() -> ModuleType:
    """native/build_ffi.py, which knows the flags."""
    spec = importlib.util.spec_from_file_location("build_ffi", ROOT / "native" / "build_ffi.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    here = Path.cwd()
    os.chdir(ROOT)  # it reads the header by a path relative to the project
    try:
        spec.loader.exec_module(module)
    finally:
        os.chdir(here)
    return module


def audio_sources(build: ModuleType) -> dict[Path, list[str]]:
    """The [audio] files of the C library, with the flags of their own."""
    isas = {SOURCES / "kernels" / f"isa_{isa}.c": flags for isa, flags in build.target_isas().items()}
    threads = [
        SOURCES / name for name in ("host.c", "voices.c", "guard.c", "engine.c", "timer.c", "loudness.c")
    ]
    plain = [*threads, *sorted((SOURCES / "ops").glob("*.c"))]
    return {**{path: [] for path in plain}, **isas}


def compile_object(compiler: str, source: Path, flags: list[str], into: Path) -> Path:
    made = into / f"{source.stem}.o"
    command = [compiler, *flags, "-fPIC", "-I", ROOT / "native" / "include", "-c", source, "-o", made]
    done = subprocess.run([str(word) for word in command], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return made


def imports(made: Path) -> set[str]:
    listed = subprocess.run(["nm", "-u", str(made)], capture_output=True, text=True, check=True).stdout
    return {line.split()[-1].partition("@")[0] for line in listed.splitlines() if line.strip()}


def forbidden(made: Path) -> set[str]:
    allowed = ALLOWED | ALLOWED_IN.get(made.stem, set())
    return {name for name in imports(made) if name not in allowed and not name.startswith("bl_")}


@needs_nm
@pytest.mark.parametrize("compiler", COMPILERS)
def test_audio_objects_import_nothing_that_waits(build: ModuleType, tmp_path: Path, compiler: str) -> None:
    found = {}
    for source, flags in audio_sources(build).items():
        made = compile_object(compiler, source, [*build.FLAGS, *STRICT, *flags], tmp_path)
        if names := forbidden(made):
            found[source.name] = names
    assert not found


@needs_nm
def test_the_import_test_finds_what_it_looks_for(build: ModuleType, tmp_path: Path) -> None:
    source = tmp_path / "bad.c"
    source.write_text("#include <stdlib.h>\nvoid *bl_bad(void) { return malloc(64); }\n")
    compiler = sysconfig.get_config_var("CC").split()[0]
    assert forbidden(compile_object(compiler, source, build.FLAGS, tmp_path)) == {"malloc"}


def test_only_the_mailbox_has_atomics() -> None:
    words = ("_Atomic", "stdatomic", "atomic_", "__sync_", "volatile")
    for path in sorted(SOURCES.rglob("*.[chi]*")):
        text = path.read_text(encoding="utf-8").replace("asm__ volatile", "asm")  # no shared value
        used = [word for word in words if word in text]
        assert path.name == "mailbox.h" or not used, f"{path.name} has {used}"


COUNTER = r"""
#define _GNU_SOURCE
#include <errno.h>
#include <stddef.h>
#include <stdint.h>

/* glibc's own, which the names below stand in front of. */
extern void *__libc_malloc(size_t);
extern void *__libc_calloc(size_t, size_t);
extern void *__libc_realloc(void *, size_t);
extern void *__libc_memalign(size_t, size_t);
extern void __libc_free(void *);

static __thread int armed __attribute__((tls_model("initial-exec")));
static __thread long counted __attribute__((tls_model("initial-exec")));

static void count(void) { counted += armed; }

void *malloc(size_t n) { count(); return __libc_malloc(n); }
void *calloc(size_t n, size_t m) { count(); return __libc_calloc(n, m); }
void *realloc(void *p, size_t n) { count(); return __libc_realloc(p, n); }
void *memalign(size_t a, size_t n) { count(); return __libc_memalign(a, n); }
void *aligned_alloc(size_t a, size_t n) { count(); return __libc_memalign(a, n); }
int posix_memalign(void **p, size_t a, size_t n)
{
    count();
    *p = __libc_memalign(a, n);
    return *p ? 0 : ENOMEM;
}
void free(void *p) { count(); __libc_free(p); }

typedef int callback(const void *, void *, unsigned long, const void *, unsigned long, void *);

/* Calls of malloc and its kin by this thread during `blocks` calls. */
long count_blocks(callback *function, const float *in, float *out, unsigned long frames, long blocks,
                  void *host)
{
    counted = 0;
    armed = 1;
    for (long block = 0; block < blocks; block++)
        function(in, out, frames, NULL, 0, host);
    armed = 0;
    return counted;
}

int bad_callback(const void *in, void *out, unsigned long frames, const void *time, unsigned long flags,
                 void *host)
{
    static void *volatile kept;
    (void)in, (void)out, (void)time, (void)flags, (void)host;
    if (!kept && frames)
        kept = malloc(frames);
    return 0;
}
"""

SCRIPT = r"""
import ctypes, sys
import numpy as np
import backline
from backline import native
from backline.engine import Engine, Program
from backline.live.host import Entry, Host
from backline.live.monitor import Monitor
from backline.passes import with_levels

counter = ctypes.CDLL(sys.argv[1])
counter.count_blocks.restype = ctypes.c_long
ours = int(native.ffi.cast("intptr_t", native.ffi.addressof(native.lib, "bl_host_callback")))
x = (0.1 * np.random.default_rng(0).standard_normal((512, 2))).astype(np.float32)
y = np.zeros((512, 2), np.float32)

def count(function, frames, blocks, host):
    function, host, *where = map(ctypes.c_void_p, (function, host, x.ctypes.data, y.ctypes.data))
    return counter.count_blocks(function, *where, ctypes.c_ulong(frames), ctypes.c_long(blocks), host)

for path in sys.argv[2:]:
    program = Program(with_levels(backline.load(path).graph))
    monitor = Monitor.create(48000, 2, 2, capture_frames=48000, heard_frames=48000)
    first = Entry(Engine(program, 2))
    host = Host(first, monitor, input_map=[0, 1], output_map=[0, 1], input_channels=2, limiter=True)
    pointer = int(native.ffi.cast("intptr_t", host.pointer))
    counts = []
    for frames, blocks in ((16, 9000), (64, 900), (500, 100)):
        for knob in range(len(program.knobs)):
            host.set(0, knob, 0.5)
        how = {"latency_frames": frames, "warm_frames": 1000, "fade_frames": 500, "alone": frames == 500}
        host.swap(Entry(Engine(program, 2), frames, **how))
        counts.append(count(ours, frames, blocks, pointer))
        host.reclaim()
    print("ours", sum(counts), monitor.stats().callbacks, monitor.stats().swaps)
print("bad", count(ctypes.cast(counter.bad_callback, ctypes.c_void_p).value, 64, 10000, None))
"""


def test_every_op_and_activation_is_in_the_model_below() -> None:
    ops = compile_graph(every_op()).ops
    assert {f"BL_OP_{op.kind}" for op in ops} == {
        name
        for name in dir(lib)
        if name.startswith("BL_OP_") and not name.endswith(("INPUTS", "OUTPUTS", "ARRAYS"))
    }
    assert {op.activation for op in ops} == set(ACTIVATIONS)


@pytest.mark.skipif(
    not sys.platform.startswith("linux"), reason="the counter stands in front of glibc's malloc"
)
def test_ten_thousand_blocks_allocate_nothing(tmp_path: Path) -> None:
    counter, source = tmp_path / "counter.so", tmp_path / "counter.c"
    source.write_text(COUNTER)
    compiler = sysconfig.get_config_var("CC").split()[0]
    # Without -fno-builtin the compiler may see through malloc and leave the bad one out.
    command = [compiler, "-O1", "-fno-builtin", "-shared", "-fPIC", str(source), "-o", str(counter)]
    subprocess.run(command, check=True)
    models = [write_model(tmp_path / "model.json"), tmp_path / "every.backline"]
    backline.save(every_op(), models[1])
    shared = ROOT.parent / "shared" / "golden" / "nam" / "models"
    models += [path for path in (shared / "wavenet.nam", shared / "lstm.nam") if path.exists()]
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, str(counter), *map(str, models)],
        env={**os.environ, "LD_PRELOAD": str(counter)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.split("\n")[:-1] == ["ours 0 10000 3"] * len(models) + ["bad 1"]
