"""From knowledge to circuits: formulas, clauses, compiled files and automata as sums of products of two rows."""
