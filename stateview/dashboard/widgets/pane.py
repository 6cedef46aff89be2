"""A box with a title around one list or more."""

from __future__ import annotations

from typing import Self

from textual.containers import Vertical
from textual.content import ContentType
from textual.geometry import Region


class Pane(Vertical):
    """Its border is all that it paints itself: what is inside it is not painted anew where only a title is another."""

    _saying = False

    def say(self, title: ContentType | None = None, below: ContentType | None = None) -> None:
        """Put another title on, or another text below, or both; None leaves what stands there."""
        self._saying = True
        if title is not None:
            self.border_title = title
        if below is not None:
            self.border_subtitle = below
        self._saying = False

    def refresh(self, *regions: Region, repaint: bool = True, layout: bool = False, recompose: bool = False) -> Self:
        """See `Widget.refresh`."""
        if repaint and not (regions or layout or recompose):
            width, height = self.outer_size
            regions = Region(-1, -1, width, 1), Region(-1, height - 2, width, 1)
            if not self._saying:
                regions = *regions, Region(-1, -1, 1, height), Region(width - 2, -1, 1, height)
        return super().refresh(*regions, repaint=repaint, layout=layout, recompose=recompose)
