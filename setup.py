"""The compiled part of the build; everything else is in ``pyproject.toml`` and ``native/build_ffi.py``."""

import runpy

from setuptools import setup

NATIVE = runpy.run_path("native/build_ffi.py")

setup(
    libraries=[NATIVE["kernel_library"](isa) for isa in NATIVE["target_isas"]()],
    cffi_modules=["native/build_ffi.py:ffibuilder"],
    options={"bdist_wheel": {"py_limited_api": "cp310"}},
)
