"""Using networks: opening a checkpoint, predictions, metrics over a dataset, features."""
