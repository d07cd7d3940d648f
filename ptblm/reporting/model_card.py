"""The model card of an exported model: README.md with metadata that model hubs read.

Format of the metadata: https://huggingface.co/docs/hub/model-cards
"""

from typing import Any, NamedTuple

import yaml

from ptblm import __version__
from ptblm.terminal import escape


class CardResult(NamedTuple):
    """A result for the card.

    Attributes:
        split: the split of the corpus.
        perplexity: the perplexity.
    """

    split: str
    perplexity: float


class CardInfo(NamedTuple):
    """What a card says about a model.

    Attributes:
        name: name of the model.
        form: what the files are, such as "ONNX".
        cell: the recurrent cell.
        layer_sizes: units in each layer.
        parameters: number of parameters.
        tokenizer: "word", "char", "byte" or "bpe".
        vocabulary_size: number of tokens.
        corpus: name of the training corpus; "" if it is unknown.
        epochs: completed epochs.
        results: results of the model; empty if they are not known.
        usage: how to use the files, in Markdown.
    """

    name: str
    form: str
    cell: str
    layer_sizes: list[int]
    parameters: int
    tokenizer: str
    vocabulary_size: int
    corpus: str
    epochs: int
    results: list[CardResult]
    usage: str


def model_card(info: CardInfo) -> str:
    """Returns the text of README.md."""
    metadata: dict[str, Any] = {
        "library_name": "ptblm",
        "pipeline_tag": "text-generation",
        "tags": ["language-model", "recurrent-neural-network", info.cell],
    }
    if info.results:
        metadata["model-index"] = [{"name": info.name, "results": [_indexed(info)]}]
    front = yaml.safe_dump(metadata, sort_keys=False, allow_unicode=True)
    rows = [
        ("cell", info.cell),
        ("layers", ", ".join(f"{size:,} units" for size in info.layer_sizes)),
        ("parameters", f"{info.parameters:,}"),
        ("tokens", f"{info.vocabulary_size:,} {info.tokenizer} tokens"),
        ("training corpus", info.corpus or "unknown"),
        ("epochs", f"{info.epochs:,}"),
        *((f"{each.split} perplexity", f"{each.perplexity:.2f}") for each in info.results),
    ]
    table = "".join(f"| {name} | {_cell(value)} |\n" for name, value in rows)
    return (
        f"---\n{front}---\n\n# {_cell(info.name)}\n\n"
        f"A recurrent language model trained with ptblm {__version__}, exported as {info.form}.\n\n"
        f"| | |\n|---|---|\n{table}\n{info.usage.rstrip()}\n"
    )


def _indexed(info: CardInfo) -> dict[str, Any]:
    protocol = f"perplexity per {info.tokenizer} token, fixed weights, the split as one stream"
    return {
        "task": {"type": "text-generation"},
        "dataset": {"name": info.corpus, "type": info.corpus},
        "metrics": [
            {
                "type": "perplexity",
                "name": f"{each.split} {protocol}",
                "value": round(each.perplexity, 4),
            }
            for each in info.results
        ],
    }


def _cell(text: str) -> str:
    """Returns text of a stranger as a cell of a table."""
    escaped = escape(text)
    return "".join(f"\\{c}" if c in "\\|`*_<>[]#" else c for c in escaped)
