"""Files of torch.save from strangers: nothing in them is run, and memory is bounded."""

import builtins
import copy
import io
import os
import pickle
import resource
import subprocess
import zipfile
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ptblm.checkpoint.pickle_file import open_pickle_file
from ptblm.checkpoint.pickle_reader import MAX_OPERATIONS, read_pickle
from ptblm.checkpoint.pickle_records import PickleError, storage
from ptblm.checkpoint.pickled_module import find_module
from ptblm.errors import CheckpointError
from tests.foreign_models import (
    FakeTensor,
    Storage,
    legacy_file,
    pickled,
    program,
    randomize,
    zip_file,
)
from tests.in_process import assert_clear, mutated, ptblm

MakeFile = Callable[..., bytes]
BOTH = pytest.mark.parametrize("make_file", [zip_file, legacy_file])
VALUES = torch.arange(6, dtype=torch.float32)


def load(path: Path, content: bytes) -> dict[str, Any]:
    """Reads the tensors of a file."""
    path.write_bytes(content)
    with open_pickle_file(path) as file:
        return {name: file.tensor(t) for name, t in file.module.tensors.items()}


class Call:
    """Is pickled as a call of a function."""

    def __init__(self, function: Any, *arguments: Any) -> None:
        self.call = function, arguments

    def __reduce__(self) -> Any:
        return self.call


def test_tensors_of_both_formats_are_those_of_torch(tmp_path: Path) -> None:
    base = torch.randn(4, 6)
    state = {"view": base[1:3, ::2], "transposed": base.t(), "whole": base, "int": torch.arange(3)}
    state |= {"half": base.half(), "bfloat": base.bfloat16(), "empty": torch.zeros(0, 3)}
    state |= {"scalar": torch.tensor(2.0), "flag": torch.tensor([True, False])}
    for new in (True, False):
        file = io.BytesIO()
        torch.save(state, file, _use_new_zipfile_serialization=new)
        found = load(tmp_path / "model.pt", file.getvalue())
        assert found.keys() == state.keys()
        for name, tensor in state.items():
            assert found[name].dtype == tensor.dtype
            assert torch.equal(found[name], tensor), name


def test_handmade_files_of_both_formats_are_read(tmp_path: Path) -> None:
    # The malicious files below differ from this one in one thing each.
    content = pickled({"w": FakeTensor(Storage("0", 6), 0, (2, 3), (3, 1))})
    for make_file in (zip_file, legacy_file):
        found = load(tmp_path / "model.pt", make_file(content, {"0": VALUES}))
        assert torch.equal(found["w"], VALUES.view(2, 3))


CALLS = {
    "posix.system": Call(os.system, "touch pwned"),
    "subprocess.Popen": Call(subprocess.Popen, ["touch", "pwned"]),
    "builtins.eval": Call(builtins.eval, "open('pwned', 'w')"),
    "builtins.exec": Call(builtins.exec, "open('pwned', 'w')"),
    "io.open": Call(io.open, "pwned", "w"),
    "builtins.getattr": Call(getattr, "text", "upper"),
    "torch.serialization.load": Call(torch.load, "pwned"),
    "torch.hub.load": Call(torch.hub.load, "pwned"),
}


@BOTH
@pytest.mark.parametrize("name", CALLS)
def test_calls_are_rejected_and_not_run(name: str, make_file: MakeFile, in_directory: Path) -> None:
    hidden = {"w": FakeTensor(Storage("0", 6), 0, (2, 3), (3, 1)), "x": [CALLS[name]]}
    Path("model.pt").write_bytes(make_file(pickled(hidden), {"0": VALUES}))
    Path("vocab").write_text("a\n<eos>\n")
    code, errors, _ = ptblm("import", "model.pt", "--vocab", "vocab")
    assert code == 4
    assert "nothing was run" in errors
    assert name.rpartition(".")[2] in errors
    assert not Path("pwned").exists()
    assert not Path("runs").exists()


def test_getattr_of_anything_but_the_known_method_is_rejected(tmp_path: Path) -> None:
    with program(tmp_path) as modules:
        layer = modules.awd.WeightDrop(torch.nn.LSTM(2, 2))
        layer.method = layer.extra_repr
        torch.save(layer, tmp_path / "model.pt")
    with pytest.raises(CheckpointError, match="it calls getattr"):
        load(tmp_path / "model.pt", (tmp_path / "model.pt").read_bytes())


NESTED = 100_000
HUGE = 2**40  # elements: four terabytes
PICKLES = {
    "nested lists": b"\x80\x02" + b"]" * NESTED + b"a" * (NESTED - 1) + b".",
    "nested tuples": b"\x80\x02)" + b"\x85" * NESTED + b".",
    "a nested tuple as key": b"\x80\x02})" + b"\x85" * 4 * NESTED + b"Ns.",
    "a nested tuple hashed in a set": b"\x80\x02cbuiltins\nset\n])" + b"\x85" * NESTED + b"a\x85R.",
    "nested dicts": b"\x80\x02" + b"}K\0" * NESTED + b"N" + b"s" * NESTED + b".",
    "a huge memo": b"\x80\x02}r\xff\xff\xff\xff.",
    "a missing memo": b"\x80\x02h\x05.",
    "a huge text": b"\x80\x04\x8d" + (2**62).to_bytes(8, "little") + b"x.",
    "huge bytes": b"\x80\x04\x8e" + (2**40).to_bytes(8, "little") + b"x.",
    "a huge array": b"\x80\x05\x96" + (2**40).to_bytes(8, "little") + b"x.",
    "a huge integer": b"\x80\x02\x8b\x00\x00\x00\x7fx.",
    "many digits": b"\x80\x02L" + b"9" * 100_000 + b"L\n.",
    "too many operations": b"\x80\x02" + b"N0" * MAX_OPERATIONS + b"N.",
    "dicts from one long list": b"\x80\x02ccollections\nOrderedDict\n]("
    + b"NN\x86" * 20_000
    + b"e\x85q\0R"
    + b"ccollections\nOrderedDict\nh\0R0" * 20_000
    + b".",
    "a list that contains itself": b"\x80\x02]q\0h\0a.",
    "an empty stack": b"\x80\x02.",
    "only a mark": b"\x80\x02(.",
    "no end": b"\x80\x02}",
    "a name on the stack": b"\x80\x04\x8c\x05posix\x8c\x06system\x93\x8c\x02ls\x85R.",
    "a name that is a list": b"\x80\x04]]\x93.",
    "an instance": b"\x80\x02(iposix\nsystem\n.",
    "an object": b"\x80\x02(cposix\nsystem\no.",
    "an extension": b"\x80\x02\x82\x01.",
    "a text as persistent id": b"\x80\x02Pkey\n.",
    "a call of a text": b"\x80\x02X\x01\0\0\0a)R.",
    "items of a number": b"\x80\x02K\1(K\1K\2u.",
    "an odd number of items": b"\x80\x02}(K\1u.",
    "a list as key": b"\x80\x02}]Ns.",
    "a module in itself": b"\x80\x02cmodel\nRNNModel\n)\x81q\0"
    b"}X\x08\0\0\0_modules}X\1\0\0\0ah\0ssb.",
    "no value": pickled(None),
    "an empty state": pickled({}),
    "a terabyte": pickled({"w": FakeTensor(Storage("0", HUGE), 0, (HUGE,), (1,))}),
    "a tensor of a terabyte": pickled({"w": FakeTensor(Storage("0", 6), 0, (HUGE,), (0,))}),
    "an offset behind the end": pickled({"w": FakeTensor(Storage("0", 6), 5, (2,), (1,))}),
    "a negative offset": pickled({"w": FakeTensor(Storage("0", 6), -1, (2,), (1,))}),
    "a negative stride": pickled({"w": FakeTensor(Storage("0", 6), 5, (2,), (-1,))}),
    "a stride behind the end": pickled({"w": FakeTensor(Storage("0", 6), 0, (2, 2), (5, 1))}),
    "a negative size": pickled({"w": FakeTensor(Storage("0", 6), 0, (-2,), (1,))}),
    "sizes that overflow": pickled({"w": FakeTensor(Storage("0", 6), 0, (2**40, 2**40), (0, 0))}),
    "many dimensions": pickled({"w": FakeTensor(Storage("0", 6), 0, (1,) * 500, (1,) * 500)}),
    "unlike dimensions": pickled({"w": FakeTensor(Storage("0", 6), 0, (2, 3), (1,))}),
    "a text as size": pickled({"w": FakeTensor(Storage("0", 6), 0, ("x",), (1,))}),
    "a missing storage": pickled({"w": FakeTensor(Storage("1", 6), 0, (6,), (1,))}),
    "a storage of another size": pickled({"w": FakeTensor(Storage("0", 5), 0, (5,), (1,))}),
    "a path as key": pickled({"w": FakeTensor(Storage("../../vocab", 6), 0, (6,), (1,))}),
}


@BOTH
@pytest.mark.parametrize("name", PICKLES)
def test_malicious_pickles_are_rejected(name: str, make_file: MakeFile, tmp_path: Path) -> None:
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(CheckpointError) as caught:
        load(tmp_path / "model.pt", make_file(PICKLES[name], {"0": VALUES}))
    assert caught.value.where == str(tmp_path / "model.pt")
    assert len(str(caught.value)) < 1000
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before  # kilobytes
    assert grown < 200_000


def text(value: str) -> bytes:
    return b"X" + len(value).to_bytes(4, "little") + value.encode()


def modules_with(entry: bytes) -> bytes:
    """Twenty modules that share their state, which contains an entry."""
    child = b"cmodel\nRNNModel\n)\x81h\0b"
    children = b"".join(text(f"layer{index}") + child for index in range(20))
    start = b"\x80\x02}q\0(" + entry + text("_modules") + b"}q\1u0"
    return start + b"h\1(" + children + b"u0" + child + b"."


# Multiples of the modulus of Python's hash, so all of them have the same hash.
EQUAL_HASHES = [(2**61 - 1) * number for number in range(1, 20_000)]
COSTLY = {
    "keys with equal hashes": (
        b"\x80\x02}("
        + b"".join(b"\x8a\x0c" + key.to_bytes(12, "little") + b"N" for key in EQUAL_HASHES)
        + b"u.",
        "keys are not names",
    ),
    "numbers of values with equal hashes": (
        b"\x80\x02}" + b"".join(b"p%d\n" % number for number in EQUAL_HASHES) + b".",
        "numbers a value",
    ),
    "many prefixes": (
        pickled({"module." * 5_000 + "w": FakeTensor(Storage("0", 6), 0, (6,), (1,))}),
        "a name has more than",
    ),
    "a long name in many modules": (modules_with(text("x" * 100_000) + b"N"), "a name has more"),
    "many entries in many modules": (
        modules_with(b"".join(text(f"x{index}") + b"N" for index in range(20_000))),
        "too many modules",
    ),
}


@BOTH
@pytest.mark.parametrize("name", COSTLY)
def test_costly_pickles_are_rejected_early(name: str, make_file: MakeFile, tmp_path: Path) -> None:
    content, message = COSTLY[name]
    with pytest.raises(CheckpointError, match=message):
        load(tmp_path / "model.pt", make_file(content))


def overlapping_archive() -> bytes:
    """A zip archive that lists its storage a second time under another name."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as written:
        written.writestr("model/data.pkl", pickled({}))
        written.writestr("model/data/0", bytes(2**20))
        again = copy.copy(written.filelist[-1])
        again.filename = "model/data/1"
        written.filelist.append(again)
    return file.getvalue()


def archive(**changes: Any) -> bytes:
    """A zip archive with one tensor, and changes to its entry of the storage."""
    file = io.BytesIO()
    content = pickled({"w": FakeTensor(Storage("0", 2**20), 0, (2**20,), (1,))})
    with zipfile.ZipFile(file, "w", changes.get("method", zipfile.ZIP_STORED)) as written:
        written.writestr("model/data.pkl", content, zipfile.ZIP_STORED)
        written.writestr("model/data/0", bytes(2**22))
        for name in changes.get("names", []):
            written.writestr(name, b"x")
    return file.getvalue()


ARCHIVES = {
    "compressed": (archive(method=zipfile.ZIP_DEFLATED), "compressed or encrypted"),
    "two pickles": (archive(names=["other/data.pkl"]), "torch.save did not write"),
    "no pickle": (archive().replace(b"data.pkl", b"data.pkx"), "torch.save did not write"),
    "a program": (archive(names=["model/code/x.py"]), "a TorchScript program"),
    "big endian": (archive(names=["model/byteorder"]), "big-endian"),
    "truncated": (archive()[:-200_000], "the zip archive cannot be read"),
    "another value": (archive().replace(bytes(100), b"\1" + bytes(99), 1), "checksum"),
    "overlapping": (overlapping_archive(), "overlap"),
    "no list": (b"PK\3\4" + bytes(1000), "the zip archive cannot be read"),
    "a long list": (
        b"PK\3\4" + bytes(6_000_000)
        + b"PK\5\6\0\0\0\0\1\0\1\0" + (5_000_000).to_bytes(4, "little") + bytes(4) + b"\0\0",
        "the zip archive cannot be read",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", ARCHIVES)
def test_unusual_archives_are_rejected(name: str, tmp_path: Path) -> None:
    content, message = ARCHIVES[name]
    with pytest.raises(CheckpointError, match=message):
        load(tmp_path / "model.pt", content)


def test_legacy_files_are_checked(tmp_path: Path) -> None:
    tensor = pickled({"w": FakeTensor(Storage("0", 6), 0, (6,), (1,))})
    good = legacy_file(tensor, {"0": VALUES})
    assert torch.equal(load(tmp_path / "model.pt", good)["w"], VALUES)
    magic = pickle.dumps(0x1950A86A20F9469CFC6C, 2)
    cases = {
        good.replace(b"\x6c\xfc\x9c", b"\x6d\xfc\x9c", 1): "torch.save did not write",
        good.replace(b"M\xe9\x03", b"M\xea\x03", 1): "unknown version",
        good.replace(b"little_endian", b"little_endiam"): "big-endian",
        good[:-1]: "truncated",
        good[: -6 * 4]: "truncated",
        good[: -6 * 4 - 8]: "does not have its size",
        legacy_file(tensor): "missing",
        magic: "cannot be read",
        pickle.dumps({"the": 1}, 2): "torch.save did not write",
        pickle.dumps(["the"], 5): "torch.save did not write",
    }
    for content, message in cases.items():
        with pytest.raises(CheckpointError, match=message):
            load(tmp_path / "model.pt", content)


def test_old_forms_of_parameters_are_read() -> None:
    # In torch 0.3, a parameter is a call of its class, and a storage can be a part of another one.
    # In torch 0.1, a parameter is an object, whose state begins with the tensor.
    part = ("storage", Name("torch.cuda", "FloatStorage"), "7", "cuda:0", 10, ("8", 2, 4))
    tensor = Call(Name("torch._utils", "_rebuild_tensor"), Persistent(part), 1, (3,), (1,))
    called = Call(Name("torch.nn.parameter", "Parameter"), tensor)
    built = State(Call(Name("torch.nn.parameter", "Parameter")), (tensor, None, {}, True, False))
    state = Call(Name("collections", "OrderedDict"), [["called", called], ["built", built]])
    for value in (state, State(model_class(), {"_parameters": state})):
        found = find_module(read_pickle(io.BytesIO(dumps(value)), storage)).tensors
        assert found.keys() == {"called", "built"}
        for record in found.values():
            assert (record.offset, record.shape, record.storage.size) == (3, (3,), 10)


def model_class() -> "Call":
    """An object of a class, which older files give together with its source."""
    source = ("module", Name("model", "RNNModel"), "model.py", "class RNNModel: ...")
    return Call(Persistent(source))


class State:
    """Is pickled as an object with a state."""

    def __init__(self, instance: Call, state: Any) -> None:
        self.instance, self.state = instance, state


class Name:
    """Is pickled as the name of a class that may not exist."""

    def __init__(self, module: str, name: str) -> None:
        self.module, self.name = module, name


class Persistent:
    """Is pickled as a persistent id."""

    def __init__(self, identifier: Any) -> None:
        self.identifier = identifier


def dumps(value: Any) -> bytes:
    """Writes a pickle of lists, tuples, texts and numbers, and of the classes above."""

    def write(value: Any) -> bytes:
        match value:
            case Name():
                return f"c{value.module}\n{value.name}\n".encode()
            case Persistent():
                return write(value.identifier) + b"Q"
            case Call():
                function, arguments = value.call
                return write(function) + write(arguments) + b"R"
            case State():
                return write(value.instance) + write(value.state) + b"b"
            case dict():
                items = [part for pair in value.items() for part in pair]
                return b"}(" + b"".join(map(write, items)) + b"u"
            case tuple():
                return b"(" + b"".join(map(write, value)) + b"t"
            case list():
                return b"](" + b"".join(map(write, value)) + b"e"
            case _:
                return pickle.dumps(value, 2)[2:-1]

    return b"\x80\x02" + write(value) + b"."


def test_deprecated_escape_sequence_is_no_warning() -> None:
    """Python's reader of pickles passes names to a decoder that warns, here as an error."""
    with pytest.raises(PickleError):
        read_pickle(io.BytesIO(b"cname\\other\nname\n."), storage)


def test_lists_of_pairs_are_dicts() -> None:
    # As Python 2 wrote an OrderedDict.
    call = Call(Name("collections", "OrderedDict"), [["a", 1], ["b", 2]])
    assert read_pickle(io.BytesIO(dumps(call)), storage) == OrderedDict(a=1, b=2)


@pytest.fixture(scope="module", params=[True, False], ids=["zip", "legacy"])
def saved(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with a model in one of the two formats, and its vocabulary."""
    directory = tmp_path_factory.mktemp("saved")
    with program(directory) as modules:
        model = modules.model.RNNModel("GRU", 4, 2, 2, 1)
        randomize(model)
        torch.save(model, directory / "good.pt", _use_new_zipfile_serialization=request.param)
    (directory / "vocab").write_text("a\nb\n<eos>\n<unk>\n")
    return directory


@settings(deadline=None)
@given(data=st.data())
def test_damaged_files_load_or_are_rejected(saved: Path, data: st.DataObject) -> None:
    directory = saved
    (directory / "model.pt").write_bytes(data.draw(mutated((directory / "good.pt").read_bytes())))
    code, errors, _ = ptblm(
        *("import", directory / "model.pt", "--vocab", directory / "vocab"),
        *("-o", directory / "run", "--overwrite"),
    )
    assert_clear(code, errors, 3, 4)
