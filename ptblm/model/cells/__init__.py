"""The recurrent cells, one a page: each is its equations and little else."""
