"""The terminal UI with a fault in it: what is left of the terminal when it crashes."""

import sys

from tui import __main__, app


def fail(self):
    raise RuntimeError("a fault made for a test")


app.Tui.tick = fail

if __name__ == "__main__":
    sys.exit(__main__.main())
