"""Which images count as labeled: splits, published lists and protocols, and pairs of similar images.

The ways in which an own partition can be drawn (`--balance`) by name. One is a function in `ways.py` and a line below.
"""

WAYS = {
    "classes": "semiseg_cli.core.partitions.ways:classes",
    "random": "semiseg_cli.core.partitions.ways:at_random",
}
