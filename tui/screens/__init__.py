"""The screens: the layout of the widgets at each size. Their content comes from `tui.views`."""
