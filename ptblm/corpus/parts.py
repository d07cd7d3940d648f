"""Cleans and encodes a large text in parts, each in a process.

The result is that of one process. If the text needs cleaning or contains an error, or a process
fails, the caller repeats the work in its own process, which then reports the error.
"""

import logging
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from ptblm.config.data import DataConfig, VocabularyConfig
from ptblm.corpus.cleaning import clean
from ptblm.corpus.findings import Findings
from ptblm.corpus.processes import Outcome, available_processes, outcomes, running
from ptblm.corpus.source import Source, TextBlocks
from ptblm.corpus.tokenizers import make_tokenizer
from ptblm.corpus.tokenizers.base import Tokenizer
from ptblm.corpus.vocabulary import Ids, id_dtype

logger = logging.getLogger(__name__)

# Smallest size in bytes of a text that is divided among processes, and of a part.
MIN_SIZE, MIN_PART_SIZE = 2**25, 2**24


@dataclass(frozen=True)
class EncodedPart:
    """A part of a training text, with ids in order of first appearance in the part.

    Attributes:
        merged: the id in the tokenizer's `ids` of each id of the part.
        blocks: dtype and number of the ids of each block in the file.
        file: the ids, at their start.
    """

    merged: NDArray[np.int64]
    blocks: list[tuple[str, int]]
    file: IO[bytes]

    def write(self, final_ids: Ids, write: Callable[[memoryview], object]) -> None:
        """Writes the final ids, given the final id of each id in the tokenizer's `ids`."""
        final = final_ids[self.merged]
        for dtype, length in self.blocks:
            ids = np.frombuffer(self.file.read(length * np.dtype(dtype).itemsize), dtype=dtype)
            write(final[ids].data)


@dataclass(frozen=True)
class EncodedParts:
    """All parts of a training text.

    Attributes:
        parts: the parts in order.
        counts: number of occurrences of each id in the tokenizer's `ids`.
        sha256: SHA-256 of the text, in hexadecimal.
    """

    parts: list[EncodedPart]
    counts: NDArray[np.int64]
    sha256: str


def divide(source: Source) -> list[Source]:
    """Divides a large file at line ends into a part for each process; none if it is small."""
    count = min(available_processes(), source.size // MIN_PART_SIZE)
    if count < 2 or source.size < MIN_SIZE or not isinstance(source.content, Path):
        return []
    inner = [source.start + source.size * number // count for number in range(1, count)]
    edges = [source.start, *(source.next_start(edge, "line") for edge in inner), source.end]
    parts = [replace(source, start=a, end=b) for a, b in pairwise(edges) if a < b]
    return parts if len(parts) > 1 else []


def clean_text(source: Source, config: DataConfig) -> tuple[Source, Findings]:
    """Cleans a text, in several processes if it is large; see `clean`.

    Raises:
        DataError: see `clean`.
    """
    jobs = [{**_job(part), "config": config.model_dump()} for part in divide(source)]
    try:
        with running("ptblm.corpus.parts:find", jobs) as processes:
            found = outcomes(processes)
    except OSError as error:
        logger.debug("the text is cleaned in one process: %s", error)
        found = None
    if not found or not all(outcome.document["is_clean"] for outcome in found):
        return clean(source, config)
    findings: Findings = Counter()
    for number, outcome in enumerate(found):
        for kind, word, count in outcome.document["findings"]:
            if kind != "repeated word" or number == 0:  # found at the start of a text only
                findings[kind, word] += count
    return source, findings


@contextmanager
def encoded_parts(
    source: Source, tokenizer: Tokenizer, directory: Path | None
) -> Iterator[EncodedParts | None]:
    """Encodes the parts of a training text and adds their tokens to the tokenizer's `ids`.

    Args:
        source: the text.
        tokenizer: a tokenizer without a vocabulary.
        directory: directory for temporary files, which can become large; None if there is none.

    Yields:
        The parts, or None if one process has to encode the text.
    """
    parts = divide(source) if tokenizer.is_divisible and directory is not None else []
    rule = tokenizer.rule.model_dump()
    jobs = [{**_job(part), "tokenizer": tokenizer.name, "rule": rule} for part in parts]
    with ExitStack() as stack:
        encoded = None
        try:
            if jobs:
                running_jobs = running("ptblm.corpus.parts:encode", jobs, directory)
                processes = stack.enter_context(running_jobs)
                sha256 = source.sha256()
                found = outcomes(processes)
                encoded = None if found is None else _merged(found, tokenizer, sha256)
        except OSError as error:
            logger.debug("the text is encoded in one process: %s", error)
        yield encoded


def _merged(found: list[Outcome], tokenizer: Tokenizer, sha256: str) -> EncodedParts:
    ids, parts = tokenizer.ids, []
    for outcome in found:
        tokens = outcome.document["tokens"]
        merged = np.array([ids.setdefault(token, len(ids)) for token in tokens], dtype=np.int64)
        parts.append(EncodedPart(merged, outcome.document["blocks"], outcome.file))
    counts = np.zeros(len(ids), dtype=np.int64)
    for part, outcome in zip(parts, found, strict=True):
        counts[part.merged] += np.array(outcome.document["counts"], dtype=np.int64)
    return EncodedParts(parts, counts, sha256)


def write_provisional(
    blocks: TextBlocks, tokenizer: Tokenizer, write: Callable[[memoryview], object]
) -> tuple[NDArray[np.int64], list[tuple[str, int]]]:
    """Adds the tokens of a text to the tokenizer's `ids` and writes their ids.

    Returns:
        The number of occurrences of each id, and the dtype and the number of ids of each block.

    Raises:
        DataError: if the text is empty, cannot be read or cannot be tokenized.
        OSError: if `write` fails.
    """
    counts = np.zeros(len(tokenizer.ids), dtype=np.int64)
    written: list[tuple[str, int]] = []
    for ids in tokenizer.encode(blocks, grow_vocabulary=True):
        size = len(tokenizer.ids)
        if len(counts) < size:
            counts = np.append(counts, np.zeros(2 * size - len(counts), dtype=np.int64))
        count_ids(ids, counts)
        dtype = id_dtype(size)
        write(ids.astype(dtype, copy=False).data)
        written.append((dtype.str, len(ids)))
    return counts[: len(tokenizer.ids)], written


def count_ids(ids: Ids, counts: NDArray[np.int64]) -> None:
    """Adds the occurrences of each id to `counts`."""
    if ids.dtype == np.uint8:  # counting two bytes at a time is twice as fast
        even = len(ids) // 2 * 2
        pairs = np.bincount(ids[:even].view("<u2"), minlength=2**16).reshape(2**8, 2**8)
        counts += pairs.sum(axis=0) + pairs.sum(axis=1)
        ids = ids[even:]
    np.add.at(counts, ids, 1)


def find(job: dict[str, Any], _: IO[bytes]) -> dict[str, Any]:
    """Finds what `clean` changes and counts in a part; runs in another process."""
    source = _source(job)
    cleaned, findings = clean(source, DataConfig.model_validate(job["config"]))
    return {
        "is_clean": cleaned is source,
        "findings": [[kind, word, count] for (kind, word), count in findings.items()],
    }


def encode(job: dict[str, Any], out: IO[bytes]) -> dict[str, Any]:
    """Encodes a part with its own vocabulary; runs in another process."""
    tokenizer = make_tokenizer(job["tokenizer"], rule=VocabularyConfig.model_validate(job["rule"]))
    text = TextBlocks(_source(job), tokenizer.block_end)
    counts, blocks = write_provisional(text, tokenizer, out.write)
    return {"tokens": list(tokenizer.ids), "counts": counts.tolist(), "blocks": blocks}


def _job(part: Source) -> dict[str, Any]:
    return {"path": str(part.content), "name": part.name, "start": part.start, "end": part.end}


def _source(job: dict[str, Any]) -> Source:
    return Source(job["name"], Path(job["path"]), job["start"], job["end"])
