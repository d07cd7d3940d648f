"""The character tokenizer: each character is a token, and a newline is `<eos>`.

Only a newline ends a line; carriage returns, tabs and spaces are characters like any other. A last
line without a newline has an `<eos>`, too, as in the word tokenizer.

The vocabulary always contains `<unk>`, so that any text can be scored: characters that the training
split lacks become `<unk>`. It is never a target in training, so the softmax soon assigns it almost
no probability: the measured cost is 0.000002 bits per character (docs/results.md). (The string
`<unk>` in the Penn Treebank's files is five tokens, as in all published results.)
"""

from collections.abc import Iterator

import numpy as np

from ptblm.corpus.source import SPACE_SEPARATED_PREFIX, TextBlocks
from ptblm.corpus.tokenizers.base import Tokenizer, check_not_empty
from ptblm.corpus.vocabulary import EOS, UNK, Ids

_CODE_POINTS = 0x110000


class CharacterTokenizer(Tokenizer):
    """Tokens are characters, `<eos>` and `<unk>`.

    Files in the space-separated form of the Penn Treebank (`ptb.char.*`) give the same ids as the
    plain text that they spell.
    """

    name = "char"
    unit = "character"
    initial_tokens = (EOS, UNK)
    file_prefixes = (SPACE_SEPARATED_PREFIX, "")

    @staticmethod
    def block_end(raw: bytes) -> int:
        """Blocks end before the last byte that starts a character."""
        # A UTF-8 character has at most three continuation bytes, 10xxxxxx.
        starts = [at for at in range(max(0, len(raw) - 4), len(raw)) if raw[at] & 0xC0 != 0x80]
        return starts[-1] if starts else len(raw)

    def encode(self, blocks: TextBlocks, *, grow_vocabulary: bool = False) -> Iterator[Ids]:
        """Yields the ids of a text's characters.

        Raises:
            DataError: if the text is not UTF-8 or is empty.
        """
        table = np.full(_CODE_POINTS, -1, dtype=np.int32)  # id of each code point
        for token, index in self.ids.items():
            if len(token) == 1:
                table[ord(token)] = index
        table[ord("\n")] = self.ids[EOS]
        last = ""
        for _, text in blocks.decoded():
            if blocks.source.space_separated:
                text = text.replace(" ", "").replace("_", " ")
            last = text[-1:] or last
            points = np.frombuffer(text.encode("utf-32-le"), dtype="<u4")
            ids: Ids = table[points]
            if grow_vocabulary and (ids < 0).any():
                for point in np.unique(points[ids < 0]).tolist():
                    table[point] = self.ids[chr(point)] = len(self.ids)
                ids = table[points]
            yield ids
        check_not_empty(bool(last), blocks.source.name, self.unit)
        if last != "\n":
            yield table[[ord("\n")]]

    def decode(self, ids: Ids) -> str:
        """The plain text; `<eos>` becomes a newline."""
        tokens = self.vocabulary.tokens
        return "".join("\n" if tokens[index] == EOS else tokens[index] for index in ids.tolist())
