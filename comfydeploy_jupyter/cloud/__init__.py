"""The ComfyDeploy service."""
