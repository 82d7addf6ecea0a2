"""How many contrast pairs does a vector need? One estimate from 50 pairs against five from 10, and other sizes.

    python analysis/convergence.py RUN_DIR MODEL PAIRS

Needs the run's model and the file of its contrast pairs: no pair is in two batches of one size.
"""

import sys

import numpy as np

import completions_lp as clp

report, model = clp.load(sys.argv[1]), clp.load_model(sys.argv[2])
pairs, cell = clp.load_pairs(sys.argv[3], model.tokenizer), report.best.condition
pairs = [pairs[i] for i in np.random.default_rng(0).permutation(len(pairs))]
parts = [(n, k) for n in (5, 10, 25, 50, 100) for k in range(min(5, len(pairs) // n))]
at = {"layers": [cell.layer], "progress": False}
whole = clp.extract_vector(model, pairs, **at).directions[cell.layer] * len(pairs)
vectors = [clp.extract_vector(model, pairs[n * k : n * (k + 1)], name=f"{n}-{k}", **at) for n, k in parts]
conditions = [clp.Condition(v.name, "target", cell.layer, cell.multiplier, cell.positions) for v in vectors]
scores = clp.score_completions(model, report.increases.completions, vectors, conditions, target=report.target, kl=False)
effects = clp.summarize(scores, target=report.target)
batches = []
for (n, k), vector, condition in zip(parts, vectors, conditions, strict=True):
    mean, half = vector.directions[cell.layer], vector.quality[cell.layer].split_half_cosine
    rest = whole - n * mean
    cosine = float(mean @ rest / np.linalg.norm(mean) / np.linalg.norm(rest)) if n < len(pairs) else np.nan
    batches.append(clp.Batch(n, k, half, cosine, effects.estimate("delta_p_A", condition)))
clp.Convergence.of(report, batches).save("convergence")
