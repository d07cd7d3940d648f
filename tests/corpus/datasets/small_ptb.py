"""Four small files in the Treebank's place, and the archive that they are fetched from."""

import hashlib
import io
import tarfile
from pathlib import Path

from ptblm.corpus.datasets.fetch import Files

CONTENT = {
    "ptb.train.txt": b" the cat \n" * 9000,
    "ptb.valid.txt": b" the dog \n" * 50,
    "ptb.test.txt": b" a cat \n" * 60,
    "ptb.char.train.txt": b" t h e \n" * 30,
}
FILES: Files = {
    name: (len(data), hashlib.sha256(data).hexdigest()) for name, data in CONTENT.items()
}


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
