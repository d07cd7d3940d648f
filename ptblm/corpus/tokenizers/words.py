"""The word tokenizer: splits lines at white space and ends each line with `<eos>`."""

from collections.abc import Iterator

from ptblm.corpus.source import TextBlocks
from ptblm.corpus.tokenizers.base import Tokenizer, check_not_empty
from ptblm.corpus.tokenizers.word_table import WordTable
from ptblm.corpus.vocabulary import EOS, UNK, Ids
from ptblm.errors import DataError


class WordTokenizer(Tokenizer):
    """Tokens are words and `<eos>`.

    A last line without a newline also ends with `<eos>`. Unknown words become `<unk>` if the
    training split contains `<unk>`; otherwise they are an error.
    """

    name = "word"
    unit = "word"
    initial_tokens = (EOS,)

    @staticmethod
    def block_end(raw: bytes) -> int:
        """Ends a block after a space or a newline."""
        return max(raw.rfind(b" "), raw.rfind(b"\n")) + 1

    def encode(self, blocks: TextBlocks, *, grow_vocabulary: bool = False) -> Iterator[Ids]:
        """Yields the ids of the words of a text.

        Raises:
            DataError: if the text is not UTF-8, contains no word, or contains an unknown word
                and the vocabulary does not contain `<unk>`.
        """
        table = WordTable(self.ids, grow_vocabulary=grow_vocabulary)
        is_closed = not grow_vocabulary and UNK not in self.ids
        any_word, text = False, "\n"
        for offset, text in blocks.decoded():
            any_word = any_word or not (text == "" or text.isspace())
            ids = table.find(text.replace("\n", f" {EOS} "))
            if is_closed and (ids < 0).any():
                raise self._unknown_word_error(blocks, offset, text)
            yield ids
        check_not_empty(any_word, blocks.source.name, self.unit)
        if not text.endswith("\n"):
            yield table.find(EOS)

    def decode(self, ids: Ids) -> str:
        """Returns the words separated by single spaces, with a newline for each `<eos>`."""
        tokens = self.vocabulary.tokens
        text = " ".join("\n" if tokens[index] == EOS else tokens[index] for index in ids.tolist())
        return text.replace(" \n", "\n").replace("\n ", "\n")

    def _unknown_word_error(self, blocks: TextBlocks, offset: int, text: str) -> DataError:
        """Returns the error for the first unknown word of the block that starts at `offset`."""
        first_line, _ = blocks.source.line_and_byte(offset)
        line, word = next(
            (number, word)
            for number, words in enumerate(text.split("\n"), start=first_line)
            for word in words.split()
            if word not in self.ids
        )
        return DataError(
            f"'{word[:60]}' is not in the vocabulary, which does not contain {UNK}",
            where=f"{blocks.source.name}:{line}",
            hint=f"replace unknown words, use a training text that contains {UNK}, "
            "or train with data.tokenizer char",
        )
