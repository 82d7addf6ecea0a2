"""How a run grows with prompts and with the model, on paper: the table of README.md, by the planner that users call.

    python analysis/growth.py PILOT_RUN_DIR [--write]

For 7B, 70B and 405B, 1000 to 100,000 prompts × 100 draws × 4 multipliers at every layer, or 1000 conditions. A pilot
tells how long prompts and completions are and how much they share. Prints the table; with ``--write`` it is put into
README.md, between its marks.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

from completions_lp.checkpoint.weights import NAMED
from completions_lp.job.growth import predict_run
from completions_lp.show.text.growth import HEAD, list_cells

README = Path(__file__).with_name("README.md")
START, END = "<!-- growth: python analysis/growth.py PILOT --write -->\n", "<!-- end of growth -->"
PROMPTS = (1000, 10_000, 100_000)
SAMPLES, MULTIPLIERS, MANY = 100, 4, 1000


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("pilot", type=Path)
    parser.add_argument("--write", action="store_true")
    args = parser.parse_args(arguments)
    table = make_table(args.pilot)
    print(table)
    if args.write:
        text = README.read_text()
        before, after = text.partition(START)[0], text.partition(END)[2]
        README.write_text(f"{before}{START}\n{table}\n{END}{after}")


def make_table(pilot: Path) -> str:
    """Markdown: a line for each model, number of prompts and of conditions."""
    head = (HEAD[0], "prompts", "conditions", *HEAD[1:])
    lines = [f"| {' | '.join(head)} |", f"|---|{'---:|' * (len(head) - 1)}"]
    for name, weights in NAMED.items():
        sizes = [(n, MULTIPLIERS * weights.n_layers) for n in PROMPTS] + [(PROMPTS[-1], MANY)]
        for prompts, conditions in sizes:
            (found,) = predict_run(pilot, [name], prompts=prompts, samples=SAMPLES, conditions=conditions)
            model, *cells = list_cells(found)
            lines.append(f"| {' | '.join((model, f'{prompts:,}', f'{conditions:,}', *cells))} |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
