"""The Python API: `ptblm.load` opens a trained model, which scores and generates text.

Nothing is printed. Notes and warnings go to the logger "ptblm", which is silent unless the program
configures logging. Errors are the exceptions of `ptblm.errors`.
"""

import logging
import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import get_args

import numpy as np
from numpy.typing import NDArray

from ptblm.config.evaluation import EvaluationSettings
from ptblm.corpus.vocabulary import Vocabulary
from ptblm.corpus.word_splitting import Splitting
from ptblm.errors import DataError, UsageError
from ptblm.evaluation.generate import MAX_SEED
from ptblm.evaluation.line_scores import Mode, ScoredLine
from ptblm.evaluation.minimal_pairs.judgments import Method
from ptblm.evaluation.minimal_pairs.pair import pairs_of_sentences
from ptblm.evaluation.minimal_pairs.reading import read_minimal_pairs
from ptblm.evaluation.minimal_pairs.spans import ScoreKind
from ptblm.evaluation.sampling import Sampling
from ptblm.evaluation.score import perplexity
from ptblm.evaluation.stepwise import stepwise_log_probs
from ptblm.evaluation.token_scores import Measures
from ptblm.reporting.text_score import TextScore, Token, scored_tokens
from ptblm.run.generate import GeneratedText, generate_texts, make_text_generator
from ptblm.run.load_model import LoadedModel, load_trusted_model
from ptblm.run.not_finite import not_finite_error
from ptblm.run.pairs import PairsResult, judge_materials
from ptblm.run.pairs_options import check_options
from ptblm.run.prompts import encode_prompt, typed_prompt
from ptblm.run.score import Scoring, score_typed

__all__ = ["GeneratedText", "Model", "PairsResult", "TextScore", "Token", "load"]

# Without a handler, Python would print warnings.
logging.getLogger("ptblm").addHandler(logging.NullHandler())


def load(path: str | os.PathLike[str], *, device: str = "auto", cell: str | None = None) -> "Model":
    """Loads a trained model.

    Args:
        path: a checkpoint, or a run directory, whose last checkpoint is used.
        device: "auto", "cpu", "cuda", "cuda:N" or "mps".
        cell: the custom cell of the checkpoint, such as "my_module:MyCell", which is code: it runs
            only if you name it or have trained with the same file.

    Raises:
        CheckpointError: if there is no checkpoint or it cannot be loaded.
        UsageError: if the device is not available.
    """
    return Model(load_trusted_model(Path(path), device, cell))


class Model:
    """A trained model. Use `ptblm.load` to open one.

    Args:
        loaded: the model, its tokenizer and its config.

    Attributes:
        path: the checkpoint file.
        unit: name of a token: "word", "character", "byte" or "subword".
        vocabulary: the tokens that the model knows, and their counts in the training split.
    """

    def __init__(self, loaded: LoadedModel) -> None:
        self._loaded = loaded
        self.path: Path = loaded.path
        self.unit: str = loaded.tokenizer.unit
        self.vocabulary: Vocabulary = loaded.tokenizer.vocabulary

    def __repr__(self) -> str:
        parameters = self._loaded.model.parameter_count()
        cell = self._loaded.config.model.cell.type
        return (
            f"<ptblm.Model {str(self.path)!r}: {cell}, {parameters:,} parameters, "
            f"{len(self.vocabulary):,} {self.unit}s, {self._loaded.device.device}>"
        )

    def score(
        self,
        text: str | Iterable[str],
        *,
        mode: Mode = "sentence",
        base: float = 2,
        entropy: bool = False,
        rank: bool = False,
        top: int = 0,
    ) -> TextScore:
        """Computes the surprisal of each token of a text.

        In a notebook, the result shows as text that is colored by surprisal.

        Args:
            text: a text, or its lines without line ends. It is read as plain text: for a model of
                characters or bytes, spaces between characters are tokens.
            mode: "sentence" scores each line by itself, "document" carries the hidden state from
                line to line and resets it at blank lines, "stream" never resets it and does not
                score the first token.
            base: base of the logarithm; 2 gives bits.
            entropy: whether to compute the entropy of the distribution that predicts each token.
            rank: whether to compute the rank of each token among the model's predictions.
            top: number of most probable tokens to find for each token.

        Raises:
            CheckpointError: if a score is not finite.
            DataError: if a token is unknown and the vocabulary does not contain `<unk>`.
            UsageError: if an argument is not valid, or memory runs out.
        """
        if not (0 < base < np.inf and base != 1):
            raise UsageError(f"base: expected a positive number other than 1, got {base}")
        if top < 0:
            raise UsageError(f"top: expected 0 or more, got {top}")
        measures = Measures(entropy=entropy, rank=rank, top=min(top, len(self.vocabulary)))
        lines = self._score_lines(text, mode, measures)
        scale = 1 / float(np.log(base))
        tokens = [
            token for line in lines for token in scored_tokens(line, self._loaded.tokenizer, scale)
        ]
        return TextScore(tokens, base, self.unit)

    def perplexity(self, text: str | Iterable[str], *, mode: Mode = "sentence") -> float:
        """Returns the perplexity of a text per token, the ends of lines included.

        Args:
            text: a text, or its lines without line ends; see `score`.
            mode: see `score`. Published results of the Penn Treebank use "stream".

        Raises:
            CheckpointError: if a score is not finite.
            DataError: if no token is scored, or a token is unknown and the vocabulary does not
                contain `<unk>`.
            UsageError: if an argument is not valid, or memory runs out.
        """
        nll, tokens = 0.0, 0
        for line in self._score_lines(text, mode, Measures()):
            nll += float(np.nansum(line.scores.nll))
            tokens += int(np.isfinite(line.scores.nll).sum())
        if not tokens:
            raise DataError("the text has no token to score")
        return perplexity(nll, tokens)

    def generate(
        self,
        prompt: str = "",
        *,
        tokens: int | None = None,
        sentences: int | None = None,
        samples: int = 1,
        temperature: float = 1.0,
        top_k: int = 0,
        top_p: float = 1.0,
        seed: int | None = None,
        no_unk: bool = False,
        unique: bool = False,
    ) -> list[GeneratedText]:
        """Generates texts that continue a prompt.

        Args:
            prompt: the text to continue. If it does not end with a newline, its last line is
                continued. An empty prompt starts a line.
            tokens: number of tokens of each text; 100 if `sentences` is None too.
            sentences: number of lines that each text completes.
            samples: number of texts.
            temperature: values below 1 favor probable tokens; 0 always selects the most probable.
            top_k: draw from the `top_k` most probable tokens; 0 for all.
            top_p: draw from the smallest set of most probable tokens with at least this
                probability.
            seed: seed of the random numbers, up to 2**64 - 1. The same seed gives the same texts.
            no_unk: whether `<unk>` is never drawn.
            unique: whether all texts are different. There can be fewer than `samples`.

        Raises:
            DataError: if the prompt contains an unknown token and the vocabulary does not contain
                `<unk>`.
            UsageError: if an argument is not valid.
        """
        limits = {"tokens": tokens, "sentences": sentences, "samples": samples}
        for name, value in limits.items():
            if value is not None and value < 1:
                raise UsageError(f"{name}: expected a number from 1, got {value}")
        if tokens is not None and sentences is not None:
            raise UsageError("tokens and sentences cannot be combined")
        if seed is not None and not 0 <= seed <= MAX_SEED:
            raise UsageError(f"seed: expected a number from 0 to 2**64 - 1, got {seed}")
        generator = make_text_generator(
            self._loaded,
            prompt=typed_prompt(prompt),
            tokens=tokens,
            sentences=sentences,
            sampling=Sampling(temperature=temperature, top_k=top_k, top_p=top_p),
            no_unk=no_unk,
            seed=seed,
        )
        return list(generate_texts(generator, samples, unique=unique))

    def next_token_probabilities(self, text: str = "") -> NDArray[np.float64]:
        """Returns the probability of each token of the vocabulary after a text, [V].

        The tokens of the text are read one at a time, so the result is reproducible bit for bit on
        the same machine, with the same number of threads and the same version of torch.

        Args:
            text: the text before the token. If it does not end with a newline, its last line is
                continued.

        Raises:
            CheckpointError: if a probability is not finite.
            DataError: if a token is unknown and the vocabulary does not contain `<unk>`.
        """
        tokenizer, model = self._loaded.tokenizer, self._loaded.model
        ids = encode_prompt(typed_prompt(text), tokenizer, self._loaded.config.data)
        log_probs = stepwise_log_probs(model, [tokenizer.line_end_id, *ids.tolist()])
        *_, last = log_probs
        if np.isnan(last).any():
            raise not_finite_error(self.path, EvaluationSettings(), "probabilities")
        return np.exp(last)

    def pairs(
        self,
        pairs: str | os.PathLike[str] | Iterable[tuple[str, str]],
        *,
        method: Method | None = None,
        score: ScoreKind = "sum",
        tokenize: Splitting = "none",
        strict: bool = False,
    ) -> PairsResult:
        """Finds out which sentence of each minimal pair is more probable.

        Args:
            pairs: pairs of a grammatical and an ungrammatical sentence, or a file of any format
                that `ptblm pairs` reads.
            method: "full" compares whole sentences, "prefix" the critical words that the file
                names, "target" the tokens that differ. The default is "full"; for the files of
                Gulordava et al. (2018), it is "target".
            score: "sum" compares log-probabilities, "mean" their means per token, "slor" the mean
                differences to a unigram model.
            tokenize: "ptb" splits punctuation from words as in the Penn Treebank; "ptb-lower" also
                converts them to lower case.
            strict: whether ties count as wrong instead of half.

        Returns:
            The accuracy, as `accuracy` and in `summary`, and the judgment of each pair.

        Raises:
            CheckpointError: if the checkpoint has no training counts, which SLOR needs.
            DataError: if the file or a sentence is not valid.
            UsageError: if an argument is not valid.
        """
        _check_choice("method", method, (None, *get_args(Method)))
        _check_choice("score", score, get_args(ScoreKind))
        _check_choice("tokenize", tokenize, get_args(Splitting))
        materials = [
            read_minimal_pairs(Path(pairs))
            if isinstance(pairs, str | os.PathLike)
            else pairs_of_sentences(pairs)
        ]
        check_options(materials, method, None if score == "sum" else score)
        return judge_materials(
            self._loaded,
            materials,
            method=method,
            score=score,
            splitting=tokenize,
            strict=strict,
        )

    def _score_lines(
        self, text: str | Iterable[str], mode: Mode, measures: Measures
    ) -> Iterator[ScoredLine]:
        _check_choice("mode", mode, get_args(Mode))
        return score_typed(self._loaded, text, Scoring(mode=mode, measures=measures))


def _check_choice(name: str, value: object, choices: Sequence[object]) -> None:
    """Checks the value of an argument.

    Raises:
        UsageError: if it is not one of the choices.
    """
    if value not in choices:
        raise UsageError(f"{name}: expected {', '.join(map(str, choices))}, got {value!r}")
