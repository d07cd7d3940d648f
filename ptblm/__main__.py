"""Lets `python -m ptblm` do what the `ptblm` command does."""

from ptblm.cli import main

if __name__ == "__main__":
    main()
