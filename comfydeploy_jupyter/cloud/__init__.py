"""The ComfyDeploy service: where it is, who asks, and what it answers."""
