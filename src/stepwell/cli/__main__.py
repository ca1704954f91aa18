"""Runs the command line as `python -m stepwell.cli`, for use when `stepwell` is not on the path."""

from __future__ import annotations

from stepwell.cli import main

if __name__ == "__main__":
    main()
