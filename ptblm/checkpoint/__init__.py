"""The checkpoint file format."""
