"""Commands that make directions and measure steering."""
