"""The configuration of a run: its layers, presets and tables, what they are turned into, and how it is explained."""
