"""Writes plain safetensors files: tensors without the document of a checkpoint.

See `tensor_file` for why the safetensors library is not used.
"""

from collections.abc import Mapping
from pathlib import Path

from torch import Tensor

from ptblm.checkpoint.tensor_file import bytes_of, header_of, in_file_order
from ptblm.files import replacing


def write_plain_tensor_file(path: Path, tensors: Mapping[str, Tensor]) -> None:
    """Replaces a file atomically. Transformers requires the format "pt" in the metadata.

    Args:
        path: the file.
        tensors: tensors by name. Tensors that share memory are written separately.

    Raises:
        OSError: if the file cannot be written.
        TensorFileError: if a tensor cannot be stored.
    """
    contents = in_file_order(tensors)
    header = header_of({"format": "pt"}, contents)
    with replacing(path) as file:
        file.write(len(header).to_bytes(8, "little"))
        file.write(header)
        for tensor in contents.values():
            file.write(bytes_of(tensor))
