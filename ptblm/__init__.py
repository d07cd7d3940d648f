"""ptblm: train, evaluate and use recurrent language models on the Penn Treebank and any other text.

`ptblm.load` opens a trained model; see `ptblm.api`. It is imported on first use, because torch
takes a second to import.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ptblm.api import GeneratedText, Model, PairsResult, TextScore, Token, load

__version__ = "0.1.0"
__all__ = ["GeneratedText", "Model", "PairsResult", "TextScore", "Token", "__version__", "load"]


def __getattr__(name: str) -> Any:
    if name in __all__:
        from importlib import import_module

        return getattr(import_module("ptblm.api"), name)
    raise AttributeError(f"module 'ptblm' has no attribute {name!r}")
