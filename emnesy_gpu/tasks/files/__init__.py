"""What a run keeps on disk: settings, state, metrics and curve, and the errors that name its files."""
