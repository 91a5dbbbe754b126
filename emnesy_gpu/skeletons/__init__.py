"""First versions of a rule or a problem of one's own, each with its test: the commands ``emnesy new``."""
