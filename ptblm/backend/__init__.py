"""Process-wide settings of the computation: device, precision, matrix multiplications, memory, randomness."""
