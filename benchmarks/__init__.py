"""Speed and memory, measured on the machine at hand: `make bench` or `python -m benchmarks`."""
