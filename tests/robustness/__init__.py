"""What happens when the machine, the files or the callers are at fault."""
