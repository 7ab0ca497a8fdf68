"""Tasks of a word or a number, which small models can do by halves: computed, or listed where they are knowledge."""
