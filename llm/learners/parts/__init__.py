"""What learners are made of: the door, advantages, losses. Nothing here imports torch before a batch is there."""
