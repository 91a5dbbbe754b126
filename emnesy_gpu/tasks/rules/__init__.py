"""MNIST rules: digits learned from the label of a rule, such as their largest one."""
