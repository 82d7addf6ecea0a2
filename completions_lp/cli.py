"""The command line. torch, transformers and nnsight are imported only inside the commands that need them."""

import argparse
import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from completions_lp.records import InputError

if TYPE_CHECKING:
    from completions_lp.records import Report
    from completions_lp.run.config import Config

STAGES = {
    "vector": "make the steering vector and its controls",
    "sample": "draw completions of the unsteered model and label them",
    "score": "score the stored completions under every condition, and read the two choices",
    "report": "the numbers of the paper, from the stored tables; needs no model",
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; returns 0 when done, 2 when the input is wrong, 1 for anything else."""
    options = build_parser().parse_args(arguments)
    # Where other programs share the cores, threads that spin while they wait cost a run most of its time (measured:
    # four- to ninefold on two cores); sleeping ones cost it about a tenth on cores of its own. Set it to ACTIVE there.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    try:
        return int(options.command(options))
    except InputError as error:
        print(f"completions-lp: {escape_text(str(error))}", file=sys.stderr)
        return 2
    except BrokenPipeError:  # the reader of the table went away, as `head` does
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except KeyboardInterrupt:
        print("completions-lp: interrupted", file=sys.stderr)
        return 1


def build_parser() -> argparse.ArgumentParser:
    """The parser of all commands."""
    parser = argparse.ArgumentParser(
        prog="completions-lp",
        description="How much does a steering vector change the log probs of what a language model would have said "
        "anyway?",
        epilog="Exit codes: 0 done, 2 the input is wrong, 1 anything else.",
    )
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")

    run = commands.add_parser("run", help="the whole job; without a config, on the embedded model")
    run.add_argument("config", nargs="?", metavar="CONFIG.toml", help="what to run (default: the embedded model)")
    run.add_argument("--out", metavar="DIR", help="run directory (default: a new one under runs/)")
    run.add_argument("--overwrite", action="store_true", help="replace a run that DIR already holds")
    _add_common(run)
    run.add_argument("--tokens", action="store_true", help="also write tokens.parquet, one row per token x condition")
    run.set_defaults(command=run_all)

    for name, text in STAGES.items():
        stage = commands.add_parser(name, help=text, description=text)
        stage.add_argument("folder", metavar="DIR", help="run directory, made if there is none")
        stage.add_argument("--config", metavar="CONFIG.toml", help="what to run (default: DIR's own)")
        _add_common(stage)
        if name == "score":
            stage.add_argument("--tokens", action="store_true", help="also write tokens.parquet")
        stage.set_defaults(command=run_report if name == "report" else run_stage, stage=name)

    figures = commands.add_parser(
        "figures",
        help="every figure of a run, with its data and its caption; needs no model",
        description="Draw the figures of a run into DIR/figures: PDF, PNG, the tidy CSV behind each and its caption.",
    )
    figures.add_argument("folder", metavar="DIR", help="run directory")
    figures.add_argument("--only", action="append", default=[], metavar="NAME", help="this figure; repeatable")
    figures.set_defaults(command=run_figures)

    compare = commands.add_parser(
        "compare",
        help="runs side by side, with intervals on the differences; needs no model",
        description="Compare runs (models, vectors, prompt sets) with the first one: the best cell of each, then every "
        "cell that both have. Paired by prompt where prompts are shared.",
    )
    compare.add_argument("folders", nargs="+", metavar="DIR", help="run directories, the first is compared with")
    compare.add_argument(
        "--quantity", action="append", metavar="NAME", help="a per-prompt quantity, as often as wanted"
    )
    compare.add_argument("--csv", metavar="FILE", help="also write the tidy rows")
    compare.set_defaults(command=run_compare)

    _add_plan(commands)

    doctor = commands.add_parser("doctor", help="is everything computed right on this model? (self-checks)")
    doctor.add_argument("--model", metavar="NAME_OR_PATH", help="hub name or local path (default: the embedded model)")
    doctor.add_argument("--revision", help="hub branch, tag or commit")
    doctor.add_argument("--dtype", default="auto", help="auto, float32, bfloat16, float16 or float64")
    doctor.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:N or mps")
    doctor.set_defaults(command=run_doctor)
    return parser


def run_all(options: argparse.Namespace) -> int:
    """``completions-lp run``."""
    from completions_lp.run.config import EMBEDDED, load_config

    config = load_config(options.config or EMBEDDED, options.overrides)
    folder = Path(options.out) if options.out else _name_folder(options.config)
    if (folder / "run.json").exists() and not options.overwrite:
        raise InputError(f"{folder} already holds a run; give another --out, or --overwrite to replace it")
    from completions_lp.run.stages import Options, Run

    run = Run(config, folder, options=Options(tokens=options.tokens, progress=not options.quiet))
    start = time.perf_counter()
    print_report(folder, config, run.all())
    print(f"\nRun directory: {folder} ({time.perf_counter() - start:.0f} s)")
    return 0


def run_stage(options: argparse.Namespace) -> int:
    """One stage, from and to a run directory."""
    folder, config = Path(options.folder), _find_config(options)
    from completions_lp.run.stages import Options, Run

    settings = Options(tokens=getattr(options, "tokens", False), progress=not options.quiet)
    getattr(Run(config, folder, options=settings), options.stage)()
    print(f"{options.stage}: written to {folder}")
    return 0


def run_report(options: argparse.Namespace) -> int:
    """``completions-lp report``: nothing here needs the model, or torch."""
    from completions_lp.run.results import make_report

    folder, config = Path(options.folder), _find_config(options)
    print_report(folder, config, make_report(folder, config=config))
    print(f"report: written to {folder}")
    return 0


def _find_config(options: argparse.Namespace) -> "Config":
    """The configuration that is named, else that of the run directory, else the embedded one; with overrides."""
    from completions_lp.run.config import EMBEDDED, dump_config, load_config, make_config
    from completions_lp.store import read_info

    folder = Path(options.folder)
    if options.config is None and (folder / "run.json").exists():
        stored = make_config(read_info(folder)["config"])
        return load_config(None, options.overrides, base=dump_config(stored))
    return load_config(options.config or EMBEDDED, options.overrides)


def run_figures(options: argparse.Namespace) -> int:
    """``completions-lp figures``."""
    from completions_lp.run.results import draw_figures

    for path in draw_figures(options.folder, names=options.only):
        print(escape_text(str(path)))
    return 0


def run_compare(options: argparse.Namespace) -> int:
    """``completions-lp compare``."""
    from completions_lp.report.comparison import QUANTITIES, compare_reports
    from completions_lp.run.results import load_report
    from completions_lp.show.text import format_comparison, tabulate_comparison
    from completions_lp.store import write_rows

    folders = list(dict.fromkeys(options.folders))
    differences = compare_reports(
        {folder: load_report(folder) for folder in folders}, quantities=options.quantity or QUANTITIES
    )
    print(f"Compared with {escape_text(folders[0])}; intervals {differences[0].difference.level:.0%}")
    print(format_comparison(differences))
    if options.csv:
        write_rows(Path(options.csv), tabulate_comparison(differences))
    return 0


def run_plan(options: argparse.Namespace) -> int:
    """``completions-lp plan``: without ``--validate`` it needs neither the model nor torch."""
    folder = Path(options.folder)
    if options.validate:
        return _validate(options, folder)
    from completions_lp.plan.forecast import plan_run
    from completions_lp.run.results import load_report
    from completions_lp.show.text import format_plan
    from completions_lp.store import read_info, read_measures

    info, report = read_info(folder), load_report(folder)
    plan = plan_run(
        report,
        read_measures(folder, report.increases.completions.prompts if report.increases else ()),
        info,
        quantity=options.quantity,
        layers=options.layer,
        multipliers=options.multiplier,
        half_width=options.half_width,
        prompts=options.prompts,
        samples=options.samples,
        conditions=options.conditions,
    )
    print(format_plan(plan, info))
    return 0


def _validate(options: argparse.Namespace, folder: Path) -> int:
    """``completions-lp plan --validate``."""
    from completions_lp.run.config import make_config
    from completions_lp.store import read_info

    config = make_config(read_info(folder)["config"])
    from completions_lp.run.stages import Options, Run
    from completions_lp.show.text import format_validation

    run = Run(config, folder, options=Options(progress=not options.quiet))
    found = run.validate(layers=options.layer, multipliers=options.multiplier, draws=options.draws)
    print(f"P(A) as estimated, and its share among {options.draws} draws a prompt of the steered model; means over")
    print("prompts, differences with 95% intervals over prompts")
    print(format_validation(found.measures, found.differences, found.verdicts, found.share))
    print(f"validation.parquet: written to {folder}")
    return 0


def run_doctor(options: argparse.Namespace) -> int:
    """``completions-lp doctor``."""
    from completions_lp.doctor import check_model, format_findings
    from completions_lp.model import load_model
    from completions_lp.run.config import ModelSection

    name = options.model or ModelSection().name
    model = load_model(name, revision=options.revision, dtype=options.dtype, device=options.device)
    findings = check_model(model)
    print(format_findings(model, findings))
    return 0 if all(finding.passed for finding in findings) else 1


def print_report(folder: Path, config: "Config", report: "Report") -> None:
    """The headline table on stdout, what is wrong with it first."""
    from completions_lp.run.results import read_quality
    from completions_lp.show.text import format_checks, format_quality_line, format_sentence, format_table

    print(escape_text(f"{config.model.name} on {config.prompts.path}"))
    for error in report.errors:
        print(escape_text(f"ERROR: {error}"))
    for warning in report.warnings:
        print(escape_text(f"! {warning}"))
    print("\nMeans over prompts, 95% intervals over prompts; ΔP(A) in percentage points, log probs in nats")
    print(format_table(report))
    print()
    print(format_sentence(report))
    print(format_quality_line(read_quality(folder)))
    print(format_checks(report))


def escape_text(text: str) -> str:
    """Text from files and models for a terminal: control characters become visible, line breaks stay."""
    return "".join(c if c.isprintable() or c == "\n" else c.encode("unicode_escape").decode() for c in text)


def _add_plan(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    plan = commands.add_parser(
        "plan",
        help="from a small pilot run: how many prompts and samples an interval takes, and what they cost",
        description="From a pilot run (few prompts, few samples): how many prompts, and how many samples of each, "
        "bring the interval of a quantity to a wanted half width, and what that will cost. With --validate: draw from "
        "the steered model itself and compare with what the run has estimated.",
    )
    plan.add_argument("folder", metavar="DIR", help="run directory of the pilot")
    plan.add_argument(
        "--quantity", default="delta_p_A", metavar="NAME", help="what the interval is of (default: %(default)s)"
    )
    plan.add_argument(
        "--layer",
        type=int,
        action="append",
        default=[],
        metavar="L",
        help="only cells of this layer, as often as wanted (default: the cell with the largest effect)",
    )
    plan.add_argument(
        "--multiplier",
        type=float,
        action="append",
        default=[],
        metavar="M",
        help="only cells with this multiplier, as often as wanted",
    )
    plan.add_argument(
        "--half-width", type=float, metavar="W", help="wanted, in the quantity's unit (default: half of the pilot's)"
    )
    plan.add_argument("--prompts", type=int, metavar="N", help="tell the cost of N prompts (default: those needed)")
    plan.add_argument(
        "--samples",
        type=int,
        metavar="S",
        help="with S samples each (default: what takes the fewest network tokens, 100 or more)",
    )
    plan.add_argument("--conditions", type=int, metavar="C", help="under C conditions (default: the pilot's)")
    plan.add_argument(
        "--validate",
        action="store_true",
        help="draw from the steered model in the cells of --layer and --multiplier (default: the best cell and two "
        "others), write validation.parquet",
    )
    plan.add_argument("--draws", type=int, default=50, metavar="D", help="per prompt and cell (default: %(default)s)")
    plan.add_argument("--quiet", action="store_true", help="no progress bars")
    plan.set_defaults(command=run_plan)


def _add_common(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--set",
        dest="overrides",
        metavar="section.key=value",
        action="append",
        default=[],
        help="override a config key, as often as wanted, e.g. --set sampling.n=50 --set scoring.layers=[3,4]",
    )
    parser.add_argument("--quiet", action="store_true", help="no progress bars")


def _name_folder(config: str | None) -> Path:
    """A run directory that is not there yet."""
    stem = "tiny-chooser" if config is None else Path(config).stem
    return Path("runs") / f"{stem}-{time.strftime('%Y%m%d-%H%M%S')}"


if __name__ == "__main__":
    sys.exit(main())
