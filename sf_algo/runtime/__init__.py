"""Puts the pieces together: who runs where, who talks to whom, and what happens when one of them fails."""
