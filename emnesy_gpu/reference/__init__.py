"""The specification: plain float64 torch with short loops."""
