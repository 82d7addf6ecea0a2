"""A diagnosis as text: a line a check, what to do below each that fails, how answers are spelled, and the verdict."""

from collections.abc import Sequence

import numpy as np

from completions_lp.doctor.findings import Diagnosis, Finding
from completions_lp.show.escape import printable
from completions_lp.show.text.tables import find_width, wrap_text

SPELLINGS = 6
"""Ways to spell the answers that are shown without being asked for all, those of most prompts."""


def format_diagnosis(diagnosis: Diagnosis, *, everything: bool = False, width: int | None = None) -> str:
    """The table; with ``everything`` also what was looked at of checks that pass, and every spelling."""
    width = width or find_width()
    lines = [wrap_text(printable(line), width=width, rest="  ") for line in diagnosis.patient]
    lines += ["", *_format_findings(diagnosis.findings, everything=everything, width=width)]
    if diagnosis.spellings:
        shown = list(diagnosis.spellings.items())[: None if everything else SPELLINGS]
        left = len(diagnosis.spellings) - len(shown)
        lines += ["", "Tokens that are read as each answer, by text and id:"]
        lines += [
            wrap_text(f"{n} prompt{'' if n == 1 else 's'}: {printable(how)}", width=width, first="  ", rest="    ")
            for how, n in shown
        ]
        lines += [f"  and {left} more ways: --all"] if left else []
    return "\n".join([*lines, "", wrap_text(_conclude(diagnosis), width=width)])


def _format_findings(findings: Sequence[Finding], *, everything: bool, width: int) -> list[str]:
    names = max(len(finding.name) for finding in findings)
    lines = []
    for finding in findings:
        seen = f"seen: {finding.seen}".split("; ") if finding.is_shown else [f"seen: {finding.seen}"]
        found = "" if np.isinf(finding.limit - finding.value) else f"{finding.show(finding.value, 2)} {finding.unit}"
        allowed = f" (allowed {finding.show(finding.limit, 1)})" if found else finding.unit
        lines.append(f"{finding.verdict:4}  {finding.name:{names}}  {found}{allowed}")
        if finding.verdict != "pass" or everything or finding.is_shown:
            lines += [wrap_text(printable(part), width=width, first="      ", rest="        ") for part in seen]
        if finding.verdict != "pass":
            lines.append(wrap_text(printable(finding.advice + "."), width=width, first="      ", rest="      "))
    return lines


def _conclude(diagnosis: Diagnosis) -> str:
    failed = len(diagnosis.failed)
    if not failed:
        return "everything is computed right on this model"
    return f"{failed} check{'s' if failed > 1 else ''} failed: " + "; ".join(f.name for f in diagnosis.failed)
