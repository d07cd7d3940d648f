"""The analysis of a model: agreement with `eval`, and what it reports about tokens."""

import math
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pytest

from ptblm.errors import CheckpointError, DataError
from ptblm.evaluation.analysis import Group, ModelAnalysis
from ptblm.run.analysis import analyze_model
from ptblm.run.evaluate import evaluate_checkpoint
from ptblm.run.load_model import LoadedModel, load_model
from ptblm.run.train import train
from tests.run.helpers import tiny_config

pytestmark = pytest.mark.usefixtures("one_thread")

TOKENIZERS = ("word", "char", "byte")
STRANGE = "\x1b[31m<img/src=x>"
VALID = f"the cat sat on the mat\n\na dog {STRANGE} the cat\nthe dog ran . " + "the cat " * 20


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    """A corpus with a word that the models do not know, and a last line without an end."""
    for name, text in (("train", VALID), ("valid", VALID), ("test", VALID)):
        (tmp_path / f"{name}.txt").write_text(text)
    return tmp_path


def load(models: Path, name: str) -> LoadedModel:
    return load_model(models / name, "cpu")


def nats(groups: Iterable[Group]) -> float:
    return sum(group.tokens * math.log(group.perplexity) for group in groups)


@pytest.mark.parametrize("name", TOKENIZERS)
def test_perplexity_and_groups_agree_with_eval(models: Path, name: str) -> None:
    text = str(models / "text.txt")
    found = analyze_model(load(models, name), data=text)
    expected = evaluate_checkpoint(models / name, split="valid", data=text, device_name="cpu")
    assert found.text == expected.text
    assert found.tokens == expected.score.tokens
    assert found.perplexity == pytest.approx(expected.score.perplexity, rel=1e-9)
    for groups in (found.by_frequency, found.by_position):
        assert sum(group.tokens for group in groups) == found.tokens
        assert nats(groups) == pytest.approx(expected.score.nll, rel=1e-9)


@pytest.mark.parametrize("name", TOKENIZERS)
def test_calibration_accounts_for_all_predictions(models: Path, name: str) -> None:
    loaded = load(models, name)
    found = analyze_model(loaded, data=str(models / "text.txt"))
    predictions = found.tokens * len(loaded.tokenizer.vocabulary)
    assert sum(each.predictions for each in found.calibration) == predictions
    hits = sum(each.predictions * each.frequency for each in found.calibration)
    assert hits == pytest.approx(found.tokens)


@pytest.mark.parametrize("name", TOKENIZERS)
def test_passage_agrees_with_its_predictions(models: Path, name: str) -> None:
    loaded = load(models, name)
    found = analyze_model(loaded, data=str(models / "text.txt"))
    tokens = [token for line in found.passage for token in line]
    assert tokens
    for token in tokens:
        probabilities = [each.probability for each in token.top]
        assert probabilities == sorted(probabilities, reverse=True)
        assert (token.rank == 1) == (token.token == token.top[0].token)
        if token.rank <= 5:
            probability = probabilities[token.rank - 1]
            assert token.surprisal == pytest.approx(-math.log2(probability))
    hardest = [each.scored.surprisal for each in found.hardest]
    assert hardest == sorted(hardest, reverse=True)
    assert hardest[0] >= max(token.surprisal for token in tokens)


def test_tokens_keep_their_spelling_and_places(models: Path, corpus: Path) -> None:
    found = analyze_model(load(models, "word"), data=str(corpus))
    first, *rest = VALID.split("\n")
    lines = [[*first.split()[1:], "<eos>"], *([*line.split(), "<eos>"] for line in rest)]
    assert [[token.token for token in line] for line in found.passage] == lines
    unknown = [token.token for line in found.passage for token in line if token.unknown]
    assert unknown == [STRANGE]
    (hard,) = (each for each in found.hardest if each.scored.token == STRANGE)
    assert (hard.line, hard.before) == (3, "a dog")
    assert found.by_frequency[0].label == "0"
    assert found.by_frequency[0].tokens == 1
    assert math.log2(found.by_frequency[0].perplexity) == pytest.approx(hard.scored.surprisal)
    positions = [group.tokens for group in found.by_position]
    assert positions == [3, 3, 3, 3, 3, 2 + 1 + 5, 10, 20, 5]
    labels = [group.label for group in found.by_position]
    assert labels == ["1", "2", "3", "4", "5", "6 to 10", "11 to 20", "21 to 40", "41 or more"]


@pytest.mark.parametrize("name", TOKENIZERS)
def test_gates_belong_to_the_tokens_of_a_line(models: Path, corpus: Path, name: str) -> None:
    found = analyze_model(load(models, name), data=str(corpus))
    first = VALID.split("\n")[0]
    words = VALID.split("\n")[3].split()[:30]
    assert found.gate_tokens == (words if name == "word" else list(first))
    assert [each.layer for each in found.gates] == [1, 2]
    for each in found.gates:
        values = np.array(each.values)
        assert values.shape == (len(found.gate_tokens), 8)
        assert ((values > 0) & (values < 1)).all()


def test_long_text_is_cut(models: Path) -> None:
    loaded, text = load(models, "char"), str(models / "text.txt")
    whole = analyze_model(loaded, data=text)
    found = analyze_model(loaded, data=text, max_tokens=31)
    assert found.text == f"{whole.text}, first 31 tokens"
    assert found.tokens == 30
    bits = [token.surprisal for line in whole.passage for token in line][:30]
    assert math.log2(found.perplexity) == pytest.approx(np.mean(bits), rel=1e-6)
    size = analyze_model(loaded, data=text, max_tokens=whole.tokens + 1)
    assert size.text == whole.text


def samples(found: ModelAnalysis) -> list[str]:
    assert len(found.samples) == 3
    return found.samples


def test_samples_depend_on_the_seed(models: Path) -> None:
    loaded, text = load(models, "word"), str(models / "text.txt")
    first = samples(analyze_model(loaded, data=text))
    assert samples(analyze_model(loaded, data=text)) == first
    assert samples(analyze_model(loaded, data=text, seed=1)) != first


def test_missing_or_strange_corpus_is_a_clear_error(models: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="nowhere"):
        analyze_model(load(models, "word"), data=str(tmp_path / "nowhere"))
    loaded = load(models, "word")
    data = loaded.config.data.model_copy(update={"path": "/etc/hosts"})
    strange = loaded.config.model_copy(update={"data": data})
    object.__setattr__(loaded, "config", strange)
    with pytest.raises(CheckpointError, match="not trained with"):
        analyze_model(loaded)


@pytest.mark.parametrize(
    ("key", "value", "encoding"),
    [("format", "plain", "ascii"), ("encoding", "latin-1", "latin-1")],
)
def test_corpus_of_the_run_is_read_as_in_training(
    key: str, value: str, encoding: str, tmp_path: Path
) -> None:
    """These texts have another form, or are not valid, with the default of the key."""
    line = "a b _ c " if key == "format" else "caf\xe9 "
    for split in ("train", "valid", "test"):
        (tmp_path / f"{split}.txt").write_text(f"{line * 4}\n" * 60, encoding)
    options = [f"data.path={tmp_path}", "data.tokenizer=char", f"data.{key}={value}"]
    train(tiny_config(*options, "training.batch_size=5"), tmp_path / "run")
    found = analyze_model(load_model(tmp_path / "run", "cpu"))
    expected = evaluate_checkpoint(tmp_path / "run", split="valid", device_name="cpu")
    assert (found.text, found.tokens) == (expected.text, expected.score.tokens)
    assert found.tokens == 60 * (len(line * 4) + 1) - 1
    assert found.perplexity == pytest.approx(expected.score.perplexity, rel=1e-9)
