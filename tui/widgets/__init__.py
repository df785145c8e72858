"""The widgets of the screens. They take plain values and know nothing of nodes."""
