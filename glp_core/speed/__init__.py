"""What makes the same numbers come sooner: recordings of a device, a layout of weights."""
