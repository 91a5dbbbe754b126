"""What several Triton kernels share: semirings, random numbers, scalars."""
