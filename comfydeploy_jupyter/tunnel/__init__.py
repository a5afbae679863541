"""Ways in from the internet, by cloudflared."""
