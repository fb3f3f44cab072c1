"""Processes of our own: started, spoken to, and never left behind."""
