"""Published results of the shipped configs, for comparison with a run, and of known corpora."""

from typing import NamedTuple

from ptblm.config.loading import load_config
from ptblm.config.schema import Config
from ptblm.corpus.corpus import Corpus
from ptblm.corpus.datasets.ptb import PTB


class PublishedResult(NamedTuple):
    """Perplexities from one source.

    Attributes:
        source: publication or author of the perplexities.
        train: perplexity of the training split; None if not reported.
        valid: perplexity of the validation split; None if not reported.
        test: perplexity of the test split; None if not reported.
    """

    source: str
    train: float | None
    valid: float | None
    test: float | None


_TUTORIAL = "TensorFlow tutorial, docstring"
_RERUN = "tutorial maintainer, rerun of 2017"
_PAPER = "Zaremba et al. 2014"
_EXAMPLE = "PyTorch example, best epoch"
_SHORT = "Melis et al. 2020, short schedule, tuned temperature"

PUBLISHED = {
    "small": [
        PublishedResult(_TUTORIAL, 37.99, 121.39, 115.91),
        PublishedResult(_RERUN, 40.55, 120.70, 115.52),
        PublishedResult(_PAPER, None, 120.7, 114.5),
    ],
    "medium": [
        PublishedResult(_TUTORIAL, 48.45, 86.16, 82.07),
        PublishedResult(_RERUN, 45.68, 86.97, 83.47),
        PublishedResult("mean of ten users' runs", 45.64, 87.58, 83.81),
        PublishedResult(_PAPER, None, 86.2, 82.7),
    ],
    "large": [
        PublishedResult(_TUTORIAL, 37.87, 82.62, 78.29),
        PublishedResult(_RERUN, 37.94, 82.75, 78.49),
        PublishedResult(_PAPER, None, 82.2, 78.4),
    ],
    "small-tied": [PublishedResult(_EXAMPLE, None, None, 87.17)],
    "medium-tied": [PublishedResult(_EXAMPLE, None, None, 75.96)],
    "large-tied": [PublishedResult(_EXAMPLE, None, None, 72.30)],
    "awd-lstm": [PublishedResult("salesforce/awd-lstm-lm, without fine-tuning", None, 61.2, 58.8)],
    "lstm-melis": [PublishedResult(_SHORT, None, 57.5, None)],
    "mogrifier": [PublishedResult(_SHORT, None, 54.1, None)],
}

# Of each corpus that can be downloaded: perplexities of words; bits per character of enwik8 and
# text8. These are single LSTMs and relatives without Monte-Carlo dropout, dynamic evaluation and
# caches. The values are those of the publications as listed in NLP-progress (language_modeling.md,
# 2022), except for LSTM-8192-1024 (Jozefowicz et al., table 1) and the Mogrifier on ptb and
# wikitext-2 (Melis et al. 2020, table 1; NLP-progress lists its values with Monte-Carlo dropout).
PUBLISHED_FOR_CORPUS = {
    "ptb": [
        PublishedResult("Zaremba et al. 2014, large", None, 82.2, 78.4),
        PublishedResult("Merity et al. 2018, AWD-LSTM, fine-tuned", None, 60.0, 57.3),
        PublishedResult("Melis et al. 2020, Mogrifier, tuned temperature", None, 52.1, 51.0),
        PublishedResult("Melis 2022, Mogrifier RLSTM, tuned temperature", None, 48.9, 47.9),
    ],
    "wikitext-2": [
        PublishedResult("Merity et al. 2018, AWD-LSTM, fine-tuned", None, 68.6, 65.8),
        PublishedResult("Melis et al. 2020, Mogrifier, tuned temperature", None, 58.7, 56.6),
        PublishedResult("Melis 2022, Mogrifier RLSTM, tuned temperature", None, 56.7, 55.0),
    ],
    "wikitext-103": [
        PublishedResult("Grave et al. 2017, LSTM", None, None, 48.7),
        PublishedResult("Rae et al. 2018, LSTM", None, 36.0, 36.4),
        PublishedResult("Merity et al. 2018, QRNN", None, 32.0, 33.0),
        PublishedResult("Kocher et al. 2019, AWD-LSTM, mixture of softmaxes", None, 31.92, 32.85),
    ],
    "text8": [
        PublishedResult("Krause et al. 2016, mLSTM", None, None, 1.40),
        PublishedResult("Krause et al. 2016, mLSTM, regularized", None, None, 1.27),
        PublishedResult("Melis 2022, Mogrifier RLSTM, tuned temperature", None, None, 1.096),
    ],
    "enwik8": [
        PublishedResult("Krause et al. 2017, mLSTM", None, None, 1.24),
        PublishedResult("Merity et al. 2018, AWD-LSTM", None, None, 1.232),
        PublishedResult("Melis et al. 2020, Mogrifier, tuned temperature", None, None, 1.122),
        PublishedResult("Melis 2022, Mogrifier RLSTM, tuned temperature", None, None, 1.042),
    ],
    "one-billion-word": [
        PublishedResult("Kuchaiev & Ginsburg 2017, BIGLSTM", None, None, 35.1),
        PublishedResult("Jozefowicz et al. 2016, LSTM-8192-1024", None, None, 30.6),
        PublishedResult("Jozefowicz et al. 2016, CNN input", None, None, 30.0),
    ],
}


def published_results(config: Config, corpus: Corpus) -> list[PublishedResult]:
    """Returns the published results for the recipe of a run.

    The list is empty unless the corpus is the Penn Treebank, and the tokenizer, vocabulary, model
    and training keys (except the seed) equal those of a shipped config.
    """
    hashes = corpus.sha256()
    if any(hashes[split] != PTB.files[f"ptb.{split}.txt"].sha256 for split in hashes):
        return []
    for name, results in PUBLISHED.items():
        if _recipe(load_config(name)) == _recipe(config):
            return results
    return []


def _recipe(config: Config) -> dict[str, object]:
    return {
        "tokenizer": config.data.tokenizer,
        "vocabulary": config.data.vocabulary.model_dump(),
        "model": config.model.model_dump(),
        "training": config.training.model_dump(exclude={"seed"}),
    }
