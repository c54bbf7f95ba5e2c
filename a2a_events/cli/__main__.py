"""``python -m a2a_events.cli`` is ``a2a-events``."""

from __future__ import annotations

from a2a_events.cli import main

if __name__ == "__main__":
    main()
