"""Files that change on disk: noticed by looking, taken only once they are still."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

#: What tells one state of a file from another: a file written in place, or another renamed over it.
_State = tuple[int, int, int]
_GONE_POLLS = 8


class Watch:
    """Looks at files; nothing runs in between.

    Parameters
    ----------
    paths : iterable of Path
        As they are now, they count as known.
    """

    def __init__(self, paths: Iterable[Path]) -> None:
        self._known = {path: _state(path) for path in paths}
        self._seen = dict(self._known)
        self._missed = dict.fromkeys(self._known, 0)

    def poll(self) -> list[Path]:
        """Files that have changed, and not since the poll before: what is being written is left alone.

        One that has vanished is not told until it is back; see `gone`.
        """
        changed = []
        for path, known in self._known.items():
            now = _state(path)
            if now is not None and now == self._seen[path] and now != known:
                changed.append(path)
            self._seen[path] = now
            self._missed[path] = 0 if now is not None else self._missed[path] + 1
        for path in changed:
            self._known[path] = self._seen[path]
        return changed

    @property
    def gone(self) -> set[Path]:
        """Files that were not there the last eight times: longer than it takes to replace one."""
        return {path for path, polls in self._missed.items() if polls >= _GONE_POLLS}


def _state(path: Path) -> _State | None:
    try:
        found = os.stat(path)
    except (OSError, ValueError):
        return None
    return found.st_ino, found.st_size, found.st_mtime_ns
