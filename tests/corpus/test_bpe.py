"""Byte-pair encoding: exact text, the tokens of the library itself, and published merges."""

import json
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ptblm.config.data import DataConfig
from ptblm.config.loading import load_config
from ptblm.corpus import source as source_module
from ptblm.corpus.lines import make_line
from ptblm.corpus.preparing import prepare_text
from ptblm.corpus.reader import read_text
from ptblm.corpus.source import bytes_source
from ptblm.corpus.tokenizer_file import tokenizer_document
from ptblm.corpus.tokenizers import make_tokenizer
from ptblm.corpus.tokenizers.base import Tokenizer
from ptblm.corpus.vocabulary import EOS, Vocabulary
from ptblm.corpus.whole_words import whole_words
from ptblm.errors import ConfigError, DataError, UsageError
from tests.conftest import REPOSITORY, plain_environment
from tests.corpus.helpers import trained_tokenizer

library = pytest.importorskip("tokenizers")

TEXT = "the cat sat on the mat\n  a café  é 語 😀 isn't <eos> it?\n\nthe dog\tran 1234 times.\n" * 3
UNICODE = st.text(
    st.characters(codec="utf-8") | st.sampled_from("\n\r\t  the\u00a0\u2028\x00\x1c\u3000é😀<>'")
)
LINES = UNICODE.map(lambda text: text.replace("\n", " "))


@pytest.fixture(scope="module")
def bpe() -> Tokenizer:
    return trained_tokenizer(bytes_source("text", TEXT.encode()), "bpe", size=300)


@settings(deadline=None)
@given(UNICODE.filter(bool))
def test_bpe_decodes_to_the_exact_text(bpe: Tokenizer, text: str) -> None:
    encoded = read_text(bytes_source("text", text.encode()), bpe)
    expected = text if text.endswith("\n") else f"{text}\n"
    assert bpe.decode(encoded.ids) == expected
    assert "".join(bpe.decode_stream(encoded.ids.tolist())) == expected
    assert encoded.unknown == 0


@settings(deadline=None)
@given(st.lists(st.integers(0, 299)))
def test_any_ids_decode_to_their_bytes(bpe: Tokenizer, ids: list[int]) -> None:
    """A model can generate bytes that are not UTF-8."""
    text = bpe.decode(np.array(ids, dtype=np.int64))
    assert "".join(bpe.decode_stream(ids)) == text
    decoder = library.decoders.ByteLevel()
    tokens = [bpe.vocabulary.tokens[index].replace(EOS, "Ċ") for index in ids]
    theirs = decoder.decode(tokens)
    assert text.encode("utf-8", "surrogateescape").decode("utf-8", "replace") == theirs


@settings(deadline=None)
@given(LINES)
def test_tokens_are_those_of_the_library(bpe: Tokenizer, line: str) -> None:
    document = {**tokenizer_document(bpe.vocabulary), "added_tokens": []}
    theirs = library.Tokenizer.from_str(json.dumps(document))
    assert bpe.tokens_of(line) == theirs.encode(line).tokens


@settings(deadline=None)
@given(UNICODE.filter(bool), st.sampled_from([1, 2, 3, 5, 8]))
def test_tokens_do_not_depend_on_blocks(bpe: Tokenizer, text: str, size: int) -> None:
    whole = read_text(bytes_source("text", text.encode()), bpe).ids
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(source_module, "BLOCK_SIZE", size)
        parts = read_text(bytes_source("text", text.encode()), bpe).ids
    assert parts.tolist() == whole.tolist()


def test_merges_are_those_of_the_published_example() -> None:
    """The words of Sennrich et al. 2016; (e, s) occurs nine times, (l, o) seven times."""
    words = ["low"] * 5 + ["lower"] * 2 + ["newest"] * 6 + ["widest"] * 3
    trained = trained_tokenizer(bytes_source("text", "\n".join(words).encode()), "bpe", size=261)
    assert trained.vocabulary.merges == ("e s", "es t", "l o", "lo w")
    assert trained.tokens_of("lowest") == ["low", "est"]


def test_vocabulary_is_learned_once_and_for_all() -> None:
    """In this process, and in a new one with another number of threads."""
    text = (REPOSITORY / "data/sample/valid.txt").read_bytes()
    ours = trained_tokenizer(bytes_source("text", text), "bpe", size=500).vocabulary
    assert len(ours) == 500
    code = (
        "import sys; from ptblm.corpus.source import bytes_source;"
        "from tests.corpus.helpers import trained_tokenizer as train;"
        "source = bytes_source('text', sys.stdin.buffer.read());"
        "print('\\n'.join(train(source, 'bpe', size=500).vocabulary.symbols))"
    )
    environment = {**plain_environment(), "RAYON_NUM_THREADS": "3", "PYTHONIOENCODING": "utf-8"}
    theirs = subprocess.run(
        [sys.executable, "-c", code], input=text, capture_output=True, check=True, env=environment
    )
    assert theirs.stdout.decode() == "\n".join(ours.symbols) + "\n"


@pytest.mark.parametrize(
    ("rule", "size"), [({}, 259), ({"min_count": 5}, 258), ({"size": 257}, 257)]
)
def test_rule_limits_the_vocabulary(rule: dict[str, int], size: int) -> None:
    source = bytes_source("text", b"ab\nab\nab\nabc\nabc\n" + b"x\ny\n")
    vocabulary = trained_tokenizer(source, "bpe", **rule).vocabulary
    assert len(vocabulary) == size
    assert sum(vocabulary.counts) == len(read_text(source, make_tokenizer("bpe", vocabulary)).ids)


def test_partial_characters_are_spelled_as_escaped_bytes(bpe: Tokenizer) -> None:
    tokens = bpe.tokens_of("the ü 鿿")
    assert "".join(map(bpe.spelled, tokens)) == "the \\xc3\\xbc \\xe9\\xbf\\xbf"
    assert [bpe.spelled(token) for token in bpe.tokens_of(" the")] == [" the"]
    assert bpe.spelled(EOS) == EOS


@settings(deadline=None)
@given(LINES)
def test_lengths_add_up_to_the_characters(bpe: Tokenizer, line: str) -> None:
    assert sum(map(bpe.length, bpe.tokens_of(line))) == len(line)


def test_words_contain_the_space_before_them(bpe: Tokenizer) -> None:
    def words(text: str) -> list[tuple[str, str]]:
        line = make_line(1, bpe.tokens_of(text), bpe, text, "text")
        found, starts = whole_words(line, bpe)
        tokens = [*map(bpe.spelled, line.tokens), "|"]
        ends = [*starts.tolist()[1:], len(tokens)]
        parts = ["".join(tokens[a:b]) for a, b in zip(starts.tolist(), ends, strict=True)]
        return list(zip(found, parts, strict=True))

    assert words(" the  mat,\tx ") == [
        *(("the", " the"), ("mat,", "  mat,"), ("x", "\tx"), (EOS, " |"))
    ]
    assert words("") == [(EOS, "|")]
    assert words("\u3000 ") == [(EOS, "\\xe3\\x80\\x80 |")]


def test_surrogates_are_read_as_question_marks(bpe: Tokenizer) -> None:
    assert bpe.tokens_of("a\udcff\ud800") == bpe.tokens_of("a??")


def test_text_that_is_not_utf8_is_an_error() -> None:
    config = DataConfig(tokenizer="bpe")
    with pytest.raises(DataError, match="not UTF-8"):
        prepare_text(bytes_source("text", b"ok\ncaf\xe9\n"), config)
    with pytest.raises(DataError, match="empty"):
        read_text(bytes_source("text", b""), make_tokenizer("bpe"))


def test_missing_library_is_explained(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tokenizers", None)
    with pytest.raises(UsageError) as caught:
        make_tokenizer("bpe").tokens_of("the")
    assert caught.value.hint == "pip install 'ptblm[tokenizers]'"
    assert make_tokenizer("bpe").decode(np.array([1, 0])) == "!\n"


@pytest.mark.parametrize(
    ("tokens", "merges", "problem"),
    [
        (["ab"], ["a b", "a b"], "a merge occurs twice"),
        (["ab"], ["ab"], "'ab' is not one of two tokens"),
        (["ab"], ["a b c"], "'a b c' is not one of two tokens"),
        (["ab"], [" ab"], "is not one of two tokens"),
        ([], ["a b"], "'a b' is not one of two tokens"),
        (["<e", "os>"], ["<e os>"], "is not one of two tokens"),
        (["a b"], [], "'a b', which does not spell bytes"),
        ([""], [], "'', which does not spell bytes"),
    ],
)
def test_impossible_vocabulary_is_an_error(
    tokens: list[str], merges: list[str], problem: str
) -> None:
    all_tokens = [*make_tokenizer("bpe").vocabulary.tokens, *tokens]
    with pytest.raises(DataError, match=problem):
        make_tokenizer("bpe", Vocabulary(all_tokens, [0] * len(all_tokens), merges))


def test_vocabulary_without_all_bytes_is_an_error() -> None:
    tokens = make_tokenizer("bpe").vocabulary.tokens[:-1]
    with pytest.raises(DataError, match="the vocabulary does not contain"):
        make_tokenizer("bpe", Vocabulary(tokens, [0] * len(tokens)))


@pytest.mark.parametrize(
    ("override", "problem"),
    [
        ("vocabulary.closed=true", "data.vocabulary.closed: cannot be used with tokenizer bpe"),
        ("vocabulary.unk=UNK", "data.vocabulary.unk: cannot be used with tokenizer bpe"),
        ("vocabulary.size=256", "data.vocabulary.size: bpe needs at least 257 tokens"),
        ("format=raw", "data.format: cannot be used with tokenizer bpe"),
    ],
)
def test_keys_that_bpe_does_not_have_are_errors(override: str, problem: str) -> None:
    with pytest.raises(ConfigError, match=f"^--set data.{override}: {problem}"):
        load_config("small", ["data.tokenizer=bpe", f"data.{override}"])
