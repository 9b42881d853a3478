"""Networks rewritten so that they run faster."""
