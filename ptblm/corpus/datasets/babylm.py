"""The text of the BabyLM Challenge of 2024, 10 and 100 million words: facts and mirrors.

The organizers published no checksums. One program publishes the sizes of the files of 10 million
words; no second source is known, so these sizes are checked only as a sum. Everything else is not
verified, which `ptblm download-data` reports.
"""

from pathlib import Path

from ptblm.corpus.datasets.base import Archive, DataFile, Dataset

_SOURCES = 6  # bnc_spoken, childes, gutenberg, open_subtitles, simple_wiki, switchboard


def _babylm(
    million: int, url: str, size: int | None, download_size: int, disk_size: int
) -> Dataset:
    name, folder = f"babylm-{million}m", f"train_{million}M"
    return Dataset(
        name=name,
        title=f"the BabyLM corpus of 2024, {million} million words",
        license="a different one for each of the six sources; see https://babylm.github.io",
        directory=Path("data") / name,
        files={
            "train.txt": DataFile(size, members=f"{folder}/*.train", parts=_SOURCES),
            "valid.txt": DataFile(members="dev/*.dev", parts=_SOURCES),
            "test.txt": DataFile(members="test/*.test", parts=_SOURCES),
        },
        folder="",
        archives=(
            Archive(f"{folder}.zip", ("train.txt",), (url,)),
            Archive("dev.zip", ("valid.txt",), ("https://osf.io/m48ed/download",)),
            Archive("test.zip", ("test.txt",), ("https://osf.io/qj4a6/download",)),
        ),
        download_size=download_size,
        disk_size=disk_size,
        tokenizers=("word", "char", "byte"),
        protocol="as given; the six sources in alphabetical order",
    )


BABYLM_10M = _babylm(10, "https://osf.io/5mk3x/download", 54_351_399, 55_000_000, 165_000_000)
BABYLM_100M = _babylm(100, "https://osf.io/rduj2/download", None, 220_000_000, 660_000_000)
