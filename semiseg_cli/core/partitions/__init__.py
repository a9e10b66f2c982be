"""Which images count as labeled: splits, published lists and protocols, and pairs of similar images."""
