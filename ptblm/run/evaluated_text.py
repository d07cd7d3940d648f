"""Reads the text that a checkpoint is evaluated on: a split of a corpus, or a file."""

import sys
from collections.abc import Sequence
from dataclasses import dataclass

from ptblm.config.data import DataConfig
from ptblm.corpus.corpus import read_entropy_bound
from ptblm.corpus.layout import Split
from ptblm.corpus.preparing import notes, prepare_text
from ptblm.corpus.reader import EncodedText, read_text
from ptblm.corpus.source import Source, read_content, read_file
from ptblm.corpus.splits import corpus_name, locate_corpus, prepare_splits, shadowed_note
from ptblm.corpus.tokenizers.base import Tokenizer
from ptblm.corpus.unknown_tokens import MAX_SHARE, unknown_tokens_note
from ptblm.paths import expand_path
from ptblm.run.agreement import check_corpus, check_known_corpus
from ptblm.run.load_model import LoadedModel
from ptblm.run.text_config import text_config


@dataclass(frozen=True)
class EvaluatedText:
    """A text to evaluate on.

    Attributes:
        source: the text, prepared for the tokenizer.
        encoded: its ids.
        name: its name in the output.
        entropy_bound: the lowest possible expected perplexity, if known.
        notes: remarks about the text, one line each.
    """

    source: Source
    encoded: EncodedText
    name: str
    entropy_bound: float | None
    notes: list[str]


def read_evaluated_file(tokenizer: Tokenizer, config: DataConfig, text: str) -> EvaluatedText:
    """Reads a file.

    Args:
        tokenizer: the tokenizer.
        config: how the text is read.
        text: a path, or "-" for standard input.

    Raises:
        DataError: if the text cannot be read.
    """
    as_is = config.format == "raw"
    raw = (
        read_content(sys.stdin.buffer.read(), "standard input", as_is=as_is)
        if text == "-"
        else read_file(expand_path(text), as_is=as_is)
    )
    prepared = prepare_text(raw, config)
    encoded = read_text(prepared.source, tokenizer)
    lines = notes([prepared], config) + _warnings(prepared.source, tokenizer, encoded)
    return EvaluatedText(prepared.source, encoded, raw.name, None, lines)


def read_evaluated_split(
    loaded: LoadedModel,
    split: Split,
    data: str | None = None,
    overrides: Sequence[str] = (),
    *,
    options: str = "--data",
) -> EvaluatedText:
    """Reads a split of a corpus. The files of the other splits are not opened.

    Args:
        loaded: the model.
        split: the split.
        data: the corpus; None selects the corpus of the run, which is read as in training.
        overrides: strings such as "data.encoding=latin-1", for how the text is read.
        options: the options that name another text, for messages.

    Raises:
        CheckpointError: if the user has not agreed to read the corpus that the checkpoint names.
        ConfigError: if an override is not valid.
        DataError: if the text cannot be read.
        UsageError: if the corpus of the run is unknown.
    """
    tokenizer = loaded.tokenizer
    config = text_config(loaded.config.data, overrides, data=data, is_other_text=False)
    if data is None:
        check_known_corpus(loaded.corpus, loaded.path, options)
        check_corpus(config, loaded.path)
    corpus = locate_corpus(config, [split])
    texts = prepare_splits(corpus, config)
    source = texts.sources[split]
    encoded = read_text(source, tokenizer)
    bound = read_entropy_bound(corpus.location, tokenizer.name, split, encoded.sha256)
    rule = "" if texts.rule is None else f", {texts.rule}"
    name = f"{split} split of {corpus_name(config.path)}{rule}"
    shadowed = shadowed_note(config.path)
    lines = [] if shadowed is None else [shadowed]
    lines += texts.notes + _warnings(source, tokenizer, encoded)
    return EvaluatedText(source, encoded, name, bound, lines)


def _warnings(source: Source, tokenizer: Tokenizer, text: EncodedText) -> list[str]:
    """Returns a warning if many tokens of the text are unknown."""
    if text.unknown <= MAX_SHARE * len(text.ids):
        return []
    return [unknown_tokens_note(source, tokenizer, text.unknown, len(text.ids))]
