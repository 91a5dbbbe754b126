"""What several CPU kernels share: compilation, threads, SIMD lanes, random numbers."""
