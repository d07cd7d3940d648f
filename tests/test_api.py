"""The Python API: `ptblm.load`, scores of texts, and how they show in a notebook."""

import json
import math
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
import torch

import ptblm
from ptblm.errors import CheckpointError, DataError, UsageError
from ptblm.run.evaluate import evaluate_checkpoint
from tests.conftest import plain_environment
from tests.in_process import ptblm as command

TEXT = "the cat sat on the mat\n\nthe <b>dog</b> ran\n"


@pytest.fixture
def model(finished_run: Path) -> ptblm.Model:
    return ptblm.load(finished_run, device="cpu")


@pytest.mark.parametrize("mode", ["stream", "sentence", "document"])
def test_perplexity_equals_that_of_eval(
    model: ptblm.Model, finished_run: Path, tmp_path: Path, mode: str
) -> None:
    file = tmp_path / "text.txt"
    file.write_text(TEXT)
    code, errors, output = command("eval", finished_run, "--text", file, "--mode", mode, "--json")
    assert code == 0, errors
    expected = json.loads(output)["perplexity"]
    assert model.perplexity(TEXT, mode=mode) == pytest.approx(expected, rel=1e-9)  # type: ignore[arg-type]
    assert model.score(TEXT, mode=mode).perplexity == pytest.approx(expected, rel=1e-9)  # type: ignore[arg-type]


def test_score_has_the_tokens_of_the_text(model: ptblm.Model) -> None:
    score = model.score(TEXT)
    assert [token.text for token in score] == [
        *("the", "cat", "sat", "on", "the", "mat", "<eos>"),
        "<eos>",
        *("the", "<b>dog</b>", "ran", "<eos>"),
    ]
    assert [token.sentence for token in score] == [1] * 7 + [2] + [3] * 4
    assert [token.text for token in score if token.unknown] == ["<b>dog</b>"]
    assert score.unknown == 1
    assert model.score(TEXT.split("\n")[:-1]).tokens == score.tokens
    assert score[:7].surprisal + score[7:].surprisal == pytest.approx(score.surprisal)


def test_base_scales_surprisal_and_entropy(model: ptblm.Model) -> None:
    bits = model.score("the cat", entropy=True, top=2)
    nats = model.score("the cat", base=math.e, entropy=True, top=2)
    for one, other in zip(bits, nats, strict=True):
        assert one.surprisal is not None
        assert one.entropy is not None
        assert other.surprisal == pytest.approx(one.surprisal * math.log(2))
        assert other.entropy == pytest.approx(one.entropy * math.log(2))
        assert other.predictions[1][1] == pytest.approx(one.predictions[1][1] * math.log(2))
    assert nats.perplexity == pytest.approx(bits.perplexity)


def test_predictions_start_with_the_token_of_rank_1(model: ptblm.Model) -> None:
    score = model.score(TEXT, rank=True, top=3)
    for token in score:
        surprisals = [surprisal for _, surprisal in token.predictions]
        assert surprisals == sorted(surprisals)
        assert len(surprisals) == 3
        if token.rank == 1:
            assert token.predictions[0][1] == token.surprisal
    assert any(token.rank == 1 for token in score)


def test_first_token_of_a_stream_has_no_surprisal(model: ptblm.Model) -> None:
    score = model.score("the cat", mode="stream", entropy=True, rank=True, top=1)
    first = score[0]
    assert (first.surprisal, first.entropy, first.rank, first.predictions) == (None, None, None, ())
    assert "not scored" in score._repr_html_()


@pytest.mark.parametrize("mode", ["stream", "sentence", "document"])
def test_scores_that_are_not_finite_are_errors(
    model: ptblm.Model, mode: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One word overflows, so the tokens before it have a score."""
    loaded = model._loaded
    row = model.vocabulary.ids["cat"]
    (embedding,) = (each for name, each in loaded.model.named_parameters() if "embedding" in name)
    with torch.no_grad():
        embedding[row] = math.nan
    text = "the mat\nthe cat sat\nthe mat\n"
    for score in (model.score, model.perplexity):
        with pytest.raises(CheckpointError, match="no finite scores"):
            score(text, mode=mode)
    with pytest.raises(CheckpointError, match="no finite probabilities"):
        model.next_token_probabilities("the cat")
    monkeypatch.setattr("ptblm.run.evaluate.load_models", lambda *_: [loaded])
    (tmp_path / "text.txt").write_text(text)
    with pytest.raises(CheckpointError, match="no finite perplexity"):
        evaluate_checkpoint(model.path, text=str(tmp_path / "text.txt"), mode=mode)
    assert model.perplexity("the mat\nthe mat\n", mode=mode) > 1


def test_generated_text_depends_on_the_seed_only(model: ptblm.Model) -> None:
    first, second = model.generate("the cat", tokens=20, samples=2, seed=1)
    (again,) = model.generate("the cat", tokens=20, seed=1)
    assert again == first != second
    assert first.text_with_prompt.startswith("the cat")
    assert first.tokens == 20
    assert model.generate("the cat", tokens=20, seed=2)[0].text != first.text


def test_generated_sentence_has_the_probability_of_its_score(model: ptblm.Model) -> None:
    for text in model.generate(sentences=1, samples=5, seed=3, no_unk=True):
        assert text.text.endswith("\n")
        score = model.score(text.text, base=math.e)
        assert score.surprisal == pytest.approx(-text.log_prob, rel=1e-5)


def test_probabilities_of_the_next_token_sum_to_1(model: ptblm.Model) -> None:
    probabilities = model.next_token_probabilities("the cat")
    assert probabilities.shape == (len(model.vocabulary),)
    assert probabilities.sum() == pytest.approx(1, rel=1e-6)
    surprisal = model.score("the cat sat")[2].surprisal
    assert surprisal is not None
    assert probabilities[model.vocabulary.ids["sat"]] == pytest.approx(2**-surprisal, rel=1e-5)


class _Tags(HTMLParser):
    """Records the tags and titles of HTML."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.titles: list[str] = []
        self.text = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.titles += [value for name, value in attrs if name == "title" and value]

    def handle_data(self, data: str) -> None:
        self.text += data


def test_notebook_shows_text_that_cannot_inject_html(model: ptblm.Model) -> None:
    page = _Tags()
    page.feed(model.score("the <img onerror=alert(1)> \"cat'", rank=True, top=2)._repr_html_())
    assert set(page.tags) == {"div", "span"}
    assert page.text == "the <img onerror=alert(1)> \"cat' ↵"
    assert all("bits" in title and "rank" in title for title in page.titles)
    assert "unknown word" in page.titles[1]


def test_wrong_arguments_are_errors(model: ptblm.Model, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="mode: expected stream, sentence, document"):
        model.score("the", mode="line")  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="base"):
        model.score("the", base=1)
    with pytest.raises(UsageError, match="base"):
        model.score("the", base=math.inf)
    with pytest.raises(UsageError, match="got bytes"):
        model.score(b"the cat")  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="top"):
        model.score("the", top=-1)
    for wrong in (["ab", "cd"], [("the cat",)], [("the", "a", "the")]):
        with pytest.raises(DataError, match="not a pair of sentences"):
            model.pairs(wrong)  # type: ignore[arg-type]
    for name in ("tokens", "sentences", "samples"):
        with pytest.raises(UsageError, match=f"{name}: expected a number from 1"):
            model.generate(**{name: 0})  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="cannot be combined"):
        model.generate(tokens=1, sentences=1)
    with pytest.raises(UsageError, match="seed"):
        model.generate(seed=-1)
    with pytest.raises(DataError, match="no token to score"):
        model.perplexity("")
    with pytest.raises(CheckpointError, match="no such"):
        ptblm.load(tmp_path / "missing")
    with pytest.raises(AttributeError, match="no attribute 'scores'"):
        ptblm.scores  # noqa: B018


def test_import_is_fast_and_quiet(finished_run: Path) -> None:
    script = f"""
import sys, ptblm
assert "torch" not in sys.modules and "numpy" not in sys.modules
model = ptblm.load({str(finished_run)!r})
model.score("xyzzy " * 100)
"""
    done = subprocess.run(
        [sys.executable, "-c", script], env=plain_environment(), capture_output=True, text=True
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
