"""Texts of one's own to collect over: where they lie, the formats that are read, and the documents made of them."""
