"""stepwell in other frameworks: a module for each, with its own extra; this one imports none of them."""

from __future__ import annotations

__all__ = ["missing"]


def missing(extra: str, error: ModuleNotFoundError) -> ModuleNotFoundError:
    """The error, naming the extra that installs the missing package; raise it in its place."""
    return ModuleNotFoundError(
        f"stepwell.ext.{extra} needs {error.name}: pip install 'stepwell[{extra}]'.", name=error.name, path=error.path
    )
