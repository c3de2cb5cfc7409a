"""Model cards: what they say, the template, the pictures."""
