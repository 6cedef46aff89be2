"""Secrets: values of names such as `api_key` are masked until a press shows them, on every screen."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from dashboard_host import answered, line_with, screen_text, shown, until
from test_main_screen import main, opened
from textual.events import DeliveryFailed
from textual.pilot import Pilot

import stateview.dashboard.app
from stateview import StateManager, codec
from stateview.backends.protocol import KeySummary
from stateview.cli.results import Table, ValueResult
from stateview.dashboard.app import Dashboard
from stateview.dashboard.data.diff_excerpts import summary
from stateview.dashboard.data.values.json_search import search
from stateview.dashboard.data.values.json_tree import Tree
from stateview.dashboard.display.key_row import start_of
from stateview.dashboard.display.redaction import MASK, SECRETS, is_redacted, masked_places, patterns_of, without_masked
from stateview.dashboard.display.result_redaction import redact_result, redacted_help, redacted_words
from stateview.dashboard.screens.diff import DiffScreen
from stateview.dashboard.screens.edit import EditScreen
from stateview.dashboard.screens.help import HelpScreen, help_rows
from stateview.dashboard.screens.history import HistoryScreen
from stateview.dashboard.widgets.key_bar import KeyBar
from stateview.dashboard.widgets.value.json_view import JsonView
from stateview.settings import Settings
from stateview.states.changes import Change

ON = (SECRETS,)


@pytest.mark.parametrize(
    "name",
    [
        "token", "TOKEN", "api_key", "apikey", "api-key", "apiKey", "APIKey", "X-Api-Key", "password", "userPassword",
        "passwd", "secret", "clientSecret", "client.secret", "secrets", "private_key", "ssh_private_key",
        "aws_secret_access_key", "credentials", "Authorization", "access_token", "GITHUB_TOKEN", "token2", "token_2",
        "oauth2Token", "user:42:token", "secrets:github", "auth/token", "credentials/aws/region",
    ],
)  # fmt: skip
def test_names_of_secrets(name: str) -> None:
    assert is_redacted(name, ON) and is_redacted(name, ON, "x") and is_redacted(name, ON, {"a": 1})
    assert not is_redacted(name, ()) and not is_redacted(name, ("other*",))


@pytest.mark.parametrize(
    "name",
    [
        "tokens", "max_tokens", "maxTokens", "token_count", "tokenCount", "total-tokens", "secretary", "token_usage",
        "tokenizer", "passwords_changed", "monkey", "key", "keys", "author", "tokens:12", "broken", "sort_key", "",
    ],
)  # fmt: skip
def test_names_that_only_look_like_those_of_secrets(name: str) -> None:
    assert not is_redacted(name, ON) and not is_redacted(name, ON, "x")


def test_numbers_booleans_and_null_are_not_masked_where_the_settings_do_not_say_so() -> None:
    for value in (5, 2.5, True, None, b"5", b"true", b"null", 10**400):
        assert not is_redacted("token", ON, value)
        assert is_redacted("token", ("tok*", *ON), value)
    for value in ("5", "", [], {}, b'"5"', b"[]", b"{}", b""):
        assert is_redacted("token", ON, value)
    assert is_redacted("token", ON, 5, "text") and not is_redacted("token", ON, 5, 6)
    value = {"token": 5, "list": [{"api_key": "x", "password": None}], "secret": {"deep": 1}}
    assert sorted(masked_places(value, ON)) == ["/list/0/api_key", "/secret"]
    assert without_masked(value, ON) == {"token": 5, "list": [{"api_key": MASK, "password": None}], "secret": MASK}


def test_a_value_is_masked_in_each_form_in_which_it_is_painted() -> None:
    def start(key: str, text: bytes) -> str:
        return start_of(KeySummary(key, len(text), text, 1, 0), ON)

    assert start("token", b'"hunter2"') == MASK and start("token", b"12") == "12"
    assert start("conf", b'{"a":1,"token":12,"api_key":"hunter2"}') == '{"a":1,"token":12,"api_key":' + MASK
    assert start("conf", b'{"token": 12}') == '{"token": 12}'
    assert start("conf", b'{"token":') == '{"token":' + MASK  # the value is not read yet

    value = {"n": {"token": 12, "secret": "hunter2"}}
    assert [(node.step, node.masked) for node in Tree(value, ON).rows] == [
        ("n", False), ("token", False), ("secret", True),
    ]  # fmt: skip
    assert not list(search(value, "hunter", ON, lambda: False))

    def said(key: str, before: Any, after: Any) -> str:
        change = Change(key, "changed", before, after, 1, 2)
        return summary(change, lambda name, *values: is_redacted(name, ON, *values))

    assert said("conf", {"token": 1}, {"token": 2}) == "/token 1 → 2"
    assert said("conf", {"token": 1}, {"token": "hunter2"}) == f"/token {MASK} → {MASK}"
    assert said("token", 1, 2) == "1 → 2" and said("token", 1, "hunter2") == MASK

    result = redact_result(ValueResult(data=b'{"token":1,"secret":"hunter2"}'), {"key": "conf"}, ON)
    assert isinstance(result, ValueResult) and codec.decode(result.data) == {"token": 1, "secret": MASK}
    for key, path, data, masked in (
        ("token", "", b'"hunter2"', True), ("token", "", b"1", False), ("conf", "/token", b'"hunter2"', True),
        ("conf", "/token", b"1", False), ("secret", "/n", b"1", True), ("conf#/token", "", b'"hunter2"', True),
    ):  # fmt: skip
        result = redact_result(ValueResult(data=data), {"key": key, "path": path}, ON)
        assert isinstance(result, ValueResult)
        assert (codec.decode(result.data) == MASK) == masked, (key, path, data)
    rows = [("conf", "/token", "hunter2"), ("conf", "/token", 1), ("token", "", "hunter2"), ("token", "", 2)]
    table = redact_result(Table(columns=("key", "path", "value"), rows=rows), {}, ON)
    assert isinstance(table, Table)
    assert [row[2] for row in table.rows] == [MASK, 1, MASK, 2]
    for words, last in (
        (["save", "token", "hunter2"], MASK), (["save", "token", "12"], "12"), (["save", "token", "12ab"], MASK),
        (["save", "token", "--string", "12"], MASK), (["save", "max_tokens", "12"], "12"),
    ):  # fmt: skip
        assert redacted_words(words, ON)[-1] == last


def test_the_settings_can_turn_the_masks_off() -> None:
    assert patterns_of(Settings("", {})) == ON
    assert patterns_of(Settings("", {"mask_secrets": False, "redact": ["a*"]})) == ("a*",)


# --- on the screens --------------------------------------------------------------------------------------------------


class Web(Dashboard):
    """As a page of `serve`."""

    delivered = b""
    CSS_PATH = Path(stateview.dashboard.app.__file__).with_name("app.tcss")

    @property
    def is_web(self) -> bool:
        return True

    def deliver_binary(self, path_or_file: Any, **_: Any) -> str:
        self.delivered = path_or_file.seek(0) or path_or_file.read()
        return ""


@pytest.fixture
def url(new_store: Callable[[str], str]) -> str:
    url = new_store("sqlite")
    with StateManager(url, "work") as state:
        state.save("conf", {"user": "ann", "api_key": "hunter1", "session": "hidden1", "max_tokens": 512})
        state.checkpoint("before")
        state.save("conf", {"user": "ann", "api_key": "hunter2", "session": "hidden2", "max_tokens": 1024})
        state.save("git:token", "hunter3")
    return url


def look(
    url: str, flow: Callable[[Pilot[None], Dashboard], Any], *, size: tuple[int, int] = (160, 50),
    kind: type[Dashboard] = Dashboard, redact: tuple[str, ...] = ("sess*", SECRETS), **options: Any,
) -> None:  # fmt: skip
    async def go() -> None:
        read_only = bool(options.get("read_only"))
        app = kind(StateManager(url, "work", read_only=read_only), {"store": url, **options}, redact=redact)
        async with app.run_test(size=size, notifications=True) as pilot:
            await opened(pilot)
            await flow(pilot, app)

    asyncio.run(asyncio.wait_for(go(), 60))


def keys_shown(app: Dashboard) -> str:
    bar = app.screen.query_one(KeyBar)
    return "".join(segment.text for segment in bar.render_line(0))


def told(app: Dashboard) -> str:
    return "\n".join(str(notice.message) for notice in app._notifications)


@pytest.mark.parametrize("size", [(80, 24), (160, 50)])
def test_a_press_shows_the_secrets_of_all_panes_and_masks_them_again(url: str, size: tuple[int, int]) -> None:
    async def flow(pilot: Pilot[None], app: Dashboard) -> None:
        await pilot.press("3")
        await shown(pilot, f"api_key: {MASK} masked", f"session: {MASK} masked", "max_tokens: 1024")
        await until(pilot, lambda: "U Show secrets" in keys_shown(app))
        assert "hunter" not in screen_text(app)
        await pilot.press("U")
        await shown(pilot, 'api_key: "hunter2"', f"session: {MASK} masked")
        await until(pilot, lambda: "U Mask secrets" in keys_shown(app) and "SECRETS SHOWN" in screen_text(app))
        await pilot.press("2", "j")
        await shown(pilot, "hunter3")
        await pilot.press("U")
        await until(pilot, lambda: "hunter" not in screen_text(app) and "SECRETS SHOWN" not in screen_text(app))
        assert "hidden" not in screen_text(app)

    look(url, flow, size=size)


def test_the_press_is_offered_where_something_is_masked_alone(url: str) -> None:
    async def flow(pilot: Pilot[None], app: Dashboard) -> None:
        await until(pilot, lambda: "Show secrets" in keys_shown(app))
        await pilot.press("question_mark")
        await shown(pilot, "show a masked password or token", "U, and U again")
        assert isinstance(app.screen, HelpScreen)
        lines = app.screen._help_lines(main(pilot))
        assert "  U                Show or mask secrets     app.secrets" in lines
        await pilot.press("escape")
        app.manager.save("a", "plain")
        await shown(pilot, '"plain"')
        await pilot.press("g")
        await shown(pilot, "3 Value · a")
        await until(pilot, lambda: "secrets" not in keys_shown(app))

    look(url, flow)


def test_values_are_searched_while_they_are_shown_alone(url: str) -> None:
    async def flow(pilot: Pilot[None], app: Dashboard) -> None:
        await pilot.press("/", *"=hunter")
        await shown(pilot, "no value holds 'hunter'")
        await pilot.press("enter", "U")
        await shown(pilot, "1/2", '"hunter3"')
        await pilot.press("U")
        await shown(pilot, "no value holds 'hunter'")

    look(url, flow)


def test_copying_and_opening_say_which_press_shows_the_value(url: str) -> None:
    async def flow(pilot: Pilot[None], app: Dashboard) -> None:
        view = main(pilot).query_one(JsonView)
        await pilot.press("3")
        for pointer, press in (("/api_key", True), ("/session", False)):
            view.go_to(pointer)
            assert ("U shows it" in view.copy_options().refused) == press
            await pilot.press("enter")
            await until(pilot, lambda: "this prints it" in told(app))
            assert ("U shows it" in told(app)) == press
            app.clear_notifications()
        assert "U shows it" not in view.copy_options(whole=True).refused  # /session stays masked
        await pilot.press("U")
        view.go_to("/api_key")
        assert ("value", "hunter2") in view.copy_options().texts

    look(url, flow)


@pytest.mark.parametrize("key", ["git:token", "conf"])
def test_a_value_is_edited_once_it_is_shown(url: str, key: str) -> None:
    async def flow(pilot: Pilot[None], app: Dashboard) -> None:
        await pilot.press("G" if key == "git:token" else "g")
        await until(pilot, lambda: main(pilot).query_one(JsonView).key == key and main(pilot).keys.is_loaded)
        await pilot.press("e")
        await until(pilot, lambda: "Press U to show it first" in told(app))
        assert "hunter" not in told(app)
        await pilot.press("U", "e")
        await until(pilot, lambda: isinstance(app.screen, EditScreen))

    look(url, flow, redact=ON)


def test_a_line_that_wrote_a_secret_stays_masked(url: str) -> None:
    async def flow(pilot: Pilot[None], app: Dashboard) -> None:
        await pilot.press("U")
        app.acts.run(["save", "token", "hunter4"])
        app.acts.run(["save", "max_tokens", "4"])
        await until(pilot, lambda: len(app.acts.done) == 2)
        lines = [action.line + action.outcome for action in app.acts.done]
        assert "hunter" not in "".join(lines) + told(app)
        assert MASK in lines[0] and "max_tokens 4saved max_tokens = 4" in lines[1]

    look(url, flow)


def test_what_completes_a_place_in_a_value_is_masked(url: str) -> None:
    async def flow(pilot: Pilot[None], app: Dashboard) -> None:
        for masked in (True, False):
            await pilot.press("colon", *"load conf /")
            await shown(pilot, "/max_tokens", "1024", "/user")
            assert ("hunter2" in line_with(app, "/api_key")) != masked and "hidden" not in screen_text(app)
            await pilot.press("escape", "U")

    look(url, flow)
    assert redacted_help(["git:token"], "/a", "1", ON) == MASK == redacted_help([], "conf#/api_key", '"x"', ON)
    assert (
        redacted_help(["conf"], "/token", "12", ON) == "12" and redacted_help([], "token", "9 bytes", ON) == "9 bytes"
    )


def test_a_diff_and_a_history_are_masked_until_a_press(url: str) -> None:
    async def flow(pilot: Pilot[None], app: Dashboard) -> None:
        for screen, place in ((DiffScreen("before"), "/api_key"), (HistoryScreen("conf"), "/api_key")):
            app.push_screen(screen)
            await shown(pilot, place, "512", "1024")
            await until(pilot, lambda: "U Show secrets" in keys_shown(app))
            assert "hunter" not in screen_text(app)
            await pilot.press("U")
            await until(pilot, lambda: "hunter2" in line_with(app, "/api_key") and "hidden" not in screen_text(app))
            if isinstance(screen, DiffScreen):
                await shown(pilot, '"hunter3"')
            await pilot.press("U")
            await until(pilot, lambda: "hunter" not in screen_text(app))
            await pilot.press("escape")
            await until(pilot, lambda: app.screen is main(pilot))

    look(url, flow)


def test_what_was_being_read_when_secrets_were_masked_is_masked(url: str) -> None:
    large = codec.encode({"api_key": "hunter5", "list": ["x" * 1000] * 100})

    async def flow(pilot: Pilot[None], app: Dashboard) -> None:
        view = main(pilot).query_one(JsonView)
        await answered(pilot)
        app.action_secrets()
        view.show(large, "large")
        app.action_secrets()
        await until(pilot, lambda: view.key == "large")
        await shown(pilot, f"api_key: {MASK}")
        assert "hunter" not in screen_text(app)
        app.action_secrets()
        screen = DiffScreen("before")
        app.push_screen(screen)
        await shown(pilot, '"hunter1"')
        screen.show_change()
        app.action_secrets()
        await until(pilot, lambda: not screen.view.busy and MASK in line_with(app, "/api_key"))
        assert "hunter" not in screen_text(app)

    look(url, flow)


def test_a_page_says_why_a_download_failed(url: str) -> None:
    async def flow(pilot: Pilot[None], app: Dashboard) -> None:
        app.post_message(DeliveryFailed("key", OSError("change.json is over 64 MB, too large for the page")))
        await until(pilot, lambda: "change.json is over 64 MB" in told(app))

    look(url, flow, kind=Web)


@pytest.mark.parametrize("read_only", [True, False])
def test_a_page_downloads_no_patch_with_a_masked_value(url: str, read_only: bool) -> None:
    async def flow(pilot: Pilot[None], app: Dashboard) -> None:
        assert isinstance(app, Web)
        app.push_screen(DiffScreen("before", "live"))
        await shown(pilot, MASK)
        await pilot.press("S")
        await until(pilot, lambda: "the patch would show a masked value at /conf/api_key" in told(app))
        assert ("press U" in told(app)) != read_only and app.delivered == b""
        if not read_only:
            await pilot.press("U", "S")
            await until(pilot, lambda: b"hunter2" in app.delivered)

    look(url, flow, kind=Web, redact=(SECRETS,), read_only=read_only)


def test_a_read_only_page_shows_no_secrets(url: str) -> None:
    async def flow(pilot: Pilot[None], app: Dashboard) -> None:
        await shown(pilot, MASK)
        assert "secrets" not in keys_shown(app)
        await pilot.press("U")
        await until(pilot, lambda: "'serve --write'" in told(app))
        assert "hunter" not in screen_text(app)
        assert "app.secrets" not in {row.id for row in help_rows(app.screen)}
        app.acts.submit("export")
        await until(pilot, lambda: "an export is not shown" in told(app))
        assert "press U" not in told(app) and "export FILE" not in told(app) and "in a terminal" in told(app)

    look(url, flow, kind=Web, read_only=True)

    async def shows(pilot: Pilot[None], app: Dashboard) -> None:
        await pilot.press("U")
        await shown(pilot, "hunter2")

    look(url, shows, kind=Web)
    look(url, shows, read_only=True)  # in a terminal


def test_the_masks_are_on_without_settings_and_off_with_them(folder: Path, url: str) -> None:
    from terminal import Terminal

    for settings, expected in (("", f"api_key: {MASK}"), ("mask_secrets = false\n", 'api_key: "hunter2"')):
        (folder / "stateview.toml").write_text(settings)
        program = Terminal("dashboard", url, "-n", "work", XDG_STATE_HOME=str(folder))
        program.until(expected)
        program.type("q")
        assert program.end() == 0
