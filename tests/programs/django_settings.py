"""The settings of the site that tests run; the environment says in which folder, and on which database.

`SITE_FOLDER`, and for another database than a file in it `SITE_SETTINGS`: settings as JSON, which come before these.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

FOLDER = Path(os.environ["SITE_FOLDER"])
SECRET_KEY = "of a test"
ALLOWED_HOSTS = ["*"]
USE_TZ = True
ROOT_URLCONF = "tests.programs.django_site"
DEFAULT_AUTO_FIELD = "django.db.models.AutoField"
DATABASES: dict[str, Any] = {"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": str(FOLDER / "site.db")}}
STEPWELL: dict[str, Any] = {"APP": "tests.programs.django_site:make_app"}
INSTALLED_APPS = [
    *("django.contrib.admin", "django.contrib.auth", "django.contrib.contenttypes"),
    *("django.contrib.messages", "django.contrib.sessions", "stepwell.ext.django"),
]
MIDDLEWARE = [
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
]
_PROCESSORS = [
    "django.template.context_processors.request",
    "django.contrib.auth.context_processors.auth",
    "django.contrib.messages.context_processors.messages",
]
TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "APP_DIRS": True,
        "OPTIONS": {"context_processors": _PROCESSORS},
    }
]
globals().update(json.loads(os.environ.get("SITE_SETTINGS", "{}")))
