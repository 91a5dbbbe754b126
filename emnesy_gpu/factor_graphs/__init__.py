"""Factor graphs: potentials, their automata, cycles, files, tables. In NumPy; knows neither problems nor kernels."""
