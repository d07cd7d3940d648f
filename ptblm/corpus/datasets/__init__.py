"""Downloadable corpora by name, as used in `data.path`."""

from ptblm.corpus.datasets.base import Dataset
from ptblm.corpus.datasets.ptb import PTB

DATASETS: dict[str, Dataset] = {"ptb": PTB}
