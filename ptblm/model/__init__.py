"""The model: embedding, dropout, stacked LSTM, dropout, softmax with its loss."""
