"""Known corpora and how to download them."""
