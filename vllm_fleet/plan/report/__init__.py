"""A serving plan shown to people: text, HTML and the difference to what runs now. Pure."""
