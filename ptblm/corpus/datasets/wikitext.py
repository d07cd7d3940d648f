"""WikiText-2 and WikiText-103 (Merity et al. 2016, arXiv:1609.07843): facts and mirrors.

Checksums of the archives, published in `datasets/wikitext` of Hugging Face, in CorpusLoaders.jl
and in other programs; they were not computed for ptblm. The numbers of tokens are those of the
paper's table 1, which count a token for each line end.
"""

from pathlib import Path

from ptblm.corpus.datasets.base import Archive, DataFile, Dataset

_MIRRORS = (
    "https://wikitext.smerity.com/",  # the first author's
    "https://s3.amazonaws.com/research.metamind.io/wikitext/",  # the original address
)


def _wikitext(
    number: int, sha256: str, train_tokens: int, download_size: int, disk_size: int
) -> Dataset:
    name, archive = f"wikitext-{number}", f"wikitext-{number}-v1.zip"
    tokens = {"train": train_tokens, "valid": 217_646, "test": 245_569}
    files = {f"wiki.{split}.tokens": DataFile(tokens=count) for split, count in tokens.items()}
    return Dataset(
        name=name,
        title=f"WikiText-{number}",
        license="CC BY-SA 3.0 (text of Wikipedia)",
        directory=Path("data") / name,
        files=files,
        folder=name,
        archives=(
            Archive(archive, tuple(files), tuple(url + archive for url in _MIRRORS), sha256),
        ),
        download_size=download_size,
        disk_size=disk_size,
        tokens={"train": train_tokens, "valid": 217_646, "test": 245_569},
        protocol="as given; lines of titles and blank lines are tokens too",
    )


WIKITEXT_2 = _wikitext(
    2,
    "92675f1d63015c1c8b51f1656a52d5bdbc33aafa60cc47a218a66e7ee817488c",
    2_088_628,
    4_500_000,
    13_200_000,
)
WIKITEXT_103 = _wikitext(
    103,
    "242ba0f20b329cfdf1ccc61e9e9e5b59becf189db7f7a81cd2a0e2fc31539590",
    103_227_021,
    190_000_000,
    542_000_000,
)
