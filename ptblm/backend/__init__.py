"""How a process computes: device, precision, matrix multiplications, memory, randomness."""
