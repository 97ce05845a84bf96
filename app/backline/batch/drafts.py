"""Outputs in the making, of files here and of URLs alike: temporaries beside them, and their names.

A URL's output goes through the same steps as a file: a temporary beside it is written, its hash is committed,
then it is moved. Object stores move by a copy that appears whole and a removal; in between there are both,
which a run that comes after a killed one finds out by the hash.
"""

from __future__ import annotations

import contextlib
import os
import re
import secrets
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

from ..errors import AudioFileError, BacklineError, FileExists
from ..pending import MAX_ATTEMPTS, Draft
from .storage import Place, Url, exists, guarded, hash_of, opened, stat_of

#: Moves of URLs that go on at a time: each is a few round trips.
_MOVES = 16
_TEMPORARY = re.compile(r"\.backline-[0-9a-f]{12}(\.[0-9]+)?\.part")


@dataclass(frozen=True)
class UrlDraft:
    """As `Draft`, for a URL. Without `overwrite` a name that is taken at the last moment may be replaced."""

    target: Url
    temporary: Url
    overwrite: bool = False

    @classmethod
    def of(cls, target: Url, *, overwrite: bool = False) -> UrlDraft:
        """A draft for a target, with a new name beside it; touches nothing."""
        return cls(target, target.parent / f".backline-{secrets.token_hex(6)}.part", overwrite)

    @property
    def attempts(self) -> tuple[UrlDraft, ...]:
        """See `Draft.attempts`."""
        start = self.temporary.removesuffix(".part")
        return tuple(replace(self, temporary=Url(f"{start}.{n}.part")) for n in range(MAX_ATTEMPTS))

    def publish(self) -> None:
        """See `Draft.publish`."""
        if not self.overwrite and exists(self.target):
            raise FileExists(f"{self.target}: exists already")
        with guarded(self.target, "written"):
            system, temporary = opened(self.temporary)
            system.mv(temporary, opened(self.target)[1])

    def discard(self) -> None:
        """Remove the temporary, if it is there."""
        with contextlib.suppress(Exception):  # whatever the protocol's library raises
            system, path = opened(self.temporary)
            system.rm_file(path)


AnyDraft = Draft | UrlDraft


def draft_of(target: Place, *, overwrite: bool) -> AnyDraft:
    """A draft for a target; touches nothing."""
    if isinstance(target, Url):
        return UrlDraft.of(target, overwrite=overwrite)
    return Draft.of(target, overwrite=overwrite)


def draft(target: Place, temporary: Place, overwrite: bool) -> AnyDraft:
    """A draft whose temporary has a name."""
    if isinstance(target, Url):
        return UrlDraft(target, Url(temporary), overwrite)
    return Draft(target, Path(temporary), overwrite)


def is_temporary(draft: AnyDraft) -> bool:
    """Whether a draft's temporary has such a name as `draft_of` gives: a journal may come from anywhere."""
    return _TEMPORARY.fullmatch(draft.temporary.name) is not None


def is_beside(draft: AnyDraft) -> bool:
    """Whether a draft's temporary is in its target's folder, where `draft_of` puts it."""
    folder = draft_of(draft.target, overwrite=draft.overwrite).temporary.parent
    if isinstance(draft, UrlDraft):
        return folder == draft.temporary.parent
    return os.path.realpath(folder) == os.path.realpath(draft.temporary.parent)


def discard_all(draft: AnyDraft) -> None:
    """Remove a draft's temporary, and those of attempts whose worker died."""
    drafts = (draft, *draft.attempts)
    if isinstance(draft, UrlDraft):
        with ThreadPoolExecutor(len(drafts), thread_name_prefix="backline-remove") as pool:
            list(pool.map(lambda each: each.discard(), drafts))
        return
    for each in drafts:
        each.discard()


def resumed(draft: AnyDraft, sha256: str) -> bool:
    """Whether a temporary that was finished has its target's name now, or had it already.

    Raises
    ------
    AudioFileError
        A URL's server cannot be asked.
    """
    if _holds(draft.target, sha256):
        discard_all(draft)
        return True
    for each in (draft, *draft.attempts):
        if _holds(each.temporary, sha256):
            try:
                _over_own(each).publish()
            except FileExists:
                return False
            except AudioFileError:
                if isinstance(draft, UrlDraft):
                    raise
                return False
            discard_all(draft)
            return True
    return False


def _holds(where: Place, sha256: str) -> bool:
    if isinstance(where, Url):
        return exists(where) and hash_of(where) == sha256
    with contextlib.suppress(OSError):
        return hash_of(where) == sha256
    return False


def _over_own(draft: AnyDraft) -> AnyDraft:
    """Where there are no links a name is taken by an empty file first: that one is our own."""
    if not isinstance(draft, Draft):
        return draft
    is_ours = draft.target.is_file() and draft.target.stat().st_size == 0
    return replace(draft, overwrite=draft.overwrite or is_ours)


def publish_all(drafts: Sequence[AnyDraft]) -> list[BacklineError | int]:
    """Give drafts their names, those of URLs several at a time; their outputs' times, or why not."""
    urls = sum(isinstance(draft, UrlDraft) for draft in drafts)
    if urls < 2:
        return [_published(draft) for draft in drafts]
    with ThreadPoolExecutor(min(urls, _MOVES), thread_name_prefix="backline-move") as pool:
        return list(pool.map(_published, drafts))


def _published(draft: AnyDraft) -> BacklineError | int:
    try:
        draft.publish()
        # A URL's output has another time than its temporary had.
        return stat_of(draft.target).st_mtime_ns if isinstance(draft, UrlDraft) else 0
    except FileNotFoundError:
        return AudioFileError(f"{draft.target}: went away after it was written")
    except BacklineError as error:
        return error
