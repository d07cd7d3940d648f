"""What a model is worth: likelihoods summed over a text, and what follows from them."""
