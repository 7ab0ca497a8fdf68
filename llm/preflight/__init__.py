"""What a run needs and does not find here, all of it before anything starts."""
