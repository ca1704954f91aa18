"""`python -m stepwell.cli`, for where the script `stepwell` is not on the path; nothing else lives here."""

from __future__ import annotations

from stepwell.cli import main

if __name__ == "__main__":
    main()
