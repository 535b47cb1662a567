"""Text: made fit to be shown, without secrets, laid out, quoted for a shell."""
