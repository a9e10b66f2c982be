"""Annotations of tools for drawing, a file per format: read as shapes that are drawn to label maps, and written."""
