"""The Lab page: a direction of one's own with the evidence that it is one, and the setting to steer with."""
