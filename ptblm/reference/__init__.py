"""An LSTM language model in plain NumPy, for learning and for testing.

It imports neither torch nor the rest of ptblm. Run it with `python -m ptblm.reference TEXT`.
"""
