"""What makes the same numbers come sooner: recordings of a device, fused kernels, a layout of weights."""
