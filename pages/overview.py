"""Overview: what is this, and where do I begin?"""

from dashboard import components

components.page_frame("GLP Explorer", "What does a language model's own prior over its thoughts look like?")
