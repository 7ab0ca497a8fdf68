"""Problems and answers, where they come from, and how a prompt is made of them."""
