"""Process-wide settings: device, precision, matrix multiplications, memory, randomness."""
