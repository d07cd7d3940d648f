"""An LSTM language model in plain NumPy, for learning and for testing.

It does not use torch or other ptblm modules. `python -m ptblm.reference TEXT` trains a model.
"""
