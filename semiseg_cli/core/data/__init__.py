"""What training reads: prepared datasets, decoding, the weak warp, the loader. Files; no networks."""
