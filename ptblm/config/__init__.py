"""What a run is made of: the schema of a config, and how one is loaded, checked and shown."""
