"""The application of Django, under the label `stepwell`."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from stepwell.ext.django.untyped import Untyped as AppConfig
else:
    from django.apps import AppConfig


class StepwellConfig(AppConfig):
    """What `stepwell.ext.django` in `INSTALLED_APPS` stands for."""

    name: str = "stepwell.ext.django"
    label: str = "stepwell"
    verbose_name: str = "Workflows"
