"""One of several processes that share a model, as torchrun starts them: what they get is for rank 0 to tell.

torchrun --nproc-per-node 2 tests/rank_cases.py WHAT FOLDER...
"""

import sys

import beartype  # noqa: F401  before nnsight, which mounts a method on every object that beartype trips over
import torch
from everything import compare, make_everything, tell

import completions_lp as clp
from completions_lp.checkpoint import find_rank
from completions_lp.model import Model
from completions_lp.model.engine import compare_engines
from completions_lp.records import InputError
from completions_lp.work import ranks


def compare_all(*folders):
    """Each model shared, beside the same one whole."""
    found = {}
    for i, folder in enumerate(folders):
        kinds = {} if i == 0 else {"kinds": ("scores", "vectors")}
        shared, whole = clp.load_model(folder, tp_size=2), clp.load_model(folder)
        found[folder] = {
            "shared": shared.tp_size,
            "weights": shared.fingerprint() == whole.fingerprint(),
            "config": shared.config_hash == whole.config_hash,
            "described": {k: v for k, v in shared.describe().items() if whole.describe()[k] != v},
            "exact": compare_engines(shared).exact,
            "off": compare(make_everything(whole, **kinds), make_everything(shared, **kinds)),
            "local": list(shared.blocks[0]._module.self_attn.q_proj.weight.to_local().shape),
        }
    return found


def compare_half(folder):
    """In half precision, where copies in float32 are made."""
    shared, whole = (clp.load_model(folder, dtype="bfloat16", tp_size=n) for n in (2, 1))
    return {"weights": shared.fingerprint() == whole.fingerprint(), "exact": compare_engines(shared).exact}


def fail_alone(model: Model) -> None:
    """What only one of them finds wrong."""
    if find_rank().number == 1:
        raise InputError("something is wrong here")
    torch.distributed.barrier()


def fail_alike(model: Model) -> None:
    """What all of them find wrong."""
    raise InputError("something is wrong everywhere")


def ask(function, folder):
    """A leader and a follower, of whom something is asked."""
    if not find_rank().leads:
        sys.exit(ranks.follow())
    hands = ranks.Together({"name": folder, "tp_size": 2})
    try:
        hands.call(function)
    except InputError as error:
        told = str(error)
    found = {"told": told, "after": hands.call(Model.fingerprint) == clp.load_model(folder).fingerprint()}
    ranks.dismiss()
    return found


CASES = {
    "all": compare_all,
    "half": compare_half,
    "alone": lambda folder: ask(fail_alone, folder),
    "alike": lambda folder: ask(fail_alike, folder),
}

if __name__ == "__main__":
    torch.set_num_threads(1)
    told = CASES[sys.argv[1]](*sys.argv[2:])
    if find_rank().leads:
        tell(found=told)
    torch.distributed.destroy_process_group()
