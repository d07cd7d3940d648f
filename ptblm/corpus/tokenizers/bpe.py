"""The BPE tokenizer: byte-pair encoding of the bytes of each line, and a newline is `<eos>`.

A token is a sequence of bytes, mostly a word with the space before it or a part of one. All 256
bytes are tokens, so any text can be encoded, and none is unknown. The vocabulary spells each byte
as one character, as in GPT-2: `Ġ` is a space. A last line without a newline also ends with
`<eos>`, as in the word tokenizer.

Sennrich et al. 2016, arXiv:1508.07909; on bytes: Radford et al. 2019, "Language Models are
Unsupervised Multitask Learners". The library `tokenizers` trains and encodes; decoding needs only
the vocabulary.
"""

import codecs
import json
import re
from collections.abc import Iterable, Iterator
from itertools import chain
from typing import TYPE_CHECKING

import numpy as np

from ptblm.config.data import BPE_SIZE, VocabularyConfig
from ptblm.corpus.source import TextBlocks
from ptblm.corpus.tokenizers.base import Tokenizer, check_not_empty
from ptblm.corpus.vocabulary import EOS, Ids, Vocabulary
from ptblm.errors import DataError, UsageError

if TYPE_CHECKING:
    from tokenizers import Tokenizer as Library

# The character of each byte: itself if it is printable, otherwise the next one from U+0100.
_PRINTABLE = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
_OTHERS = [byte for byte in range(256) if byte not in _PRINTABLE]
_CHARACTERS = dict(zip([*_PRINTABLE, *_OTHERS], [*_PRINTABLE, *range(256, 324)], strict=True))
_BYTES = {chr(character): byte for byte, character in _CHARACTERS.items()}

# No token contains a space after another character, so a text divided here has the same tokens.
_BOUNDARY = re.compile(r"(?<=\S)(?= )")
_MAX_REMEMBERED = 2**19  # ids of pieces; about 60 MB


class BpeTokenizer(Tokenizer):
    """Tokens are sequences of bytes inside a line, and `<eos>`."""

    name = "bpe"
    unit = "subword"
    required_tokens = (EOS, *sorted(_BYTES))
    default_min_count = 2
    keeps_ids = True
    space_before = True
    divided_at = ("line", "word", "character")

    def __init__(
        self, vocabulary: Vocabulary | None = None, rule: VocabularyConfig | None = None
    ) -> None:
        super().__init__(vocabulary, rule)
        _check(self.vocabulary)
        self._library: Library | None = None
        self._ids_of_pieces: dict[str, list[int]] = {}
        self._remembered = 0

    @staticmethod
    def block_end(raw: bytes) -> int:
        """Ends a block after a newline, or between an ASCII character and a space."""
        end = len(raw)
        while (end := raw.rfind(b" ", 0, end)) > 0:
            if 0x20 < raw[end - 1] < 0x7F:
                break
        return max(end, raw.rfind(b"\n") + 1)

    def encode(self, blocks: TextBlocks, *, grow_vocabulary: bool = False) -> Iterator[Ids]:
        """Yields the ids of the tokens of a text.

        With `grow_vocabulary`, the text is read twice: `tokenizers` learns the merges first.

        Raises:
            DataError: if the text is empty or cannot be read.
            UsageError: if `tokenizers` is not installed.
        """
        if grow_vocabulary:
            self._train(blocks)
        last = ""
        for _, text in blocks.decoded():
            last = text[-1:] or last
            ids: list[int] = []
            for line_ids in self._line_ids(text.split("\n")):
                ids += line_ids
                ids.append(self.line_end_id)
            yield np.array(ids[:-1], dtype=np.int32)
        check_not_empty(bool(last), blocks.source.name, self.unit)
        if last != "\n":
            yield np.array([self.line_end_id], dtype=np.int32)

    def tokens_of(self, line: str) -> list[str]:
        """Returns the tokens of a line."""
        tokens = self.vocabulary.tokens
        return [tokens[index] for index in self._line_ids([line])[0]]

    def decode(self, ids: Ids) -> str:
        """Returns the text as UTF-8, with a newline for each `<eos>`.

        Encode it with "utf-8" and "surrogateescape" to restore the exact bytes.
        """
        return b"".join(map(self._bytes_of, ids.tolist())).decode("utf-8", "surrogateescape")

    def decode_stream(self, ids: Iterable[int]) -> Iterator[str]:
        """Yields each character when its last byte is known; see `Tokenizer.decode_stream`."""
        decoder = codecs.getincrementaldecoder("utf-8")("surrogateescape")
        for index in ids:
            yield decoder.decode(self._bytes_of(index))
        yield decoder.decode(b"", final=True)

    def spelled(self, token: str) -> str:
        """Returns the text of a token; see `Tokenizer.spelled`."""
        return token if token == EOS else token_bytes(token).decode("utf-8", "backslashreplace")

    def length(self, token: str) -> int:
        """Returns the number of characters that begin in a token."""
        return sum(byte & 0xC0 != 0x80 for byte in token_bytes(token))

    @staticmethod
    def is_token(text: str) -> bool:
        """Returns whether a text spells bytes."""
        return bool(text) and _BYTES.keys() >= set(text)

    def _bytes_of(self, index: int) -> bytes:
        token = self.vocabulary.tokens[index]
        return b"\n" if token == EOS else token_bytes(token)

    def _train(self, blocks: TextBlocks) -> None:
        """Learns the vocabulary from a text. The same text gives the same vocabulary."""
        library = _library(Vocabulary([], []))
        from tokenizers.trainers import BpeTrainer

        trainer = BpeTrainer(
            vocab_size=self.rule.size or BPE_SIZE,
            min_frequency=self.min_count(has_unk=False),
            show_progress=False,
            special_tokens=[EOS],
            initial_alphabet=sorted(_BYTES),
        )
        lines = (text.split("\n") for _, text in blocks.decoded())
        library.train_from_iterator(lines, trainer)
        model = json.loads(library.to_str())["model"]
        tokens = sorted(model["vocab"], key=model["vocab"].__getitem__)
        merges = [" ".join(pair) for pair in model["merges"]]
        self.vocabulary = Vocabulary(tokens, [0] * len(tokens), merges)
        self.ids = dict(self.vocabulary.ids)

    def _line_ids(self, lines: list[str]) -> list[list[int]]:
        """Returns the ids of each line, without the token that ends it.

        A word with the space before it has the same tokens everywhere, so it is encoded once.
        """
        if self._remembered > _MAX_REMEMBERED:
            self._ids_of_pieces.clear()
            self._remembered = 0
        known = self._ids_of_pieces
        divided = [_BOUNDARY.split(line) for line in lines]
        if missing := list(set(chain.from_iterable(divided)) - known.keys()):
            if self._library is None:
                self._library = _library(self.vocabulary)
            # Surrogates, which stand for bytes that are not UTF-8, become question marks.
            texts = [piece.encode("utf-8", "replace").decode() for piece in missing]
            encodings = self._library.encode_batch_fast(texts, add_special_tokens=False)
            known.update((piece, each.ids) for piece, each in zip(missing, encodings, strict=True))
            self._remembered += sum(map(len, encodings))
        return [list(chain.from_iterable(map(known.__getitem__, pieces))) for pieces in divided]


def token_bytes(token: str) -> bytes:
    """Returns the bytes that a token of the vocabulary, other than `<eos>`, spells."""
    return bytes(map(_BYTES.__getitem__, token))


def _check(vocabulary: Vocabulary) -> None:
    """Checks that tokens spell bytes, and that the library can build its model from the merges.

    Raises:
        DataError: if a token does not, or a merge is not one of two tokens to a third or repeated.
    """
    for token in vocabulary.tokens:
        if not BpeTokenizer.is_token(token):
            raise DataError(f"the vocabulary contains {token!r:.60}, which does not spell bytes")
    known = vocabulary.ids.keys() - {EOS}
    for merge in vocabulary.merges:
        left, _, right = merge.partition(" ")
        if not {left, right, left + right} <= known:
            raise DataError(f"the merge {merge!r:.60} is not one of two tokens to a third")
    if len(set(vocabulary.merges)) != len(vocabulary.merges):
        raise DataError("a merge occurs twice in the vocabulary")


def _library(vocabulary: Vocabulary) -> "Library":
    """Returns the tokenizer of the library `tokenizers` with the merges of a vocabulary.

    Raises:
        UsageError: if the library is not installed.
    """
    try:
        from tokenizers import Tokenizer as Library
        from tokenizers import models, pre_tokenizers
    except ImportError:
        raise UsageError(
            "data.tokenizer bpe needs the tokenizers package, which is not installed",
            hint="pip install 'ptblm[tokenizers]'",
        ) from None
    merges = [(left, right) for left, _, right in (m.partition(" ") for m in vocabulary.merges)]
    library = Library(models.BPE(vocab=dict(vocabulary.ids), merges=merges))
    library.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    return library
