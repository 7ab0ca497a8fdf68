"""One function a kind of run, and who calls them."""
