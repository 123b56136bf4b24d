"""How fast a population is, against the plain loop and the machine's limit: ``python -m benchmarks``."""
