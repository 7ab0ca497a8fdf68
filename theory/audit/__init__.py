"""What a change of policy was made of, and what sharpening can do at all: splits, certified bounds, prices."""
