"""The text of docs/dictionary.md around its tables of columns."""

OPENING = """# The run directory

<!-- Written by docs/dictionary.py: change that, columns.py and passages.py beside it, or the package, and run it. -->

Every table of a run directory, every column, its unit and what it means. Tables are Parquet files, compressed with
zstd. Names and meanings change only with `schema_version` in `run.json`. Log probs are in nats. NaN or missing is
undefined, never zero. `A` in a name stands for the target answer, `B` for the one that it is compared with.
"""
JSON = """`report.html` is the page with every completion. `completions-lp figures` writes `figures/`: PDF, PNG,
caption and the tidy CSV of each, and `table.tex`.

## run.json

| key | holds |
|---|---|
| `schema_version` | of everything below: 3. A directory of another version is refused |
| `config` | the configuration, every default written out |
| `seed` | of all random streams; of several `seeds`, the first |
| `stages` | by finished stage, what its tables were made of, below |
| `files` | the files that are the run's own, by name. Only these are ever replaced or removed |
| `model` | name, revision, hashes of weights, configuration and tokenizer, sizes, dtype, device; `quantization` \
where weights are quantised, `base` where an adapter was merged into another model; what was `asked` for; size and \
times of its `files`, by which a later start knows that they are the same |
| `rivals` | by name, the same of every rival's own model |
| `off_target` | by name, `timings` and `token_counts` of the sets' own runs |
| `vector` | pairs behind it; by layer the fields of the quality, see *vectors/NAME.safetensors* |
| `versions`, `machine` | Python and packages; processor, cores, system |
| `engines` | by step, whether it went by shared trees (`tree`) or plain rows (`rows`) |
| `timings`, `token_counts` | by step, the seconds, and the tokens and passes of the network, that all in its tables \
took, whenever it was done |
| `work` | by step, what the last time took that it was done: `tokens`, `passes`, `seconds`, of a model on a \
server the bytes `sent` and `received`, `units_made`, and `units_found`, which were there already |
| `memory` | by step, peak GiB of the last time |
| `checks` | the instrument checks, below |
| `norms` | by layer, the mean norm of the unsteered residual stream at the steered positions, over how many tokens \
of how many prompts |
| `doses` | with `[scoring] unit = "kl"`: the prompts on which multipliers were solved for, the rounds that it took, \
and the cells that are `missing`, each with its reason |
| `instrument` | those of them that were made before scoring, by the doctor's checks, and what failed |
| `warnings`, `errors` | the sentences at the top of the report |
| `best` | the best cell: its condition, by which quantity, whether on held-out prompts, among how many, how often |

A step is a stage; of the score stage there are three, `dose`, `choices` and `score`, and `validate` is of
`plan --validate`.

| key of a stage | holds |
|---|---|
| `settings` | the sections and keys of the configuration that it followed |
| `consumed` | hashes of what it read: weights, architecture and tokenizer of the model, `prompts`, `pairs` or \
`vector`, `further`, `confounds`, `vectors`, `completions`, `rivals`; its precision and kind of device; which tokens \
were `kept` |
| `files` | sha256 of each table that it wrote |
| `units` | the units that are in its tables |
| `sources` | sha256 of each file of yours that it read |
| `failed` | by prompt, why it was left out |

| check | what it is | should be |
|---|---|---|
| `noise_floor` | largest change of a completion under multiplier 0, nats: what the hook itself changes | 0 |
| `sampler_gap` | sampled against scored log prob of what is scored of a completion, largest difference, nats: \
rounding | below 0.05 |
| `sampler_gap_rms` | the same, root mean square over completions | of the size of `rounding_sd` |
| `rounding_sd` | what rounding does to an increase, nats: its standard deviation over completions, in the mean \
of a small direction's two signs | far below the spread of the increases |
| `rounding_mean`, `rounding_se` | the mean of the same over prompts, and its standard error | near 0 |
| `sampler_z` | the sampler test (surprisal minus entropy), in standard errors | below 3 |
| `all_completions_z` | mean increase of all completions, the largest in standard errors | at most 3 |
| `label_gap` | share of the target by labels less P(A) by tokens | near 0 |
| `not_finite` | scores that are no finite numbers | 0 |
| `bos_wrong` | prompts that do not begin with exactly one BOS (none, of a tokenizer that writes none) | 0 |
| `vector_off` | how far the change of the residual stream at its layer is from multiplier × vector, as a share of \
that, under one condition | below 0.001 |
| `below_layer`, `before_position` | change of the residual stream below that layer, and before the first steered \
token, as a share of its norm | 0 |
| `mass_off` | log of the sum of all tokens' probabilities after a prompt, nats | near 0 |
| `largest_kl` | the largest KL per token of a cell of the vector, nats | above 0.05, or no effect may be no dose |
| `share_red` | red prompt × condition pairs of the vector | low |
| `p_rank_sweep` | the whole sweep's rank among the random directions | |

## vectors/NAME.safetensors

One tensor of `d_model` numbers for each layer, under the key `layer.<L>`: the 0-based block to whose output it is
added. The metadata say how it was made: name, kind, model, revision, hash of the weights, method, number of pairs, and
as JSON by layer

| | |
|---|---|
| `quality` | `norm` of the mean difference; `norm_se`, its standard error; `split_half_cosine` between the vectors of \
two halves of the pairs; `pair_cosine`, the mean cosine of the pairs' differences with their mean; `d_prime`, how far \
the two sides lie apart along the vector, each pair held out, in pooled standard deviations; `lens_accuracy` (A_lin) \
and `lens_odds` (nats), what final norm and head read of the answer in this layer's residual stream right before it. \
null is undefined; the last four are missing in files of earlier versions |
| `spans` | where the two sides lie along the vector, in units of the residual stream: `centre`, the middle between \
their means, and `scale`, half of the way from the negative to the positive one. Controls have the target's scale |"""
WORK = """## units/KIND/CONTEXT/NAME.parquet

Finished work, each part in a file of its own, which a later start finds again. `KIND` is `draws`, `choices` or
`scores`. `CONTEXT` is a hash of what all numbers in a folder depend on: the model, its precision, the kind of device,
the versions of torch, transformers and nnsight, and the settings of the work. `NAME` is a hash of what the file covers.
Both are written out in the file's metadata, as JSON under the key `completions_lp`: `kind`, `context`, `covers` and
`spent` (tokens, passes, seconds). A unit is never changed. `completions-lp clean` removes those that no table needs.

`vector` and `kind` are what they were called when the unit was made. Numbers of tokens stand in lists.

`.lock` is an empty file. While a process works in the directory, the system keeps it locked."""
WORDS = """The names in column `quantity` of `summary`, `slopes`, `swaps` and `rivals`; those that exist prompt by
prompt are columns of `prompts.parquet`."""
