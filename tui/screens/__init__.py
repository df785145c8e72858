"""The screens: what is where, at which size. What it says comes from `tui.views`."""
