"""Measurements on a machine with a GPU: `benchmarks/gpu.sh`. Not part of the package."""
