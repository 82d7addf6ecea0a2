"""How fast are sampling and scoring, against what people do today and against the least that the work must cost?

    python analysis/benchmark.py                      the peers, our stages and their floors: 15M, 125M, embedded
    python analysis/benchmark.py --large              also 500M parameters
    python analysis/benchmark.py --growth --memory    also how time and memory grow
    python analysis/benchmark.py --extras             also what reading answers and divergences at each token costs
    python analysis/benchmark.py --real FOLDER        a real model instead, in each precision, with its noise
    python analysis/benchmark.py --workers            two workers against one process, of a study's scoring
    python analysis/benchmark.py --quick              toy sizes: shows that it runs, measures nothing
    python analysis/benchmark.py --device cuda        on a GPU, in bfloat16: fills the table of analysis/README.md

Prints one table and writes it as JSON beside it (``--out``). Everything is measured in one process, in turns (peer,
ours, peer, ours, ...) after one round that is not counted. Seconds are medians and per prompt: 100 samples of 10 tokens
each, then all layers x 4 multipliers. Set ``OMP_NUM_THREADS`` for the number of threads, and let the machine be quiet.

Columns: ``vs naive``, how often a row's time fits in the naive loop's; ``x floor``, time over the fewest FLOPs of the
work at the best matrix-product rate seen up to that model's end; ``GFLOP``, for the floor that least work, for ours
what was really multiplied, padding and masked attention included; ``net tokens``, those that entered the network,
padding included (a token of a steered row counts once, though it enters above the steered layer); ``GB``, the least
that must be read. The peers run in small batches, on a subset, scaled as the note says.
"""

import argparse
import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import bench_peers as peers
import numpy as np
import torch
import transformers
from bench_floor import Machine, Work, count_flops, describe_machine, grid_work, interleave, sampling_work
from bench_growth import list_peaks, measure_growth, measure_peak, measure_trace, run_sampling
from bench_models import EMBEDDED, SETTINGS, Case, make_case, sharpen, shrink
from bench_readme import fill_readme
from bench_real import bench_real
from bench_table import Row, Target, find_targets, print_table
from bench_workers import bench_workers

from completions_lp.model import Engine
from completions_lp.records import Completions, TokenScores
from completions_lp.score.choices import read_choices
from completions_lp.score.grid import score_tokens

README = Path(__file__).parent / "README.md"
NAIVE = "naive HF loop"
STAGES = "sampling", "grid", "choices"
EXTRAS: dict[str, dict[str, Any]] = {
    "with answers": {"target": "matching"},
    "with answers, KL": {"target": "matching", "kl": True},
}
"""What a run reads beside the log probs: the hazard of both answers at each token, the divergences both ways."""


@dataclass(frozen=True, eq=False)
class Action:
    """Something to time, and by how much its time is multiplied to stand for one prompt's whole work."""

    stage: str
    who: str
    run: Callable[[], Any]
    scale: float
    note: str = ""

    @property
    def name(self) -> str:
        """What tells it apart."""
        return f"{self.stage}/{self.who}"


@dataclass(frozen=True)
class Spent:
    """What a stage of ours put through the network, per prompt."""

    tokens: float
    passes: float
    gflop: float


def run_scoring(case: Case, completions: Completions, engine: Engine = "tree", **read: Any) -> TokenScores:
    """Our scoring of the whole grid; ``read`` says what to read beside the log probs."""
    conditions = case.conditions
    return score_tokens(case.model, completions, [case.vector], conditions, engine=engine, progress=False, **read)


def our_actions(case: Case, part: Completions, *, rows: bool, extras: bool) -> Iterator[Action]:
    """Our three stages; if asked for, the grid by plain rows, and with what the statistics read."""
    chosen = [case.prompts[i] for i in case.scored]
    vectors, each = [case.vector], 1 / len(chosen)

    def choose() -> Any:
        return read_choices(
            case.model, chosen, vectors, case.conditions, target="matching", engine="tree", progress=False
        )

    together = f"{len(case.prompts)} prompts in a call"
    yield Action("sampling", "ours", lambda: run_sampling(case), 1 / len(case.prompts), together)
    yield Action("grid", "ours", lambda: run_scoring(case, part), each, f"{len(chosen)} prompts in a call")
    for who, read in EXTRAS.items() if extras else ():
        yield Action("grid", who, lambda read=read: run_scoring(case, part, **read), each, "what the statistics read")
    yield Action("choices", "ours", choose, each, "all conditions")
    if rows:
        yield Action("grid", "ours, plain rows", lambda: run_scoring(case, part, "rows"), each, "the slow twin")


def peer_actions(case: Case, completions: Completions, stack: ExitStack) -> Iterator[Action]:
    """The peers on a subset, scaled by tokens to the mean of all prompts."""
    work = case.setting
    rows = [peers.make_sequences(case, completions, i, work.peer_samples) for i in case.measured]
    lengths = np.array([len(prompt.token_ids) for prompt in case.prompts]) + work.new_tokens
    scale = float(work.samples * lengths.mean() / (work.peer_samples * lengths[case.measured].sum()))
    subset = f"{work.peer_samples} of {work.samples} samples, {len(rows)} prompt(s)"
    for name, run in peers.open_samplers(case, stack).items():
        run()
        yield Action("sampling", name, run, scale, f"measured on {subset}; x {scale:.3g}")
    whole = [peers.make_sequences(case, completions, i, work.samples).tokens for i in case.scored]
    scale = float((1 + len(case.conditions)) * np.mean(whole) / sum(r.tokens for r in rows))
    note = f"measured on 1 of {1 + len(case.conditions)} conditions, {subset}; x {scale:.4g}"
    condition = case.conditions[len(case.conditions) // 2]
    added = peers.steer(case, condition)
    for name, scorer in peers.SCORERS.items():

        def score(scorer: peers.Scorer = scorer) -> list[torch.Tensor]:
            return [scorer(case, r, condition.layer, added) for r in rows]

        if not peers.missing(name):
            yield Action("grid", name, score, scale, note)


def check_peers(case: Case, completions: Completions, scores: TokenScores, actions: Sequence[Action]) -> float:
    """Largest difference, in nats a completion, between our scores and the peers'."""
    ours = np.nansum(scores.logprob[len(case.conditions) // 2], -1)
    worst = 0.0
    for action in (a for a in actions if a.stage == "grid"):
        for i, theirs in zip(case.measured, action.run(), strict=True):
            rows = scores.completions.prompt_index == case.scored.index(i)
            mine = np.repeat(ours[rows], completions.counts[completions.prompt_index == i])[: len(theirs)]
            worst = max(worst, float(np.abs(mine - theirs.cpu().double().numpy()).max()))
    return worst


def count_spent(case: Case, action: Action) -> tuple[Any, Spent]:
    """Run once and count what goes through the network."""
    usage = case.model.usage
    tokens, passes = usage.tokens, usage.passes
    result, flops = count_flops(action.run)
    spent = usage.tokens - tokens, usage.passes - passes, flops / 1e9
    return result, Spent(*(number * action.scale for number in spent))


def measure_case(case: Case, machine: Machine, *, repeats: int, **also: bool) -> list[Row]:
    """All rows of one model at one entropy."""
    completions = run_sampling(case)
    nats = -float(np.nansum(completions.logprob * completions.counts[:, None]))
    nats /= float((completions.lengths * completions.counts).sum())
    with ExitStack() as stack:
        ours = list(our_actions(case, completions.select(case.scored), **also))
        others = list(peer_actions(case, completions, stack))
        counted = {action.name: count_spent(case, action) for action in ours}
        worst = check_peers(case, completions, counted["grid/ours"][0], others)
        actions = sorted([*others, *ours], key=lambda action: STAGES.index(action.stage))
        times = interleave({a.name: a.run for a in actions}, repeats, case.model.device, between=machine.probe)
    print(
        f"{case.setting.name} at {nats:.2f} nats/token: peers and ours differ by at most {worst:.1e} nats a completion"
    )
    needed = {
        "sampling": sampling_work(case.model, completions, range(len(case.prompts))).per(len(case.prompts)),
        "grid": grid_work(case.model, completions, case.scored, case.conditions).per(len(case.scored)),
    }
    table = []
    for action in actions:
        naive = [np.median(times[a.name]) * a.scale for a in others if (a.stage, a.who) == (action.stage, NAIVE)]
        seconds = np.array(times[action.name]) * action.scale
        floor = needed[action.stage].flops / machine.flops_per_second if action.stage in needed else None
        row = _make_row(case, nats, action, seconds, naive[0] if naive else None, floor)
        table.append(_add_spent(row, counted[action.name][1]) if action.name in counted else row)
    return [*table, *_sum_stages(table), *_floor_rows(case, nats, needed, machine)]


def _make_row(
    case: Case, nats: float, action: Action, seconds: np.ndarray, naive: float | None, floor: float | None
) -> Row:
    median = float(np.median(seconds))
    return Row(
        model=case.setting.name,
        entropy=nats,
        stage=action.stage,
        who=action.who,
        seconds=median,
        fastest=float(seconds.min()),
        slowest=float(seconds.max()),
        vs_naive=naive and float(naive / median),
        of_floor=floor and median / floor,
        note=action.note,
    )


def _add_spent(row: Row, spent: Spent) -> Row:
    return replace(row, net_tokens=spent.tokens, passes=spent.passes, gflop=spent.gflop)


def _sum_stages(rows: Sequence[Row]) -> list[Row]:
    """Sampling and grid together, for the naive loop and for ours."""
    summed: list[Row] = []
    for who in (NAIVE, "ours"):
        both = [row for row in rows if row.who == who and row.stage in ("sampling", "grid")]
        total, low, high = (sum(getattr(row, name) for row in both) for name in ("seconds", "fastest", "slowest"))
        ratio = summed[0].seconds / total if summed else 1.0
        where = both[0].model, both[0].entropy
        summed.append(Row(*where, "both", who, total, low, high, ratio, note="sampling + grid"))
    return summed


def _floor_rows(case: Case, nats: float, needed: dict[str, Work], machine: Machine) -> Iterator[Row]:
    rate, bandwidth = machine.flops_per_second, machine.bytes_per_second
    for stage, work in needed.items():
        seconds, reading = work.flops / rate, 1e9 * work.gbytes / bandwidth
        note = f"at {rate / 1e9:.0f} GFLOP/s; {work.nodes} nodes in all; reading takes {reading:.2g} s"
        row = Row(case.setting.name, nats, stage, "floor", seconds, seconds, seconds, note=note)
        yield replace(row, of_floor=1.0, gflop=work.flops / 1e9, gbytes=work.gbytes)


def measure_models(args: argparse.Namespace) -> tuple[list[Row], dict[str, float]]:
    """The table, and the machine's best rates by model."""
    table: list[Row] = []
    rates = {}
    for name in args.models:
        setting = shrink(SETTINGS[name]) if args.quick else SETTINGS[name]
        case = make_case(setting, **args.place)
        machine = Machine(case)
        for _ in range(5):
            machine.probe()
        for entropy in (name != EMBEDDED and args.entropies) or setting.entropies:
            if name != EMBEDDED:
                sharpen(case, entropy)
            table += measure_case(case, machine, repeats=args.repeats, rows=args.rows, extras=args.extras)
        rates[name] = machine.flops_per_second / 1e9
    return table, rates


def parse() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", default="15M,125M,embedded", help="of " + ", ".join(SETTINGS))
    parser.add_argument("--large", action="store_true", help="add the model of 500M parameters")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--rows", action="store_true", help="also our plain rows (slow)")
    parser.add_argument(
        "--extras", action="store_true", help="also scoring with what the statistics read at each token"
    )
    parser.add_argument("--entropies", type=float, nargs="+", help="nats per token of the random models (default: all)")
    parser.add_argument("--growth", action="store_true", help="time against one variable at a time")
    parser.add_argument("--memory", action="store_true", help="peak memory, a process per setting (Linux)")
    parser.add_argument(
        "--real", metavar="FOLDER", help="a model of yours, by each precision; nothing else is measured"
    )
    parser.add_argument("--workers", action="store_true", help="one process and two workers; nothing else is measured")
    parser.add_argument("--quick", action="store_true", help="toy sizes, 2 repeats")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--dtype", choices=("float32", "bfloat16", "float16"), help="bfloat16 on a GPU, else float32")
    parser.add_argument("--fill", type=Path, help="the file whose table is filled: on a GPU analysis/README.md")
    parser.add_argument("--out", type=Path, default=Path("benchmark.json"))
    args = parser.parse_args()
    args.models = [name for name in args.models.split(",") if name] + ["500M"] * args.large
    args.repeats = 2 if args.quick else args.repeats
    on_gpu = args.device.startswith("cuda")
    args.dtype = args.dtype or ("bfloat16" if on_gpu else "float32")
    args.fill = args.fill or (README if on_gpu and not args.quick else None)
    args.place = {"device": args.device, "dtype": args.dtype}
    return args


def main() -> None:
    """Measure, print, write."""
    args = parse()
    results: dict[str, Any]
    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    if args.workers:
        rows = bench_workers(rounds=1 if args.quick else args.repeats, quick=args.quick)
        args.out.write_text(json.dumps({"machine": describe_machine(**args.place), "workers": rows}, indent=1) + "\n")
        return
    if args.real:
        size = {"samples": 20, "new_tokens": 8, "repeats": 1} if args.quick else {"repeats": args.repeats}
        results = {"machine": describe_machine(**args.place)} | bench_real(args.real, device=args.device, **size)
        args.out.write_text(json.dumps(results, indent=1) + "\n")
        return
    for name in filter(peers.missing, peers.PACKAGES):
        print(f"{name} is not installed; its row is left out")
    table, rates = measure_models(args)
    small = shrink(SETTINGS["15M"]) if args.quick else SETTINGS["15M"]
    trace = measure_trace(make_case(small, **args.place), rounds=10 if args.quick else 100)
    print_table(table)
    medians = f"{trace.raw:.2f} ms raw, {trace.wrapped:.2f} wrapped, {trace.traced:.2f} in an empty trace"
    print(f"nnsight, one token: {medians}; {trace.added:.2f} a trace (median of paired differences)")
    results = {"machine": describe_machine(**args.place) | {"best_gflop_per_second": rates}}
    if args.fill:
        fill_readme(args.fill, results["machine"], table)
    results |= {"rows": [asdict(row) for row in table], "trace": asdict(trace), "growth": [], "memory": []}
    if args.growth:
        for growth in measure_growth(small, repeats=args.repeats, quick=args.quick, **args.place):
            print(growth)
            results["growth"].append(asdict(growth))
    if args.memory:
        for peak in map(measure_peak, list_peaks(quick=args.quick)):
            print(peak)
            results["memory"].append(asdict(peak))
    targets = [*find_targets(table), Target("nnsight, ms per trace", trace.added, 2.0, at_most=True)]
    targets = [] if args.quick else targets  # of toy sizes they say nothing
    for target in targets:
        print(target)
    results["targets"] = [asdict(target) | {"held": target.held} for target in targets]
    args.out.write_text(json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    main()
