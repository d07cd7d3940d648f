"""Runs the command line as `python -m ptblm`."""

from ptblm.cli import main

if __name__ == "__main__":
    main()
