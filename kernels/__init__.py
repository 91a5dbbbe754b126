"""Device code and its launch functions, imported as ``emnesy_gpu.kernels``."""

if __name__ == "kernels":
    raise ImportError(
        "the folder 'kernels' belongs to emnesy_gpu: import it as 'emnesy_gpu.kernels'. "
        "(If you meant another package named 'kernels', run from outside this checkout.)"
    )
