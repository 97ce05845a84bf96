"""``backline doctor``"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from ._common import JsonOption, tell
from ._screen import print_table

if TYPE_CHECKING:
    from ..live.doctor import Finding


def doctor(
    tone: Annotated[bool, typer.Option("--tone", help="Play a test tone too: a second, -20 dBFS.")] = False,
    device: Annotated[
        str | None, typer.Option(help="Where to play it: index, or part of a name (see backline devices).")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Look for what may keep live sound from working, or make it crackle.

    One line for each check, with what to do. Exit status 1 if there is a problem;
    warnings leave it at 0.
    """
    from ..live import doctor as looking

    if device is not None and not tone:
        raise typer.BadParameter("--device is where to play the test tone: it goes with --tone")
    findings = looking.diagnose()
    if tone:
        findings.append(looking.tone(device))
    count = Counter(finding.level for finding in findings)
    if as_json:
        summary = {"problems": count["problem"], "warnings": count["warning"]}
        print(json.dumps({"findings": [asdict(each) for each in findings], **summary}, indent=2))
    else:
        print_table(("", "Check", "Found"), rows(findings), left=("", "Check", "Found"))
        tell(f"problems: {count['problem']}, warnings: {count['warning']}")
    if count["problem"]:
        raise typer.Exit(1)


def rows(findings: Sequence[Finding]) -> list[list[str]]:
    """What was found and what to do, as lines of the table."""
    return [
        [each.level, each.check, f"{each.found}; {each.advice}" if each.advice else each.found]
        for each in findings
    ]
