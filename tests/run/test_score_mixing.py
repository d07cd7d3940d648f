"""Interpolation of scores with those of another model (`ptblm score --mix`)."""

import math
from pathlib import Path

import pytest

from tests.in_process import ptblm
from tests.run.test_score import rows, score, surprisal

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture
def text(tmp_path: Path) -> Path:
    path = tmp_path / "text.txt"
    path.write_text("the cat\n")
    return path


@pytest.mark.parametrize("mode", ["sentence", "document"])
def test_mixture_is_linear_for_each_word(models: Path, tmp_path: Path, mode: str) -> None:
    """The other model is a unigram model whose probabilities are set here."""
    text, other = tmp_path / "text.txt", tmp_path / "other.scores"
    text.write_text("the cat xyzzy\n\na dog\n")
    chances = {"the": 0.3, "a": 0.25, "cat": 0.02, "dog": 0.01, "xyzzy": 0.004, "</s>": 0.2}
    sentences = [[*line.split(), "</s>"] for line in ("the cat xyzzy", "", "a dog")]
    logs = {word: math.log10(chance) for word, chance in chances.items()}
    kenlm = "".join(
        "\t".join([*(f"{word}=1 1 {logs[word]:.9g}" for word in words), "Total: 0 OOV: 0\n"])
        for words in sentences
    )
    srilm = "".join(
        f"\tp( {word} | <s> ...) \t= [1gram] 0.1 [ {logs[word]:.9g} ]\n"
        for words in sentences
        for word in words
        if len(words) > 1
    )
    plain = score(models / "word", text, "--mode", mode)
    for content in (kenlm, srilm):
        other.write_text(content)
        mixed = score(
            models / "word", text, "--mode", mode, "--mix", str(other), "--mix-weight", "0.3"
        )
        assert len(mixed) == len(plain)
        for before, after in zip(plain, mixed, strict=True):
            ours, both = (2 ** -float(row["surprisal"]) for row in (before, after))
            theirs = chances[before["token"].replace("<eos>", "</s>")]
            is_blank = before["sentence_id"] == "2" and mode == "sentence"
            expected = ours if is_blank else 0.3 * ours + 0.7 * theirs
            assert both == pytest.approx(expected, rel=1e-4)


def test_mixture_weight_is_the_most_likely_one(models: Path, text: Path, tmp_path: Path) -> None:
    other = tmp_path / "other.ppl"
    text.write_text("the cat sat\n\nthe dog ran\n")
    code, errors, output = ptblm("score", models / "word", text, "--format", "srilm")
    assert code == 0, errors
    other.write_text(output)
    same = ptblm("score", models / "word", text, "--mix", other)
    assert "note: mixture weight 0.5000" in same[1]
    assert surprisal(rows(same[2])) == pytest.approx(
        surprisal(score(models / "word", text)), rel=1e-4
    )
    worse = "".join(f"\tp( {w} | ) = [1gram] 0 [ -9 ]\n" for w in ["the", "cat", "sat", "</s>"])
    text.write_text("the cat sat\n")
    other.write_text(worse)
    _, errors, output = ptblm("score", models / "word", text, "--mix", other)
    assert "note: mixture weight 1.0000" in errors
    assert surprisal(rows(output)) == pytest.approx(
        surprisal(score(models / "word", text)), rel=1e-4
    )


@pytest.mark.parametrize(
    ("model", "options", "message"),
    [
        ("word", ["--mix", "x", "--mode", "stream"], "--mode stream"),
        ("word", ["--mix", "x", "--columns", "entropy"], "entropy is that of the model alone"),
        ("word", ["--mix", "x", "--format", "neural-complexity"], "entropy is that of the model"),
        ("word", ["--mix", "x", "--top", "2"], "--top is that of the model alone"),
        ("word", ["--mix", "x", "--mix-weight", "nan"], "from 0 to 1"),
        ("word", ["--mix-weight", "auto"], "needs --mix"),
        ("word", ["--mix", "x", "--table"], "cannot be combined with --table"),
        ("word", ["--mix", "-"], "only one input"),
        ("char", ["--mix", "x"], "--mix needs a model of words"),
    ],
)
def test_mixtures_that_are_not_possible(
    models: Path, text: Path, model: str, options: list[str], message: str
) -> None:
    source = "-" if "-" in options else text
    code, errors, output = ptblm("score", models / model, source, *options)
    assert (code, output) == (2, "")
    assert message in errors
