"""Tunnels that give access from the internet, with cloudflared."""
