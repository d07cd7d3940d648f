"""An LSTM language model in plain NumPy, for learning and for testing.

It imports neither torch nor other modules of ptblm. `python -m ptblm.reference TEXT` trains a
model.
"""
