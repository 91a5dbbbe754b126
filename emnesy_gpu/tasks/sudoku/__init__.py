"""Visual Sudoku: digits learned from boards that are known to be valid."""
