"""Published files of minimal pairs, and results of other programs on them.

The files are not part of the repository. PTBLM_MINIMAL_PAIRS names a directory with

- blimp/data/*.jsonl (github.com/alexwarstadt/blimp),
- agreement/data/agreement/English/generated.{text,eval,gold} and
  agreement/data/evaluation_output/English/best_model.tab
  (github.com/facebookresearch/colorlessgreenRNNs),
- syntaxgym/data/test and test-unk (github.com/cpllab/syntaxgym-core).
"""

import csv
import json
import os
import re
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ptblm.evaluation.minimal_pairs.accuracy import summarize
from ptblm.evaluation.minimal_pairs.agreement import AgreementText
from ptblm.evaluation.minimal_pairs.formula import is_true
from ptblm.evaluation.minimal_pairs.judgments import judgment
from ptblm.evaluation.minimal_pairs.reading import read_minimal_pairs
from ptblm.evaluation.minimal_pairs.syntaxgym import METRICS, Suite, region_values


@pytest.fixture(scope="module")
def published() -> Path:
    directory = os.environ.get("PTBLM_MINIMAL_PAIRS")
    if directory is None:
        pytest.skip("needs published minimal pairs: set PTBLM_MINIMAL_PAIRS, see this file")
    return Path(directory)


def test_blimp_is_read_completely(published: Path, golden: Path) -> None:
    materials = map(read_minimal_pairs, sorted((published / "blimp" / "data").glob("*.jsonl")))
    pairs = [pair for material in materials if isinstance(material, list) for pair in material]
    phenomena = {
        uid: row[0] for uid, row in json.loads((golden / "blimp_models.json").read_text()).items()
    }
    assert Counter(pair.paradigm for pair in pairs) == dict.fromkeys(phenomena, 1000)
    assert all(pair.groups["phenomenon"] == phenomena[pair.paradigm] for pair in pairs)
    assert len({pair.groups["field"] for pair in pairs}) == 4
    assert sum(pair.good == pair.bad for pair in pairs) == 7  # known errors of the data
    assert len({pair.paradigm for pair in pairs if pair.prefixes}) == 40


def test_published_agreement_is_reproduced(published: Path) -> None:
    directory = published / "agreement" / "data"
    text = read_minimal_pairs(directory / "agreement" / "English" / "generated.text")
    assert isinstance(text, AgreementText)
    with (directory / "evaluation_output" / "English" / "best_model.tab").open() as file:
        rows = list(csv.DictReader(file, delimiter="\t"))
    judgments = []
    for line, right, wrong in zip(text.lines, rows[::2], rows[1::2], strict=True):
        assert (right["class"], wrong["class"]) == ("correct", "wrong")
        assert (right["form"], wrong["form"]) == (line.right, line.wrong)
        # There, unknown words are `<unk>`.
        assert right["prefix"].split()[-2:] == line.before.split()[-2:]
        model = "hidden650_batch128_dropout0.2_lr20.0"
        scores = float(right[model]), float(wrong[model])
        judgments.append(judgment(line.pair, [], scores, same=False))
    found = {each.name: (each.right, each.pairs) for each in summarize(judgments).paradigms}
    assert found == {"generated, original": (33, 41), "generated, nonce": (265, 369)}


@pytest.mark.parametrize("model", ["grnn", "transformer-xl"])
@pytest.mark.parametrize("name", ["test", "test-unk"])
def test_syntaxgym_regions_are_reproduced(published: Path, name: str, model: str) -> None:
    directory, prefix = published / "syntaxgym" / "data" / name, "test_" if name == "test" else ""
    suite = read_minimal_pairs(directory / f"{prefix}in.json")
    assert isinstance(suite, Suite)
    surprisals: dict[int, list[float]] = {}
    with (directory / f"{prefix}surp_{model}.txt").open() as file:
        for row in csv.DictReader(file, delimiter="\t"):
            surprisals.setdefault(int(row["sentence_id"]), []).append(float(row["surprisal"]))
    expected = json.loads((directory / f"{prefix}out_{model}.json").read_text())
    sentences = iter(surprisals.values())
    # One model divides punctuation from words. Both end a sentence with a token.
    token = r"\w+|[^\w\s]" if model == "grnn" else r"\S+"
    for item, expected_item in zip(suite.items, expected["items"], strict=True):
        values: dict[str, dict[tuple[str, int], float]] = {metric: {} for metric in METRICS}
        results: dict[tuple[str, int], float] = {}
        for (condition, regions), theirs in zip(
            item.conditions.items(), expected_item["conditions"], strict=True
        ):
            sizes = [len(re.findall(token, text)) for _, text in regions]
            sizes[-1] += 1
            bits = np.array(next(sentences))
            assert sum(sizes) == len(bits)
            for metric in METRICS:
                ours = region_values(bits, sizes, metric)
                wanted = [region["metric_value"][metric] for region in theirs["regions"]]
                np.testing.assert_allclose(ours, wanted, atol=1e-9)
                for (number, _), value in zip(regions, ours, strict=True):
                    values[metric][condition, number] = float(value)
            results |= {(condition, 3): verb(theirs)}
        (prediction,) = suite.predictions
        assert is_true(prediction, values["sum"]) == (results["that", 3] > results["what", 3])


def verb(condition: dict[str, Any]) -> float:
    """The published sum of the third region."""
    region = condition["regions"][2]
    assert region["region_number"] == 3
    return float(region["metric_value"]["sum"])
