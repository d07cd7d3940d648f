"""enwik8 (the Hutter Prize's text) and text8: 100 million bytes of Wikipedia each.

Sizes and checksums of the files, published by Mahoney (http://mattmahoney.net/dc/textdata.html; MD5
and SHA-1) and, as SHA-256, in several independent programs; they were not computed for ptblm.
"""

from pathlib import Path

from ptblm.corpus.datasets.base import Archive, DataFile, Dataset


def _hutter(name: str, sha256: str, download_size: int, protocol: str) -> Dataset:
    archive = f"{name}.zip"
    urls = (f"https://mattmahoney.net/dc/{archive}", f"http://mattmahoney.net/dc/{archive}")
    return Dataset(
        name=name,
        title=name,
        license="CC BY-SA 3.0 or GFDL (text of Wikipedia)",
        directory=Path("data") / name,
        files={name: DataFile(100_000_000, sha256)},
        folder="",
        archives=(Archive(archive, (name,), urls),),
        download_size=download_size,
        disk_size=100_000_000,
        tokenizers=("byte", "char"),
        tokens={"train": 90_000_000, "valid": 5_000_000, "test": 5_000_000},
        protocol=f"the first 90, the next 5 and the last 5 million bytes; {protocol}",
    )


ENWIK8 = _hutter(
    "enwik8",
    "2b49720ec4d78c3c9fabaee6e4179a5e997302b3a70029f30f2d582218c024a8",
    36_445_475,
    "205 different bytes",
)
TEXT8 = _hutter(
    "text8",
    "6e890197040d37d85beb962ae1f041ff1d9a9ca8d20c7d99c85027eebf51dca7",
    31_344_016,
    "a to z and the space",
)
