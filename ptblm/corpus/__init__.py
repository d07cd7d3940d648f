"""The data's way in: fetching text, reading it into ids, cutting ids into batches."""
