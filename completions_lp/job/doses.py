"""What [scoring] unit asks for, and what does not go with it."""

from typing import Any

from completions_lp.records import InputError


def check_doses(config: Any) -> None:
    """Raise InputError for a unit of doses that the rest of a configuration cannot have."""
    section, unit = config.scoring, config.scoring.unit
    if unit == "vector":
        return
    if section.operation == "clamp" or (unit == "residual" and section.operation != "add"):
        raise InputError(
            f"[scoring] unit is {unit!r} and operation {section.operation!r}: "
            + (
                "a clamp sets a component, so no multiplier of it is a dose of nothing"
                if section.operation == "clamp"
                else "an ablation adds no vector that could be as long as the stream"
            )
            + '; leave unit at "vector"'
            + (', or take "kl"' if section.operation == "ablate" else "")
        )
    if unit == "kl" and not (section.kl and section.through == "end"):
        given = "kl = false" if not section.kl else f"through = {section.through!r}"
        raise InputError(
            f"[scoring] unit is 'kl', which needs divergences over whole completions, and there is {given}; leave it "
            "out"
        )
    if unit == "kl" and not config.sampling.is_ancestral:
        raise InputError(
            "[scoring] unit is 'kl', and KL is known on completions from plain sampling alone: leave [sampling] "
            "temperature, top_p, top_k and greedy as they are by default"
        )
    for one in config.off_target:
        if one.layers or one.multipliers:
            raise InputError(
                f"[[off_target]] {one.name!r} names cells, and with [scoring] unit {unit!r} multipliers are known only "
                "as the run is scored: leave layers and multipliers out, and it is scored in the best cell"
            )
