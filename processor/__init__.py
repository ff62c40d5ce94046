"""Drops duplicates, keeps the suppression list, parks what cannot be processed: each record's effect exactly once."""
