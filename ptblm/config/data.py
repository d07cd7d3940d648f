"""Config keys of the corpus."""

import codecs
from typing import Annotated, Literal, Self

from pydantic import Field, field_validator, model_validator
from pydantic_core import PydanticCustomError

from ptblm.config.section import Section

_PATH = r"^[^\x00]+$"

# Smallest vocabulary of byte-pair encoding, which is 256 bytes and <eos>, and the default size.
MIN_BPE_SIZE, BPE_SIZE = 257, 16_000
# Keys of the vocabulary for tokens that are not in the training split.
_FOR_UNKNOWN = {"closed", "unk"}

# Codecs of Python that encode names and literals; punycode takes quadratic time.
_NOT_FOR_FILES = {"idna", "punycode", "raw-unicode-escape", "unicode-escape"}


class VocabularyConfig(Section):
    """The tokens that the model knows; all others become `<unk>`."""

    min_count: Annotated[
        int | None,
        Field(
            ge=1,
            le=10**12,
            description="occurrences in the training split that a token needs; null selects 2 for "
            "words if the text has no <unk>, so that <unk> is learned, and for bpe; 1 otherwise",
        ),
    ] = None
    size: Annotated[
        int | None,
        Field(
            ge=3,
            le=10**8,
            description="largest number of tokens, <unk> and <eos> included; the most frequent "
            "tokens are kept; null for no limit, or 16000 for bpe",
        ),
    ] = None
    file: Annotated[
        str | None,
        Field(
            min_length=1,
            pattern=_PATH,
            description="vocabulary to use instead: a text file with one token per line, for bpe "
            "a tokenizer.json, a checkpoint, or a run directory",
        ),
    ] = None
    closed: Annotated[
        bool,
        Field(
            description="whether a token that the training split lacks is an error; no <unk> is "
            "added"
        ),
    ] = False
    unk: Annotated[
        str | None,
        Field(
            pattern=r"^[^\s\x00]+$",
            description="word that stands for unknown words in the text; null recognizes <unk>, "
            "<UNK>, [UNK], <oov>, <unknown>",
        ),
    ] = None

    @model_validator(mode="after")
    def _check_combination(self) -> Self:
        limits = {"min_count": self.min_count, "size": self.size}
        others = [key for key, value in limits.items() if value is not None]
        for key, conflicts in (("file", others), ("closed", others)):
            if getattr(self, key) and conflicts:
                raise PydanticCustomError(
                    "conflict",
                    "cannot be combined with {other}",
                    {"key": key, "other": conflicts[0], "value": getattr(self, key)},
                )
        return self


class DataConfig(Section):
    """The corpus, and how it is split into tokens."""

    path: Annotated[
        str,
        Field(
            min_length=1,
            pattern=_PATH,
            description="'ptb' or another corpus of `ptblm download-data --list`, 'sample' "
            "(embedded in ptblm), a directory with train, valid and test files, or a text file, "
            "which is split by position: 90% train, 5% valid, 5% test",
        ),
    ] = "ptb"
    tokenizer: Annotated[
        Literal["word", "char", "byte", "bpe"],
        Field(
            description="unit of a token: word, char (ptb then uses its character files), byte, or "
            "bpe (subwords by byte-pair encoding)"
        ),
    ] = "word"
    vocabulary: Annotated[VocabularyConfig, Field(description="tokens that the model knows")] = (
        VocabularyConfig()
    )
    encoding: Annotated[
        str | None,
        Field(
            min_length=1,
            description="encoding of the text, such as latin-1, cp1252, utf-16 or gb18030; null "
            "selects UTF-8, or the encoding that a byte order mark names",
        ),
    ] = None
    format: Annotated[
        Literal["auto", "plain", "spaced_characters", "byte_values", "raw"],
        Field(
            description="form of the text: auto detects the form from the content; plain; "
            "spaced_characters (separated by spaces, with _ for a space); byte_values (decimal, "
            "separated by spaces); raw (the bytes of the file, even if compressed)"
        ),
    ] = "auto"
    marks: Annotated[
        Literal["drop", "keep", "reject"],
        Field(
            description="sentence marks such as <s>, </s>, <eos> or <|endoftext|> in the text: "
            "drop them, because ptblm adds <eos> itself; keep them as tokens; or reject the text"
        ),
    ] = "drop"

    @field_validator("encoding")
    @classmethod
    def _check_encoding(cls, value: str | None) -> str | None:
        if value is not None:
            try:
                codec = codecs.lookup(value)
            except (LookupError, ValueError):
                codec = None
            is_text = codec is not None and getattr(codec, "_is_text_encoding", True)
            if codec is None or not is_text or codec.name in _NOT_FOR_FILES:
                raise PydanticCustomError(
                    "encoding", "expected an encoding, such as latin-1 or utf-16", {"value": value}
                )
        return value

    @model_validator(mode="after")
    def _check_tokenizer(self) -> Self:
        is_byte = self.tokenizer == "byte"
        changed = self.vocabulary.model_dump(exclude_defaults=True)
        wrong: dict[str, object] = {}
        if is_byte:
            wrong |= {f"vocabulary.{key}": value for key, value in changed.items()}
        if self.tokenizer == "bpe":  # which can encode any word
            wrong |= {f"vocabulary.{key}": changed[key] for key in changed.keys() & _FOR_UNKNOWN}
            size = self.vocabulary.size
            if size is not None and size < MIN_BPE_SIZE:
                raise PydanticCustomError(
                    "bpe_size",
                    "bpe needs at least {least} tokens: the bytes and <eos>",
                    {"key": "vocabulary.size", "least": MIN_BPE_SIZE, "value": size},
                )
        if is_byte and self.encoding is not None:
            wrong["encoding"] = self.encoding
        if self.format == "raw" and not is_byte:
            wrong["format"] = self.format
        for key, value in wrong.items():
            raise PydanticCustomError(
                "tokenizer",
                "cannot be used with tokenizer {tokenizer}",
                {"key": key, "tokenizer": self.tokenizer, "value": value},
            )
        return self
