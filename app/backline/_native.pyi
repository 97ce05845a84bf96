"""What the compiled module holds; its contents are described by ``native/include/backline.h``."""

from typing import Any

ffi: Any
lib: Any
