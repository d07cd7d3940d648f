"""Tokenizers by name: words, characters, bytes and byte-pair encoding."""

from ptblm.config.data import VocabularyConfig
from ptblm.corpus.tokenizers.base import Tokenizer
from ptblm.corpus.tokenizers.bpe import BpeTokenizer
from ptblm.corpus.tokenizers.bytes import ByteTokenizer
from ptblm.corpus.tokenizers.characters import CharacterTokenizer
from ptblm.corpus.tokenizers.words import WordTokenizer
from ptblm.corpus.vocabulary import Vocabulary

TOKENIZERS: dict[str, type[Tokenizer]] = {
    tokenizer.name: tokenizer
    for tokenizer in (WordTokenizer, CharacterTokenizer, ByteTokenizer, BpeTokenizer)
}


def make_tokenizer(
    name: str, vocabulary: Vocabulary | None = None, rule: VocabularyConfig | None = None
) -> Tokenizer:
    """Returns the tokenizer that the config key `data.tokenizer` selects.

    Args:
        name: a key of `TOKENIZERS`.
        vocabulary: the known tokens; None to build a vocabulary.
        rule: determines which tokens a vocabulary that is built contains.

    Raises:
        DataError: if the vocabulary does not match the tokenizer.
    """
    return TOKENIZERS[name](vocabulary, rule)
