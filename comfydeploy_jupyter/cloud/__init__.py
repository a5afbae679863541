"""The ComfyDeploy service: addresses, credentials, requests."""
