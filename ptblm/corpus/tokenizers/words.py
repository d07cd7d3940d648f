"""The word tokenizer: splits lines at white space and ends each line with `<eos>`."""

import re
from collections.abc import Iterator

from ptblm.corpus.source import Source, TextBlocks
from ptblm.corpus.tokenizers.base import Tokenizer, check_not_empty
from ptblm.corpus.tokenizers.word_table import WordTable
from ptblm.corpus.vocabulary import EOS, UNK, Ids
from ptblm.errors import DataError

# Mean number of characters of the words of a text. Where words are separated by spaces, it is less
# in any language. In scripts without spaces (Chinese, Japanese, Thai, Lao, Khmer, Burmese), words
# are shorter.
_LONGEST_MEAN, _LONGEST_UNSPACED_MEAN = 20, 9
_UNSPACED_SCRIPTS = re.compile(
    "[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff]"
)
_SAMPLE_SIZE = 2**16  # bytes
_EOS_WORD = f" {EOS} ".encode()


class WordTokenizer(Tokenizer):
    """Tokens are words and `<eos>`.

    A last line without a newline also ends with `<eos>`. Unknown words become `<unk>`; in a closed
    vocabulary, which has no `<unk>`, they are an error.

    Words that occur once in a training split without `<unk>` become `<unk>`, so that the model
    learns the probability of unknown words.
    """

    name = "word"
    unit = "word"
    required_tokens = (EOS,)
    default_min_count = 2
    is_divisible = True
    divided_at = ("line", "word", "character")

    @staticmethod
    def block_end(raw: bytes) -> int:
        """Ends a block after a space or a newline."""
        return max(raw.rfind(b" "), raw.rfind(b"\n")) + 1

    def encode(self, blocks: TextBlocks, *, grow_vocabulary: bool = False) -> Iterator[Ids]:
        """Yields the ids of the words of a text.

        Raises:
            DataError: if the text contains no word, or contains an unknown word and the vocabulary
                does not contain `<unk>`.
        """
        table = WordTable(self.ids, grow_vocabulary=grow_vocabulary)
        is_closed = not grow_vocabulary and UNK not in self.ids
        any_word, text = False, "\n"
        for offset, text in blocks.decoded():
            any_word = any_word or not (text == "" or text.isspace())
            ids = table.find(text.encode().replace(b"\n", _EOS_WORD))
            if is_closed and (ids < 0).any():
                raise self.unknown_token_error(blocks, offset, text)
            yield ids
        check_not_empty(any_word, blocks.source.name, self.unit)
        if not text.endswith("\n"):
            yield table.find(_EOS_WORD)

    def check_text(self, source: Source) -> None:
        """Checks that the words of a text are separated by spaces.

        Raises:
            DataError: if the text has almost no spaces, as Chinese text does, or cannot be read.
        """
        sample = source.read(_SAMPLE_SIZE).decode("utf-8", "ignore")
        words = sample.split()
        letters = sum(map(len, words))
        unspaced = len(_UNSPACED_SCRIPTS.findall(sample))
        longest = _LONGEST_MEAN if unspaced < letters / 2 else _LONGEST_UNSPACED_MEAN
        if letters > longest * len(words):
            raise DataError(
                f"the text has almost no spaces: its words have {letters / len(words):.0f} "
                "characters on average",
                where=source.name,
                hint="use --tokenizer char or --tokenizer byte, or separate the words by spaces",
            )

    def decode(self, ids: Ids) -> str:
        """Returns the words separated by single spaces, with a newline for each `<eos>`."""
        tokens = self.vocabulary.tokens
        text = " ".join("\n" if tokens[index] == EOS else tokens[index] for index in ids.tolist())
        return text.replace(" \n", "\n").replace("\n ", "\n")

    @staticmethod
    def is_token(text: str) -> bool:
        """Returns whether a text can be a word."""
        return bool(text) and not set(text) & {" ", "\t", "\n"}

    def tokens_of(self, line: str) -> list[str]:
        """Returns the words of a line."""
        return line.split()
