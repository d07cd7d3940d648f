"""Generates text from a checkpoint: prompt, seed, samples, and text as it is drawn."""

import logging
import math
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from hashlib import sha256
from itertools import chain, count
from pathlib import Path

import numpy as np

from ptblm.corpus.tokenizers.base import Tokenizer
from ptblm.corpus.vocabulary import Ids
from ptblm.errors import CheckpointError
from ptblm.evaluation.generate import (
    Length,
    Sample,
    Start,
    draw_tokens,
    generate,
    in_float64,
    read_prompt,
)
from ptblm.evaluation.sampling import Sampling
from ptblm.evaluation.sequence_scores import BATCH_SIZE
from ptblm.model.language_model import LanguageModel
from ptblm.run.load_model import LoadedModel
from ptblm.run.memory import memory_errors
from ptblm.run.prompts import PromptText, encode_prompt, typed_prompt
from ptblm.terminal import counted

logger = logging.getLogger(__name__)

DEFAULT_TOKENS = 100
# Longest sentence, for a model that never ends a line.
MAX_SENTENCE_TOKENS = 10_000
# Consecutive samples without a new text after which no more are drawn.
MAX_REPEATS = 1000


@dataclass(frozen=True)
class TextGenerator:
    """What texts are generated from.

    Attributes:
        path: the checkpoint.
        model: the model, in float64 if possible.
        tokenizer: its tokenizer.
        prompt: ids of the prompt, [N].
        start: where the samples start.
        sampling: how tokens are drawn.
        length: when a sample ends.
        seed: seed of the random numbers.
    """

    path: Path
    model: LanguageModel
    tokenizer: Tokenizer
    prompt: Ids
    start: Start
    sampling: Sampling
    length: Length
    seed: int

    @property
    def prompt_text(self) -> str:
        """The prompt as the model read it."""
        return self.tokenizer.decode(self.prompt)


@dataclass(frozen=True)
class GeneratedText:
    """A generated text.

    Attributes:
        number: number of the sample, from 0. The seed and the number determine the text.
        text: the text without the prompt.
        text_with_prompt: the text with the prompt as the model read it.
        tokens: number of generated tokens.
        log_prob: log-probability of the generated tokens after the prompt, in nats, under the model
            itself: temperature 1, all tokens.
    """

    number: int
    text: str
    text_with_prompt: str
    tokens: int
    log_prob: float


def make_text_generator(
    loaded: LoadedModel,
    *,
    prompt: PromptText | None = None,
    tokens: int | None = None,
    sentences: int | None = None,
    sampling: Sampling | None = None,
    no_unk: bool = False,
    seed: int | None = None,
) -> TextGenerator:
    """Reads a prompt and prepares the generation of texts that continue it.

    Args:
        loaded: a trained model; it is not modified.
        prompt: the text to continue; None starts at the beginning of a line.
        tokens: number of tokens of a sample; `DEFAULT_TOKENS` if `sentences` is None too.
        sentences: number of lines that a sample completes.
        sampling: how tokens are drawn.
        no_unk: whether `<unk>` is never drawn.
        seed: seed of the random numbers; None selects a seed and logs it.

    Raises:
        DataError: if the prompt is not text in the right encoding, or contains an unknown token and
            the vocabulary does not contain `<unk>`.
        UsageError: if memory runs out.
    """
    sampling, tokenizer = sampling or Sampling(), loaded.tokenizer
    unk = tokenizer.vocabulary.unk_id
    if no_unk and unk is not None:
        sampling = replace(sampling, excluded=(unk,))
    prompt = prompt or typed_prompt("")
    ids = encode_prompt(prompt, tokenizer, loaded.config.data)
    if sentences is None:
        length = Length(DEFAULT_TOKENS if tokens is None else tokens)
    else:
        length = Length(sentences * MAX_SENTENCE_TOKENS, line_ends=sentences)
    with _errors(loaded.path):
        model = in_float64(loaded.model)
        start = read_prompt(model, ids, tokenizer.line_end_id)
    if seed is None:
        seed = secrets.randbits(32)
        if not sampling.is_greedy:
            logger.info(f"seed {seed}; pass --seed {seed} to generate the same text again")
    return TextGenerator(loaded.path, model, tokenizer, ids, start, sampling, length, seed)


def stream_text(generator: TextGenerator, *, echo: bool = True) -> Iterator[str]:
    """Yields the text of sample 0 as it is drawn, in constant memory.

    A sample that does not complete its sentences ends with a newline all the same.

    Args:
        generator: what the text is generated from.
        echo: whether the text starts with the prompt.

    Raises:
        CheckpointError: if the probabilities are not finite.
        UsageError: if memory runs out.
    """
    tokenizer = generator.tokenizer
    line_ends = 0

    def drawn() -> Iterator[int]:
        nonlocal line_ends
        for step in draw_tokens(
            generator.model,
            generator.start,
            [0],
            seed=generator.seed,
            length=generator.length,
            line_end=tokenizer.line_end_id,
            sampling=generator.sampling,
        ):
            token = int(step.ids[0])
            line_ends += token == tokenizer.line_end_id
            yield token

    prompt = generator.prompt.tolist() if echo else []
    with _errors(generator.path):
        yield from tokenizer.decode_stream(chain(prompt, drawn()))
        if line_ends < (generator.length.line_ends or 0):
            yield "\n"
            _warn_of_incomplete(generator, 1)


def generate_texts(
    generator: TextGenerator, samples: int, *, unique: bool = False, batch_size: int = BATCH_SIZE
) -> Iterator[GeneratedText]:
    """Yields samples in order.

    Args:
        generator: what the texts are generated from.
        samples: number of samples.
        unique: whether to leave out texts that occurred before, and draw others instead. After
            `MAX_REPEATS` samples without a new text, this stops with a warning.
        batch_size: number of samples that are generated at once.

    Raises:
        CheckpointError: if the probabilities are not finite.
        UsageError: if memory runs out.
    """
    line_end = generator.tokenizer.line_end_id
    found = incomplete = repeats = 0
    seen: set[bytes] = set()
    with _errors(generator.path):
        for sample in generate(
            generator.model,
            generator.start,
            count() if unique else range(samples),
            seed=generator.seed,
            length=generator.length,
            line_end=line_end,
            sampling=generator.sampling,
            batch_size=min(batch_size, samples),
        ):
            if unique:
                digest = sha256(np.array(sample.ids).tobytes()).digest()
                repeats = repeats + 1 if digest in seen else 0
                seen.add(digest)
                if repeats == MAX_REPEATS:
                    logger.warning(
                        f"only {counted(found, 'distinct text')} found: {MAX_REPEATS:,} samples in "
                        "a row were repetitions"
                    )
                    break
                if repeats:
                    continue
            found += 1
            incomplete += sample.ids.count(line_end) < (generator.length.line_ends or 0)
            yield _generated_text(generator, sample)
            if found == samples:
                break
    _warn_of_incomplete(generator, incomplete)


def _generated_text(generator: TextGenerator, sample: Sample) -> GeneratedText:
    ids = np.array(sample.ids, dtype=np.int64)
    return GeneratedText(
        sample.number,
        generator.tokenizer.decode(ids),
        generator.tokenizer.decode(np.concatenate([generator.prompt, ids])),
        len(ids),
        0.0 - math.fsum(sample.nll),
    )


def _warn_of_incomplete(generator: TextGenerator, incomplete: int) -> None:
    if incomplete:
        logger.warning(
            f"{counted(incomplete, 'sample')} did not reach {generator.length.line_ends:,} line "
            f"ends within {counted(generator.length.tokens, 'token')}"
        )


@contextmanager
def _errors(path: Path) -> Iterator[None]:
    """Converts errors of the computation to errors of ptblm."""
    with memory_errors(
        "during generation",
        hint="pass a lower --batch-size or --device cpu, or use a machine with more memory",
    ):
        try:
            yield
        except FloatingPointError as error:
            raise CheckpointError(str(error), where=str(path), hint="use another checkpoint") from (
                None
            )
