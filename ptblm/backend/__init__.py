"""Settings of the process: device, precision, matrix multiplications, memory, randomness, World."""
