"""Model cards: text, content, pictures."""
