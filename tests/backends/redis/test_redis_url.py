"""Store URLs of Redis: each part is used or refused, and the refusal names it in one line."""

from __future__ import annotations

import pytest

from stateview.backends import mask, open_backend
from stateview.backends.redis.connections.url import _OF_REDIS_PY, _OF_SENTINELS, _OF_TLS, _OWN, Options, parse
from stateview.cli.program import main
from stateview.errors import BackendError, InvalidName

REFUSED = {
    "redis://h/1/2": "of a database", "redis://h/abc": "of a database", "redis://h/-1": "of a database",
    "redis://h/1.5": "of a database", "redis://h/0;x": "of a database", "rediss://h/1/2": "of a database",
    "redis://h:abc/0": "a port is not", "redis://h:0/0": "a port is not", "redis://h:70000": "a port is not",
    "redis://h:/0": "a port is not", "redis://h:6379:1/0": "a port is not", "redis://h:-1": "a port is not",
    "redis://[::1/0": "IPv6", "redis://[::1]x/0": "IPv6", "redis://::1/0": "a port is not",
    "redis://a,b/0": "several servers",
    "redis://h/0#x": "after #", "redis://h /0": "blank", "redis://h/1?db=2": "give it once", "redis://h?db=": "db has",
    "redis://h?db=x": "db is not", "redis://h?dbb=1": "'dbb'", "redis://h?ssl=true": "'ssl'",
    "redis://h?x": "of that name",
    "redis://h?ssl_ca_certs=x": "'ssl_ca_certs'", "redis://h?host=i": "host is",
    "redis://h?port=1": "port is part",
    "redis://h?socket_timeout=x": "socket_timeout", "redis://h?socket_timeout=0": "socket_timeout",
    "redis://h?socket_timeout=1e300": "socket_timeout",
    "redis://h?socket_timeout=1&socket_timeout=2": "twice", "redis://h?socket_keepalive=maybe": "socket_keepalive",
    "redis://h?max_connections=0": "max_connections", "redis://h?protocol=9": "protocol",
    "redis://h?decode_responses=1": "decode_responses", "redis://h?encoding=latin-1": "encoding",
    "redis://h?retry=3": "'retry'", "redis://u:p@h?password=q": "give them once",
    "rediss://h?ssl_ca_certs=/nowhere/ca.pem": "ssl_ca_certs names a file",
    "rediss://h?ssl_cert_reqs=x": "ssl_cert_reqs",
    "rediss://h?ssl_bogus=1": "'ssl_bogus'", "unix://": "whole path", "unix://host/x.sock": "whole path",
    "unix:///x.sock?db=x": "db is not", "redis+cluster://h/abc": "of a database", "redis+cluster://h/3": "database 3",
    "redis+cluster://h?db=3": "database 3", "redis+cluster://h?read_from_replicas=1": "'read_from_replicas'",
    "redis+sentinel://h:x/m": "a port is not", "redis+sentinel://h/m/1/2": "nothing else",
    "redis+sentinel://h/m/x": "of a database",
    "redis+sentinel://h,/m": "host of a sentinel", "redis+sentinel:///m": "host of a sentinel",
    "redis+sentinel://h/m?bogus=1": "'bogus'", "redis+sentinel://h/m?ssl=false": "ssl is not true",
    "redis+sentinel://h/m/1?db=2": "give it once", "redis+sentinel://h/m?ssl_cert_reqs=none": "needs ssl=true",
    "redis+cluster://h?ssl_ca_path=/": "ssl_ca_path needs ssl=true", "redis+cluster://h,": "host of a node",
    "redis://h?timeout=0": "timeout is not",
}  # fmt: skip


@pytest.mark.parametrize("url", REFUSED)
def test_what_redis_py_would_leave_out_or_reinterpret_is_named(url: str) -> None:
    with pytest.raises(BackendError) as caught:
        open_backend(url, "main").head()
    assert REFUSED[url] in caught.value.message.partition("not a usable Redis URL: ")[2]
    assert "\n" not in str(caught.value)


ACCEPTED = {
    "redis://": [("", 6379)], "redis://h": [("h", 6379)], "redis://h:1/": [("h", 1)], "redis://:2/3": [("", 2)],
    "redis://u:p%40@h:65535/15?socket_timeout=3&client_name=x": [("h", 65535)], "redis://[::1]/1": [("::1", 6379)],
    "rediss://[fe80::1]:7/0?ssl_cert_reqs=none": [("fe80::1", 7)], "unix:///run/redis.sock?db=2": [],
    "redis+cluster://h:1?ssl=true&ssl_check_hostname=False": [("h", 1)], "redis+cluster://h/0": [("h", 6379)],
    "redis+cluster://u:p@a,b:2,[::1]:3": [("a", 6379), ("b", 2), ("::1", 3)],
    "redis+sentinel://a,b:2,[::1]:3/m/1?sentinel_password=x": [("a", 26379), ("b", 2), ("::1", 3)],
}  # fmt: skip


@pytest.mark.parametrize("url", ACCEPTED)
def test_every_form_of_a_url_is_taken(url: str) -> None:
    assert parse(url).addresses == ACCEPTED[url]
    backend = open_backend(url, "main", timeout=0.01)
    if "cluster" not in url:  # that client connects at once
        backend._connect()  # type: ignore[attr-defined]
        backend.close()


def test_the_command_line_says_it_in_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["-s", "redis+sentinel://h:26379/m?bogus=1", "-n", "main", "keys"]) == 3
    assert capsys.readouterr().err.count("\n") == 1


MASKED = {
    "redis:u:pw@h": "redis:u:***@h", "redis:/u:pw@h": "redis:/u:***@h", "redis//u:pw@h": "redis//u:***@h",
    "redis:pw@h": "redis:***@h", "u:pw@h": "u:***@h", "redis://:p@w@h/0?db=1": "redis://:***@h/0?db=1",
    "redis:///u:pw@h": "redis:///u:***@h", "redis://u:/p:w@h": "redis://u:***@h", "redis://u@h": "redis://u@h",
    "postgres://u:pw@h": "postgres://u:***@h", "redis:password=pw": "redis:password=***",
    "redis://h?PASSWORD=pw&db=1": "redis://h?PASSWORD=***&db=1", "redis://h?auth=pw": "redis://h?auth=***",
    "redis+sentinel://a:1,b:2/m?Sentinel_Password=pw": "redis+sentinel://a:1,b:2/m?Sentinel_Password=***",
    "redis://u:pw": "redis://u:***", "redis://h/0&password=pw": "redis://h/***", "redis://h?p%61ssword=pw": "redis://h?***",
    "redis://h?pw=x&timeout=5": "redis://h?pw=***&timeout=5", "redis+sentinel://h/a=pw/0": "redis+sentinel://h/***/0",
    "redis://:p\nw@h": "redis://:***@h", "json:/a:b@c": "json:/a:b@c", "redis://a:1,b:2": "redis://a:1,b:2",
}  # fmt: skip


@pytest.mark.parametrize("url", MASKED)
def test_no_password_is_shown_however_the_url_is_written(url: str) -> None:
    assert mask(url) == MASKED[url]


def test_no_error_shows_the_password_of_a_url_that_is_not_one() -> None:
    for url in ("redis:u:hunter2@h", "redis://h?PASSWORD=hunter2"):
        with pytest.raises((InvalidName, BackendError)) as caught:
            open_backend(url, "main", timeout=0.01).head()
        assert "***" in str(caught.value) and "hunter2" not in str(caught.value)


def test_no_value_of_an_option_is_shown() -> None:
    urls = (
        "redis://h?pasword=hunter2", "redis://h?password=hunter2&password=hunter2", "redis://u:hunter2",
        "redis://:hunter2/0", "redis://h/0&password=hunter2", "redis://h/hunter2",
        "redis://h?pw=hunter2", "redis://h?hunter2", "redis://h?PASSWORD:hunter2", "redis+sentinel://h:hunter2/x",
        "redis://[hunter2", "redis+cluster://h:hunter2,h2",
    )  # fmt: skip
    for url in urls:
        with pytest.raises(ValueError) as caught:
            parse(url)
        assert "hunter2" not in str(caught.value)


SPLIT = ["redis://h?{}&db=1", "rediss://u:p%40@h/2?{}", "unix:///x.sock?{}&db=1", "redis+cluster://a,b:2?protocol=3&{}",
         "redis+sentinel://a,b:2/m/1?client_name=x%26y&{}"]  # fmt: skip


@pytest.mark.parametrize("url", SPLIT)
def test_options_of_this_package_are_split_off(url: str) -> None:
    parsed = parse(url.format("allow_eviction=true"))
    assert parsed.options == Options(allow_eviction=True)
    plain = url.replace("{}&", "").replace("&{}", "").replace("?{}", "")
    assert parsed._replace(options=Options()) == parse(plain)
    assert parsed.url == plain


def test_options_of_this_package_are_checked() -> None:
    assert parse("redis://h").options == Options(allow_eviction=False)
    for query, fault in {"allow_eviction=perhaps": "neither true nor false", "allow_eviction": "has no value",
                         "allow_eviction=1&allow%5Feviction=0": "given twice"}.items():  # fmt: skip
        with pytest.raises(ValueError, match=f"allow_eviction (is )?{fault}"):
            parse(f"redis://h?{query}")


@pytest.mark.parametrize("words", [
    ["redis://u:hunter2@h", "get", "k"], ["import", "redis:u:hunter2@h"], ["export", "redis://:hunter2@h"],
    ["get", "k", "redis+cluster://u:hunter2@h"], ["-n", "redis://u:hunter2@h", "get", "k"],
])  # fmt: skip
def test_a_url_in_the_wrong_place_of_a_command_line_shows_no_password(
    words: list[str], capsys: pytest.CaptureFixture[str], folder: object
) -> None:
    assert main(words) != 0
    said = capsys.readouterr()
    assert "***@h" in said.err and "hunter2" not in said.out + said.err


def test_options_may_be_what_arguments_may_be() -> None:
    assert parse("redis://h?wait_replicas=5000&wait_timeout=0&max_stale=0.0&timeout=2.5").options == Options(
        wait_replicas=5000, wait_timeout=0.0, max_stale=0.0, timeout=2.5
    )
    assert open_backend("redis://h?socket_timeout=1&timeout=2.5", "main").timeout == 2.5


def test_the_value_of_each_option_that_is_no_password_is_shown() -> None:
    for name in (*_OWN, *_OF_REDIS_PY, *_OF_TLS, *_OF_SENTINELS):
        url = f"redis://h?{name}=x"
        assert mask(url) == (f"redis://h?{name}=***" if "password" in name else url)
