"""What people and programs see of a run: metrics file, progress, table, environment."""
