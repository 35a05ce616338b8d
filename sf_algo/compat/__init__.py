"""Other programs' interfaces on top of this one's."""
