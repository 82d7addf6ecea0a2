"""All checks in order, and the few that every run makes."""

from collections.abc import Callable, Sequence

from completions_lp.doctor.case import Case, draw_case
from completions_lp.doctor.findings import Diagnosis, Finding
from completions_lp.doctor.readout import check_readout
from completions_lp.doctor.rounding import judge_rounding, measure_rounding
from completions_lp.doctor.scores import check_scores, check_vocabulary
from completions_lp.doctor.stream import check_site, check_touch, name_cells, read_touch
from completions_lp.doctor.tokens import check_answers, check_beginnings, check_end
from completions_lp.model import Model, pick_engine
from completions_lp.records import Completions, Condition, Operation, Positions, Prompt, SteeringVector


def examine_model(
    model: Model,
    prompts: Sequence[Prompt],
    vectors: Sequence[SteeringVector] = (),
    *,
    control: Callable[[], Model],
    layers: Sequence[int] = (),
    multiplier: float = 1.0,
    positions: Positions = "completion",
    operation: Operation = "add",
    target: str = "matching",
    n_prompts: int = 3,
    seed: int = 0,
    compare: bool = False,
) -> Diagnosis:
    """Run every check: on all prompts what tokens tell, on ``n_prompts`` of them what passes do.

    Args:
        model: The model.
        prompts: As they are asked.
        vectors: The vector that is used, the first of these, beside a random one that is a tenth of the stream.
        control: Gives a model that is known to go all ways right; asked for where this one does not.
        layers: Those that are steered; by default all.
        multiplier: Of the vector.
        positions: What is steered; the other way is tried, too.
        operation: What is done along the vector; adding and ablating are tried in any case.
        target: The answer that is compared with the other one.
        n_prompts: Prompts that go through the network.
        seed: Of the draws and the random vector.
        compare: Also tell what rounding would be in other precisions, of a small model.

    Raises:
        InputError: The weights are NaN or infinite, the tokenizer has ids that the model does not know, or the network
            is none that can be steered with right numbers.
    """
    model.fingerprint()
    answers, spellings = check_answers(model.tokenizer, prompts, target)
    case = draw_case(
        model,
        prompts,
        vectors,
        layers=layers,
        multiplier=multiplier,
        positions=positions,
        operation=operation,
        n_prompts=n_prompts,
        seed=seed,
    )
    rounding = measure_rounding(model, tuple(prompts), n_prompts=min(2, n_prompts), seed=seed, compare=compare)
    findings = [
        check_beginnings(model.tokenizer, prompts),
        answers,
        check_end(model),
        check_site(case),
        *check_scores(case, control),
        check_readout(case, target),
        judge_rounding(rounding),
    ]
    return Diagnosis(tuple(findings), spellings, _describe(model, case, len(prompts)))


def check_quickly(
    model: Model,
    completions: Completions,
    vectors: Sequence[SteeringVector],
    conditions: Sequence[Condition],
    *,
    memory_budget: float | None = None,
) -> list[Finding]:
    """The checks that every run makes, in a few small passes: one BOS, where a condition acts, what sums to 1.

    On the longest completion of the shortest prompt, under the target vector's least multiplier in the middle of the
    sweep; of a model on a server, whose streams cannot be watched, the first of them alone. That multiplier 0 is the
    baseline, and sampled log probs are scored ones, a run tells from its own scores.
    The passes do not count as work.

    Raises:
        OutOfRoom: That one completion does not fit in memory.
    """
    acting = [c for c in conditions if c.kind == "target" and not c.is_neutral]
    middle = sorted(acting, key=lambda c: c.layer)[len(acting) // 2 :][:1]
    findings = [check_beginnings(model.tokenizer, completions.prompts)]
    if not middle or model.is_remote:
        return findings
    condition = min((c for c in acting if c.layer == middle[0].layer), key=lambda c: abs(c.multiplier))
    sizes = [len(completions.prompts[i].token_ids) for i in completions.prompt_index]
    row = min(range(len(sizes)), key=lambda i: (sizes[i], -completions.lengths[i]))
    by_name, tokens, passes = {vector.name: vector for vector in vectors}, model.usage.tokens, model.usage.passes
    case = Case(model, completions.take([row]), by_name, (condition,), (), memory_budget)
    try:
        pick_engine(model)
        touch = read_touch(case, 0, condition)
        findings += check_touch(model, touch, condition, by_name[condition.vector], sizes[row])
        return [*findings, check_vocabulary(case)]
    finally:
        model.usage.tokens, model.usage.passes = tokens, passes


def _describe(model: Model, case: Case, n_prompts: int) -> list[str]:
    """What is examined, a line each."""
    copied = "" if case.model is model else f"; checked as a copy in float32 of {case.model.n_layers} of its blocks"
    steered = name_cells([c for c in (*case.cells, *case.others) if not c.is_neutral])
    return [
        f"{model.name}: {type(model.module).__name__}, {model.n_layers} layers, d_model {model.d_model}, vocabulary "
        f"{model.vocab_size}, {str(model.dtype).removeprefix('torch.')} on {model.device}{copied}",
        f"prompts: {len(case.prompts)} of {n_prompts}, of {', '.join(str(len(p.token_ids)) for p in case.prompts)} "
        f"tokens, {len(case.completions)} completions",
        f"steered: {steered}",
    ]
