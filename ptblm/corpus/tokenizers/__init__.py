"""Tokenizers: from the bytes of a text to token ids and back."""
