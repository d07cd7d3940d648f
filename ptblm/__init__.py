"""ptblm: train and evaluate recurrent language models on the Penn Treebank and any other text."""

__version__ = "0.1.0"
