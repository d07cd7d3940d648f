"""`ptblm generate`."""

from typing import Annotated, Literal

import typer

from ptblm.cli.completion import complete_file
from ptblm.cli.options import Cell, CheckpointOrRun, Device, parse_name
from ptblm.errors import UsageError
from ptblm.run.signals import clean_up_on_stop


def generate(
    checkpoint: CheckpointOrRun,
    prompt: Annotated[
        str | None,
        typer.Option(metavar="TEXT", help="Text to continue.", show_default="start of a line"),
    ] = None,
    prompt_file: Annotated[
        str | None,
        typer.Option(
            metavar="FILE|-",
            parser=parse_name,
            autocompletion=complete_file,
            help="File whose whole text is the prompt; `-` reads standard input. A newline at its "
            "end is part of the prompt.",
        ),
    ] = None,
    tokens: Annotated[
        int | None,
        typer.Option(
            metavar="INT", min=1, help="Number of tokens to generate.", show_default="100"
        ),
    ] = None,
    sentences: Annotated[
        int | None,
        typer.Option(metavar="INT", min=1, help="Generate until this number of lines is complete."),
    ] = None,
    temperature: Annotated[
        float,
        typer.Option(
            help="Below 1, probable tokens become more probable; above 1, less. 0 always selects "
            "the most probable token."
        ),
    ] = 1.0,
    top_k: Annotated[
        int | None,
        typer.Option(
            metavar="INT",
            min=0,
            help="Draw from the K most probable tokens; 0 is all.",
            show_default="all",
        ),
    ] = None,
    top_p: Annotated[
        float,
        typer.Option(
            help="Draw from the smallest set of most probable tokens with at least this "
            "probability."
        ),
    ] = 1.0,
    no_unk: Annotated[bool, typer.Option("--no-unk", help="Never generate <unk>.")] = False,
    seed: Annotated[
        int | None,
        typer.Option(
            metavar="INT",
            min=0,
            max=2**32 - 1,
            help="Random seed. The same seed gives the same text.",
            show_default="random, printed",
        ),
    ] = None,
    samples: Annotated[
        int, typer.Option(metavar="INT", min=1, help="Number of texts to generate.")
    ] = 1,
    unique: Annotated[
        bool, typer.Option("--unique", help="Generate only texts that differ from each other.")
    ] = False,
    output_format: Annotated[
        Literal["text", "tsv", "jsonl"],
        typer.Option(
            "--format",
            help="text, or one text per line with its log-probability and number of tokens.",
        ),
    ] = "text",
    base: Annotated[
        Literal["2", "e", "10"], typer.Option(help="Base of the log-probability in tsv and jsonl.")
    ] = "e",
    no_echo: Annotated[bool, typer.Option("--no-echo", help="Do not print the prompt.")] = False,
    batch_size: Annotated[
        int,
        typer.Option(
            metavar="INT",
            min=1,
            help="Texts that are generated at once; it does not affect the texts.",
        ),
    ] = 64,
    cell: Cell = None,
    device: Device = None,
) -> None:
    """Generate text from a trained model.

    One text is printed while it is generated.
    """
    if tokens is not None and sentences is not None:
        raise UsageError("--tokens and --sentences cannot be combined", hint="omit one of them")
    if prompt is not None and prompt_file is not None:
        raise UsageError("--prompt and --prompt-file cannot be combined", hint="omit one of them")
    from ptblm.cli.generated_text import print_texts, print_while_drawn
    from ptblm.evaluation.sampling import Sampling
    from ptblm.run.generate import generate_texts, make_text_generator
    from ptblm.run.load_model import load_trusted_model
    from ptblm.run.prompts import read_prompt_file, typed_prompt

    clean_up_on_stop()
    sampling = Sampling(temperature=temperature, top_k=top_k or 0, top_p=top_p)
    text = None if prompt is None else typed_prompt(prompt)
    generator = make_text_generator(
        load_trusted_model(checkpoint, device or "auto", cell),
        prompt=text if prompt_file is None else read_prompt_file(prompt_file),
        tokens=tokens,
        sentences=sentences,
        sampling=sampling,
        no_unk=no_unk,
        seed=seed,
    )
    if samples == 1 and output_format == "text":
        print_while_drawn(generator, echo=not no_echo)
    else:
        texts = generate_texts(generator, samples, unique=unique, batch_size=batch_size)
        print_texts(generator, texts, output_format, base, echo=not no_echo)
