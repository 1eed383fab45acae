"""Known breakages of the code, each of which a test must notice: `make mutants`."""
