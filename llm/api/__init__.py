"""What ``sharpen.llm`` offers to a program or a notebook, over the same configurations as the commands."""
