"""The checks of `p2pfl doctor`: what a node needs on this device, and the way to its peers."""
