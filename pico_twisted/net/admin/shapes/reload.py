"""What came of a reload."""

from __future__ import annotations

import attrs


@attrs.frozen(kw_only=True)
class Reloaded:
    """What came of a reload: all of it was taken, or nothing.

    Attributes:
        changed: what is different from now on, in words.
        needs_restart: keys whose new values take a restart.
        warnings: what else an operator should know.
        faults: what is wrong; with one, nothing was changed.
    """

    changed: tuple[str, ...] = ()
    needs_restart: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    faults: tuple[str, ...] = ()

    def line(self) -> str:
        """What was taken, in one line."""
        line = "; ".join(self.changed) or "nothing has changed"
        if self.needs_restart:
            verb = "needs" if len(self.needs_restart) == 1 else "need"
            line += f" (unchanged: {', '.join(self.needs_restart)} {verb} a restart)"
        return line
