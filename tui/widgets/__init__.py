"""What the screens are drawn with. These take plain values and know nothing of nodes."""
