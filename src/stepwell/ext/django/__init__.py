"""stepwell in Django: the settings, `manage.py stepwell`, models, an admin, and a backend for Django's tasks.

`INSTALLED_APPS = ["stepwell.ext.django", …]` turns it on. The models and the admin need Django 5.2, the backend for
tasks Django 6. Importing this module reads no settings, so that `settings.py` itself may.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from stepwell.ext import missing

try:
    import django
except ModuleNotFoundError as _error:
    raise missing("django", _error) from None

from stepwell.ext.django.configuration import app, database_url, fresh_connections, runs

if TYPE_CHECKING:
    from stepwell.ext.django.backend import TaskBackend

__all__ = ["TaskBackend", "app", "database_url", "fresh_connections", "runs"]


def __getattr__(name: str) -> Any:
    """The backend for tasks, which not every Django has."""
    if name != "TaskBackend":
        raise AttributeError(f"module {__name__} has no attribute {name}")
    if django.VERSION < (6, 0):
        raise ImportError(f"stepwell.ext.django.TaskBackend needs Django 6, this is {django.__version__}.")
    from stepwell.ext.django.backend import TaskBackend  # noqa: PLC0415  it needs django.tasks

    return TaskBackend
