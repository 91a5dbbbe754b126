"""No tests in here: keeps doctest collection from importing modules that need Triton."""

collect_ignore_glob = ["*.py"]
