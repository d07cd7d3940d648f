"""Exports the model of a checkpoint to files that other programs read."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Literal

from ptblm.checkpoint.plain_tensor_file import write_plain_tensor_file
from ptblm.config.show import config_document
from ptblm.errors import UsageError
from ptblm.json_files import read_json, write_json
from ptblm.model.cells.cell import Cell
from ptblm.model.interop.onnx_layers import onnx_layer
from ptblm.model.interop.plain_layers import Layer, PlainModel, plain_model, pytorch_layer
from ptblm.reporting.model_card import CardInfo, CardResult, model_card
from ptblm.run.export_directory import CARD, check_target, new_directory
from ptblm.run.load_model import LoadedModel, load_trusted_model

Form = Literal["safetensors", "onnx", "transformers"]

_NAMES = {"safetensors": "safetensors", "onnx": "ONNX", "transformers": "a Transformers model"}
_MAX_NAME = 100  # characters; file systems allow 255 bytes
_MAX_ONNX_BYTES = 2**31 - 2**24  # the limit of protobuf, with room for the vocabulary
_MISSING = "pip install 'ptblm[export]'"


def export_model(
    path: Path,
    form: Form,
    directory: Path | None = None,
    *,
    int8: bool = False,
    scorer: bool = False,
    overwrite: bool = False,
    cell: str | None = None,
) -> tuple[Path, list[str]]:
    """Exports the model of a checkpoint to a new directory.

    Args:
        path: a checkpoint, or a run directory, whose last checkpoint is used.
        form: the format.
        directory: the directory to create; None for NAME-FORMAT in the current directory.
        int8: whether to quantize the weights of an ONNX model to 8 bits.
        scorer: whether to export an ONNX model that scores sentences, for sherpa-onnx.
        overwrite: whether to replace an existing export.
        cell: the custom cell of the checkpoint, which the caller agrees to run.

    Returns:
        The directory and the names of its files.

    Raises:
        CheckpointError: if the checkpoint cannot be loaded.
        UsageError: if a package is missing, the model has no equivalent in the format, or the
            directory exists or cannot be created.
    """
    if form != "onnx" and (int8 or scorer):
        raise UsageError("--int8 and --scorer belong to --to onnx")
    _check_packages(["onnx"] * (form == "onnx") + ["onnxruntime"] * int8)
    name = _name(path)[:_MAX_NAME]
    target = directory or Path(f"{name}-{form}")
    check_target(target, overwrite=overwrite)
    loaded = load_trusted_model(path, "cpu", cell)
    writers: dict[Form, Callable[[LoadedModel, Path], str]] = {
        "safetensors": _write_safetensors,
        "onnx": lambda model, to: _write_onnx(model, to, int8=int8, scorer=scorer),
        "transformers": _write_transformers,
    }
    with new_directory(target) as temporary:
        usage = writers[form](loaded, temporary)
        card = model_card(_card_info(loaded, name, form, usage))
        (temporary / CARD).write_text(card, encoding="utf-8")
        files = sorted(file.name for file in temporary.iterdir())
    return target, files


def _name(path: Path) -> str:
    """Returns the name of the run of a checkpoint, or that of the file outside of a run."""
    absolute = path.absolute()
    if absolute.suffix != ".safetensors":
        return absolute.name
    return absolute.parents[1].name if absolute.parent.name == "checkpoints" else absolute.stem


def _check_packages(names: list[str]) -> None:
    import importlib.util

    missing = [name for name in names if importlib.util.find_spec(name) is None]
    if missing:
        raise UsageError(f"the export requires the {missing[0]} package", hint=_MISSING)


def _card_info(loaded: LoadedModel, name: str, form: Form, usage: str) -> CardInfo:
    model = loaded.model
    return CardInfo(
        name=name,
        form=_NAMES[form],
        cell=loaded.config.model.cell.type,
        layer_sizes=[layer.cell.hidden_size for layer in model.recurrent.layers],
        parameters=model.parameter_count(),
        tokenizer=loaded.tokenizer.name,
        vocabulary_size=len(loaded.tokenizer.vocabulary),
        corpus=loaded.corpus,
        epochs=loaded.epochs,
        results=_results(loaded),
        usage=usage,
    )


def _results(loaded: LoadedModel) -> list[CardResult]:
    """Returns the results of the run, if they are those of this checkpoint."""
    if loaded.path.absolute().parent.name != "checkpoints":
        return []
    result = read_json(loaded.path.absolute().parents[1] / "result.json")
    prefix = ""
    if loaded.path.name == "best.safetensors" and result.get("best_epoch") == loaded.epochs:
        prefix = "best_"
    elif result.get("steps") != loaded.steps:
        return []
    found = [(split, result.get(f"{prefix}{split}_perplexity")) for split in ("valid", "test")]
    return [CardResult(split, value) for split, value in found if isinstance(value, float)]


def _plain(loaded: LoadedModel, form: str, convert: Callable[[Cell], Layer]) -> PlainModel[Layer]:
    """Returns the plain layers of a model.

    Raises:
        UsageError: if it has none.
    """
    try:
        return plain_model(loaded.model, convert)
    except TypeError as error:
        raise UsageError(
            f"the model cannot be exported as {form}: {error}",
            where=str(loaded.path),
            hint="--to safetensors exports every model",
        ) from None


def _write_safetensors(loaded: LoadedModel, to: Path) -> str:
    write_plain_tensor_file(to / "model.safetensors", loaded.model.state_dict())
    (to / "config.yaml").write_text(config_document(loaded.config), encoding="utf-8")
    write_json(to / "vocabulary.json", loaded.tokenizer.vocabulary.as_dict())
    return (
        "`model.safetensors` contains the weights by their names in ptblm, `vocabulary.json` the "
        "tokens in the order of their ids with their counts in the training text, and "
        "`config.yaml` the config of the run.\n"
    )


def _write_onnx(loaded: LoadedModel, to: Path, *, int8: bool, scorer: bool) -> str:
    import onnx

    from ptblm.model.interop.onnx_graph import language_model_graph, scorer_graph

    model = _plain(loaded, "ONNX", onnx_layer)
    size = 4 * (loaded.model.parameter_count() + loaded.model.is_tied * model.weight.numel())
    if size > _MAX_ONNX_BYTES:
        raise UsageError(
            f"an ONNX file holds at most 2 GB, and the model has {size / 1e9:.1f} GB",
            where=str(loaded.path),
            hint="--to safetensors exports every model",
        )
    states = [part for layer in model.initial_state for part in layer]
    if scorer and any(bool(part.any()) for part in states):
        raise UsageError(
            "--scorer starts with a state of zeros, and the model has another initial state",
            where=str(loaded.path),
            hint="omit --scorer, and pass the initial state as input",
        )
    end = loaded.tokenizer.line_end_id
    vocabulary = loaded.tokenizer.vocabulary
    metadata = {"tokens": json.dumps(vocabulary.tokens), "end_id": str(end)}
    if any(bool(part.any()) for part in states):
        metadata["initial_state"] = json.dumps([part.tolist() for part in states])
    if scorer:
        metadata = {
            "model_type": "rnnlm",
            "version": "1",
            "sos_id": str(end),
            "eos_id": str(end),
            "vocab_size": str(len(vocabulary)),
        }
        graph = scorer_graph(model, end, metadata)
    else:
        graph = language_model_graph(model, metadata)
    onnx.save(graph, str(to / "model.onnx"))
    if int8:
        _quantize(to / "model.onnx")
    write_json(to / "vocabulary.json", vocabulary.as_dict())
    if scorer:
        return (
            "`model.onnx` scores sentences: inputs `x`, [N, L], and `x_lens`, [N]; output `nll`, "
            "[N], -log p of each sentence and its end in nats (the interface of sherpa-onnx).\n"
        )
    start = "the `initial_state` of its metadata" if "initial_state" in metadata else "zeros"
    return (
        "`model.onnx` continues from a state: inputs are `tokens`, [batch, time], and the state of "
        f"each layer, {start} before the first token of a text; outputs are `logp`, "
        "log-probabilities in nats, and the states after the last token. `vocabulary.json` "
        f"contains the tokens in the order of their ids. Token {end} ends a line.\n"
    )


def _quantize(path: Path) -> None:
    """Quantizes the weights of an ONNX model to 8 bits, in place."""
    import logging

    from onnxruntime.quantization import QuantType, quantize_dynamic

    large = path.with_suffix(".fp32")
    path.rename(large)
    root = logging.getLogger()
    level = root.level
    root.setLevel(logging.ERROR)  # it recommends a preparation that a plain graph does not need
    try:
        quantize_dynamic(str(large), str(path), weight_type=QuantType.QInt8, per_channel=True)
    finally:
        root.setLevel(level)
    large.unlink()


def _write_transformers(loaded: LoadedModel, to: Path) -> str:
    from ptblm.model.interop.transformers_files import (
        MODELING_FILE,
        model_config,
        model_weights,
        tokenizer_files,
    )

    if loaded.tokenizer.name not in ("word", "bpe"):
        raise UsageError(
            f"a model of {loaded.tokenizer.unit}s has no tokenizer in Transformers",
            where=str(loaded.path),
            hint="use --to onnx or --to safetensors",
        )
    model = _plain(loaded, "a Transformers model", pytorch_layer)
    is_tied = loaded.model.is_tied
    vocabulary = loaded.tokenizer.vocabulary
    weights = model_weights(model, is_tied=is_tied)
    write_plain_tensor_file(to / "model.safetensors", weights)
    config = model_config(model, loaded.tokenizer.line_end_id, is_tied=is_tied)
    write_json(to / "config.json", config)
    is_bpe = loaded.tokenizer.name == "bpe"
    for name, content in tokenizer_files(vocabulary, is_bpe=is_bpe).items():
        write_json(to / name, content)
    shutil.copyfile(MODELING_FILE, to / MODELING_FILE.name)
    return (
        "```python\nfrom transformers import AutoModelForCausalLM, AutoTokenizer\n\n"
        'model = AutoModelForCausalLM.from_pretrained("DIR", trust_remote_code=True)\n'
        'tokenizer = AutoTokenizer.from_pretrained("DIR", trust_remote_code=True)\n```\n\n'
        "`trust_remote_code=True` runs `modeling_ptblm.py` of this directory. "
        + (
            "A text is one line, because `<eos>` stands for a newline."
            if is_bpe
            else "Words are divided at white space, and unknown words become `<unk>`."
        )
        + " Each text starts with `<eos>`.\n"
    )
