"""Values of any declared type as plain JSON, to be shown: what is secret is masked."""

from __future__ import annotations

from typing import Any

import msgspec

from stepwell.workflow.pydantic_models import is_model
from stepwell.workflow.secret import MASK, Secret


def plain_json(value: Any) -> Any:
    """The value in JSON's own types, with `***` for each `Secret`; raises TypeError for what has no form as JSON."""
    return msgspec.to_builtins(value, str_keys=True, enc_hook=_shown, order="sorted")


def encoded_for_display(value: Any) -> bytes:
    """The same as JSON."""
    return msgspec.json.encode(value, enc_hook=_shown)


def _shown(value: Any) -> Any:
    if isinstance(value, Secret):
        return MASK
    if is_model(type(value)):
        return value.model_dump(by_alias=True)
    return repr(value)
