"""What every training run has, whatever its task."""
