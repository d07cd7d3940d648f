"""Reads the prompt that a generated text continues."""

import logging
from dataclasses import dataclass

import numpy as np

from ptblm.config.data import DataConfig
from ptblm.corpus.lines import lines_of, text_name, text_pieces
from ptblm.corpus.preparing import notes, prepare_text
from ptblm.corpus.source import bytes_source
from ptblm.corpus.tokenizers.base import Tokenizer
from ptblm.corpus.vocabulary import UNK, Ids
from ptblm.errors import DataError
from ptblm.run.text_config import typed_config
from ptblm.terminal import counted

logger = logging.getLogger(__name__)

MAX_BYTES = 10_000_000
_MAX_LISTED, _MAX_SHOWN = 5, 40  # unknown tokens in a note, and characters of each


@dataclass(frozen=True)
class PromptText:
    """The text of a prompt, as typed or read from a file.

    Attributes:
        name: name of the text in messages.
        content: the text in bytes.
    """

    name: str
    content: bytes


def typed_prompt(text: str) -> PromptText:
    """Returns the prompt that was typed on the command line."""
    return PromptText("the prompt", text.encode("utf-8", "surrogateescape"))


def read_prompt_file(path: str) -> PromptText:
    """Reads a file, all of which is the prompt.

    Args:
        path: a text file, which can be compressed, or "-" for standard input.

    Raises:
        DataError: if the file cannot be read or is larger than `MAX_BYTES`.
    """
    content = bytearray()
    for piece in text_pieces(path):
        content += piece
        if len(content) > MAX_BYTES:
            raise DataError(
                f"the prompt is larger than {MAX_BYTES:,} bytes",
                where=text_name(path),
                hint="pass a file that contains only the start of the text",
            )
    return PromptText(text_name(path), bytes(content))


def encode_prompt(prompt: PromptText, tokenizer: Tokenizer, config: DataConfig) -> Ids:
    """Returns the ids of a prompt, [N], and logs notes about changed and unknown tokens.

    A newline at the end of the prompt ends its last line. Without it, the line is continued.

    Args:
        prompt: the prompt.
        tokenizer: the tokenizer of the model.
        config: how the training text was read.

    Raises:
        DataError: if the prompt is not in the encoding of the config, or a token is unknown and the
            vocabulary does not contain `<unk>`.
    """
    config = typed_config(config)
    try:
        prepared = prepare_text(bytes_source(prompt.name, prompt.content), config)
    except DataError as error:
        hint = "a prompt must be UTF-8 text without zero bytes"
        raise DataError(error.what, where=error.where, hint=hint) from None
    for note in notes([prepared], config):
        logger.info(note)
    lines = list(lines_of(prepared.source, tokenizer))
    if not lines:
        return np.zeros(0, dtype=np.int64)
    ids = np.concatenate([line.ids for line in lines])
    unknown = [
        token
        for line in lines
        for token, is_unknown in zip(line.tokens, line.unknown, strict=False)
        if is_unknown
    ]
    if unknown:
        total = sum(len(line.tokens) for line in lines)
        logger.info(_unknown_note(unknown, total, tokenizer.unit))
    ends_line = prepared.source.read()[-1:] == b"\n"
    return ids if ends_line else ids[:-1]


def _unknown_note(unknown: list[str], total: int, unit: str) -> str:
    distinct = list(dict.fromkeys(unknown))
    listed = [token[:_MAX_SHOWN] for token in distinct[:_MAX_LISTED]]
    if len(distinct) > _MAX_LISTED:
        listed.append(f"and {len(distinct) - _MAX_LISTED:,} more")
    verb = "is" if len(unknown) == 1 else "are"
    return (
        f"{len(unknown):,} of {counted(total, unit)} of the prompt {verb} not in the vocabulary "
        f"and {'becomes' if len(unknown) == 1 else 'become'} {UNK}: {', '.join(listed)}"
    )
