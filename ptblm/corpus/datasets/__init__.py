"""Downloadable corpora by name, as used in `data.path`."""

from ptblm.corpus.datasets.babylm import BABYLM_10M, BABYLM_100M
from ptblm.corpus.datasets.base import Dataset
from ptblm.corpus.datasets.hutter import ENWIK8, TEXT8
from ptblm.corpus.datasets.one_billion_word import ONE_BILLION_WORD
from ptblm.corpus.datasets.ptb import PTB
from ptblm.corpus.datasets.wikitext import WIKITEXT_2, WIKITEXT_103

DATASETS: dict[str, Dataset] = {
    dataset.name: dataset
    for dataset in (
        PTB,
        WIKITEXT_2,
        WIKITEXT_103,
        TEXT8,
        ENWIK8,
        ONE_BILLION_WORD,
        BABYLM_10M,
        BABYLM_100M,
    )
}
