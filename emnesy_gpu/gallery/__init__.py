"""Small examples with pictures, each made by the code that it shows: ``emnesy gallery``."""
