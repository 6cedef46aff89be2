"""`init` and `migrate --switch` write no password of a store URL: the file names an environment variable."""

from __future__ import annotations

import shlex
import stat
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import quote

import pytest
import redis_servers
from conftest import REDIS

from stateview import InvalidArgument, InvalidName, StateManager
from stateview.backends import mask
from stateview.backends.url_passwords import expand, has_login, passwords, with_variables
from stateview.cli.commands.stores import init
from stateview.cli.context import Context
from stateview.settings import FILE, save_target

PASSWORD = "p@ss:w/rd?#%41 ü"
VARIABLE = "STATEVIEW_REDIS_PASSWORD"
Run = Callable[..., tuple[int, str, str]]


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    """The address of a server that asks for a password."""
    with redis_servers.running(next(iter(REDIS.values()), "")) as url:
        import redis

        with redis.Redis.from_url(url) as client:
            client.config_set("requirepass", PASSWORD)
            yield url.partition("://")[2]


@pytest.fixture
def url(server: str) -> str:
    return f"redis://default:{quote(PASSWORD, safe='')}@{server}/0"


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_a_script_is_told_the_command_that_works(
    folder: Path, url: str, server: str, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    code, out, err = run("init", url, "flow")
    assert (code, out) == (2, "")
    assert not (folder / FILE).exists()
    assert quote(PASSWORD, safe="") not in err and PASSWORD not in err
    command = err.partition("run: ")[2].strip()
    assert command == f"stateview init 'redis://default:${{{VARIABLE}}}@{server}/0' flow"
    words = shlex.split(command)[1:]
    code, _, err = run(*words)
    assert code == 2 and VARIABLE in err and "not set" in err
    monkeypatch.setenv(VARIABLE, PASSWORD)
    assert run(*words)[0] == 0
    assert mode(folder / FILE) == 0o600
    assert PASSWORD not in (folder / FILE).read_text() and quote(PASSWORD, safe="") not in (folder / FILE).read_text()
    assert run("save", "k", "1")[0] == 0
    monkeypatch.setenv(VARIABLE, quote(PASSWORD, safe=""))
    assert run("load", "k")[1] == "1\n"
    monkeypatch.delenv(VARIABLE)
    code, _, err = run("load", "k")
    assert code == 2 and VARIABLE in err and str(folder / FILE) in err


@pytest.mark.parametrize(("answer", "name"), [("", VARIABLE), ("MY_PW", "MY_PW")])
def test_a_person_is_asked_for_the_name(folder: Path, url: str, server: str, answer: str, name: str) -> None:
    asked: list[str] = []

    def ask_line(question: str) -> str:
        asked.append(question)
        return answer

    done = init(Context({}, ask_line=ask_line), {"backend": url, "namespace": "flow"})
    assert len(asked) == 1 and f"[{VARIABLE}]" in asked[0]
    assert f"export {name}=" in done.summary and PASSWORD not in done.summary
    assert f"redis://default:${{{name}}}@{server}" in done.summary
    assert f'store = "redis://default:${{{name}}}@{server}/0"' in (folder / FILE).read_text()
    assert mode(folder / FILE) == 0o600


def test_a_name_that_is_none_is_refused(folder: Path, url: str) -> None:
    with pytest.raises(InvalidName, match="no name of an environment variable"):
        init(Context({}, ask_line=lambda _question: "my-pw"), {"backend": url})
    assert not (folder / FILE).exists()


def test_a_variable_that_holds_the_password_need_not_be_set(
    folder: Path, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(VARIABLE, PASSWORD)
    done = init(Context({}, ask_line=lambda _question: ""), {"backend": url, "namespace": "flow"})
    assert "export" not in done.summary


def test_a_file_that_holds_a_password_goes_on_working(folder: Path, url: str, run: Run) -> None:
    (folder / FILE).write_text(f'store = "prod"\nnamespace = "other"\n[stores.prod]\nurl = "{url}"\n')
    (folder / FILE).chmod(0o644)
    assert run("save", "k", "2")[0] == 0
    assert run("init", "prod", "changed")[0] == 0
    assert url in (folder / FILE).read_text() and mode(folder / FILE) == 0o600
    save_target("json", "x")
    (folder / FILE).write_text(f'store = "{url}"\nnamespace = "other"\n')
    save_target(url, "again")
    with pytest.raises(InvalidArgument, match="holds a password"):
        save_target(url + "?db=1", "again")


def test_a_file_without_a_login_keeps_its_mode(folder: Path, run: Run) -> None:
    assert run("init", "json", "flow")[0] == 0
    usual = folder / "usual"
    usual.write_text("")
    assert mode(folder / FILE) == mode(usual)


def test_a_migration_that_would_write_a_password_fails_before_it_copies(folder: Path, url: str, server: str) -> None:
    with StateManager("json:a", "main") as state:
        state.save("k", 1)
        with pytest.raises(InvalidArgument, match="holds a password") as caught:
            state.migrate_to(url, switch=True)
    assert f"'redis://default:${{{VARIABLE}}}@{server}/0'" in str(caught.value)
    assert quote(PASSWORD, safe="") not in str(caught.value)
    assert not (folder / FILE).exists()
    with StateManager(url, "main") as there:
        assert not there.head().lineage


PLACES = {
    "redis://:pw@h": ["redis://:${A}@h", "STATEVIEW_REDIS_PASSWORD"],
    "rediss://u:pw@h/1?db=1": ["rediss://u:${A}@h/1?db=1", "STATEVIEW_REDIS_PASSWORD"],
    "redis://h?password=pw&db=1": ["redis://h?password=${A}&db=1", "STATEVIEW_REDIS_PASSWORD"],
    "redis+sentinel://u:pw@h,i/m?sentinel_password=pw": [
        "redis+sentinel://u:${A}@h,i/m?sentinel_password=${B}", "STATEVIEW_REDIS_PASSWORD",
        "STATEVIEW_SENTINEL_PASSWORD",
    ],
    "unix://u:pw@/x.sock?db=2": ["unix://u:${A}@/x.sock?db=2", "STATEVIEW_REDIS_PASSWORD"],
    "redis://u@h": ["redis://u@h"], "redis://h:1/0": ["redis://h:1/0"], "redis://u:${PW}@h": ["redis://u:${PW}@h"],
    "json:/a:b@c": ["json:/a:b@c"], "json://a:b@c": ["json://a:b@c"], "${URL}": ["${URL}"], "redis": ["redis"],
}  # fmt: skip


@pytest.mark.parametrize("url", PLACES)
def test_every_place_of_a_password_is_known(url: str) -> None:
    replaced, *names = PLACES[url]
    assert [password.variable for password in passwords(url)] == names
    assert with_variables(url, ["A", "B"][: len(names)]) == replaced
    assert has_login(url) == (("@" in url or "password" in url) and url.startswith(("redis", "unix")))
    assert mask(replaced) == replaced
    assert not passwords(replaced)


VALUES = {
    "PW": "p@s:s/%41",
    "CODED": "p%40s:s",
    "LOGIN": "u:pw",
    "URL": "redis://u:p%40@h/1",
    "OPTIONS": "db=1&protocol=3",
}
EXPANDED = {
    "redis://u:${PW}@h": "redis://u:p%40s%3As%2F%2541@h", "redis://u:${CODED}@h": "redis://u:p%40s:s@h",
    "redis://${LOGIN}@h": "redis://u:pw@h", "${URL}": "redis://u:p%40@h/1", "redis://h?${OPTIONS}": "redis://h?db=1&protocol=3",
    "redis://h?password=${PW}&db=1": "redis://h?password=p%40s%3As%2F%2541&db=1", "json:${LOGIN}": "json:u:pw",
    "redis://${LOGIN}": "redis://u:pw",
}  # fmt: skip


@pytest.mark.parametrize("url", EXPANDED)
def test_a_value_is_encoded_where_it_is_a_part_of_the_url(url: str) -> None:
    assert expand(url, VALUES.__getitem__) == EXPANDED[url]


def test_a_password_whose_option_is_written_with_codes_is_known() -> None:
    assert [password.variable for password in passwords("redis://h?p%61ssword=pw")] == ["STATEVIEW_REDIS_PASSWORD"]
