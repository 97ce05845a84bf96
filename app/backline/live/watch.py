"""shim"""

from collections.abc import Sequence
from pathlib import Path


class Watch:
    def __init__(self, paths: Sequence[Path]) -> None: ...
    def poll(self) -> list[Path]:
        return []
