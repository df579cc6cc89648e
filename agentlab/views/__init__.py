"""Views: what a screen or a client is shown, as records."""
