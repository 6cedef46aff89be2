"""A box with a title around one or more lists."""

from __future__ import annotations

from typing import Self

from textual.containers import Vertical
from textual.content import ContentType
from textual.geometry import Region


class Pane(Vertical):
    """Repaints only its border, so that a new title does not repaint the lists inside."""

    _titles_only = False  # whether a refresh concerns only the lines with the titles

    def set_titles(self, title: ContentType | None = None, below: ContentType | None = None) -> None:
        """Replace the title and the text in the lower border. None leaves the present text."""
        self._titles_only = True
        if title is not None:
            self.border_title = title
        if below is not None:
            self.border_subtitle = below
        self._titles_only = False

    def refresh(self, *regions: Region, repaint: bool = True, layout: bool = False, recompose: bool = False) -> Self:
        """Refresh only the border, unless the layout changes."""
        if repaint and not (regions or layout or recompose):
            width, height = self.outer_size
            regions = Region(-1, -1, width, 1), Region(-1, height - 2, width, 1)
            if not self._titles_only:
                regions = *regions, Region(-1, -1, 1, height), Region(width - 2, -1, 1, height)
        return super().refresh(*regions, repaint=repaint, layout=layout, recompose=recompose)
