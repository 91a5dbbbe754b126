"""Scripts that run a knowledge compiler in a process of their own: it can be stopped, and prints what it likes."""
