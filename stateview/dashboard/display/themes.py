"""The themes: Textual's, two of our own that suit every kind of colour-blindness, and the terminal's colours."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from rich.style import Style
from textual.filter import Monochrome, NoColor
from textual.theme import BUILTIN_THEMES, Theme

from ...cli.exit_codes import UsageError

if TYPE_CHECKING:
    from textual.widget import Widget

    from ...settings import Settings
    from ..app import Dashboard

DEFAULT = "stateview-dark"
TERMINAL = "terminal"


def _own(name: str, dark: bool, **colours: str) -> Theme:
    """Return a theme with exactly these text colours, which Textual would mix towards white or black.

    Added is blue, removed orange, changed pale yellow or plum: every kind of colour-blindness tells these apart.
    """
    text = {
        "text": colours["foreground"],
        "text-muted": colours["muted"],
        "text-disabled": colours["muted"],
        "text-primary": colours["primary"],
        "text-secondary": colours["secondary"],
        "text-accent": colours["accent"],
        "text-success": colours["success"],
        "text-warning": colours["warning"],
        "text-error": colours["error"],
        "foreground-muted": colours["muted"],
        "border-blurred": colours["muted"],
        "footer-key-foreground": colours["accent"],
        "button-color-foreground": colours["background"],
        "block-cursor-background": colours["cursor"],
        "block-cursor-foreground": colours["on_cursor"],
        "block-cursor-blurred-background": colours["blurred"],
        "block-cursor-blurred-foreground": colours["foreground"],
    }
    base = {key: value for key, value in colours.items() if key not in ("muted", "cursor", "on_cursor", "blurred")}
    return Theme(name=name, dark=dark, variables=text, **base)  # type: ignore[arg-type]


_ANSI = {
    "block-cursor-background": "ansi_default",
    "block-cursor-foreground": "ansi_default",
    "block-cursor-text-style": "reverse",
    "ansi-background": "ansi_default",
    "ansi-foreground": "ansi_default",
    "border": "ansi_magenta",
    "border-blurred": "ansi_default",
    "scrollbar": "ansi_bright_blue",
    "scrollbar-background": "ansi_default",
    "scrollbar-background-hover": "ansi_default",
    "scrollbar-background-active": "ansi_default",
    "scrollbar-corner-color": "ansi_default",
}
OWN = (
    _own(
        DEFAULT, True, foreground="#e6edf3", background="#0f141a", surface="#151b23", panel="#202833",
        muted="#9aa7b5", primary="#8cc2ff", secondary="#9fb4d0", accent="#d2a8ff", success="#6cb6ff",
        warning="#ffe58a", error="#ff8033", cursor="#cfe3ff", on_cursor="#0f141a", blurred="#263241",
    ),
    _own(
        "stateview-light", False, foreground="#1b2028", background="#ffffff", surface="#f6f8fa", panel="#e9eef3",
        muted="#525b66", primary="#0b4fa8", secondary="#3d5170", accent="#7a2fb5", success="#0a53c7",
        warning="#5c0f45", error="#b23600", cursor="#173a63", on_cursor="#ffffff", blurred="#dce6f1",
    ),
    # The ANSI colours that can be read on black and on white. Foreground and background are the terminal's.
    Theme(
        name=TERMINAL, ansi=True, primary="ansi_bright_blue", secondary="ansi_default", warning="ansi_magenta",
        error="ansi_red", success="ansi_bright_blue", accent="ansi_magenta", foreground="ansi_default",
        background="ansi_default", surface="ansi_default", panel="ansi_default", boost="ansi_default", variables=_ANSI,
    ),
)  # fmt: skip
# An app reads TEXTUAL_THEME before a theme can be registered with it, so our themes must be among the built-in ones.
BUILTIN_THEMES.update({theme.name: theme for theme in OWN})


def component_style(widget: Widget, name: str) -> Style:
    """Return the style of a component class, without the background of the widget.

    Textual's own partial style takes an automatic colour, such as `$text-muted` of its themes, for white, and a
    transparent colour for an opaque one.
    """
    style, rules = widget.get_component_rich_style(name, partial=True), widget.get_component_styles(name)
    whole = widget.get_component_rich_style(name)
    if rules.auto_color or 0 < rules.color.a < 1:
        style += Style(color=whole.color)
    if 0 < rules.background.a < 1:
        style += Style(bgcolor=whole.bgcolor)
    return style


def names() -> list[str]:
    """Return the names of all themes, ours first."""
    own = [theme.name for theme in OWN]
    return [*own, *sorted(set(BUILTIN_THEMES).difference(own))]


def theme_of(option: str | None, settings: Settings) -> str:
    """Return the name of the theme to use: of the option, the settings file, TEXTUAL_THEME, or ours.

    With NO_COLOR it is the terminal's theme, which then shows only bold and reverse.

    Raises:
        UsageError: there is no theme of that name.

    """
    sources = (
        (option, "--theme"),
        (settings.theme(), f"{settings.path}: theme"),
        (os.environ.get("TEXTUAL_THEME"), "TEXTUAL_THEME"),
    )
    for name, where in sources:
        if name:
            check(name, where)
            return TERMINAL if "NO_COLOR" in os.environ else name
    return TERMINAL if "NO_COLOR" in os.environ else DEFAULT


def check(name: str, where: str) -> None:
    """Check that a theme exists.

    Args:
        name: the name of the theme.
        where: the option or setting that names it, for the error.

    Raises:
        UsageError: there is no theme of that name. The hint lists all names.

    """
    if name not in names():
        raise UsageError(f"{where}: there is no theme {name[:60]!r}", f"Choose one of {', '.join(names())}")


def apply(app: Dashboard, name: str) -> None:
    """Set the theme of the app."""
    if app.no_color:
        # Textual chooses its filter before the theme is set. Its filter for RGB paints the terminal's colours black.
        app._filters = [NoColor() if isinstance(filter, Monochrome) else filter for filter in app._filters]
        name = TERMINAL
    app.theme = name


def choose_theme(app: Dashboard, name: str | None = None) -> None:
    """Set the theme of the app; without a name, open a menu that previews the theme under the cursor.

    Raises:
        UsageError: there is no theme of that name, or NO_COLOR is set.

    """
    if app.no_color:
        raise UsageError("NO_COLOR is set, so there are no colours to choose", "Unset it first")
    if name is not None:
        check(name, "theme")
        apply(app, name)
        return
    from ..dialogs.menu import Menu

    before, all_ = app.theme, names()
    hints = {DEFAULT: "ours", "stateview-light": "ours", TERMINAL: "the terminal's own colours"}

    def answered(chosen: str | None) -> None:
        apply(app, chosen or before)
        if chosen:
            app.notify_user(f'theme = "{chosen}" in stateview.toml keeps it')

    choices = [(theme, theme, hints.get(theme, "")) for theme in all_]
    start = all_.index(before) if before in all_ else 0
    app.push_screen(Menu("Theme", choices, start=start, looked=lambda theme: apply(app, theme)), answered)
