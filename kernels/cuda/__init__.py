"""Holds CUDA C kernels, for launch functions of ``kernels.gpu`` that run faster with them; they need CuPy."""
