"""Build the C library with one compiler, warnings being errors, and run the C tests against it.

From the top of the checkout, with the Python that has cffi::

    python scripts/c_tests.py --cc gcc                                # -Wall -Wextra -Werror, tests as is
    python scripts/c_tests.py --cc gcc --sanitize address,undefined   # each test under the sanitizers
    python scripts/c_tests.py --cc gcc --sanitize thread --only host  # tests with "host" in their name

A test is one file in `native/tests`; it passes if it exits with 0. If its first comment says "Link with
FLAGS.", it is linked with those. Which files and flags make the library is asked of `native/build_ffi.py`.
"""

from __future__ import annotations

import argparse
import os
import platform
import re
import runpy
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

WARNINGS = ["-Wall", "-Wextra", "-Werror"]
#: Slow enough as it is: sanitizers with little optimisation, and lines to point at.
SANITIZED = ["-O1", "-g", "-fno-omit-frame-pointer", "-fno-sanitize-recover=all"]
SECONDS_PER_TEST = 900


def run(command: list[str], seconds: float = 600) -> None:
    """Run a command, or end with what it said."""
    done = subprocess.run(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=seconds, check=False
    )
    if done.returncode:
        print(" ".join(command), done.stdout, f"exit status {done.returncode}", sep="\n")
        sys.exit(1)


def without_randomisation() -> list[str]:
    """What to put before a command so that its addresses are not randomised; nothing where that is forbidden.

    ThreadSanitizer does not know every layout that the randomisation can come up with. Containers often allow
    no change of it.
    """
    prefix = ["setarch", platform.machine(), "-R"]
    try:
        done = subprocess.run([*prefix, "true"], capture_output=True, check=False)
    except OSError:
        return []
    return [] if done.returncode else prefix


def objects(cc: str, extra: list[str], folder: Path) -> list[Path]:
    """Compile the library's files into `folder`, several at a time."""
    native = runpy.run_path("native/build_ffi.py")
    isas: dict[str, list[str]] = native["target_isas"]()
    flags = [*native["FLAGS"], *WARNINGS, "-Inative/include", *(f"-DBL_HAVE_{isa.upper()}" for isa in isas)]
    sources = {path: [] for path in map(Path, native["_sources"]())}
    sources |= {Path(f"native/src/kernels/isa_{isa}.c"): isa_flags for isa, isa_flags in isas.items()}

    def build(source: Path) -> Path:
        made = folder / f"{source.stem}.o"
        run([cc, *flags, *sources[source], *extra, "-c", str(source), "-o", str(made)])
        return made

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        return list(pool.map(build, sources))


def link(cc: str, extra: list[str], test: Path, library: list[Path], folder: Path) -> Path:
    """Build one test."""
    comment = test.read_text(encoding="utf-8").partition("*/")[0]
    found = re.search(r"Link with (-.+?)\.?\s", comment)
    made = folder / test.stem
    flags = ["-std=gnu11", "-Inative/include", "-Inative/src", *WARNINGS, *extra]
    wanted = found.group(1).split() if found else []
    run([cc, *flags, str(test), *map(str, library), "-o", str(made), "-pthread", "-lm", *wanted])
    return made


def main() -> None:
    """Parse, build, run."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--cc", default="cc")
    parser.add_argument("--sanitize", help="as the compiler's -fsanitize has it")
    parser.add_argument("--only", default="", help="run tests with this in their name")
    parser.add_argument("--seconds", type=float, default=SECONDS_PER_TEST, help="the most a test may take")
    arguments = parser.parse_args()
    os.environ["CC"] = arguments.cc
    extra = [f"-fsanitize={arguments.sanitize}", *SANITIZED] if arguments.sanitize else []
    tests = sorted(path for path in Path("native/tests").glob("*.c") if arguments.only in path.stem)
    prefix = without_randomisation() if arguments.sanitize == "thread" else []
    with tempfile.TemporaryDirectory() as name:
        library = objects(arguments.cc, extra, Path(name))
        for test in tests:
            program = link(arguments.cc, extra, test, library, Path(name))
            run([*prefix, str(program)], arguments.seconds)
            print(f"{test.name}: passed ({arguments.cc} {arguments.sanitize or 'as it is'})", flush=True)
    print(f"C library and {len(tests)} tests: no warning, no failure ({arguments.cc})")


if __name__ == "__main__":
    main()
