"""Reads the lines of a text of any size in bounded memory: a file, a compressed file or a pipe."""

import codecs
import io
import sys
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, replace
from itertools import chain
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from ptblm.config.data import DataConfig
from ptblm.corpus.cleaning import line_cleaner
from ptblm.corpus.containers import (
    SIGNATURE_SIZE,
    container_of,
    is_compressed_text,
    not_text_error,
    unpacked,
)
from ptblm.corpus.encodings import (
    MARK_SIZE,
    SAMPLE_SIZE,
    encoding_by_mark,
    is_utf8,
    lacks_byte_order,
    with_byte_order,
)
from ptblm.corpus.findings import Findings
from ptblm.corpus.forms import form_of, plain_text
from ptblm.corpus.source import BLOCK_SIZE, Source, bytes_source, open_text
from ptblm.corpus.tokenizers.base import Tokenizer
from ptblm.corpus.vocabulary import EOS, UNK, Ids
from ptblm.corpus.word_splitting import Split, word_splitter
from ptblm.errors import DataError
from ptblm.files import os_errors
from ptblm.paths import expand_path

_MAX_TEXT_RATIO = 20  # unpacked bytes per compressed byte
ARTICLE = "!ARTICLE"


@dataclass(frozen=True)
class Line:
    """A line of a text and its tokens.

    Attributes:
        number: number of the line in the text, from 1.
        text: the line without its end. Bytes that are not UTF-8 are surrogates.
        tokens: the tokens in the spelling of the text, without the token that ends the line.
        ids: the ids of the tokens and of the token that ends the line, [len(tokens) + 1].
        unknown: whether each token is not in the vocabulary and has the id of `<unk>`, [len(ids)].
        has_end: whether the text contains the token that ends the line. The last line of a text of
            bytes may lack its newline.
    """

    number: int
    text: str
    tokens: list[str]
    ids: Ids
    unknown: NDArray[np.bool_]
    has_end: bool = True

    @property
    def divides_documents(self) -> bool:
        """Whether the line is blank or consists of the mark `!ARTICLE`."""
        return self.text.strip() in ("", ARTICLE)


def make_line(
    number: int,
    tokens: list[str],
    tokenizer: Tokenizer,
    text: str,
    name: str,
    spelled: list[str] | None = None,
) -> Line:
    """Returns a line, given its tokens.

    Args:
        number: number of the line in the text, from 1.
        tokens: the tokens without the token that ends the line.
        tokenizer: the tokenizer with its vocabulary.
        text: the text of the line.
        name: name of the text in messages.
        spelled: the tokens in the spelling of the text, if the vocabulary spells them otherwise.

    Raises:
        DataError: if a token is unknown and the vocabulary does not contain `<unk>`.
    """
    known = tokenizer.ids
    ids = np.array([known.get(token, -1) for token in tokens] + [tokenizer.line_end_id])
    unknown = ids < 0
    if unknown.any():
        if tokenizer.vocabulary.unk_id is None:
            token = tokens[int(unknown.argmax())]
            raise DataError(
                f"'{token[:60]}' is not in the vocabulary, which does not contain {UNK}",
                where=f"{name}:{number}",
                hint="the vocabulary is closed; a model that is trained with "
                "data.vocabulary.closed=false can score any text",
            )
        ids[unknown] = tokenizer.vocabulary.unk_id
    return Line(number, text, spelled or tokens, ids, unknown)


def lines_of(source: Source, tokenizer: Tokenizer) -> Iterator[Line]:
    """Yields the lines of a text that is prepared for the tokenizer.

    Raises:
        DataError: if the text cannot be read, or a token is unknown and the vocabulary does not
            contain `<unk>`.
    """
    blocks = (raw for _, raw in source.blocks(lambda raw: raw.rfind(b"\n") + 1))
    yield from _lines(blocks, tokenizer, source.name)


def read_lines(
    pieces: Iterable[bytes],
    name: str,
    tokenizer: Tokenizer,
    config: DataConfig,
    findings: Findings,
    split: Split | None = None,
) -> Iterator[Line]:
    """Yields the lines of a text as soon as they are read, cleaned as in training.

    The form of the text (such as characters separated by spaces) is recognized by its start.

    Args:
        pieces: the bytes of the text; see `text_pieces`.
        name: name of the text in messages.
        tokenizer: the tokenizer with its vocabulary.
        config: how the text is read.
        findings: receives the counts of what is cleaned; see `findings.notes`.
        split: divides a line into tokens; see `word_splitting`. None is the tokenizer's way.

    Raises:
        DataError: if the text is not in the expected encoding, or a token is unknown and the
            vocabulary does not contain `<unk>`.
    """
    blocks = _cleaned(pieces, name, config, findings)
    yield from _lines(blocks, tokenizer, name, split)


def text_name(text: str) -> str:
    """Returns the name of a text in messages; `text` is a path, or "-" for standard input."""
    return "standard input" if text == "-" else text


def text_pieces(
    text: str, *, as_is: bool = False, max_ratio: int = _MAX_TEXT_RATIO
) -> Iterator[bytes]:
    """Yields the bytes of a text as soon as they can be read, decompressed.

    Args:
        text: a path, or "-" for standard input.
        as_is: whether to read the bytes of a compressed file unchanged.
        max_ratio: bound of the unpacked bytes per compressed byte.

    Raises:
        DataError: if the file cannot be opened or read, or is an archive or a document.
    """
    name = text_name(text)
    with os_errors(DataError, where=name), ExitStack() as stack:
        file: io.BufferedReader[Any]
        if text == "-":
            if isinstance(sys.stdin.buffer, io.BufferedReader):
                file = sys.stdin.buffer  # returns what is typed so far
            else:
                file = io.BufferedReader(cast(io.RawIOBase, sys.stdin.buffer))
                stack.callback(file.detach)  # because closing it would close standard input
        else:
            file = open_text(expand_path(text), may_be_pipe=True)
            stack.callback(file.close)
        kind = None if as_is else container_of(file.peek(SIGNATURE_SIZE)[:SIGNATURE_SIZE])
        if kind is None:
            while piece := file.read1(BLOCK_SIZE):
                yield piece
        elif is_compressed_text(kind):
            yield from unpacked(file, kind, name, max_ratio)
        else:
            raise not_text_error(kind, name)


def _cleaned(
    pieces: Iterable[bytes], name: str, config: DataConfig, findings: Findings
) -> Iterator[bytes]:
    """Yields whole lines of a text in UTF-8 and in plain form; see `preparing.prepare_text`."""
    is_byte = config.tokenizer == "byte"
    start, pieces = _start(pieces, MARK_SIZE)
    encoding = config.encoding or encoding_by_mark(start)
    if encoding is not None and not is_byte and not is_utf8(encoding):
        if lacks_byte_order(encoding, start):  # the first piece of a pipe can be short
            start, pieces = _start(pieces, SAMPLE_SIZE)
        pieces = _converted(pieces, with_byte_order(encoding, start), name)
    form, lines_before, block = None if config.format == "auto" else config.format, 0, b""
    clean_lines = line_cleaner(name, config, findings, lambda: b"\n" * lines_before + block)
    for block in _whole_lines(pieces):
        cleaned = block if is_byte else clean_lines(block)
        if not cleaned:  # it contained only sentence marks
            lines_before += block.count(b"\n")
            continue
        if form is None:
            form = "plain" if config.tokenizer == "word" else form_of(bytes_source(name, cleaned))
        if form not in ("plain", "raw"):
            cleaned = plain_text(bytes_source(name, cleaned), form).read()  # type: ignore[arg-type]
        lines_before += block.count(b"\n")
        yield cleaned


def _start(pieces: Iterable[bytes], size: int) -> tuple[bytes, Iterator[bytes]]:
    """Returns the start of a text, of at least `size` bytes if it has them, and all its pieces."""
    iterator = iter(pieces)
    start = b""
    while len(start) < size and (piece := next(iterator, b"")):
        start += piece
    return start, chain([start], iterator)


def _converted(pieces: Iterable[bytes], encoding: str, name: str) -> Iterator[bytes]:
    try:
        for text in codecs.iterdecode(pieces, encoding):
            yield text.encode()
    except UnicodeError as error:
        raise DataError(
            f"not {encoding} text: {error}",
            where=name,
            hint="set data.encoding to the encoding of the file; null is UTF-8",
        ) from None


def _whole_lines(pieces: Iterable[bytes]) -> Iterator[bytes]:
    """Yields blocks that end with a newline; the last one may not."""
    rest: list[bytes] = []
    for piece in pieces:
        end = piece.rfind(b"\n") + 1
        if end:
            yield b"".join([*rest, piece[:end]])
            rest = []
        rest.append(piece[end:])
    if any(rest):
        yield b"".join(rest)


def _lines(
    blocks: Iterable[bytes], tokenizer: Tokenizer, name: str, split: Split | None = None
) -> Iterator[Line]:
    """Yields the lines of blocks that end with a newline; the last one may not."""
    split = split or word_splitter("none", tokenizer)
    number = 0
    for block in blocks:
        *texts, last = block.removesuffix(b"\n").decode("utf-8", "surrogateescape").split("\n")
        for text in texts:
            number += 1
            spelled, tokens = split(text)
            yield make_line(number, tokens, tokenizer, text, name, spelled)
        number += 1
        spelled, tokens = split(last)
        line = make_line(number, tokens, tokenizer, last, name, spelled)
        has_end = tokenizer.line_end == EOS or block.endswith(b"\n")
        yield line if has_end else replace(line, has_end=False)
