"""Records <-> the run directory. The only writer of files.

Files are moved into place once whole. Other programs read these tables: names and meanings change only with
``SCHEMA_VERSION``. ``questions.parquet`` has the prompts as asked: later stages need the directory alone.
"""

from completions_lp.store.catalogue import Catalogue, Covered
from completions_lp.store.choices import read_choices, write_choices
from completions_lp.store.completions import completion_ids, read_completions, write_completions, write_steered
from completions_lp.store.directory import (
    STAGES,
    check_owned,
    claim_files,
    drop_stages,
    hold_run,
    is_held,
    list_stage,
    read_info,
    start_run,
    write_info,
)
from completions_lp.store.doses import DOSES, read_doses, write_doses
from completions_lp.store.drawings import name_files, read_figures, write_figure
from completions_lp.store.files import hash_file, make_folder, write_bytes, write_rows, write_text
from completions_lp.store.keys import CONDITION
from completions_lp.store.progress import drop_progress, read_progress, write_progress
from completions_lp.store.readings import read_readings, write_readings
from completions_lp.store.remote import Place, check_place, is_remote, open_place
from completions_lp.store.reports import (
    OFF_TARGET,
    PROFILE,
    RIVALS,
    SEEDS,
    SLOPES,
    SUMMARY,
    SWAPS,
    VECTORS,
    read_profile,
    write_profile,
    write_report,
)
from completions_lp.store.scores import (
    open_tokens,
    read_increases,
    read_measures,
    read_seed_measures,
    write_increases,
    write_measures,
    write_seed_measures,
)
from completions_lp.store.tokens import read_token_increases
from completions_lp.store.unit_tables import read_draws, read_sequences, tabulate_draws, tabulate_sequences
from completions_lp.store.units import (
    Unit,
    find_units,
    hash_value,
    list_units,
    open_units,
    read_unit,
    remove_units,
    write_index,
    write_unit,
)
from completions_lp.store.validation import read_validation, write_validation
from completions_lp.store.vectors import (
    name_file,
    read_quality,
    read_vector,
    read_vectors,
    save_vector,
    sort_vectors,
    write_vector,
    write_vectors,
)

__all__ = ["CONDITION", "OFF_TARGET", "PROFILE", "RIVALS", "SEEDS", "SLOPES", "STAGES", "SUMMARY", "SWAPS"]
__all__ += ["DOSES", "VECTORS", "read_doses", "write_doses"]
__all__ += ["completion_ids", "read_completions", "write_completions", "write_steered"]
__all__ += [
    "check_owned",
    "claim_files",
    "drop_stages",
    "hold_run",
    "is_held",
    "list_stage",
    "read_info",
    "start_run",
    "write_info",
]
__all__ += ["make_folder"]
__all__ += ["hash_file", "name_file", "name_files", "read_figures", "write_figure", "write_rows", "write_text"]
__all__ += ["read_choices", "read_increases", "read_measures", "write_choices", "write_increases", "write_measures"]
__all__ += ["drop_progress", "read_progress", "write_progress"]
__all__ += ["read_readings", "write_readings"]
__all__ += ["open_tokens", "read_profile", "read_token_increases", "read_validation"]
__all__ += ["read_seed_measures", "write_seed_measures"]
__all__ += ["write_profile", "write_report", "write_validation"]
__all__ += ["read_quality", "read_vector", "read_vectors", "save_vector", "sort_vectors"]
__all__ += ["write_bytes", "write_vector", "write_vectors"]
__all__ += ["Catalogue", "Covered", "Place", "check_place", "is_remote", "open_place"]
__all__ += ["Unit", "find_units", "hash_value", "list_units", "open_units", "read_unit", "remove_units"]
__all__ += ["write_index", "write_unit"]
__all__ += ["read_draws", "read_sequences", "tabulate_draws", "tabulate_sequences"]
