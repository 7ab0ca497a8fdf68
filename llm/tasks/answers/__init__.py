"""How a response is read: where its answer is found, and how two answers are compared."""
