"""Time and memory of the E-steps against what one would write without them."""
