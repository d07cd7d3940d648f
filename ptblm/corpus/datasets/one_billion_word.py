"""The One Billion Word benchmark (Chelba et al. 2013, arXiv:1312.3005): facts and mirrors.

The checksum and the size of the archive are published in TensorFlow Datasets (`lm1b`) and in other
programs, such as CorpusLoaders.jl; they were not computed for ptblm. The numbers of tokens are
those of the benchmark's README, without the tokens that start sentences: 829,250,940 -
30,301,028 for the 99 training shards, and the held-out shards 00000 and 00001.

Shard 00000 of the held-out set is the test split of all papers. They do not agree on a valid split:
Transformer-XL's program validates on the test split. Here it is shard 00001.
"""

from pathlib import Path

from ptblm.corpus.datasets.base import Archive, DataFile, Dataset

_FOLDER = "1-billion-word-language-modeling-benchmark-r13output"
_HELD_OUT = "heldout-monolingual.tokenized.shuffled/news.en.heldout-0000{}-of-00050"
_TRAIN, _VALID, _TEST = 798_949_912, 165_560, 159_658

_FILES = {
    "train.txt": DataFile(
        members="training-monolingual.tokenized.shuffled/news.en-000[0-9][0-9]-of-00100",
        parts=99,
        tokens=_TRAIN,
    ),
    "valid.txt": DataFile(members=_HELD_OUT.format(1), tokens=_VALID),
    "test.txt": DataFile(members=_HELD_OUT.format(0), tokens=_TEST),
}

ONE_BILLION_WORD = Dataset(
    name="one-billion-word",
    title="the One Billion Word benchmark",
    license="no license; news texts of WMT 2011, see https://www.statmt.org/lm-benchmark/",
    directory=Path("data/one-billion-word"),
    files=_FILES,
    folder=_FOLDER,
    archives=(
        Archive(
            f"{_FOLDER}.tar.gz",
            tuple(_FILES),
            (
                f"https://www.statmt.org/lm-benchmark/{_FOLDER}.tar.gz",
                f"http://www.statmt.org/lm-benchmark/{_FOLDER}.tar.gz",
            ),
            "01ba60381110baf7f189dfd2b8374de371e8c9a340835793f190bdae9e90a34e",
        ),
    ),
    download_size=1_792_209_805,
    disk_size=4_150_000_000,
    tokens={"train": _TRAIN, "valid": _VALID, "test": _TEST},
    protocol="99 training shards; held-out shards 1 and 0; sentences in random order",
)
