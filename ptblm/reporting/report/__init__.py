"""The report of runs: one HTML page that needs no network and runs no script."""
