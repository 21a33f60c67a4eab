"""What makes the same numbers come sooner: recordings, fused kernels, layouts of weights."""
