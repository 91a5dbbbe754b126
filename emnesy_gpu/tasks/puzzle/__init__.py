"""Visual puzzles: digits learned from nothing but the clues of nonograms, Kakuro and futoshiki."""
