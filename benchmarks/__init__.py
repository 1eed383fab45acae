"""The demo, and the benchmarks: cassconc side by side with what one would use instead."""
