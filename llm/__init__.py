"""The objective on real language models: rollouts, rewards behind a label firewall, RLOO, evaluation."""
