"""Output layers: from features to the loss."""
