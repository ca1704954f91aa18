"""A store's URL is whatever somebody wrote: it is a store or a DefinitionError, touches nothing, tells no password."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stepwell import DefinitionError, Durable
from stepwell.store.urls import without_password
from tests.api.command_line import Shop, shop_in
from tests.fuzz.profile import examples

if TYPE_CHECKING:
    from collections.abc import Iterator

SECRET = "hunter2"
ODD = st.sampled_from([*"/:@?#%&=[]. \\'\"+,;~$!*()\0\n\té\ud800\u202e", "%2F", "%00", "%40", "://", "//"])
PIECES = st.sampled_from(["sqlite", "postgresql", "postgres", "shop.db", "mode=ro", "schema=a", "pooled=true", "[::1]"])


@pytest.fixture
def shop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Shop]:
    """An empty folder but for the shop's module, where this process is."""
    yield from shop_in(tmp_path, monkeypatch)


def names() -> set[str]:
    """What there is in the folder where this process is."""
    return {path.name for path in Path().iterdir()}


@st.composite
def mutated(draw: st.DrawFn, url: str) -> str:
    """The URL after a few slips of the hand."""
    for _ in range(draw(st.integers(0, 3))):
        at = draw(st.integers(0, len(url)))
        till = min(len(url), at + draw(st.integers(0, 2)))
        url = url[:at] + draw(ODD | PIECES) + url[till:]
    return url


SQLITE = st.sampled_from(
    ["sqlite://", "sqlite:///shop.db", "sqlite:///a/b.db", "sqlite:////tmp/x.db?mode=ro", "sqlite:///shop.db?mode=rw"]
)
POSTGRES = st.sampled_from(
    ["postgresql://h/shop", "postgres://u@h:5432/shop", "postgresql://u:p@h,k:1/shop?schema=mine&sslmode=require"]
) | st.sampled_from(["postgresql:///shop?host=/run/pg", "postgresql://[::1]:5432/shop?pooled=true&listen=k:5432"])
URLS = st.text(max_size=40) | (SQLITE | POSTGRES).flatmap(mutated) | st.lists(ODD | PIECES, max_size=8).map("".join)


@examples(150)
@given(url=URLS)
def test_any_text_is_a_store_or_a_definition_error_and_makes_nothing(url: str) -> None:
    before = names()
    try:
        app = Durable(url)
    except DefinitionError as error:
        said = str(error)
    else:
        said = app.safe_url
        assert said in repr(app)
    assert said.isprintable()
    assert names() == before


@pytest.mark.parametrize("url", [None, 3, b"postgresql://u:hunter2@h/d", ["sqlite://"], object], ids=repr)
def test_what_is_no_text_is_a_definition_error_that_shows_nothing_of_it(url: Any) -> None:
    with pytest.raises(DefinitionError) as caught:
        Durable(url)
    assert SECRET not in str(caught.value)


PASSWORD_PARTS = st.text(st.sampled_from("ab1/:@?#%[]& ="), max_size=4)


@st.composite
def with_password(draw: st.DrawFn) -> str:
    """A URL with a password in it, of which hardly anything need be escaped as it should."""
    scheme = draw(st.sampled_from(["postgresql", "postgres", "sqlite", "mysql", "PostgreSQL", "", "post gres"]))
    password = draw(PASSWORD_PARTS) + SECRET + draw(PASSWORD_PARTS)
    host = draw(st.sampled_from(["h", "h:5432", "h:x", "h,k:1", "[::1]:5", "[::1", "", "h:99999"]))
    rest = draw(st.sampled_from(["", "/", "/shop", "/shop?schema=a", "/shop?user=x@y", "?schema=B", "/s?mode=no"]))
    return f"{scheme}://u:{password}@{host}{rest}"


@st.composite
def with_password_option(draw: st.DrawFn) -> str:
    """A URL with its password among the options."""
    name = draw(st.sampled_from(["password", "PASSWORD", "sslpassword", "user_password"]))
    more = draw(st.sampled_from(["", "&schema=B", "&mode=no", "&pooled=x"]))
    start = draw(
        st.sampled_from(["postgresql://h/shop", "postgresql://[h/shop", "sqlite:///shop.db", "mysql://h/shop"])
    )
    return f"{start}?{draw(st.sampled_from(['', 'sslmode=require&']))}{name}={SECRET}{more}"


@examples(100)
@given(url=with_password() | with_password_option())
def test_no_password_is_shown_however_it_was_written(url: str) -> None:
    try:
        app = Durable(url)
    except DefinitionError as error:
        shown = str(error)
    else:
        shown = f"{app!r} {app.safe_url} {app._store._location.safe_url}"  # type: ignore[attr-defined]  # only a PostgreSQL URL gets here
    assert SECRET not in shown
    assert SECRET not in without_password(url)


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("postgresql://h/shop?user=a@b", "postgresql://h/shop?user=a@b"),
        ("postgresql://u@h/shop", "postgresql://u@h/shop"),
        ("postgresql://u:p%40ss@h/shop", "postgresql://u:***@h/shop"),
        ("postgresql://u:p@ss@h/shop", "postgresql://u:***@h/shop"),
        ("postgresql://u:pa/ss@h/shop", "postgresql://u:***@h/shop"),
        ("postgresql://u:pa?ss@h/shop", "postgresql://u:***@h/shop"),
        ("postgresql://h/shop?password=p&schema=a", "postgresql://h/shop?password=***&schema=a"),
        ("sqlite:///shop@home.db", "sqlite:///shop@home.db"),
        ("no url", "no url"),
    ],
)
def test_all_but_the_password_is_shown(url: str, shown: str) -> None:
    assert without_password(url) == shown


@pytest.mark.parametrize(
    "url",
    [
        "postgresql:u:hunter2@h/shop",
        "postgres:/u:hunter2@h/shop",
        "POSTGRESQL:U:hunter2@h/shop",
        "PostgreSQL://u:hunter2@h/shop",
        "postgres:hunter2@h/shop",
        "postgresql:u:hunter2",
        "postgresql:///u:hunter2@h/shop",
        "postgresql//u:hunter2@h/shop",
        r"postgresql:\\u:hunter2@h/shop",
        "u:hunter2@h/shop",
        "postgresql://u:hunter2",
        "postgresql://u:hunter2/shop",
        "postgresql://u:hunter2@one,two:5433/shop",
        "postgresql://u:1/hunter2@h/shop",
        "postgresql://u:1?hunter2@h/shop",
        "postgresql://u:1#hunter2@h/shop",
        "postgresql://u:1@hunter2@h/shop",
        "postgresql%3A//u%3Ahunter2%40h/shop",
        "postgresql%3A%2F%2Fu%3Ahunter2%40h%2Fshop",
        "postgresql://h/shop?p%61ssword=hunter2",
        "postgresql://h/shop?password=a&hunter2&schema=x",
        "postgresql://h/shop?password=a;hunter2#hunter2",
        "postgresql://h/shop?pass=hunter2",
        "host=h password=hunter2 dbname=shop",
        "host=h password = 'a hunter2' dbname=shop",
        "dbname=shop PASSWORD=hunter2",
    ],
)
def test_no_slip_in_a_url_shows_its_password(url: str) -> None:
    assert SECRET not in without_password(url)
    try:
        app = Durable(url)
    except DefinitionError as error:
        shown = f"{error} {error.__cause__}"
    else:
        shown = f"{app!r} {app._store._location!r}"  # type: ignore[attr-defined]  # only a PostgreSQL URL gets here
    assert SECRET not in shown


def test_the_command_line_answers_any_url_in_one_line_and_makes_nothing(shop: Shop) -> None:
    (shop.folder / "folder.db").mkdir()
    (shop.folder / "text.db").write_text("no database")
    before = names()
    files = ["shop.db", "folder.db", "text.db", "no/such.db", "a" * 300, "%FF%FE", "..", ".", "%2e%2e", "text.db/x.db"]
    local = [f"sqlite:///{name}{options}" for name in files for options in ("", "?mode=ro", "?mode=rw")]
    away = [f"postgresql://u:{SECRET}@127.0.0.1:1/{name}" for name in ("shop", "", "?sslmode=no", "x?sslrootcert=/no")]

    @examples(30)
    @given(url=URLS.filter(lambda url: not url.startswith("postgres")) | st.sampled_from([*local, *away]))
    def answers(url: str) -> None:
        for command in (["db", "status"], ["list"]):
            answer = shop("--url", url, *command)
            assert answer.code in {0, 2, 4}, answer
            assert answer.code == 0 or answer.complaint, answer
            assert SECRET not in answer.out + answer.err
        assert names() == before

    answers()
