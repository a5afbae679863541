"""The interfaces of others: the Comfy API, ComfyDeploy and the Comfy account, MCP."""
