"""A dataset of four small files, and archives of them."""

import hashlib
import io
import tarfile
from pathlib import Path

from ptblm.corpus.datasets.base import Archive, DataFile, Dataset

CONTENT = {
    "ptb.train.txt": b" the cat \n" * 9000,
    "ptb.valid.txt": b" the dog \n" * 50,
    "ptb.test.txt": b" a cat \n" * 60,
    "ptb.char.train.txt": b" t h e \n" * 30,
}
DATASET = Dataset(
    name="small",
    title="the small corpus",
    license="none",
    directory=Path("data/small"),
    files={
        name: DataFile(len(data), hashlib.sha256(data).hexdigest(), "char" not in name)
        for name, data in CONTENT.items()
    },
    folder="simple-examples/data",
    archives=(Archive("simple-examples.tgz", tuple(CONTENT), ()),),
    download_size=100,
    disk_size=1000,
)


def make_archive(members: dict[str, bytes], mode: str = "w:gz") -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode=mode) as archive:  # type: ignore[call-overload]
        for name, data in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return buffer.getvalue()


PUBLIC_LAYOUT = {f"./simple-examples/data/{name}": data for name, data in CONTENT.items()}
ARCHIVE = make_archive({"./simple-examples/data/README": b"free for research", **PUBLIC_LAYOUT})


def assert_good(directory: Path) -> None:
    assert {path.name: path.read_bytes() for path in directory.iterdir()} == CONTENT


def write_files(directory: Path) -> Path:
    directory.mkdir(parents=True)
    for name, data in CONTENT.items():
        (directory / name).write_bytes(data)
    return directory
