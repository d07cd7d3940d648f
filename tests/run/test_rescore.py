"""`ptblm rescore`: outputs of all formats, weights, mixtures, tuning and messages."""

import gzip
import io
import json
import math
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tests import in_process
from tests.conftest import Ptblm, plain_environment

GOLDEN = Path(__file__).parents[1] / "golden" / "nbest"

needs_awk = pytest.mark.skipif(shutil.which("awk") is None, reason="needs awk")
LISTS: dict[str, list[object]] = {
    "kaldi": [GOLDEN / "kaldi.txt"],
    "srilm": [GOLDEN / "srilm/call-01"],
    "theanolm": [GOLDEN / "theanolm.txt"],
    "nemo": [GOLDEN / "nemo.tsv", "--beam-size", 3],
    "espnet": [GOLDEN / "espnet"],
    "jsonl": [GOLDEN / "jsonl.jsonl"],
}


@pytest.fixture(autouse=True)
def _one_thread(one_thread: None) -> None:
    """Tiny models are faster on one thread."""


def rescore(run: Path, name: str, *arguments: object) -> str:
    """Runs the command on the golden list of a format; returns its output."""
    code, errors, output = in_process.ptblm(
        "rescore", run, "--format", name, *LISTS[name], *arguments
    )
    assert code == 0, errors
    return output


def scores(run: Path, name: str, *arguments: object) -> dict[str, float]:
    """The scores of the hypotheses by id."""
    rows = rescore(run, name, "--output", "scores", *arguments).splitlines()
    return {row.split()[0]: float(row.split()[1]) for row in rows}


@pytest.mark.parametrize("name", ["kaldi", "srilm", "theanolm", "nemo", "jsonl"])
def test_weight_0_returns_the_list(finished_run: Path, name: str) -> None:
    output = rescore(finished_run, name, "--output", "nbest", "--lm-weight", 0, "--lm-scale", 3)
    assert output.encode() == LISTS[name][0].read_bytes()  # type: ignore[attr-defined]


def test_scores_have_the_base_of_the_format(finished_run: Path) -> None:
    nats = scores(finished_run, "theanolm", "--base", "e")
    for base, log_base in ((None, math.log(10)), ("10", math.log(10)), ("2", math.log(2))):
        found = scores(finished_run, "theanolm", *(["--base", base] if base else []))
        assert found == pytest.approx({k: v / log_base for k, v in nats.items()}, rel=1e-6)
    # Kaldi's are positive.
    assert min(scores(finished_run, "kaldi").values()) > 0
    assert max(nats.values()) < 0


def test_word_scores_sum_to_scores(finished_run: Path) -> None:
    for name in ("kaldi", "theanolm", "nemo", "espnet", "jsonl"):
        expected = scores(finished_run, name)
        for row in rescore(finished_run, name, "--output", "word-scores").splitlines():
            hypothesis, *words = row.split()
            assert sum(map(float, words)) == pytest.approx(expected[hypothesis], abs=1e-3)


def test_srilm_list_has_new_scores_and_keeps_the_rest(finished_run: Path) -> None:
    lm_scores = scores(finished_run, "srilm")
    before = (GOLDEN / "srilm/call-01").read_text().splitlines()
    output = rescore(finished_run, "srilm", "--lm-weight", 0.25, "--word-penalty", 0.5)
    found = output.splitlines()
    assert len(found) == len(before)
    totals = []
    for row in found:
        # The words identify the row, whose only change is the second field.
        (index,) = [i for i, each in enumerate(before) if each.split()[2:] == row.split()[2:]]
        old, new = before[index].split()[1], row.split()[1]
        expected = 0.75 * float(old) + 0.25 * lm_scores[f"call-01-{index + 1}"]
        assert float(new) == pytest.approx(expected, rel=1e-6)
        assert row.replace(new, old, 1) == before[index]
        acoustic, language, count = map(float, row.split()[:3])
        totals.append(acoustic + 12 * language + 0.5 * count)
    assert totals == sorted(totals, reverse=True)


@needs_awk
@pytest.mark.parametrize("weight", [0, 0.3, 1])
def test_best_hypothesis_is_that_of_srilm(finished_run: Path, weight: float) -> None:
    """The sum of SRILM's `rescore-reweight`, computed by awk from the rescored list."""
    options = ["--lm-weight", weight, "--lm-scale", 9, "--word-penalty", -1.5]
    program = (
        "NF >= 3 { s = $1 + 9 * $2 - 1.5 * $3; if (!n++ || s > max) { max = s; $1 = $2 = $3 = "
        '""; best = $0 } } END { print best }'
    )
    rescored = rescore(finished_run, "srilm", *options)
    winner = subprocess.run(["awk", program], input=rescored, capture_output=True, text=True)
    best = rescore(finished_run, "srilm", "--output", "best", *options)
    assert best.split() == ["call-01", *winner.stdout.split()]


def test_kaldi_costs_are_combined_as_in_its_recipe(finished_run: Path, tmp_path: Path) -> None:
    """The recipe: graph + w nn + (1 - w) lm, with the inverse acoustic weight as factor."""
    texts = {"u-1": "the cat sat", "u-2": "on mat mat", "v-1": "", "v-2": "a dog ran"}
    (tmp_path / "words_text").write_text("".join(f"{k} {v}\n" for k, v in texts.items()))
    acoustic, graph, old = ([500, 520, 90, 80], [3, 2.5, 1, 4], [20, 15, 3, 9])
    for name, costs in (("acwt", acoustic), ("lmwt.nolm", graph), ("lmwt.lmonly", old)):
        rows = zip(texts, costs, strict=True)
        (tmp_path / name).write_text("".join(f"{k} {cost} \n" for k, cost in rows))
    arguments = ["rescore", finished_run, tmp_path / "words_text", "--format", "kaldi"]
    _, _, output = in_process.ptblm(*arguments)
    new = [float(row.split()[1]) for row in output.splitlines()]
    arguments += ["--costs", tmp_path, "--lm-scale", 10, "--output"]
    for weight in (0.25, 1):
        totals = [
            a + 10 * (g + weight * n + (1 - weight) * o)
            for a, g, n, o in zip(acoustic, graph, new, old, strict=True)
        ]
        best = [min(pair, key=lambda i: totals[i]) for pair in ((0, 1), (2, 3))]
        _, errors, output = in_process.ptblm(*arguments, "best", "--lm-weight", weight)
        assert output.splitlines() == [
            f"{list(texts)[i][0]} {list(texts.values())[i]}".strip() for i in best
        ]
        assert "warning: the lists contain no scores" not in errors
        _, _, output = in_process.ptblm(*arguments, "nbest", "--lm-weight", weight)
        assert [row.split()[0] for row in output.splitlines()][::2] == [
            list(texts)[i] for i in best
        ]
    _, errors, _ = in_process.ptblm(*arguments[:5], "--output", "best")
    assert "warning: the lists contain no scores of the recognizer" in errors


@needs_awk
def test_srilm_word_scores_are_parsed_by_awk(finished_run: Path) -> None:
    """SRILM's `compute-best-mix` reads the tenth field after it shortened the context."""
    output = rescore(finished_run, "srilm", "--output", "word-scores")
    program = '$1 == "p(" { sub("[|] [^)]*)", "| X )"); $0 = $0; print $2, $8, $10 }'
    parsed = subprocess.run(["awk", program], input=output, capture_output=True, text=True)
    rows = [row.split() for row in parsed.stdout.splitlines()]
    # "down" and the words of the model
    assert [row[0] for row in rows[:5]] == ["the", "cat", "sat", "<unk>", "</s>"]
    assert len(rows) == 4 + 3 + 2 + 0 + 4
    for _, probability, logarithm in rows:
        assert float(probability) == pytest.approx(10 ** float(logarithm), rel=1e-5)
    total = sum(float(row[2]) for row in rows[:5])
    assert total == pytest.approx(scores(finished_run, "srilm")["call-01-1"], abs=1e-5)
    printed = [float(value) for value in re.findall("logprob= ([-0-9.]+)", output)]
    assert any(value == pytest.approx(total, abs=1e-4) for value in printed)
    assert "file " in output
    assert "4 sentences, 9 words, 0 OOVs" in output


def test_nemo_adds_alpha_and_beta(finished_run: Path) -> None:
    lm_scores = list(scores(finished_run, "nemo").values())
    options = ["--lm-weight", 1.5, "--word-penalty", 0.25]
    before = [row.split("\t") for row in (GOLDEN / "nemo.tsv").read_text().splitlines()]
    expected = {
        text: float(score) + 1.5 * lm_score + 0.25 * len(text)
        for (text, score), lm_score in zip(before, lm_scores, strict=True)
    }
    found = [row.split("\t") for row in rescore(finished_run, "nemo", *options).splitlines()]
    assert {text: float(score) for text, score in found} == pytest.approx(expected, rel=1e-6)
    assert [float(score) for _, score in found[:3]] == sorted(
        (float(score) for _, score in found[:3]), reverse=True
    )
    best = rescore(finished_run, "nemo", "--output", "best", *options).splitlines()
    assert best == [found[0][0], found[3][0]]


def test_jsonl_objects_receive_scores(finished_run: Path) -> None:
    lm_scores = scores(finished_run, "jsonl")
    rows = rescore(finished_run, "jsonl", "--lm-weight", 0.5).splitlines()
    found = [json.loads(row) for row in rows]
    assert {each["text"] for each in found} == {"the cat sat", "the cat", ""}
    for each in found:
        number = {"the cat sat": 1, "the cat": 2, "": 1}[each["text"]]
        lm_score = lm_scores[f"{each['utterance']}-{number}"]
        assert each["lm_score"] == pytest.approx(lm_score, rel=1e-6)
        language = 0.5 * each.get("language", 0.0) + 0.5 * lm_score
        assert each["total"] == pytest.approx(each.get("score", 0.0) + language, rel=1e-6)
    originals = [row[: row.index(', "lm_score"')] + "}" for row in rows]
    assert sorted(originals) == sorted((GOLDEN / "jsonl.jsonl").read_text().splitlines())


def test_best_hypotheses_are_printed_for_scoring_tools(finished_run: Path) -> None:
    assert rescore(finished_run, "espnet", "--lm-weight", 0) == (
        "call-01 the cat sat\ncall-02 a dog ran\n"
    )
    trn = rescore(finished_run, "espnet", "--lm-weight", 0, "--output", "trn")
    assert trn == "the cat sat (call-01)\na dog ran (call-02)\n"
    alone = rescore(finished_run, "theanolm", "--output", "trn", "--lm-scale", 1000)
    assert alone.splitlines()[1] == "(call-02)"  # no words


def test_lists_are_written_to_a_directory(finished_run: Path, tmp_path: Path) -> None:
    packed = tmp_path / "call-02.gz"
    packed.write_bytes(gzip.compress((GOLDEN / "srilm/call-02").read_bytes()))
    arguments = ["rescore", finished_run, GOLDEN / "srilm/call-01", packed, "--format", "srilm"]
    code, errors, _ = in_process.ptblm(*arguments)
    assert code == 2
    assert "--to DIR" in errors
    for weight, is_same in ((0, True), (0.5, False)):
        out = tmp_path / f"out{weight}"
        code, errors, output = in_process.ptblm(*arguments, "--lm-weight", weight, "--to", out)
        assert (code, output) == (0, ""), errors
        for name in ("call-01", "call-02"):
            before, after = (GOLDEN / "srilm" / name).read_bytes(), (out / name).read_bytes()
            assert (before == after) is is_same
            assert len(before.splitlines()) == len(after.splitlines())
    code, errors, _ = in_process.ptblm(*arguments, "--to", out)
    assert code == 2
    assert "the file exists" in errors


def test_espnet_directory_is_ranked(finished_run: Path, tmp_path: Path) -> None:
    arguments = ["rescore", finished_run, GOLDEN / "espnet", "--format", "espnet"]
    code, errors, _ = in_process.ptblm(*arguments, "--lm-weight", 0, "--to", tmp_path / "same")
    assert code == 0, errors
    for path in (GOLDEN / "espnet").rglob("*"):
        if path.is_file():
            copy = tmp_path / "same" / path.relative_to(GOLDEN / "espnet")
            assert copy.read_bytes() == path.read_bytes()
    code, errors, _ = in_process.ptblm(*arguments, "--lm-weight", 9, "--to", tmp_path / "new")
    assert code == 0, errors
    lm_scores = scores(finished_run, "espnet")
    totals = {
        "": -2.25 + 9 * lm_scores["call-02-3"],
        "a dog": -1.5 + 9 * lm_scores["call-02-2"],
        "a dog ran": -1 + 9 * lm_scores["call-02-1"],
    }
    ranking = sorted(totals, key=lambda text: -totals[text])
    for rank, text in enumerate(ranking, start=1):
        directory = tmp_path / "new" / f"{rank}best_recog"
        rows = [row for row in (directory / "text").read_text().splitlines() if "call-02" in row]
        assert rows == [f"call-02 {text}"]
        (score,) = [row for row in (directory / "score").read_text().splitlines() if "-02" in row]
        assert float(score.split()[1]) == pytest.approx(totals[text], rel=1e-6)
    code, errors, _ = in_process.ptblm(*arguments, "--to", tmp_path / "new")
    assert code == 2
    code, errors, _ = in_process.ptblm(*arguments, "--output", "nbest")
    assert (code, "--to DIR" in errors) == (2, True)


def test_unknown_words_have_a_score_of_their_own(finished_run: Path, tmp_path: Path) -> None:
    table = tmp_path / "unk.probs"
    table.write_text("down 0.125\n")
    plain = scores(finished_run, "srilm")
    probability = scores(finished_run, "srilm", "--unk-probs", table)
    assert probability["call-01-1"] - plain["call-01-1"] == pytest.approx(math.log10(0.125))
    left_out = scores(finished_run, "srilm", "--unk-penalty", 0)
    constant = scores(finished_run, "srilm", "--unk-penalty", -3.5)
    assert constant["call-01-1"] - left_out["call-01-1"] == pytest.approx(-3.5)
    for changed in (probability, left_out, constant):
        assert {k: v for k, v in changed.items() if k != "call-01-1"} == {
            k: v for k, v in plain.items() if k != "call-01-1"
        }


def test_unknown_words_are_counted(finished_run: Path) -> None:
    for name, message in (
        ("srilm", "note: 1 of 9 words (11.1%) are not in the vocabulary"),
        ("kaldi", "warning: 5,170 of 5,915 words (87.4%)"),
    ):
        _, errors, _ = in_process.ptblm("rescore", finished_run, "--format", name, *LISTS[name])
        assert message in errors


def test_carried_state_changes_later_utterances(finished_run: Path) -> None:
    alone = scores(finished_run, "theanolm")
    carried = scores(finished_run, "theanolm", "--carry", "best")
    assert carried["call-01-1"] == pytest.approx(alone["call-01-1"], rel=1e-5)
    assert carried["call-02-1"] != pytest.approx(alone["call-02-1"], rel=1e-5)


def test_lists_are_read_from_stdin_and_several_files(
    finished_run: Path, ptblm: Ptblm, tmp_path: Path
) -> None:
    (tmp_path / "a.gz").write_bytes(gzip.compress(b"a-1 the cat\n"))
    result = ptblm(
        "rescore", finished_run, "a.gz", "-", "--format", "kaldi", stdin="b-1 a dog\nb-2"
    )
    assert result.returncode == 0, result.stderr
    assert [row.split()[0] for row in result.stdout.splitlines()] == ["a-1", "b-1", "b-2"]


def test_mixture_with_itself_changes_nothing(finished_run: Path, tmp_path: Path) -> None:
    other = tmp_path / "other.ppl"
    other.write_text(rescore(finished_run, "srilm", "--output", "word-scores"))
    plain = scores(finished_run, "srilm")
    for weight in ("0", "0.3", "auto"):
        mixed = scores(finished_run, "srilm", "--mix", other, "--mix-weight", weight)
        assert mixed == pytest.approx(plain, rel=1e-5)


def test_mixture_weight_is_reported(finished_run: Path, tmp_path: Path) -> None:
    """Each model is better for some of the words."""
    rows = (GOLDEN / "srilm/call-01").read_text().splitlines()
    logs = {"the": -0.2, "cat": -0.5, "</s>": -2}
    items = ([*row.split()[3:], "</s>"] for row in rows)
    other = tmp_path / "other.scores"
    lines = ("".join(f"{word}=1 1 {logs.get(word, -1)}\t" for word in words) for words in items)
    other.write_text("".join(f"{line}\n" for line in lines))
    code, errors, output = in_process.ptblm(
        "rescore", finished_run, *LISTS["srilm"], "--format", "srilm", "--output", "scores",
        "--mix", other,
    )  # fmt: skip
    assert code == 0
    assert "note: mixture weight 0." in errors
    weight = float(errors.partition("mixture weight ")[2].partition(";")[0])
    other_perplexity = 10 ** ((4 * 2 + 3 * 0.2 + 2 * 0.5 + 4 * 1) / 13)
    assert f"{other_perplexity:.2f} of the other one" in errors
    fixed = scores(finished_run, "srilm", "--mix", other, "--mix-weight", weight)
    found = {row.split()[0]: float(row.split()[1]) for row in output.splitlines()}
    assert found == pytest.approx(fixed, rel=1e-3)
    for near in (weight - 0.05, weight + 0.05):
        mixed = scores(finished_run, "srilm", "--mix", other, "--mix-weight", near)
        assert sum(mixed.values()) < sum(found.values())


def test_kenlm_is_the_other_model(finished_run: Path, tmp_path: Path) -> None:
    kenlm = pytest.importorskip("kenlm", reason="needs kenlm: pip install kenlm")
    model = kenlm.Model(str(GOLDEN / "bigram.arpa"))
    rows = [row.split()[4:] for row in (GOLDEN / "theanolm.txt").read_text().splitlines()]
    logs, lines = [], []
    for words in rows:
        found = list(model.full_scores(" ".join(words)))
        logs.append(np.array([score for score, _, _ in found]))
        pairs = zip([*words, "</s>"], found, strict=True)
        items = [f"{w}={0 if oov else 1} {size} {score:.7g}" for w, (score, size, oov) in pairs]
        lines.append("\t".join([*items, f"Total: {logs[-1].sum():.7g} OOV: 0"]))
    other = tmp_path / "kenlm.scores"
    other.write_text("\n".join(lines) + "\n")
    plain = rescore(finished_run, "theanolm", "--output", "word-scores").splitlines()
    mixed = rescore(
        finished_run, "theanolm", "--output", "word-scores", "--mix", other, "--mix-weight", 0.3
    ).splitlines()
    for before, after, other_logs in zip(plain, mixed, logs, strict=True):
        ours, both = (np.array(row.split()[1:], float) for row in (before, after))
        np.testing.assert_allclose(10**both, 0.3 * 10**ours + 0.7 * 10**other_logs, rtol=1e-4)


def test_mixture_needs_the_same_sentences(finished_run: Path, tmp_path: Path) -> None:
    other = tmp_path / "other.ppl"
    lines = rescore(finished_run, "srilm", "--output", "word-scores").splitlines()
    for content, message in (
        (lines[:8], "no scores for this sentence"),
        (lines + lines[:8], "more sentences"),
        (lines[8:] + lines[:8], "but the sentence at"),
    ):
        other.write_text("\n".join(content) + "\n")
        code, errors, _ = in_process.ptblm(
            "rescore", finished_run, *LISTS["srilm"], "--format", "srilm", "--mix", other
        )
        assert code == 3
        assert message in errors


def test_weights_are_tuned(finished_run: Path, tmp_path: Path) -> None:
    """The recognizer prefers rare words, and the language model frequent ones."""
    rows = []
    for number in range(8):
        rows.append(f"u{number} {-100 - number} -20.0 6 on mat on mat on mat")
        rows.append(f"u{number} -112 -20.0 6 the cat the dog the cat")
    (tmp_path / "list").write_text("\n".join(rows) + "\n")
    reference = tmp_path / "text"
    reference.write_text("".join(f"u{number} the cat the dog the cat\n" for number in range(8)))
    arguments = ["rescore", finished_run, tmp_path / "list", "--format", "theanolm"]
    code, errors, output = in_process.ptblm(*arguments, "--tune", reference, "--json")
    assert code == 0, errors
    result = json.loads(output)
    assert (result["utterances"], result["hypotheses"], result["words"]) == (8, 16, 48)
    assert (result["errors_before"], result["errors_after"], result["wer_after"]) == (48, 0, 0)
    weights = ["--lm-weight", result["lm_weight"], "--lm-scale", result["lm_scale"]]
    weights += ["--word-penalty", result["word_penalty"]]
    _, _, best = in_process.ptblm(*arguments, "--output", "best", *weights)
    assert best == reference.read_text()
    _, _, text = in_process.ptblm(*arguments, "--tune", reference)
    assert "WER before     100.00% (48 errors in 48 words)" in text
    assert "WER after      0.00% (0 errors in 48 words)" in text
    assert f"weights        --lm-weight {result['lm_weight']:g} " in text
    _, _, text = in_process.ptblm(*arguments, "--tune", reference, "--lm-weight", 0)
    assert "--lm-weight 0 " in text
    reference.write_text("u0 the\n")
    code, errors, _ = in_process.ptblm(*arguments, "--tune", reference)
    assert code == 3
    assert "no reference for 7 of 8 utterances" in errors


def test_nemo_lists_are_tuned_with_a_manifest(finished_run: Path, tmp_path: Path) -> None:
    manifest = tmp_path / "manifest.json"
    manifest.write_text('{"text": "the cat", "duration": 1}\n{"text": "a dog ran"}\n')
    result = json.loads(rescore(finished_run, "nemo", "--tune", manifest, "--json"))
    assert (result["utterances"], result["words"], result["errors_oracle"]) == (2, 5, 0)
    assert result["errors_before"] == 1  # "the cat sat"
    assert result["errors_after"] <= 1


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["--format", "kaldi", "--unk-penalty", "-1", "--unk-probs", "x"], 2, "cannot be combined"),
        (["--format", "kaldi", "--unk-penalty", "1"], 2, "at most 0"),
        (["--format", "kaldi", "--lm-weight", "nan"], 2, "finite"),
        (["--format", "kaldi", "--lm-weight", "-1"], 2, "not negative"),
        (["--format", "srilm", "--lm-weight", "1.5"], 2, "from 0 to 1"),
        (["--format", "kaldi", "--mix-weight", "0.5"], 2, "needs --mix"),
        (["--format", "kaldi", "--mix", "x", "--mix-weight", "2"], 2, "from 0 to 1"),
        (["--format", "kaldi", "--mix", "x", "--mix-weight", "x"], 2, "auto or a number"),
        (["--format", "nemo"], 2, "needs --beam-size"),
        (["--format", "kaldi", "--beam-size", "3"], 2, "only for --format nemo"),
        (["--format", "srilm", "--costs", "x"], 2, "only for --format kaldi"),
        (["--format", "kaldi", "--costs", "nowhere"], 3, "does not contain the file acwt"),
        (["--format", "kaldi", "--costs", "x", "--lm-weight", "2"], 2, "from 0 to 1"),
        (["--format", "kaldi", "--to", "x"], 2, "cannot be used with --format kaldi"),
        (["--format", "kaldi", "--tune", "x", "--output", "best"], 2, "cannot be combined"),
        (["--format", "kaldi", "--json"], 2, "needs --tune"),
        (["--format", "kaldi", "-", "--tune", "-"], 2, "only one input"),
        (["--format", "kaldi", "-"], 3, "the n-best list is empty"),
        (["--format", "kaldi", "nowhere"], 3, "No such file"),
        (["--format", "espnet", "nowhere"], 3, "No such file"),
        (["--format", "kaldi", "--mix", "nowhere"], 3, "No such file"),
        (["--format", "slf"], 2, "slf"),
        ([], 2, "--format"),
    ],
)
@pytest.mark.usefixtures("in_directory")
def test_wrong_requests_have_a_message(
    finished_run: Path,
    monkeypatch: pytest.MonkeyPatch,
    arguments: list[str],
    code: int,
    message: str,
) -> None:
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO()))
    Path("list").write_text("u-1 the cat\n")
    has_list = {"-", "nowhere"} & set(arguments) and not {"--mix", "--costs"} & set(arguments)
    files = [] if has_list else ["list"]
    returned, errors, output = in_process.ptblm("rescore", finished_run, *files, *arguments)
    assert returned == code, errors
    assert message in errors
    assert "Traceback" not in errors
    assert output == ""


def test_character_models_score_hypotheses(tmp_path: Path, ptblm: Ptblm) -> None:
    """A hypothesis is scored as the same line of a text; mixtures need words."""
    (tmp_path / "text.txt").write_text("the cat sat on the mat\n" * 60)
    options = ["--tokenizer", "char", "--set", "model.hidden_size=8", "--set", "training.epochs=1"]
    options += ["--set", "training.batch_size=4", "--set", "training.num_steps=5"]
    result = ptblm("train", "--data", "text.txt", "--run-dir", "run", *options)
    assert result.returncode == 0, result.stderr
    (tmp_path / "list").write_text("u-1 the cat\nu-2\n")
    (tmp_path / "line").write_text("the cat\n")
    arguments = ["rescore", tmp_path / "run", tmp_path / "list", "--format", "kaldi"]
    code, errors, output = in_process.ptblm(*arguments)
    assert code == 0, errors
    code, errors, evaluated = in_process.ptblm(
        "eval", tmp_path / "run", "--text", tmp_path / "line", "--mode", "sentence", "--json"
    )
    assert code == 0, errors
    nats = json.loads(evaluated)["nats_per_token"] * 8
    assert float(output.split()[1]) == pytest.approx(nats, abs=1e-4)
    code, errors, _ = in_process.ptblm(*arguments, "--mix", tmp_path / "line")
    assert code == 2
    assert "needs a model of words" in errors


def test_closed_pipe_ends_quietly(finished_run: Path, tmp_path: Path) -> None:
    """The output is larger than the buffers of the pipe and of the program."""
    path = tmp_path / "list"
    path.write_text("".join(f"u{number}-1 the cat\n" for number in range(20_000)))
    command = f"{sys.executable} -m ptblm rescore {finished_run} {path} --format kaldi"
    result = subprocess.run(
        ["bash", "-c", f"{command} | head -c 1 > /dev/null; echo ${{PIPESTATUS[0]}}"],
        env=plain_environment(),
        capture_output=True,
        text=True,
    )
    assert result.stdout.strip() == "141"
    assert result.stderr == ""
