"""The files of a model that Transformers reads: config, weights, tokenizer, and code.

Format of tokenizer.json: https://huggingface.co/docs/tokenizers
"""

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ptblm.corpus.tokenizer_file import tokenizer_document
from ptblm.corpus.vocabulary import EOS, UNK, Vocabulary
from ptblm.model.interop.plain_layers import PlainLayer, PlainModel

MODELING_FILE = Path(__file__).with_name("modeling_ptblm.py")


def model_config(model: PlainModel[PlainLayer], end_id: int, *, is_tied: bool) -> dict[str, Any]:
    """Returns the content of config.json.

    Args:
        model: the model. All its layers have the same kind.
        end_id: id of the token that ends sentences, and comes before the first one.
        is_tied: whether the weight of the softmax is that of the embedding.
    """
    return {
        "model_type": "ptblm",
        "architectures": ["PtblmForCausalLM"],
        "auto_map": {
            "AutoConfig": "modeling_ptblm.PtblmConfig",
            "AutoModelForCausalLM": "modeling_ptblm.PtblmForCausalLM",
        },
        "vocab_size": len(model.embedding),
        "kind": model.layers[0].kind,
        "embedding_size": model.embedding.shape[1],
        "layer_sizes": [layer.hidden_size for layer in model.layers],
        "projection_size": None if model.projection is None else len(model.projection),
        "sum_layers": model.sum_layers,
        "tie_word_embeddings": is_tied,
        "bos_token_id": end_id,
        "eos_token_id": end_id,
        "pad_token_id": end_id,
        "use_cache": False,
        "dtype": "float32",
    }


def model_weights(model: PlainModel[PlainLayer], *, is_tied: bool) -> dict[str, Tensor]:
    """Returns the tensors of model.safetensors, by name."""
    tensors = {"embedding.weight": model.embedding, "softmax.bias": model.bias}
    if not is_tied:
        tensors["softmax.weight"] = model.weight
    if model.projection is not None:
        tensors["projection.weight"] = model.projection
    for number, (layer, state) in enumerate(zip(model.layers, model.initial_state, strict=True)):
        for name, weight in layer.weights.items():
            tensors[f"layers.{number}.{name}_l0"] = weight
        tensors[f"initial_state.{number}"] = torch.stack(state)
    return {name: tensor.float().cpu().contiguous() for name, tensor in tensors.items()}


def tokenizer_files(vocabulary: Vocabulary, *, is_bpe: bool) -> dict[str, Any]:
    """Returns the content of tokenizer.json and tokenizer_config.json, by name.

    Words are divided at white space. Each text starts with `<eos>`.

    Args:
        vocabulary: the vocabulary.
        is_bpe: whether its tokens are those of byte-pair encoding instead of words.
    """
    unknown = None if is_bpe or UNK not in vocabulary.ids else UNK
    tokenizer = tokenizer_document(vocabulary) if is_bpe else _word_tokenizer(vocabulary, unknown)
    single = [{"SpecialToken": {"id": EOS, "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}]
    tokenizer["post_processor"] = {
        "type": "TemplateProcessing",
        "single": single,
        "pair": [*single, {"Sequence": {"id": "B", "type_id": 0}}],
        "special_tokens": {EOS: {"id": EOS, "ids": [vocabulary.ids[EOS]], "tokens": [EOS]}},
    }
    config = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "bos_token": EOS,
        "eos_token": EOS,
        "pad_token": EOS,
        **({} if unknown is None else {"unk_token": unknown}),
        "padding_side": "right",
        "clean_up_tokenization_spaces": False,
    }
    return {"tokenizer.json": tokenizer, "tokenizer_config.json": config}


def _word_tokenizer(vocabulary: Vocabulary, unknown: str | None) -> dict[str, Any]:
    """Returns a tokenizer of words without its post-processor."""
    added = [
        {
            "id": vocabulary.ids[token],
            "content": token,
            "single_word": False,
            "lstrip": False,
            "rstrip": False,
            "normalized": False,
            "special": token == EOS,
        }
        for token in ([EOS] if unknown is None else [EOS, unknown])
    ]
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": added,
        "normalizer": None,
        "pre_tokenizer": {"type": "WhitespaceSplit"},
        "decoder": None,
        "model": {"type": "WordLevel", "vocab": vocabulary.ids, "unk_token": unknown or EOS},
    }
