"""Tasks and signatures: what the decorator makes, and what is sent from it."""
