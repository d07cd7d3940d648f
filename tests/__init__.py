"""The tests; each folder mirrors the package's."""
