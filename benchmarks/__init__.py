"""What roundledger costs and saves, beside its peers: `python -m benchmarks.run`, or `make bench`."""
