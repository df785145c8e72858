"""Who a device is: its key, its certificate, and the CA that vouches for it."""
