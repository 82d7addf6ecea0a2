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
    from completions_lp.run import Run

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
        stage.set_defaults(command=run_stage, stage=name)

    doctor = commands.add_parser("doctor", help="is everything computed right on this model? (self-checks)")
    doctor.add_argument("--model", metavar="NAME_OR_PATH", help="hub name or local path (default: the embedded model)")
    doctor.add_argument("--revision", help="hub branch, tag or commit")
    doctor.add_argument("--dtype", default="auto", help="auto, float32, bfloat16, float16 or float64")
    doctor.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:N or mps")
    doctor.set_defaults(command=run_doctor)
    return parser


def run_all(options: argparse.Namespace) -> int:
    """``completions-lp run``."""
    from completions_lp.config import EMBEDDED, load_config

    config = load_config(options.config or EMBEDDED, options.overrides)
    folder = Path(options.out) if options.out else _name_folder(options.config)
    if (folder / "run.json").exists() and not options.overwrite:
        raise InputError(f"{folder} already holds a run; give another --out, or --overwrite to replace it")
    from completions_lp.run import Options, Run

    run = Run(config, folder, options=Options(tokens=options.tokens, progress=not options.quiet))
    start = time.perf_counter()
    print_report(run, run.all())
    print(f"\nRun directory: {folder} ({time.perf_counter() - start:.0f} s)")
    return 0


def run_stage(options: argparse.Namespace) -> int:
    """One stage, from and to a run directory."""
    from completions_lp.config import EMBEDDED, dump_config, load_config, make_config
    from completions_lp.store import read_info

    folder = Path(options.folder)
    if options.config is None and (folder / "run.json").exists():
        stored = make_config(read_info(folder)["config"])
        config = load_config(None, options.overrides, base=dump_config(stored))
    else:
        config = load_config(options.config or EMBEDDED, options.overrides)
    from completions_lp.run import Options, Run

    settings = Options(tokens=getattr(options, "tokens", False), progress=not options.quiet)
    run = Run(config, folder, options=settings)
    made = getattr(run, options.stage)()
    if options.stage == "report":
        print_report(run, made)
    print(f"{options.stage}: written to {folder}")
    return 0


def run_doctor(options: argparse.Namespace) -> int:
    """``completions-lp doctor``."""
    from completions_lp.config import ModelSection
    from completions_lp.doctor import check_model, format_findings
    from completions_lp.model import load_model

    name = options.model or ModelSection().name
    model = load_model(name, revision=options.revision, dtype=options.dtype, device=options.device)
    findings = check_model(model)
    print(format_findings(model, findings))
    return 0 if all(finding.passed for finding in findings) else 1


def print_report(run: "Run", report: "Report") -> None:
    """The headline table on stdout, warnings before it."""
    from completions_lp.tables import format_checks, format_quality_line, format_sentence, format_table

    print(escape_text(f"{run.config.model.name} on {run.config.prompts.path}"))
    for warning in report.warnings:
        print(f"! {warning}")
    print("\nAverage log-prob increase (nats; macro mean over prompts, 95% interval over prompts)")
    print(format_table(report))
    print()
    print(format_sentence(report))
    print(format_quality_line(run.quality))
    print(format_checks(report))


def escape_text(text: str) -> str:
    """Text from files and models for a terminal: control characters become visible, line breaks stay."""
    return "".join(c if c.isprintable() or c == "\n" else c.encode("unicode_escape").decode() for c in text)


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
