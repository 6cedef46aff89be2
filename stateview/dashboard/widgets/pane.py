"""A box with a title around one list or more."""

from __future__ import annotations

from typing import Self

from textual.containers import Vertical
from textual.geometry import Region


class Pane(Vertical):
    """Its border is all that it paints itself: what is inside it is not painted anew where only a title is another."""

    def refresh(self, *regions: Region, repaint: bool = True, layout: bool = False, recompose: bool = False) -> Self:
        """See `Widget.refresh`."""
        if repaint and not (regions or layout or recompose):
            width, height = self.outer_size
            regions = (
                Region(-1, -1, width, 1),
                Region(-1, height - 2, width, 1),
                Region(-1, -1, 1, height),
                Region(width - 2, -1, 1, height),
            )
        return super().refresh(*regions, repaint=repaint, layout=layout, recompose=recompose)
