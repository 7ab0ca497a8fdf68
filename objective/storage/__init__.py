"""Files, locks and run folders: how every backend reads what a user gives and keeps what it computes."""
