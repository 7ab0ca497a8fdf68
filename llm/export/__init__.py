"""A checkpoint for others: a folder that transformers and vLLM load, with its model card."""
