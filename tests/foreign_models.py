"""Models as other PyTorch programs define and save them, for tests of `ptblm import`.

The classes are written to modules, which are importable only while a file is saved,
as it is on the machine of a user who has the file but not the program.
"""

import contextlib
import importlib
import io
import math
import pickle
import struct
import sys
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor, nn

_EXAMPLE = '''
from torch import nn


class RNNModel(nn.Module):
    """Embedding, recurrent layers and softmax, with dropout between them."""

    def __init__(self, rnn_type, ntoken, ninp, nhid, nlayers, tied=False):
        super().__init__()
        self.drop, between = nn.Dropout(0.25), 0.25 if nlayers > 1 else 0.0
        self.encoder = nn.Embedding(ntoken, ninp)
        if rnn_type in ("LSTM", "GRU"):
            self.rnn = getattr(nn, rnn_type)(ninp, nhid, nlayers, dropout=between)
        else:
            self.rnn = nn.RNN(ninp, nhid, nlayers, rnn_type[4:].lower(), dropout=between)
        self.decoder = nn.Linear(nhid, ntoken)
        if tied:
            self.decoder.weight = self.encoder.weight
        self.rnn_type, self.nhid, self.nlayers = rnn_type, nhid, nlayers

    def logits(self, ids):
        return self.decoder(self.drop(self.rnn(self.drop(self.encoder(ids)))[0]))
'''

_AWD = '''
import torch
from torch import nn


class WeightDrop(nn.Module):
    """Keeps the trained weights under another name; the layer computes with a copy of them."""

    def __init__(self, module):
        super().__init__()
        self.module = module
        module.flatten_parameters = self.widget_demagnetizer_y2k_edition
        raw = module._parameters.pop("weight_hh_l0")
        module.register_parameter("weight_hh_l0_raw", nn.Parameter(raw.data))
        module.register_parameter("weight_hh_l0", nn.Parameter(torch.full_like(raw, 7.0)))

    def widget_demagnetizer_y2k_edition(*args, **kwargs):
        return


class RNNModel(nn.Module):
    """Layers of different sizes; the embedding is the softmax."""

    def __init__(self, ntoken, ninp, nhid, nlayers, wrapped=True):
        super().__init__()
        sizes = [ninp, *[nhid] * (nlayers - 1), ninp]
        self.encoder = nn.Embedding(ntoken, ninp)
        layers = [nn.LSTM(sizes[n], sizes[n + 1], 1) for n in range(nlayers)]
        self.rnns = nn.ModuleList([WeightDrop(layer) if wrapped else layer for layer in layers])
        self.decoder = nn.Linear(nhid, ntoken)
        self.decoder.weight = self.encoder.weight
        self.rnn_type, self.dropout, self.wdrop = "LSTM", 0.4, 0.5

    def logits(self, ids):
        x = self.encoder(ids)
        for layer in self.rnns:
            inner = getattr(layer, "module", layer)
            plain = nn.LSTM(inner.input_size, inner.hidden_size)
            for name in ("weight_ih_l0", "bias_ih_l0", "bias_hh_l0", "weight_hh_l0"):
                getattr(plain, name).data = getattr(inner, name + "_raw", getattr(inner, name)).data
            x = plain(x)[0]
        return self.decoder(x)


class SplitCrossEntropyLoss(nn.Module):
    """A criterion; with several splits, a part of it is trained."""

    def __init__(self, splits=1):
        super().__init__()
        self.nsplits = splits
        if splits > 1:
            self.tail_vectors = nn.Parameter(torch.zeros(splits - 1, 4))
'''


@contextlib.contextmanager
def program(directory: Path) -> Iterator[SimpleNamespace]:
    """Makes the modules `model` and `awd` importable, and yields them."""
    path = directory / "program"
    path.mkdir(exist_ok=True)
    (path / "model.py").write_text(_EXAMPLE)
    (path / "awd.py").write_text(_AWD)
    sys.path.insert(0, str(path))
    importlib.invalidate_caches()
    names = ("model", "awd")
    try:
        yield SimpleNamespace(**{name: importlib.import_module(name) for name in names})
    finally:
        sys.path.remove(str(path))
        for name in names:
            sys.modules.pop(name, None)


def randomize(model: nn.Module, recurrent_scale: float = 0.6) -> None:
    """Gives all parameters values that make the model far from uniform."""
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if not torch.equal(parameter, torch.full_like(parameter, 7.0)):
                scale = 1.0 if name.startswith(("encoder", "decoder")) else recurrent_scale
                parameter.normal_(0, scale, generator=generator)


def perplexity(model: Any, ids: Sequence[int]) -> float:
    """The perplexity of ids after the first one, read as one stream, in float64."""
    model = model.double().eval()
    with torch.no_grad():
        logits = model.logits(torch.tensor(ids[:-1])[:, None])[:, 0]
    return math.exp(nn.functional.cross_entropy(logits, torch.tensor(ids[1:])).item())


class Storage:
    """Declares a storage."""

    def __init__(self, key: str, elements: int) -> None:
        self.key, self.elements = key, elements


class FakeTensor:
    """Declares a tensor, which need not be possible."""

    def __init__(
        self, storage: Storage, offset: Any, shape: tuple[Any, ...], strides: tuple[Any, ...]
    ) -> None:
        self.arguments: tuple[Any, ...] = (storage, offset, shape, strides, False, {})

    def __reduce__(self) -> tuple[Any, ...]:
        return torch._utils._rebuild_tensor_v2, self.arguments


class _Pickler(pickle.Pickler):
    def persistent_id(self, value: Any) -> Any:
        if isinstance(value, Storage):
            return ("storage", torch.FloatStorage, value.key, "cpu", value.elements)
        return None


def pickled(value: Any) -> bytes:
    """A pickle in which `Storage` objects are storages of torch."""
    file = io.BytesIO()
    _Pickler(file, protocol=2).dump(value)
    return file.getvalue()


def zip_file(pickle_bytes: bytes, storages: Mapping[str, Tensor] | None = None) -> bytes:
    """A file in the format of torch 1.6 and later."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("model/data.pkl", pickle_bytes)
        archive.writestr("model/byteorder", "little")
        archive.writestr("model/version", "3\n")
        for key, values in (storages or {}).items():
            archive.writestr(f"model/data/{key}", values.numpy().tobytes())
    return file.getvalue()


def legacy_file(pickle_bytes: bytes, storages: Mapping[str, Tensor] | None = None) -> bytes:
    """A file in the format before torch 1.6."""
    machine = {"protocol_version": 1001, "little_endian": True, "type_sizes": {}}
    storages = storages or {}
    parts = [pickle.dumps(each, 2) for each in (0x1950A86A20F9469CFC6C, 1001, machine)]
    parts += [pickle_bytes, pickle.dumps(list(storages), 2)]
    for values in storages.values():
        parts += [struct.pack("<q", values.numel()), values.numpy().tobytes()]
    return b"".join(parts)
