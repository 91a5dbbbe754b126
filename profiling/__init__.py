"""Where the time and the memory of an E-step go. Run the scripts as modules from the repository root."""
