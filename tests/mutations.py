"""Files that are almost good, of every format, and a process of its own that loads and plays them."""

from __future__ import annotations

import copy
import json
import select
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hypothesis import strategies as st

WORKER = Path(__file__).with_name("bad_input_worker.py")
#: What a file of a few kilobytes may make the process take.
MOST_BYTES = 6 << 30
#: After this a file counts as one that never ends. The slowest takes a hundredth of it.
MOST_SECONDS = 300.0


def put(*keys: str | int, value: Any) -> Callable[[Any], None]:
    """Return a mutation that sets the value at a path of keys."""

    def mutate(document: Any) -> None:
        at: Any = document
        for key in keys[:-1]:
            at = at[key]
        at[keys[-1]] = value

    return mutate


def drop(*keys: str | int) -> Callable[[Any], None]:
    """Return a mutation that removes what is at a path of keys."""

    def mutate(document: Any) -> None:
        at: Any = document
        for key in keys[:-1]:
            at = at[key]
        del at[keys[-1]]

    return mutate


def all_places(value: Any, above: tuple[str | int, ...] = ()) -> Iterator[tuple[str | int, ...]]:
    """Every path of keys into a JSON tree; of long lists of numbers only the first few entries."""
    keys: list[Any] = list(value) if isinstance(value, dict) else []
    if isinstance(value, list):
        keys = list(range(len(value) if value and isinstance(value[0], dict | list) else min(len(value), 3)))
    for key in keys:
        yield (*above, key)
        yield from all_places(value[key], (*above, key))


def at_place(value: Any, place: tuple[str | int, ...]) -> Any:
    for key in place:
        value = value[key]
    return value


def deep(levels: int) -> Any:
    value: Any = 1
    for _ in range(levels):
        value = [value]
    return value


ODD_VALUES: list[Any] = [
    *(None, True, False, -1, 0, 1, 2, 3, 4, 7, 255, 256, 257, 4095, 4096, 4097, 65536),
    *(2**20, 2**23, 2**24 - 1, 2**24, 2**24 + 1, 2**31 - 1, 2**31, 2**32, 2**63, 10**400, -(10**30)),
    *(-(2**24), -(2**24) - 1, -(2**31), -(2**63)),
    *(0.5, 1.0, -1.5, 1e-30, 1e39, -1e300, 3.4e38, 5e-324, -0.0, 1e7, float("nan"), float("inf")),
    *("", "x", "Tanh", "gated", "none", "0.6.1", "LSTM", "WaveNet", "lstm", "dense", "sigmoid", "softmax"),
    *("input", "output", "y" * 5000, "nul\0", "\x1b[31m", "line\nend", "\ud800", "𝄞é", "1" * 400, "1e7"),
    *([], [1], [[1]], [[[1.0]]], [None], ["x"], [True], [2**24] * 3, list(range(200)), {}, {"type": "ReLU"}),
    *({"active": True}, {"active": False, "groups": 2}, deep(60), deep(200)),
]


@st.composite
def mutated(draw: st.DrawFn, make: Callable[[], Any], most: int = 3) -> Any:
    """A good document with a few places overwritten, removed, doubled, or filled from another place."""
    document = make()
    for _ in range(draw(st.integers(1, most))):
        places = list(all_places(document))
        if not places:
            break
        place = draw(st.sampled_from(places))
        what = draw(st.sampled_from(["put", "put", "put", "drop", "copy", "copy", "double", "add"]))
        above = at_place(document, place[:-1])
        if what == "drop":
            drop(*place)(document)
        elif what == "put":
            put(*place, value=copy.deepcopy(draw(st.sampled_from(ODD_VALUES))))(document)
        elif what == "copy":
            found = at_place(document, draw(st.sampled_from(places)))
            put(*place, value=copy.deepcopy(found))(document)
        elif isinstance(above, list):
            above.insert(int(place[-1]), copy.deepcopy(above[int(place[-1])]))
        else:
            above[draw(st.sampled_from(["x", "groups", "stride", "weights", "name"]))] = above[place[-1]]
    return document


TOKENS = [
    *(b"NaN", b"-Infinity", b"1e999", b"-0", b"0" * 20, b"9" * 400, b"9" * 5000, b"1" * 18, b"true", b'"x"'),
    *(b"null", b"[", b"]", b"{", b"}", b",", b":", b'"', b"\\", b"\\u0000", b"\\ud800", b"\\ud834\\udd1e"),
    *(b"[" * 3000, b'{"a":' * 3000, b"\0", b"\xff", b"\xef\xbb\xbf", b"\xed\xa0\x80", b"//"),
]


@st.composite
def mutated_bytes(draw: st.DrawFn, data: bytes) -> bytes:
    """A file with bits flipped, stretches cut out, doubled or replaced by odd tokens, or cut off."""
    content = bytearray(data)
    for _ in range(draw(st.integers(1, 4))):
        if not content:
            break
        at = draw(st.integers(0, len(content) - 1))
        end = at + draw(st.integers(1, 40))
        what = draw(st.sampled_from(["flip", "byte", "cut", "double", "token", "token", "number", "end"]))
        if what == "flip":
            content[at] ^= 1 << draw(st.integers(0, 7))
        elif what == "byte":
            content[at] = draw(st.integers(0, 255))
        elif what == "cut":
            del content[at:end]
        elif what == "double":
            content[at:at] = content[at:end]
        elif what == "token":
            content[at : at + draw(st.integers(0, 3))] = draw(st.sampled_from(TOKENS))
        elif what == "number":
            digits = [i for i, byte in enumerate(content) if 48 <= byte <= 57]
            if digits:
                content[draw(st.sampled_from(digits))] = draw(st.integers(48, 57))
        elif draw(st.integers(0, 3)) == 0:
            del content[at:]
    return bytes(content)


def take_apart(data: bytes) -> tuple[dict[str, Any], dict[str, Any], bytes]:
    """Header, graph and numbers of a .backline file."""
    length = int.from_bytes(data[:8], "little")
    header = json.loads(data[8 : 8 + length])
    return header, json.loads(header["__metadata__"]["graph"]), data[8 + length :]


def put_together(header: Any, graph: Any, numbers: bytes) -> bytes:
    """A .backline file, whatever its parts are."""
    said = header.get("__metadata__") if isinstance(header, dict) else None
    if isinstance(said, dict) and "graph" in said:
        said["graph"] = json.dumps(graph)
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text + numbers


ODD_WORDS = [0x7FC00000, 0x7F800000, 0xFF800000, 0x7F7FFFFF, 1, 0x80000000, 0x3F800000, 0x41200000]


@st.composite
def mutated_container(draw: st.DrawFn, data: bytes) -> bytes:
    """A .backline file with its graph, its table of tensors or its numbers changed."""
    header, graph, numbers = take_apart(data)
    what = draw(st.sampled_from(["graph", "graph", "graph", "header", "numbers", "all"]))
    if what in ("graph", "all"):
        graph = draw(mutated(lambda: graph))
    if what in ("header", "all"):
        header = draw(mutated(lambda: header, 2))
    if what in ("numbers", "all"):
        found = bytearray(numbers)
        for _ in range(draw(st.integers(1, 3))):
            at = 4 * draw(st.integers(0, len(found) // 4 - 1))
            found[at : at + 4] = draw(st.sampled_from(ODD_WORDS)).to_bytes(4, "little")
        numbers = bytes(found[: draw(st.sampled_from([len(found), len(found), len(found), len(found) - 4]))])
    return put_together(header, graph, numbers)


@dataclass
class Tally:
    """What became of the files of one format."""

    outcomes: dict[str, int] = field(default_factory=dict)
    most_bytes: int = 0
    most_seconds: float = 0.0

    def add(self, answer: dict[str, Any]) -> None:
        self.outcomes[answer["outcome"]] = self.outcomes.get(answer["outcome"], 0) + 1
        self.most_bytes = max(self.most_bytes, answer["bytes"])
        self.most_seconds = max(self.most_seconds, answer["seconds"])

    def __str__(self) -> str:
        counts = ", ".join(f"{count} {outcome}" for outcome, count in sorted(self.outcomes.items()))
        return (
            f"{sum(self.outcomes.values())} files: {counts}; at most {self.most_bytes / 1e6:.0f} MB, "
            f"{self.most_seconds:.2f} s"
        )


class Worker:
    """The process; started again where a file has ended it."""

    def __init__(self, most_bytes: int = MOST_BYTES) -> None:
        self.most_bytes = most_bytes
        self.tallies: dict[str, Tally] = {}
        self._process: subprocess.Popen[str] | None = None

    def ask(
        self, path: Path, quality: float = 1.0, layers: list[dict[str, Any]] | None = None, tally: str = ""
    ) -> str | None:
        """Load and play a file; return None or the sentence of its refusal, raise `AssertionError` else."""
        process = self._process or self._start()
        assert process.stdin is not None
        assert process.stdout is not None
        question = {"path": str(path), "quality": quality, "layers": layers}
        process.stdin.write(json.dumps(question) + "\n")
        process.stdin.flush()
        ready, _, _ = select.select([process.stdout], [], [], MOST_SECONDS)
        line = process.stdout.readline() if ready else ""
        if not line:
            status = self.close()
            reason = f"ended the process with {status}" if ready else f"took more than {MOST_SECONDS:g} s"
            raise AssertionError(f"{path} {reason}")
        answer = json.loads(line)
        self.tallies.setdefault(tally, Tally()).add(answer)
        assert answer["outcome"] != "failed", answer["traceback"]
        sentence: str | None = answer.get("sentence")
        return sentence

    def _start(self) -> subprocess.Popen[str]:
        self._process = subprocess.Popen(
            [sys.executable, str(WORKER), str(self.most_bytes)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        return self._process

    def close(self) -> int | None:
        """End the process and return its status, negative where a signal ended it before."""
        process, self._process = self._process, None
        if process is None:
            return None
        assert process.stdin is not None
        try:
            process.stdin.close()
            return process.wait(5)
        except (BrokenPipeError, subprocess.TimeoutExpired):
            process.kill()
            return process.wait()
        finally:
            assert process.stdout is not None
            process.stdout.close()
