"""The published experiments again: methods, sizes and seeds in processes of their own, as tables and figures."""
