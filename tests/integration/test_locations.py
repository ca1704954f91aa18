"""How a URL of a PostgreSQL store is read; nothing connects."""

from __future__ import annotations

import pytest

from stepwell import DefinitionError
from stepwell.store.postgres.location import location_of


def test_each_of_several_hosts_has_a_dsn_of_its_own() -> None:
    found = location_of("postgres://ann:se%40cret@one:5432,two:5433/shop?schema=mine&sslmode=require")
    assert found.several
    assert found.dsns == (
        "postgresql://ann:se%40cret@one:5432/shop?sslmode=require",
        "postgresql://ann:se%40cret@two:5433/shop?sslmode=require",
    )
    assert found.schema == "mine"


def test_a_socket_of_the_system_has_no_host() -> None:
    found = location_of("postgresql:///shop?host=/var/run/postgresql")
    assert found.dsns == ("postgresql:/shop?host=%2Fvar%2Frun%2Fpostgresql",)
    assert not found.several


def test_without_a_pooler_notifications_go_where_all_else_goes() -> None:
    found = location_of("postgresql://localhost/shop")
    assert not found.pooled
    assert found.to_listen() == found


def test_past_a_pooler_notifications_go_to_the_server_itself_as_the_same_user() -> None:
    found = location_of("postgresql://ann:secret@pooler:6432/shop?pooled=true&listen=[::1]:5432&schema=mine")
    assert found.pooled
    listening = found.to_listen()
    assert listening.dsns == ("postgresql://ann:secret@[::1]:5432/shop",)
    assert not listening.pooled
    assert listening.schema == "mine"


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("postgresql://one:x/shop", "cannot be read"),
        ("postgresql://one:5432,two:99999/shop", "cannot be read"),
        ("postgresql://[one/shop", "cannot be read"),
        ("postgresql://one/shop?pooled=maybe", "Known: true, false"),
        ("postgresql://one/shop?listen=two", "HOST:PORT"),
        ("postgresql://one/shop?listen=postgresql://two:5432", "HOST:PORT"),
    ],
)
def test_what_cannot_be_read_is_refused_by_name(url: str, message: str) -> None:
    with pytest.raises(DefinitionError, match=message):
        location_of(url)


def test_no_part_of_a_location_shows_the_password_to_people() -> None:
    assert location_of("postgresql://ann:secret@one,two/shop").safe_url == "postgresql://ann:***@one,two/shop"
