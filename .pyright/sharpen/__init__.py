"""sharpen: what reinforcement learning teaches a language model that sharpening its own distribution would not."""
