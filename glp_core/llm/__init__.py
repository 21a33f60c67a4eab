"""An LLM with hooks: where it comes from, its layers recorded and edited, its tokens decoded; knows no GLP."""
