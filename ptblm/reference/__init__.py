"""An LSTM language model in plain NumPy, to read next to the equations and to test against.

It imports nothing of the rest of ptblm, and no torch. `python -m ptblm.reference TEXT` trains it.
"""
