"""Output layers, which compute the loss from features."""
