"""Handlers of PTX instructions, a module for each group of opcodes; importing one registers its handlers."""
