#!/bin/sh
# Every figure and table of the demonstration study, in order and from nothing: the run, then one script each.
#
#     sh analysis/reproduce.sh [RUN_DIR]
#
# Takes about a quarter of an hour on two cores. Uses .venv, which it makes if there is none; or set PYTHON to a Python that has the package.
# off_target.py is for runs with off-target sets, which the study has not: it has one set of prompts.
set -eu
cd "$(dirname "$0")/.."
root=$PWD
if [ -z "${PYTHON:-}" ]; then
    PYTHON=$root/.venv/bin/python
    [ -x "$PYTHON" ] || { python3 -m venv .venv && .venv/bin/pip install -q -c requirements.lock -e .; }
fi
case $PYTHON in */*) PYTHON=$(cd "$(dirname "$PYTHON")" && pwd)/$(basename "$PYTHON") ;; esac
run=${1:-runs/study}

"$PYTHON" -m completions_lp run analysis/study.toml --out "$run" --overwrite --quiet
"$PYTHON" -m completions_lp plan "$run" --validate --quiet
"$PYTHON" -m completions_lp run analysis/equal_kl.toml --out "$run-equal_kl" --overwrite --quiet
run=$(cd "$run" && pwd)
cd analysis/figures
for script in layer_sweep dose_response heatmap prompts damage costs token_profile reasoning distributions \
    diagnostics probabilities steerability promotion agreement odds rivals quality own_page table; do
    "$PYTHON" "../$script.py" "$run"
done
"$PYTHON" ../equal_kl.py "$run-equal_kl" equal_kl_embedded
"$PYTHON" ../convergence.py "$run" "$root/data/tiny-chooser" "$root/data/pairs/cautious.jsonl"
