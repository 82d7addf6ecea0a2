"""The commands that bring vectors from other tools here, take them there, and show what is in their files."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import click

from completions_lp.cli.options import OVERRIDES, Ordered

FILE = click.argument("file", metavar="FILE", type=Path)
OVERWRITE = click.option("--overwrite", is_flag=True, help="Replace files that are there.")
LAYER = click.option(
    "--layer",
    "layers",
    type=click.IntRange(0, 9999),
    multiple=True,
    metavar="L",
    help="Of a file of one direction: at the output of which block it is added; of several: which to take. Repeatable.",
)
CONVENTION = click.option(
    "--convention",
    type=click.Choice(["repeng", "llama.cpp"]),
    help="How a GGUF file counts: direction.L is the output of block L (repeng), or direction.(L + 1) is (llama.cpp).",
)


def _add_reading(command: Callable[..., Any]) -> Callable[..., Any]:
    """What every command takes that reads a vector's file."""
    adds = (
        click.option(
            "--position", type=int, metavar="P", help="Of refusal_direction's mean_diffs.pt: which, from -1 back."
        ),
        click.option(
            "--feature", type=int, metavar="I", help="Which feature of an autoencoder, or concept of AxBench."
        ),
        CONVENTION,
        LAYER,
        click.option(
            "--format", "name", default="auto", metavar="NAME", help="Whose file it is; auto where it shows it."
        ),
    )
    for add in adds:
        command = add(command)
    return command


@click.group(cls=Ordered, no_args_is_help=False)
def vectors() -> None:
    """Vector files of other tools: import, export, show.

    [vector] path of a configuration reads the same files, with the keys format, convention, layer, feature, position.
    """


@vectors.command("import")
@FILE
@click.option(
    "--out", metavar="V.safetensors", type=Path, required=True, help="The new file, in the format of this package."
)
@_add_reading
@click.option(
    "--name", "called", default="", metavar="NAME", help="What the vector is called; after its file by default."
)
@click.option(
    "--model", metavar="NAME_OR_PATH", help="A model that it has to fit, in width and depth; no weights are read."
)
@OVERWRITE
def import_(file: Path, out: Path, called: str, model: str | None, overwrite: bool, **reading: Any) -> None:
    """Bring a vector of another tool into this package's format.

    FILE is a file, or a folder of files: a GGUF control vector, CAA's or EasyEdit2's tensors, persona_vectors,
    steering-vectors, lm-eval, refusal_direction, steering-lite, activation-steering or AISteer360 (.svec), AxBench, or
    a sparse autoencoder, of which one decoder row is read. Nothing in it is ever run.
    """
    from completions_lp.job.vector_files import find_shape, import_vector

    vector = import_vector(
        file, _ask(**reading), out, name=called, overwrite=overwrite, model=None if model is None else find_shape(model)
    )
    from completions_lp.show.text.vector import format_origin

    click.echo(format_origin(vector))
    click.echo(f"written to {out}")


@vectors.command("export")
@FILE
@click.option(
    "--format",
    "name",
    required=True,
    metavar="NAME",
    help="gguf, caa, persona_vectors, lm-eval, refusal_direction or steering-vectors.",
)
@click.option(
    "--out", metavar="PATH", type=Path, required=True, help="The new file; for caa and refusal_direction, a folder."
)
@CONVENTION
@LAYER
@click.option(
    "--model", metavar="NAME_OR_PATH", help="The model: how many blocks it has, and what caa calls its files."
)
@click.option("--n-layers", type=click.IntRange(1, 9999), metavar="N", help="Blocks of the model, for persona_vectors.")
@click.option("--position", type=int, default=-1, metavar="P", help="Where it was read, for refusal_direction.")
@click.option(
    "--hookpoint", default="layers.{layer}", metavar="TEXT", help="What lm-eval calls a block; h.{layer} for GPT-2."
)
@OVERWRITE
def export(
    file: Path, name: str, out: Path, layers: Sequence[int], model: str | None, overwrite: bool, **told: Any
) -> None:
    """Write a vector for another tool.

    FILE is a vector that vectors import or a run has written, or any other that says all by itself.
    """
    from completions_lp.job.vector_files import export_vector, prepare_export, tell_export

    vector, asked = prepare_export(file, layers, model, told)
    for path in export_vector(vector, name, out, asked, overwrite=overwrite):
        click.echo(str(path))
    for note in tell_export(vector, name, asked):
        click.echo(f"note: {note}", err=True)


@vectors.command()
@FILE
@_add_reading
@click.option(
    "--config",
    metavar="CONFIG.toml|DIR",
    type=Path,
    help="A configuration or run whose model and prompts it is measured on.",
)
@click.option("--model", metavar="NAME_OR_PATH", help="A model beside whose residual stream it is measured.")
@OVERRIDES
def show(file: Path, config: Path | None, model: str | None, overrides: Sequence[str], **reading: Any) -> None:
    """What is in a vector's file: layers, norms, where it comes from.

    With a model also how long the vector is beside the residual stream, at the last token of up to 32 prompts: those of
    the configuration, or the embedded ones.
    """
    from completions_lp.job.vector_files import read_file

    vector = read_file(file, _ask(**reading))
    norms, told = None, ""
    if config is not None or model is not None or overrides:
        from completions_lp.job.places import open_measured

        named = [] if model is None else [f"model.name={json.dumps(model)}"]
        opened = open_measured(config, [*named, *overrides])
        from completions_lp.cli.imports import import_once

        with import_once():
            from completions_lp.job.vector_norms import measure_norms
        norms, told = measure_norms(opened, vector)
    from completions_lp.show.text.vector import format_vector

    click.echo(format_vector(vector, norms, told))


def _ask(*, name: str, convention: str | None, layers: Sequence[int], feature: int | None, position: int | None) -> Any:
    from completions_lp.steer.formats.source import Asked

    return Asked(name, convention or "", tuple(layers), feature, position)
