"""The character tokenizer: each character is a token, and a newline is `<eos>`.

Tabs and spaces are ordinary characters. A last line without a newline also ends with `<eos>`, as
in the word tokenizer.

The vocabulary contains `<unk>`, so that any text can be scored: characters that are not in the
training split become `<unk>`. By default it is never a training target, so the softmax soon assigns
it almost no probability: it costs 0.000002 bits per character (docs/results.md). The string `<unk>`
in the files of the Penn Treebank is five tokens, as in all published results.
"""

from collections.abc import Iterator

import numpy as np

from ptblm.corpus.source import TextBlocks
from ptblm.corpus.tokenizers.base import Tokenizer, check_not_empty
from ptblm.corpus.vocabulary import EOS, UNK, Ids

_CODE_POINTS = 0x110000


class CharacterTokenizer(Tokenizer):
    """Tokens are characters, `<eos>` and `<unk>`."""

    name = "char"
    unit = "character"
    required_tokens = (EOS,)
    is_divisible = True
    divided_at = ("line", "character")
    file_prefixes = ("ptb.char.", "")

    @staticmethod
    def block_end(raw: bytes) -> int:
        """Ends a block before the last byte that starts a character."""
        # A UTF-8 character has at most three continuation bytes, 10xxxxxx.
        starts = [at for at in range(max(0, len(raw) - 4), len(raw)) if raw[at] & 0xC0 != 0x80]
        return starts[-1] if starts else len(raw)

    def encode(self, blocks: TextBlocks, *, grow_vocabulary: bool = False) -> Iterator[Ids]:
        """Yields the ids of the characters of a text.

        Raises:
            DataError: if the text is empty, or contains an unknown character and the vocabulary
                does not contain `<unk>`.
        """
        table = np.full(_CODE_POINTS, -1, dtype=np.int32)  # id of each code point
        for token, index in self.ids.items():
            if len(token) == 1:
                table[ord(token)] = index
        table[ord("\n")] = self.ids[EOS]
        last = ""
        is_closed = not grow_vocabulary and UNK not in self.ids
        for offset, text in blocks.decoded():
            last = text[-1:] or last
            points = np.frombuffer(text.encode("utf-32-le"), dtype="<u4")
            ids: Ids = table[points]
            if grow_vocabulary and (ids < 0).any():
                for point in np.unique(points[ids < 0]).tolist():
                    table[point] = self.ids[chr(point)] = len(self.ids)
                ids = table[points]
            if is_closed and (ids < 0).any():
                raise self.unknown_token_error(blocks, offset, text)
            yield ids
        check_not_empty(bool(last), blocks.source.name, self.unit)
        if last != "\n":
            yield table[[ord("\n")]]

    def decode(self, ids: Ids) -> str:
        """Returns the plain text, with a newline for each `<eos>`."""
        tokens = self.vocabulary.tokens
        return "".join("\n" if tokens[index] == EOS else tokens[index] for index in ids.tolist())
