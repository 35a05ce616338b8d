"""Actions for the splits that ask for them."""
