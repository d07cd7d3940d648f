"""Prints generated texts: while they are drawn, as text, as TSV or as JSON lines."""

import math
from collections.abc import Iterable, Iterator
from typing import Literal

from ptblm.json_files import strict_json
from ptblm.run.generate import GeneratedText, TextGenerator, stream_text
from ptblm.run.signals import StopSignal
from ptblm.terminal import escape, print_output, print_part, print_rows

Base = Literal["2", "e", "10"]

_NATS: dict[Base, float] = {"2": math.log(2), "e": 1.0, "10": math.log(10)}
# Bytes that are not UTF-8, which are surrogates in a text, are shown as in `\xff`.
_BYTES = {0xDC00 + byte: f"\\x{byte:02x}" for byte in range(128, 256)}


def print_while_drawn(generator: TextGenerator, *, echo: bool) -> None:
    """Prints sample 0 while it is drawn. A stop signal ends the line and the text.

    Args:
        generator: what the text is generated from.
        echo: whether the text starts with the prompt.
    """
    end = "\n"
    # An exception in a signal handler could interrupt a write, which would then be repeated.
    with StopSignal(lambda: None) as stop:
        for piece in stream_text(generator, echo=echo):
            end = (end + piece)[-1]
            print_part(piece.translate(_BYTES))
            if stop.received is not None:
                break
        if end != "\n":
            print_part("\n")
    if stop.received is not None:
        raise SystemExit(128 + stop.received)


def print_texts(
    generator: TextGenerator,
    texts: Iterable[GeneratedText],
    output_format: Literal["text", "tsv", "jsonl"],
    base: Base,
    *,
    echo: bool,
) -> None:
    """Prints samples.

    Args:
        generator: what the texts are generated from.
        texts: the samples.
        output_format: "text"; or "tsv" or "jsonl", which have one sample per line, without the
            newline that ends the last of its sentences.
        base: base of the log-probabilities.
        echo: whether a text starts with the prompt.
    """
    if output_format == "tsv":
        rows = _tsv_rows(generator, texts, base, echo)
        print_rows("\t".join(map(escape, row)) for row in rows)
        return
    lines = _text_lines if output_format == "text" else _json_lines
    for line in lines(generator, texts, base, echo):
        print_output([line])


def _text_lines(
    generator: TextGenerator, texts: Iterable[GeneratedText], _base: Base, echo: bool
) -> Iterator[str]:
    """Yields the lines of each text. An empty line separates texts that can have several lines."""
    has_one_line = generator.length.line_ends == 1 and "\n" not in generator.prompt_text
    for index, text in enumerate(texts):
        if index and not has_one_line:
            yield ""
        shown = (text.text_with_prompt if echo else text.text).translate(_BYTES)
        yield from shown.removesuffix("\n").split("\n")


def _tsv_rows(
    generator: TextGenerator, texts: Iterable[GeneratedText], base: Base, echo: bool
) -> Iterator[list[str]]:
    """Yields a header and a row per text, which is printed with the escapes of Python."""
    yield ["sample", "tokens", f"logprob_{base}", "text"]
    for text in texts:
        shown = _record_text(generator, text, echo).replace("\\", r"\\")
        log_prob = f"{text.log_prob / _NATS[base]:.6f}"
        yield [str(text.number + 1), str(text.tokens), log_prob, shown]


def _json_lines(
    generator: TextGenerator, texts: Iterable[GeneratedText], base: Base, echo: bool
) -> Iterator[str]:
    for text in texts:
        record = {
            "sample": text.number + 1,
            "seed": generator.seed,
            "prompt": generator.prompt_text,
            "text": _record_text(generator, text, echo),
            "tokens": text.tokens,
            "base": base,
            "logprob": text.log_prob / _NATS[base],
            "prompt_logprob": (0.0 - generator.start.nll) / _NATS[base],
        }
        yield strict_json(record).replace("\x7f", "\\u007f")


def _record_text(generator: TextGenerator, text: GeneratedText, echo: bool) -> str:
    shown = text.text_with_prompt if echo else text.text
    return shown if generator.length.line_ends is None else shown.removesuffix("\n")
