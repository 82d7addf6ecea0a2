"""The layer sweep: average log-prob increase of the target completions by layer, one line per multiplier.

    python analysis/layer_sweep.py RUN_DIR [--quantity increase_to_answer_A] [--out analysis/figures/layer_sweep]

Writes a PDF for the paper and a PNG for the screen, from the stored tables alone.
"""

import argparse
from pathlib import Path

from completions_lp.figures import plot_layers
from completions_lp.reporting import HEADLINE
from completions_lp.run import Run


def main() -> None:
    """Draw one run directory."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("--quantity", default=HEADLINE)
    parser.add_argument("--out", type=Path, default=Path("analysis/figures/layer_sweep"))
    options = parser.parse_args()
    figure = plot_layers(Run.open(options.run).load_report(), quantity=options.quantity)
    options.out.parent.mkdir(parents=True, exist_ok=True)
    for suffix in (".pdf", ".png"):
        figure.savefig(options.out.with_suffix(suffix))
        print(options.out.with_suffix(suffix))


if __name__ == "__main__":
    main()
