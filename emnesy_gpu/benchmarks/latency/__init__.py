"""The cost of one call with few rows, for every op: ours with and without checks, plain C++ and JAX, in turns."""
