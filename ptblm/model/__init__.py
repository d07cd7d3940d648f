"""The model: embedding, dropout, recurrent layers, and softmax with its loss."""
