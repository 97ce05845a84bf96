"""What is said where there is no screen."""

from __future__ import annotations

from backline.cli._live_text import closing, line
from backline.live.status import HostStats, LiveStatus

RAN = {"model": "amp", "output_device": "clock", "sample_rate_hz": 48000.0, "files": []}


def test_what_was_kept_from_the_ears_is_said() -> None:
    stats = HostStats(output_limited=17, mutes=2, muted=True, relieved=4)
    found = LiveStatus(1.0, stats, state="waiting", reopened=3).as_dict()
    assert line(found).endswith(", waiting, muted")
    assert closing({**RAN, **found}).endswith(
        "17 output samples limited, 2 mutes, 4 swaps faded as both models took too long, 3 times reopened"
    )


def test_where_all_is_well_nothing_is_added() -> None:
    found = LiveStatus(1.0, HostStats()).as_dict()
    assert line(found).endswith("0 xruns")
    assert closing({**RAN, **found}).endswith("0 xruns")
